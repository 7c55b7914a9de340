"""Scatter, in place over its operand: in an order that does not depend on the device's timing.

unique   one lane for each update element; the program promises that no two meet
atomic   the same with integer atomics, whose order cannot be seen
searched updates of single places: subgroups look for those that are theirs, side by side; see codegen/search.py
owned    the same where that is not possible: a lane owns every `owners`-th place and looks through all updates
pull     any windows: a lane owns one output element and looks through all updates in order
"""

from __future__ import annotations

from math import prod

from shaders.capabilities import Capabilities
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Node
from ..schedule import Schedule
from . import maps, search
from .expression import Expression
from .places import Problem, batch_of, combine, flatten, start_of, updates_at

# Work (places looked at) up to which lanes may look through all updates.
PATIENCE = 2**31
# Lanes that keep a device busy.
BUSY_LANES = {True: 64, False: 262144}
ATOMIC_KINDS = frozenset({"add", "max", "min", "and", "or", "xor"})


def choose(fusion: Node, capabilities: Capabilities) -> Schedule:
    """Return the schedule: deterministic wherever lanes have the patience, atomics only for integers."""
    problem = Problem(fusion.attributes["body"].nodes[-1])
    node = problem.node
    dtype = node.outputs[0].dtype
    workgroup = capabilities.subgroup_size if capabilities.is_cpu else 64
    if node.attributes["unique"] and problem.single_places:
        return Schedule("scatter", workgroup, mode="unique")
    wide_atomics = dtype in ("i32", "u32") or (dtype in ("i64", "u64") and capabilities.atomic_i64)
    if problem.count == 1 and node.attributes["kind"] in ATOMIC_KINDS and wide_atomics:
        return Schedule("scatter", workgroup, mode="atomic")
    window = prod(problem.window)
    if not problem.single_places:
        return Schedule("scatter", workgroup, mode="pull")
    if search.pays(problem, capabilities):
        return search.choose(problem, capabilities)
    busy = BUSY_LANES[capabilities.is_cpu]
    owners = max(1, min(problem.places, -(-busy // max(window, 1))))
    while owners > 1 and owners * window * problem.updates > PATIENCE:
        owners //= 2
    return Schedule("scatter", workgroup, mode="owned", owners=owners)


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups."""
    problem = Problem(fusion.attributes["body"].nodes[-1])
    if schedule.mode == search.MODE:
        return search.groups(problem, schedule)
    return -(-_lanes(problem, schedule) // schedule.workgroup)


def _lanes(problem: Problem, schedule: Schedule) -> int:
    if schedule.mode == "pull":
        return problem.node.outputs[0].size
    if schedule.mode == "owned":
        return schedule.owners * prod(problem.window)
    return problem.updates * prod(problem.window)


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """Lanes apply the updates that are theirs; see the head of this file."""
    problem = Problem(fusion.attributes["body"].nodes[-1])
    if schedule.mode == search.MODE:
        search.emit(builder, expression, problem, schedule)
        return
    lane = maps.global_index(expression, schedule.workgroup) + maps.local_index(expression)
    total = _lanes(problem, schedule)
    run = {"pull": _pull, "owned": _owned}.get(schedule.mode, _each)

    def guarded() -> None:
        with expression.scope():
            run(expression, problem, lane, schedule)

    if total:
        builder.when(lane < expression.number(total), guarded)


def _each(expression: Expression, problem: Problem, lane: Register, schedule: Schedule) -> None:
    number = expression.number
    window = prod(problem.window)
    update, element = (lane // number(window), lane % number(window)) if window > 1 else (lane, number(0))
    offsets = expression.split(element, problem.window)
    inside, start = start_of(expression, problem, batch_of(expression, problem, update))

    def apply() -> None:
        with expression.scope():
            place = flatten(expression, problem, start, offsets)
            if schedule.mode == "atomic":
                (fresh,) = updates_at(expression, problem, update, offsets)
                output = problem.node.outputs[0]
                _ = expression.buffers[output].atomic(problem.node.attributes["kind"], place, fresh)
            else:
                _combine(expression, problem, place, update, offsets)

    expression.builder.when(inside, apply)


def _owned(expression: Expression, problem: Problem, lane: Register, schedule: Schedule) -> None:
    number, builder = expression.number, expression.builder
    window = prod(problem.window)
    owner, element = (lane // number(window), lane % number(window)) if window > 1 else (lane, number(0))
    offsets = expression.split(element, problem.window)

    def step(update: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            inside, start = start_of(expression, problem, batch_of(expression, problem, update))
            place = flatten(expression, problem, start, offsets)
            if schedule.owners > 1:
                mine = (_start_number(expression, problem, start) % number(schedule.owners)) == owner
                inside = builder.logical_and(inside, mine)

            def apply() -> None:
                with expression.scope():
                    _combine(expression, problem, place, update, offsets)

            builder.when(inside, apply)
        return carries

    builder.loop(number(0), number(problem.updates), number(1), [], step)


def _pull(expression: Expression, problem: Problem, lane: Register, schedule: Schedule) -> None:
    number, builder = expression.number, expression.builder
    shape = problem.node.outputs[0].shape
    mine = expression.split(lane, shape)

    def step(update: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            inside, start = start_of(expression, problem, batch_of(expression, problem, update))
            offsets = []
            for axis, extent in enumerate(problem.operand_window):
                offset = mine[axis] - start[axis]
                inside = builder.logical_and(inside, offset < number(extent))
                offsets.append(offset)
            hidden = {
                *problem.node.attributes["inserted_window_dims"], *problem.node.attributes["input_batching_dims"]
            }  # fmt: skip
            shown = tuple(offset for axis, offset in enumerate(offsets) if axis not in hidden)

            def apply() -> None:
                with expression.scope():
                    _combine(expression, problem, lane, update, shown)

            builder.when(inside, apply)
        return carries

    builder.loop(number(0), number(problem.updates), number(1), [], step)


def _start_number(expression: Expression, problem: Problem, start: tuple[Register, ...]) -> Register:
    """Return a number that tells apart any two windows that do not coincide."""
    return expression.flatten(start, problem.node.inputs[0].shape)


def _combine(
    expression: Expression, problem: Problem, place: Register, update: Register, offsets: tuple[Register, ...]
) -> None:
    for value, element in combine(expression, problem, place, update, offsets):
        expression.store(value, place, element)
