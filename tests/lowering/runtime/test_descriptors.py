"""The hazard checker and the synchronization validation layer agree on programs with and without their barriers."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from lowering.program import Barrier, Dispatch, Program, Region, Step
from lowering.runtime import Device
from lowering.runtime.descriptors import run_with_descriptors
from lowering.runtime.hazard import find_hazards

from . import kernels
from .conftest import open_or_skip

pytestmark = pytest.mark.vulkan_device
COUNT = 64
NBYTES = 4 * COUNT


@pytest.fixture(scope="module")
def listening_device() -> Iterator[Device]:
    """A device under synchronization validation."""
    with open_or_skip(validation="sync") as device:
        yield device


def _heard(device: Device, program: Program) -> list[str]:
    """Run a program and return what the layer said."""
    device.messages.clear()
    inputs = []
    for _ in program.inputs:
        inputs.append(device.allocate(NBYTES))
        device.upload(inputs[-1], np.zeros(COUNT, np.float32))
    run_with_descriptors(device, program, inputs)
    heard = [message.identifier for message in device.messages]
    device.messages.clear()
    return heard


def _random_program(seed: int) -> Program:
    """Copies between slots of the arena, the input and the output, with barriers here and there."""
    choose = random.Random(seed)
    slots = [Region("arena", 0, NBYTES * slot, NBYTES) for slot in range(6)]
    sources, targets = [*slots, Region("input", 0, 0, NBYTES)], [*slots, Region("output", 0, 0, NBYTES)]
    steps: list[Step] = []
    for number in range(choose.randint(2, 6)):
        source = choose.choice(sources)
        target = choose.choice([region for region in targets if region != source])
        steps.append(Dispatch(0, (source, target), (1, 1, 1), label=f"copy {number}"))
        if choose.random() < 0.5:
            steps.append(Barrier())
    kernel = kernels.scale(COUNT, descriptors=True)
    floats = kernels.floats(COUNT)
    return Program("random", (kernel,), tuple(steps), (floats,), (floats,), (), 6 * NBYTES)


def test_descriptor_kernels_compute_the_same(fresh_device: Device) -> None:
    program = kernels.chain_program(101, 4, descriptors=True)
    line = np.arange(101, dtype=np.float32)
    buffer = fresh_device.allocate(line.nbytes)
    fresh_device.upload(buffer, line)
    (output,) = run_with_descriptors(fresh_device, program, [buffer])
    np.testing.assert_array_equal(kernels.fetch(fresh_device, output, program.outputs[0]), 16 * line + 15)


def test_descriptor_kernels_run_loops(fresh_device: Device) -> None:
    program = kernels.while_program(5, descriptors=True)
    (output,) = run_with_descriptors(fresh_device, program, [])
    assert kernels.fetch(fresh_device, output, program.outputs[0]) == 5


def test_a_missing_barrier_is_heard(listening_device: Device) -> None:
    program = kernels.chain_program(COUNT, 2, descriptors=True)
    assert _heard(listening_device, program) == []
    steps = tuple(step for step in program.steps if isinstance(step, Dispatch))
    racing = Program("racing", program.kernels, steps, program.inputs, program.outputs, (), program.arena_bytes)
    assert any(identifier.endswith("READ-AFTER-WRITE") for identifier in _heard(listening_device, racing))


@pytest.mark.parametrize("seed", range(40))
def test_checker_and_layer_agree(listening_device: Device, seed: int) -> None:
    program = _random_program(seed)
    found = {hazard.kind for hazard in find_hazards(program)}
    # The layer keeps silent about two writes: it takes them for writes of different elements.
    assert bool(found - {"write after write"}) == bool(_heard(listening_device, program))


def test_random_programs_are_of_both_kinds() -> None:
    kinds = [{hazard.kind for hazard in find_hazards(_random_program(seed))} for seed in range(40)]
    assert 5 <= sum(not found for found in kinds) <= 35
    assert set().union(*kinds) == {"read after write", "write after read", "write after write"}
