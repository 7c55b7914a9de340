"""Check that a program has all the barriers it needs: pure, from regions and the kernels' declared accesses.

Two dispatches between barriers may run at the same time and in any order, so they must not touch overlapping bytes
unless both only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import GraphError, message
from ..program import Barrier, Dispatch, Program, Region, Repeat, Step


@dataclass(frozen=True, slots=True)
class Hazard:
    """Two dispatches with no barrier between them, of which at least one writes `region`.

    `kind` is "read after write", "write after read" or "write after write", in the order of the program.
    """

    first: str
    second: str
    kind: str
    region: Region


_VERBS = {True: "write", False: "read"}


@dataclass(frozen=True, slots=True)
class _Use:
    start: int
    end: int
    is_write: bool
    dispatch: int
    region: Region


def find_hazards(program: Program) -> list[Hazard]:
    """List the pairs of dispatches that race, each once a kind."""
    hazards: list[Hazard] = []
    _check_steps(program, program.steps, hazards)
    return hazards


def check_hazards(program: Program) -> Program:
    """Return the program if no two dispatches race; raise `GraphError` that names the pairs otherwise."""
    hazards = find_hazards(program)
    if hazards:
        shown = [f"{one.first} and {one.second}: {one.kind} on {_text(one.region)}" for one in hazards[:5]]
        more = f" and {len(hazards) - 5} more" if len(hazards) > 5 else ""
        raise GraphError(
            message(
                f"{program.name}: dispatches that touch the same bytes need a barrier between them.",
                got="; ".join(shown) + more,
                want="a Barrier between a write and any other access",
                fix="report this defect of the scheduler with the program's StableHLO text.",
            )
        )
    return program


def _check_steps(program: Program, steps: Sequence[Step], hazards: list[Hazard]) -> None:
    """Check each run of dispatches between barriers.

    Loops need none around them: the runtime fences them on entry, between rounds and on exit.
    """
    level: list[Dispatch] = []
    for step in steps:
        if isinstance(step, Dispatch):
            level.append(step)
            continue
        _check_level(program, level, hazards)
        level = []
        if isinstance(step, Repeat):
            _check_steps(program, step.body, hazards)
        elif not isinstance(step, Barrier):
            _check_steps(program, step.condition, hazards)
            _check_steps(program, step.body, hazards)
    _check_level(program, level, hazards)


def _check_level(program: Program, level: Sequence[Dispatch], hazards: list[Hazard]) -> None:
    uses: dict[tuple[str, int], list[_Use]] = {}
    for number, dispatch in enumerate(level):
        for region, is_write in _accesses(program, dispatch):
            if region.nbytes:
                use = _Use(region.offset, region.offset + region.nbytes, is_write, number, region)
                uses.setdefault(_memory(program, region), []).append(use)
    seen: set[tuple[int, int, str]] = set()
    for found in uses.values():
        for pair in _overlaps(found):
            first, second = sorted(pair, key=lambda use: use.dispatch)
            kind = f"{_VERBS[second.is_write]} after {_VERBS[first.is_write]}"
            key = (first.dispatch, second.dispatch, kind)
            if key not in seen:
                seen.add(key)
                one, other = (_name(program, level[use.dispatch]) for use in (first, second))
                hazards.append(Hazard(one, other, kind, first.region if first.is_write else second.region))


def _overlaps(uses: list[_Use]) -> list[tuple[_Use, _Use]]:
    """Return overlapping uses of different dispatches, at least one a write.

    A sweep by start: a read meets the writes that are still open, a write meets everything that is still open.
    """
    found: list[tuple[_Use, _Use]] = []
    reads: list[_Use] = []
    writes: list[_Use] = []
    for use in sorted(uses, key=lambda use: use.start):
        reads = [other for other in reads if other.end > use.start] if use.is_write else reads
        writes = [other for other in writes if other.end > use.start]
        met = [*reads, *writes] if use.is_write else writes
        found.extend((other, use) for other in met if other.dispatch != use.dispatch)
        (writes if use.is_write else reads).append(use)
    return found


def _accesses(program: Program, dispatch: Dispatch) -> list[tuple[Region, bool]]:
    parameters = program.kernels[dispatch.kernel].parameters
    pairs = zip(dispatch.arguments, parameters, strict=True)
    found = [(region, parameter.access != "r") for region, parameter in pairs]
    if dispatch.guard is not None:
        found.append((dispatch.guard[0], False))
    return found


def _memory(program: Program, region: Region) -> tuple[str, int]:
    """Return which memory a region lies in: an output that takes a donated input's memory lies in that input's."""
    if region.space == "output":
        for source, output in program.aliases:
            if output == region.index:
                return ("input", source)
    return (region.space, region.index)


def _name(program: Program, dispatch: Dispatch) -> str:
    return dispatch.label or program.kernels[dispatch.kernel].name


def _text(region: Region) -> str:
    return f"{region.space} {region.index} bytes {region.offset} to {region.offset + region.nbytes}"
