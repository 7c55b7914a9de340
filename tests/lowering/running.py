"""Compile and run graphs on the device of the tests, as for a CPU and as for a GPU, and compare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import numpy as np

from lowering import dtypes
from lowering.compiler import compile_graph
from lowering.graph import Graph
from lowering.program import Program
from lowering.runtime import Device
from shaders.capabilities import Capabilities

from ..conformance.tolerance import Bound, difference
from .corpus import CASES, Case
from .programs import graph_of

Style = Literal["cpu", "gpu"]
STYLES: tuple[Style, ...] = ("cpu", "gpu")
Variant = Literal["value", "gradient", "mapped", "donated"]


def styled(capabilities: Capabilities, style: Style) -> Capabilities:
    """Return the device's capabilities; as a GPU's, so that a CPU driver runs what GPUs get, for style "gpu"."""
    return capabilities if style == "cpu" else replace(capabilities, device_type="discrete")


def function_of(case: Case, variant: Variant) -> Callable[..., Any]:
    """Return the function of a variant of a case."""
    if variant == "gradient":
        return jax.grad(lambda *arguments: _total(case.function(*arguments)), case.gradient)
    return jax.vmap(case.function) if variant == "mapped" else case.function


def arguments_of(case: Case, variant: Variant) -> tuple[Any, ...]:
    """Return the arguments of a variant: under vmap, each argument and its reverse."""
    if variant != "mapped":
        return case.arguments
    return jax.tree.map(lambda a: np.stack([a, np.flip(a)]), case.arguments)


def names_of(variant: Variant) -> list[str]:
    """Return the cases that have a variant."""
    has: dict[Variant, Callable[[Case], bool]] = {
        "value": lambda case: True,
        "gradient": lambda case: bool(case.gradient),
        "mapped": lambda case: case.is_mapped,
        "donated": lambda case: bool(case.donate),
    }
    return [name for name, case in CASES.items() if has[variant](case)]


@functools.cache
def case_graph(name: str, variant: Variant = "value") -> Graph:
    """Return the imported graph of a case."""
    case = CASES[name]
    options = {"donate_argnums": case.donate} if variant == "donated" else {}
    return graph_of(function_of(case, variant), *arguments_of(case, variant), **options)


@functools.cache
def case_program(name: str, capabilities: Capabilities, variant: Variant = "value") -> Program:
    """Return the compiled program of a case."""
    return compile_graph(case_graph(name, variant), capabilities)


def leaves(tree: Any) -> list[np.ndarray]:
    """Return the arrays of a tree."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def run(device: Device, program: Program, arrays: Sequence[np.ndarray], *, donate: bool = False) -> list[np.ndarray]:
    """Return what a program computes from host arrays; with `donate`, give up every aliased input."""
    loaded = device.load(program)
    buffers = [device.allocate(array.nbytes) for array in arrays]
    for buffer, array in zip(buffers, arrays, strict=True):
        device.upload(buffer, np.ascontiguousarray(array))
    given = frozenset(source for source, _ in program.aliases) if donate else frozenset()
    results = loaded.run(buffers, given)
    outputs = [_read(device, buffer, kind) for buffer, kind in zip(results, program.outputs, strict=True)]
    for position, array in enumerate(arrays):
        if position not in given:
            kept = _read(device, buffers[position], program.inputs[position])
            assert kept.tobytes() == np.ascontiguousarray(array).tobytes(), f"input {position} was overwritten"
    loaded.close()
    return outputs


def assert_close(got: Sequence[np.ndarray], want: Sequence[np.ndarray], case: Case, *, factor: float = 1) -> None:
    """Require every result within the case's tolerance."""
    for position, (left, right) in enumerate(zip(got, want, strict=True)):
        bound = Bound(case.roundings * factor, case.depth, case.floor)
        problem = difference(left, right, bound)
        assert problem is None, f"result {position}: {problem}"


def _read(device: Device, buffer: Any, kind: Any) -> np.ndarray:
    target = np.empty(kind.shape, dtypes.NUMPY[kind.dtype])
    device.download(buffer, target)
    return target


def _total(results: Any) -> Any:
    """Sum all float results with weights, so that no gradient is constant."""
    total = 0.0
    for leaf in jax.tree.leaves(results):
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact):
            wide = leaf.real.astype(jax.numpy.float32).reshape(-1)
            total = total + (wide * jax.numpy.cos(jax.numpy.arange(wide.size, dtype=jax.numpy.float32))).sum()
    return total
