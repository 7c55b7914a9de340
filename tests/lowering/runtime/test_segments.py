"""Recipes: loops unrolled or repeated, chunks of a While, the address table, split dispatches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lowering.errors import GraphError
from lowering.program import Barrier, Dispatch
from lowering.runtime.segments import (
    CHUNK_ROUNDS,
    SEGMENT_COMMANDS,
    HostLoop,
    Limits,
    Loop,
    Segment,
    build_recipe,
    split_groups,
)

from . import kernels

LIMITS = Limits((65535, 65535, 65535))


def _sizes(segment: Segment) -> tuple[int, int]:
    """Dispatches and barriers of a segment."""
    barriers = sum(command is None for command in segment.commands)
    return len(segment.commands) - barriers, barriers


def test_a_straight_program_is_one_segment() -> None:
    (item,) = build_recipe(kernels.chain_program(64, 4), LIMITS).items
    assert isinstance(item, Segment)
    assert _sizes(item) == (4, 3)
    assert not item.is_repeated


def test_table_holds_one_address_for_each_argument_in_order() -> None:
    recipe = build_recipe(kernels.chain_program(64, 3), LIMITS)
    # Inputs come first among the base addresses, then outputs, constants, and the arena last.
    np.testing.assert_array_equal(recipe.address_index, [0, 2, 2, 2, 2, 1])
    np.testing.assert_array_equal(recipe.address_offset, [0, 0, 0, 256, 256, 0])


def test_a_guard_is_the_first_address_of_its_slice() -> None:
    recipe = build_recipe(kernels.while_program(3), LIMITS)
    loop = recipe.items[1]
    assert isinstance(loop, HostLoop)
    (condition,) = loop.condition
    assert isinstance(condition, Segment)
    (command,) = condition.commands
    assert command is not None
    start = command.slice_offset // 8
    np.testing.assert_array_equal(recipe.address_index[start : start + 3], [1, 0, 1])
    assert command.guard_value == 1


def test_a_short_repeat_is_unrolled_into_its_segment() -> None:
    (item,) = build_recipe(kernels.repeat_program(5), LIMITS).items
    assert isinstance(item, Segment)
    assert _sizes(item) == (6, 5)


def test_a_long_repeat_becomes_a_loop_and_a_rest() -> None:
    count = 3 * SEGMENT_COMMANDS
    first, loop, *rest = build_recipe(kernels.repeat_program(count), LIMITS).items
    assert isinstance(first, Segment)
    assert isinstance(loop, Loop)
    (body,) = loop.body
    assert isinstance(body, Segment)
    assert body.is_repeated
    rounds = loop.count * _sizes(body)[0] + sum(_sizes(item)[0] for item in rest if isinstance(item, Segment))
    assert rounds == count
    assert len(body.commands) <= SEGMENT_COMMANDS


def test_chunks_of_a_while_double() -> None:
    loop = build_recipe(kernels.while_program(3), LIMITS).items[1]
    assert isinstance(loop, HostLoop)
    rounds = [rounds for rounds, _ in loop.chunks]
    assert rounds == [1 << exponent for exponent in range(len(rounds))]
    assert rounds[-1] <= CHUNK_ROUNDS
    assert all(_sizes(segment)[0] == 2 * rounds for rounds, segment in loop.chunks)


def test_trailing_and_doubled_barriers_vanish() -> None:
    program = kernels.scale_program(64)
    steps = (Barrier(), *program.steps, Barrier(), Barrier())
    (item,) = build_recipe(replace(program, steps=steps), LIMITS).items
    assert isinstance(item, Segment)
    assert _sizes(item) == (1, 0)


def test_a_guard_on_an_unguarded_kernel_is_refused() -> None:
    program = kernels.repeat_program(1)
    step = Dispatch(1, (kernels.counter_region(),), (1, 1, 1), guard=(kernels.counter_region(), 1))
    with pytest.raises(GraphError, match="no guard for kernel advance"):
        build_recipe(replace(program, steps=(step,)), LIMITS)


def test_arguments_must_fit_the_kernel() -> None:
    program = kernels.repeat_program(1)
    with pytest.raises(GraphError, match="1 for kernel advance"):
        build_recipe(replace(program, steps=(Dispatch(1, (), (1, 1, 1)),)), LIMITS)


def test_split_groups_covers_all_groups_once() -> None:
    pieces = split_groups((1000, 2, 3), 64, Limits((300, 10, 10), invocations=64 * 6 * 128))
    assert [groups for _, groups in pieces][:2] == [(128, 2, 3), (128, 2, 3)]
    covered = [first + i for first, groups in pieces for i in range(groups[0])]
    assert covered == list(range(1000))


def test_split_groups_leaves_small_dispatches_whole() -> None:
    assert split_groups((7, 1, 1), 64, LIMITS) == [(0, (7, 1, 1))]
