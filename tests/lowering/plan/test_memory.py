"""Temporaries that live at the same time lie apart, and the arena is hardly larger than what lives at once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowering.plan import memory
from lowering.plan.steps import Launch, Level, Loop, Rounds, Storage

from ..running import Variant
from .support import MACHINES, PLANNED, planned


def launch(*storages: Storage) -> Launch:
    return Launch(0, storages, 1, "kernel", "", None)


def temporaries(*sizes: int) -> list[Storage]:
    return [Storage("arena", 0, size) for size in sizes]


def apart(first: Storage, second: Storage) -> bool:
    return first.offset + first.nbytes <= second.offset or second.offset + second.nbytes <= first.offset


@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize(("name", "variant"), PLANNED)
def test_arena_is_close_to_what_lives_at_once(name: str, variant: Variant, on: str) -> None:
    program = planned(name, variant, on)
    assert program.arena_bytes <= 1.1 * program.liveness_bound_bytes


def test_a_chain_needs_room_for_two() -> None:
    a, b, c, d = temporaries(1000, 1000, 1000, 1000)
    levels = [Level([launch(a, b)]), Level([launch(b, c)]), Level([launch(c, d)])]
    assert memory.plan_arena(levels) == (2048, 2048)
    assert apart(a, b)
    assert apart(b, c)
    assert a.offset == c.offset


def test_every_temporary_starts_at_a_multiple_of_256() -> None:
    storages = temporaries(1, 300, 256)
    total, _ = memory.plan_arena([Level([launch(*storages)])])
    assert total == 1024
    assert all(storage.offset % 256 == 0 for storage in storages)


def test_what_a_loop_carries_lives_until_it_ends() -> None:
    carry, inside, after = temporaries(256, 256, 256)
    rounds = Rounds(3, [Level([launch(carry, inside)]), Level([launch(inside)])], (carry,), "loop")
    memory.plan_arena([Level([launch(carry)]), Level([rounds]), Level([launch(after)])])
    assert apart(carry, inside)
    assert carry.first == 1
    assert carry.last > inside.last


def test_what_a_loop_only_reads_lives_until_it_ends() -> None:
    captured, first, second = temporaries(256, 256, 256)
    body = [Level([launch(captured, first)]), Level([launch(first, second)]), Level([launch(second)])]
    memory.plan_arena([Level([launch(captured)]), Level([Rounds(2, body, (), "loop")])])
    assert apart(captured, second)


def test_the_flag_of_a_loop_survives_its_body() -> None:
    flag, inside = temporaries(4, 4)
    loop = Loop([Level([launch(flag)])], flag, [Level([launch(inside)])], (), "loop")
    memory.plan_arena([Level([launch(flag)]), Level([loop])])
    assert apart(flag, inside)


def test_inputs_and_constants_take_no_room() -> None:
    levels = [Level([launch(Storage("input", 0, 4096), Storage("constant", 0, 64), Storage("output", 0, 64))])]
    assert memory.plan_arena(levels) == (0, 0)


@st.composite
def schedules(draw: st.DrawFn) -> list[list[Level]]:
    """Draw levels of launches over a pool of temporaries, with loops among them."""
    pool = [Storage("arena", 0, draw(st.sampled_from((1, 256, 700, 5000)))) for _ in range(draw(st.integers(1, 12)))]

    def levels(depth: int) -> list[Level]:
        result: list[Level] = []
        for _ in range(draw(st.integers(1, 4))):
            if depth and draw(st.integers(0, 4)) == 0:
                carried = tuple(draw(st.lists(st.sampled_from(pool), max_size=2)))
                result.append(Level([Rounds(2, levels(depth - 1), carried, "loop")]))
            else:
                result.append(Level([launch(*draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3)))]))
        return result

    return [levels(2)]


def unrolled(levels: list[Level], rounds: int = 2) -> list[set[Storage]]:
    """Return what each step of an execution touches, every loop run twice and its carries held throughout."""
    result: list[set[Storage]] = []
    for level in levels:
        for step in level.steps:
            if isinstance(step, Launch):
                result.append(set(step.arguments))
            elif isinstance(step, Rounds):
                body = [touched for _ in range(rounds) for touched in unrolled(step.body)]
                result.extend(touched | set(step.carried) for touched in body)
    return result


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_what_is_needed_again_is_never_overwritten(drawn: list[list[Level]]) -> None:
    """Run the schedule twice over in time: between two uses of a temporary, in loops too, nothing touches its bytes.

    A temporary whose every use lies in one round of a loop may lie under others outside that round.
    """
    (levels,) = drawn
    memory.plan_arena(levels)
    steps = unrolled(levels)
    for touched in steps:
        for first, second in itertools.combinations(touched, 2):
            assert apart(first, second)
    outer = [touched for level in levels for touched in _once(level)]
    for storage in set().union(*outer):
        uses = [place for place, touched in enumerate(outer) if storage in touched]
        for touched in outer[uses[0] : uses[-1] + 1]:
            assert all(other is storage or apart(storage, other) for other in touched)


def _once(level: Level) -> list[set[Storage]]:
    """Return what a level touches, a loop as one step: all it touches that also lives outside."""
    return unrolled([level], 1) if isinstance(level.steps[0], Launch) else []
