"""Barriers of compiled programs: enough, none idle, and synchronization validation hears what our checker finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lowering.program import Dispatch, Program, Repeat, Step, While
from lowering.runtime import Device
from lowering.runtime.hazard import find_hazards
from shaders.capabilities import Capabilities
from shaders.kernel import Kernel
from shaders.spirv.grammar import Decoration, Op

from .listening import PROGRAMS, arguments, compiled, count_barriers, heard, run_described, styled, without_barrier

# Barriers removed from one program, spread over it.
MOST = 6


def _some(count: int) -> list[int]:
    return sorted({i * count // MOST for i in range(MOST)}) if count > MOST else list(range(count))


@pytest.mark.parametrize("name", PROGRAMS)
def test_plans_have_no_hazard(capabilities: Capabilities, name: str) -> None:
    assert find_hazards(compiled(name, capabilities)) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_plans_have_no_idle_barrier(capabilities: Capabilities, name: str) -> None:
    program = compiled(name, capabilities)
    idle = [n for n in range(count_barriers(program.steps)) if not find_hazards(without_barrier(program, n))]
    assert idle == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_checker_and_layer_notice_a_removed_barrier(synchronized_device: Device, name: str) -> None:
    program = compiled(name, styled(synchronized_device.capabilities, "cpu"), descriptors=True)
    for number in _some(count_barriers(program.steps)):
        racing = without_barrier(program, number)
        assert find_hazards(racing)
        _ = run_described(synchronized_device, racing, arguments(name))
        kinds = {hazard.kind for hazard in find_hazards(_as_the_layer_reads(racing))}
        # The layer keeps silent about two writes: it takes them for writes of different elements.
        assert bool(kinds - {"write after write"}) == bool(heard(synchronized_device)), (number, kinds)


def _as_the_layer_reads(program: Program) -> Program:
    """Return the program as the layer sees it.

    Whatever may be written is written, and not read as well; a buffer that no instruction reaches is not touched.
    """
    kernels = []
    for kernel in program.kernels:
        parameters = [replace(one, access="w") if one.access == "rw" else one for one in kernel.parameters]
        kernels.append(replace(kernel, parameters=tuple(parameters)))

    def seen(steps: Sequence[Step]) -> tuple[Step, ...]:
        return tuple(_reached(step, kernels) if isinstance(step, Dispatch) else inside(step) for step in steps)

    def inside(step: Step) -> Step:
        if isinstance(step, Repeat):
            return replace(step, body=seen(step.body))
        return replace(step, condition=seen(step.condition), body=seen(step.body)) if isinstance(step, While) else step

    return replace(program, kernels=tuple(kernels), steps=seen(program.steps))


def _reached(dispatch: Dispatch, kernels: Sequence[Kernel]) -> Dispatch:
    kernel = kernels[dispatch.kernel]
    bindings = _bindings(kernel)
    regions = enumerate(dispatch.arguments, int(kernel.guarded))
    return replace(
        dispatch, arguments=tuple(one if slot in bindings else replace(one, nbytes=0) for slot, one in regions)
    )


def _bindings(kernel: Kernel) -> set[int]:
    """Return the bindings that a kernel declares, which it does where it reaches them."""
    words = np.frombuffer(kernel.words, np.uint32)
    found, place = set(), 5
    while place < len(words):
        size, opcode = int(words[place]) >> 16, int(words[place]) & 0xFFFF
        if opcode == Op.Decorate and words[place + 2] == Decoration.Binding:
            found.add(int(words[place + 3]))
        place += size
    return found


def test_most_programs_have_barriers(capabilities: Capabilities) -> None:
    counts = {name: count_barriers(compiled(name, capabilities).steps) for name in PROGRAMS}
    assert counts["transformer_step"] >= 5
    assert sum(count > 0 for count in counts.values()) >= 8, counts
