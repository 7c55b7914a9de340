"""What one call of a program moves and occupies, counted from its plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from . import dtypes
from .program import ArrayType, Dispatch, Program, Repeat, Step, While


def program_cost(program: Program) -> dict[str, float]:
    """Return counts for one call; a loop whose number of rounds is not known counts once.

    `bytes accessed` sums the buffers that the dispatches are given: what they read and write at least.
    """
    dispatches = list(_executed(program.steps, 1))
    return {
        "dispatches": float(sum(times for _, times in dispatches)),
        "kernels": float(len(program.kernels)),
        "bytes accessed": float(sum(times * sum(r.nbytes for r in step.arguments) for step, times in dispatches)),
        "argument bytes": float(sum(map(_nbytes, program.inputs))),
        "output bytes": float(sum(map(_nbytes, program.outputs))),
        "temporary bytes": float(program.arena_bytes),
        "liveness bound bytes": float(program.liveness_bound_bytes),
        "constant bytes": float(sum(map(len, program.constants))),
    }


def _executed(steps: Sequence[Step], times: int) -> Iterator[tuple[Dispatch, int]]:
    for step in steps:
        if isinstance(step, Dispatch):
            yield step, times
        elif isinstance(step, Repeat):
            yield from _executed(step.body, times * step.count)
        elif isinstance(step, While):
            yield from _executed(step.condition, times)
            yield from _executed(step.body, times)


def _nbytes(kind: ArrayType) -> int:
    return prod(kind.shape) * dtypes.itemsize(kind.dtype)
