"""Check a case before it is timed: fresh inputs, memory that held NaN before, every element against float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import jax
import ml_dtypes
import numpy as np

from lowering import dtypes
from lowering.program import Program
from lowering.runtime import Buffer, Device, LoadedProgram

from .cases import Case

# Elements compared at once: float64 copies of a whole large array would not fit beside the reference.
CHUNK = 1 << 22
POISON = 0xFF
"""A byte that makes NaN of every float and -1 of every integer."""


def reference(case: Case, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute a case in float64 with JAX on the CPU, from the same (rounded) inputs."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = [array.astype(np.float64) for array in arrays]
        return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.jit(case.function)(*wide))]


def poison(device: Device, program: Program) -> set[int]:
    """Fill memory that the program's results and its arena will take with NaN; return the addresses of the former."""
    targets = [device.allocate(max(math.prod(kind.shape) * dtypes.itemsize(kind.dtype), 1)) for kind in program.outputs]
    for buffer in targets:
        device.upload(buffer, np.full(buffer.nbytes, POISON, np.uint8))
    if program.arena_bytes:
        with device.parts.context.lock:
            scratch = device.parts.memory.scratch_locked(program.arena_bytes)
        device.upload(scratch, np.full(scratch.nbytes, POISON, np.uint8))
    addresses = {buffer.address for buffer in targets}
    for buffer in targets:
        buffer.free()
    return addresses


def checked_run(
    device: Device, loaded: LoadedProgram, inputs: Sequence[Buffer]
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Run once into poisoned memory; return the results and how many of them lay in memory known to be poisoned."""
    poisoned = poison(device, loaded.program)
    outputs = loaded.run(inputs)
    results = []
    for buffer, kind in zip(outputs, loaded.program.outputs, strict=True):
        target = np.empty(kind.shape, dtypes.NUMPY[kind.dtype])
        device.download(buffer, target)
        results.append(target)
    hits = sum(buffer.address in poisoned for buffer in outputs)
    return results, {"outputs": len(outputs), "outputs_poisoned": hits, "arena_bytes": loaded.program.arena_bytes}


def difference(case: Case, got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> str:
    """Describe the worst element beyond rounding, or return "" where there is none.

    allowed = roundings * (eps(result) * row + eps(accumulator) * sqrt(depth) * terms): `row` is the largest magnitude
    in the result's row, `terms` that of what is added up, the row's where the case does not say. No roundings: exact.
    """
    if len(got) != len(want):
        return f"{len(got)} results, want {len(want)}"
    for position, (result, wanted) in enumerate(zip(got, want, strict=True)):
        if result.shape != wanted.shape:
            return f"result {position} has shape {result.shape}, want {wanted.shape}"
        for first, part, exact in _chunks(result, wanted):
            found = _worst(case, case.depth_of(position), part, exact)
            if found:
                return f"result {position}, rows from {first}: {found}"
    return ""


def _chunks(result: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield pieces of two arrays as (first row, piece, piece), rows whole unless there is only one."""
    width = result.shape[-1] if result.ndim > 1 else CHUNK
    rows, exact = (array.reshape(-1, width) if result.ndim > 1 else array.reshape(1, -1) for array in (result, wanted))
    step = max(CHUNK // max(width, 1), 1)
    for first in range(0, len(rows), step):
        yield first, rows[first : first + step], exact[first : first + step]


def _worst(case: Case, depth: int, part: np.ndarray, exact: np.ndarray) -> str:
    eps = float(ml_dtypes.finfo(part.dtype).eps)
    summed = eps if part.dtype.itemsize > 2 else float(np.finfo(np.float32).eps)
    row = np.abs(exact).max(axis=-1, keepdims=True)
    allowed = case.roundings * (eps * row + summed * math.sqrt(depth) * (case.terms or row))
    error = np.abs(part.astype(np.float64) - exact)
    # NaN compares false: an element that was never written must not pass.
    wrong = ~(error <= allowed)
    if not wrong.any():
        return ""
    excess = np.where(np.isnan(error), np.inf, error - allowed)
    where = np.unravel_index(np.argmax(excess), error.shape)
    limit = np.broadcast_to(allowed, error.shape)[where]
    return (
        f"got {part[where]}, want {exact[where]:.9g}, off by {error[where]:.3g}, allowed {limit:.3g}; "
        f"{int(wrong.sum())} of {wrong.size} differ"
    )
