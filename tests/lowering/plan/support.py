"""Programs of the corpus for known devices, and what their steps touch; no device is needed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lowering.program import Barrier, Dispatch, Program, Region, Repeat, Step, While
from shaders.capabilities import Capabilities

from ..running import Variant, case_program, names_of

FOLDER = Path(__file__).parents[2] / "shaders" / "capabilities"
MACHINES = ("lavapipe22", "h100")
PLANNED: tuple[tuple[str, Variant], ...] = (
    *((name, "value") for name in names_of("value")),
    *((name, "donated") for name in names_of("donated")),
)


@functools.cache
def machine(name: str) -> Capabilities:
    """Return what a known device can do."""
    return Capabilities.from_text((FOLDER / f"{name}.json").read_text())


def planned(name: str, variant: Variant = "value", on: str = "lavapipe22") -> Program:
    """Return the program of a case for a known device."""
    return case_program(name, machine(on), variant)


def dispatches(steps: Sequence[Step]) -> Iterator[Dispatch]:
    """Yield every dispatch, inside loops as well."""
    for step in steps:
        if isinstance(step, Dispatch):
            yield step
        elif isinstance(step, Repeat):
            yield from dispatches(step.body)
        elif isinstance(step, While):
            yield from dispatches(step.condition)
            yield from dispatches(step.body)


def writes(program: Program) -> Iterator[Region]:
    """Yield every region that some dispatch writes."""
    for step in dispatches(program.steps):
        for region, parameter in zip(step.arguments, program.kernels[step.kernel].parameters, strict=True):
            if "w" in parameter.access:
                yield region


def without_each_barrier(program: Program) -> Iterator[Program]:
    """Yield the program without one barrier between two dispatches, for each of them."""
    for steps in _without_each(program.steps):
        yield replace(program, steps=steps)


def _without_each(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    for place, step in enumerate(steps):
        before, after = steps[:place], steps[place + 1 :]
        if isinstance(step, Barrier):
            # Loops are fences themselves.
            if before and after and isinstance(before[-1], Dispatch) and isinstance(after[0], Dispatch):
                yield (*before, *after)
        elif isinstance(step, Repeat):
            for body in _without_each(step.body):
                yield (*before, replace(step, body=body), *after)
        elif isinstance(step, While):
            for body in _without_each(step.body):
                yield (*before, replace(step, body=body), *after)
            for condition in _without_each(step.condition):
                yield (*before, replace(step, condition=condition), *after)
