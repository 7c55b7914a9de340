"""Scatter by subgroups that search: the lanes of a subgroup look at as many updates at once, and apply what they find.

A subgroup owns every `owners`-th place and a stretch of the windows there. Each lane tests one update; a ballot tells
all lanes which ones are the subgroup's, and they apply these in the order of the updates, each lane its own elements.
So every element gets its updates in order, and an index is read once for each subgroup and not once for each lane.
"""

from __future__ import annotations

from math import prod

from shaders.capabilities import Capabilities
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Value
from ..schedule import Schedule
from . import maps
from .expression import Expression, Scalar
from .places import Problem, batch_of, combine, flatten, start_of

MODE = "searched"
# Subgroups that keep a device busy.
BUSY_SUBGROUPS = 4096
SUBGROUPS = 4
"""In one workgroup."""
# Updates that a lane tests before it waits for the others: their indices are loaded together.
ROUND = 4
# Elements of a window that a lane updates, all of which are loaded before the first is stored.
MOST_ELEMENTS = 8
# With fewer updates than this many rounds of a subgroup, lanes that look through all of them are as fast.
FEWEST_ROUNDS = 2
# A ballot's words that are looked at: one bit a lane.
_WORD = 32


def pays(problem: Problem, capabilities: Capabilities) -> bool:
    """Tell whether subgroups should search: many updates of single places, on a GPU that can vote."""
    size = capabilities.subgroup_size
    return (
        not capabilities.is_cpu
        and "ballot" in capabilities.subgroup_operations
        and size <= 4 * _WORD
        and problem.updates >= FEWEST_ROUNDS * ROUND * size
    )


def choose(problem: Problem, capabilities: Capabilities) -> Schedule:
    """Return the schedule: windows cut in stretches first, then as many owners of places as keep a device busy."""
    size = capabilities.subgroup_size
    window = prod(problem.window)
    elements = min(MOST_ELEMENTS, -(-window // size))
    stretches = -(-window // (size * elements))
    owners = max(1, min(problem.places, BUSY_SUBGROUPS // stretches))
    return Schedule("scatter", SUBGROUPS * size, per_lane=elements, subgroup=size, mode=MODE, owners=owners)


def _stretches(problem: Problem, schedule: Schedule) -> int:
    return -(-prod(problem.window) // (schedule.subgroup * schedule.per_lane))


def groups(problem: Problem, schedule: Schedule) -> int:
    """Return the number of workgroups: one subgroup for each owner and stretch."""
    return -(-schedule.owners * _stretches(problem, schedule) // (schedule.workgroup // schedule.subgroup))


def emit(builder: Builder, expression: Expression, problem: Problem, schedule: Schedule) -> None:
    """Let a subgroup go through all updates, ROUND of them a lane at a time."""
    number, size = expression.number, schedule.subgroup
    stretches = _stretches(problem, schedule)
    worker = maps.global_index(expression, schedule.workgroup // size) + builder.convert(
        builder.subgroup_id, expression.index_dtype
    )
    lane = builder.convert(builder.lane, expression.index_dtype)
    owner, stretch = (worker // number(stretches), worker % number(stretches)) if stretches > 1 else (worker, number(0))
    first = stretch * number(size * schedule.per_lane) + lane

    def step(base: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            found = []
            for part in range(ROUND):
                begin = base + number(part * size)
                found.append((begin, builder.ballot(_is_mine(expression, problem, schedule, begin + lane, owner))))
        for begin, ballot in found:
            for word in range(-(-size // _WORD)):
                _apply_all(expression, problem, schedule, begin + number(word * _WORD), ballot[word], first)
        return carries

    def search() -> None:
        builder.loop(number(0), number(problem.updates), number(ROUND * size), [], step)

    builder.when(worker < number(schedule.owners * stretches), search)


def _is_mine(
    expression: Expression, problem: Problem, schedule: Schedule, update: Register, owner: Register
) -> Register:
    """Tell whether an update exists, lies inside, and goes to one of the owner's places."""
    builder, number = expression.builder, expression.number
    last = number(problem.updates - 1)
    inside, start = start_of(expression, problem, batch_of(expression, problem, builder.min(update, last)))
    node, window = problem.node, problem.operand_window
    moved = {*node.attributes["scatter_dims_to_operand_dims"], *node.attributes["input_batching_dims"]}
    axes = [axis for axis in sorted(moved) if window[axis] == 1]
    place = expression.flatten([start[axis] for axis in axes], tuple(node.inputs[0].shape[axis] for axis in axes))
    is_mine = builder.logical_and(inside, update <= last)
    if schedule.owners > 1:
        is_mine = builder.logical_and(is_mine, place % number(schedule.owners) == owner)
    return is_mine


def _apply_all(
    expression: Expression, problem: Problem, schedule: Schedule, begin: Register, word: Register, first: Register
) -> None:
    """Apply the updates whose bits are set, the lowest first."""
    builder = expression.builder
    zero = builder.const("u32", 0)

    def apply(carries: list[Register]) -> list[Register]:
        (left,) = carries
        bit = builder.math("find_lsb", left)
        assert isinstance(bit, Register)
        update = begin + builder.convert(bit, expression.index_dtype)
        with expression.scope():
            _apply(expression, problem, schedule, update, first)
        return [left & (left - 1)]

    builder.while_loop(lambda carries: carries[0] != zero, apply, [word], most=_WORD)


def _apply(expression: Expression, problem: Problem, schedule: Schedule, update: Register, first: Register) -> None:
    """Update this lane's elements of one window: all are computed at legal places before the first is stored."""
    builder, number = expression.builder, expression.number
    window = prod(problem.window)
    _, start = start_of(expression, problem, batch_of(expression, problem, update))
    made = []
    for step in range(schedule.per_lane):
        element = first + number(step * schedule.subgroup)
        offsets = expression.split(builder.min(element, number(window - 1)), problem.window)
        place = flatten(expression, problem, start, offsets)
        made.append((element, place, combine(expression, problem, place, update, offsets)))
    covered = schedule.subgroup * schedule.per_lane * _stretches(problem, schedule)
    for element, place, results in made:

        def store(place: Register = place, results: list[tuple[Value, Scalar]] = results) -> None:
            for value, result in results:
                expression.store(value, place, result)

        if covered == window:
            store()
        else:
            builder.when(element < number(window), store)
