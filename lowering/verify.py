"""Verify mode: every kernel's results against NumPy on the kernel's own inputs; the first that differs is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt

import ml_dtypes
import numpy as np

from . import dtypes, reference
from .errors import QgaError, message
from .executable import Executable
from .graph import Graph, Node, Value, regions
from .program import ArrayType, Program
from .runtime import Buffer, Device
from .watch import watched_values

# Units of the last place of the largest element that one kernel may be off, for each square root of its longest sum.
ALLOWED = 256
# The same for results of 16 bits, whose sums run in f32: what is left is one rounding for each operation of a kernel.
ALLOWED_16 = 8


class VerificationError(QgaError, ArithmeticError):
    """A kernel computed something else than NumPy does from the same inputs."""


@dataclass(frozen=True)
class Difference:
    """Where a kernel's result differs most: position, both values, and how far apart they may be."""

    value: Value
    position: tuple[int, ...]
    got: object
    want: object
    allowed: float


class VerifiedExecutable:
    """An executable that checks each of its kernels on every call. Slow: for finding defects.

    Args:
        program: the program as it would run without checks.
        watched: the same program with the result of every kernel among its outputs.
        fused: the graph behind both.
        device: where it runs; borrowed.
    """

    def __init__(self, program: Program, watched: Program, fused: Graph, device: Device) -> None:
        self._plain = Executable(program, device)
        self._watched = Executable(watched, device)
        self._fused = fused
        self._device = device
        self.name = program.name

    @property
    def input_types(self) -> tuple[ArrayType, ...]:
        """Dtype and shape of each input."""
        return self._plain.input_types

    @property
    def output_types(self) -> tuple[ArrayType, ...]:
        """Dtype and shape of each output."""
        return self._plain.output_types

    @property
    def aliases(self) -> tuple[tuple[int, int], ...]:
        """(input, output) pairs that share memory if the input is donated."""
        return self._plain.aliases

    def cost(self) -> Mapping[str, float]:
        """Return the costs of the program without checks."""
        return self._plain.cost()

    def run(self, buffers: Sequence[Buffer], donate: frozenset[int] = frozenset()) -> list[Buffer]:
        """Check every kernel, then run the program.

        Raises:
            VerificationError: a kernel's result differs; names the operations, the source line and the worst element.
        """
        inputs = [self._read(b, v) for b, v in zip(buffers, self._fused.inputs, strict=True)]
        known = dict(zip(self._fused.inputs, inputs, strict=True))
        values = watched_values(self._fused)
        for value, buffer in zip(values, self._watched.run(buffers), strict=True):
            known[value] = self._read(buffer, value)
        for node in self._fused.nodes:
            check_node(node, known)
        return self._plain.run(buffers, donate)

    def _read(self, buffer: Buffer, value: Value) -> np.ndarray:
        target = np.empty(value.shape, dtypes.NUMPY[value.dtype])
        self._device.download(buffer, target)
        return target


def check_node(node: Node, known: Mapping[Value, np.ndarray]) -> None:
    """Compare a node's results with what NumPy makes of its inputs.

    Raises:
        VerificationError: they differ by more than rounding explains.
    """
    inputs = [known[value] for value in node.inputs]
    wanted = reference.evaluate(node, inputs)
    for position, (value, want) in enumerate(zip(node.outputs, wanted, strict=True)):
        difference = compare(value, known[value], np.asarray(want), depth(node))
        if difference is not None:
            # Terms that cancel leave little of their size in a result: see what one rounding of the inputs does to it.
            moved = np.asarray(reference.evaluate(node, [_nudged(array) for array in inputs])[position])
            difference = compare(value, known[value], np.asarray(want), depth(node), moved)
        if difference is not None:
            raise VerificationError(_text(node, difference))


def compare(
    value: Value, got: np.ndarray, want: np.ndarray, terms: int, moved: np.ndarray | None = None
) -> Difference | None:
    """Return the worst difference beyond rounding, or `None`. NaN and infinities must agree in place.

    Args:
        value: what is compared.
        got: the kernel's result.
        want: NumPy's result.
        terms: of the longest sum inside.
        moved: NumPy's result from inputs that are one unit in the last place off; widens what is allowed.
    """
    if got.size == 0:
        return None
    if value.dtype not in dtypes.FLOATS | dtypes.COMPLEX:
        wrong = (got != want).astype(np.float64)
        allowed = 0.0
    else:
        wide = np.complex128 if value.dtype in dtypes.COMPLEX else np.float64
        left, right = got.astype(wide), want.astype(wide)
        finite = np.isfinite(right)
        scale = float(np.abs(right[finite]).max()) if finite.any() else 1.0
        allowed = _rounding(value.dtype, terms) * scale + _units(value.dtype) * _spread(moved, right)
        with np.errstate(invalid="ignore"):
            same = (left == right) | (np.isnan(left) & np.isnan(right))
            wrong = np.where(same, 0.0, np.where(np.isfinite(left) & finite, np.abs(left - right), np.inf))
    worst = np.unravel_index(int(wrong.argmax()), wrong.shape)
    if wrong[worst] <= allowed:
        return None
    return Difference(value, tuple(int(i) for i in worst), got[worst], want[worst], allowed)


def _units(dtype: str) -> int:
    return ALLOWED_16 if dtype in ("f16", "bf16") else ALLOWED


def _rounding(dtype: str, terms: int) -> float:
    """Return how far a kernel may be off, relative to its largest element."""
    if dtype in ("f16", "bf16"):
        return ALLOWED_16 * _eps(dtype) + ALLOWED * _eps("f32") * sqrt(terms)
    return ALLOWED * _eps(dtype) * sqrt(terms)


def depth(node: Node) -> int:
    """Return the number of terms of the longest sum inside a node, times the rounds of its loops."""
    longest = 1
    if node.op in ("reduce", "partial_reduce", "reduce_window"):
        longest = max(longest, node.inputs[0].size // max(node.outputs[0].size, 1))
    if node.op == "dot_general":
        longest = prod(node.inputs[0].shape[axis] for axis in node.attributes["lhs_contract"])
    if node.op == "scatter":
        longest = node.inputs[len(node.outputs)].size
    inner = max((depth(child) for region in regions(node) for child in region.nodes), default=1)
    rounds = (node.attributes["trip_count"] or 1) if node.op == "while" else 1
    return max(longest, 1) * max(inner, 1) * max(rounds, 1)


def _nudged(array: np.ndarray) -> np.ndarray:
    """Return the array with each number one unit in the last place up or down, by a fixed draw; integers unchanged."""
    dtype = dtypes.NAMES[array.dtype]
    if dtype not in dtypes.FLOATS | dtypes.COMPLEX:
        return array
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), array.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array * (1.0 + signs * _eps(dtype))).astype(array.dtype)


def _spread(moved: np.ndarray | None, want: np.ndarray) -> float:
    """Return how far apart two results are, but for the hundredth of elements that differ most.

    A comparison that tips over moves single elements by any amount; that is no reason to trust all others less.
    """
    if moved is None:
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(moved.astype(want.dtype) - want)
    apart = apart[np.isfinite(apart)]
    return float(np.quantile(apart, 0.99)) if apart.size else 0.0


def _eps(dtype: str) -> float:
    return float(ml_dtypes.finfo(dtypes.NUMPY[dtypes.real_part(dtype)]).eps)


def _text(node: Node, difference: Difference) -> str:
    return message(
        f"verify: {node.attributes.get('label', node.op)} computed something else than NumPy from the same inputs.",
        got=f"{difference.got} at {list(difference.position)} of {difference.value.text}",
        want=f"{difference.want}, within {difference.allowed:.3g}",
        fix="report this defect with the function, its shapes and the device's name.",
        at=node.where,
        stage="verify",
    )
