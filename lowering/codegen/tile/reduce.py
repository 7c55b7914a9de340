"""Reductions of tiles: each invocation's own elements, then its subgroup, then the workgroup."""

from __future__ import annotations

import itertools

from shaders.spirv import Value as Register

from ..combine import Reduction, State
from ..expression import parts
from ..window import window_at
from .blocks import Step
from .expression import TileExpression
from .layout import ALL, COLUMNS, ROWS
from .roles import is_serial
from .staging import Staging


def emit_reduce(expression: TileExpression, staging: Staging, step: Step, subgroup: int) -> None:
    """Emit a reduction; the result is the same in all invocations that shared in it."""
    reduction = Reduction(expression, step.node)
    if is_serial(step, expression.layout.joined):
        states = _serial(expression, step, reduction)
    else:
        states = [_own(expression, step, reduction, kept) for kept in expression.unique(step.outputs[0])]
        states = _across(expression, staging, step, reduction, states, subgroup)
    finished = [reduction.finish(state) for state in states]
    for place, output in enumerate(step.outputs):
        expression.settle(output, [elements[place] for elements in finished])


def emit_window(expression: TileExpression, step: Step) -> None:
    """Emit a reduction over windows: each invocation walks the window of each of its elements."""
    places = [expression.dims(index) for index in expression.slots(step.outputs[0])]
    found = [window_at(expression.builder, expression, step.node, place) for place in places]
    for number, output in enumerate(step.outputs):
        expression.settle(output, [elements[number] for elements in found])


def _own(expression: TileExpression, step: Step, reduction: Reduction, kept: tuple[int, ...]) -> State:
    """Combine this invocation's elements for one place of the result."""
    operand, dimensions = step.inputs[0], step.node.attributes["dimensions"]
    counts = [len(expression.places(operand, axis)) for axis in dimensions]
    state = reduction.identity()
    for inner in itertools.product(*map(range, counts)):
        slots = dict(zip(dimensions, inner, strict=True))
        rest = iter(kept)
        chosen = [slots[axis] if axis in slots else next(rest) for axis in range(len(operand.shape))]
        dims = tuple(expression.places(operand, axis)[slot] for axis, slot in enumerate(chosen))
        index = expression.index(operand.shape, dims=dims)
        grown = reduction.add(state, [expression.at(each, index) for each in reduction.operands])
        exists: Register | None = None
        for axis, slot in slots.items():
            test = expression.exists(operand, axis, slot)
            if test is not None:
                exists = test if exists is None else expression.builder.logical_and(exists, test)
        state = reduction.keep_if(exists, grown, state)
    return state


def _across(
    expression: TileExpression,
    staging: Staging,
    step: Step,
    reduction: Reduction,
    states: list[State],
    subgroup: int,
) -> list[State]:
    """Combine the states of all invocations along what the reduced axes follow."""
    layout, builder = expression.layout, expression.builder
    followed = {layout.axis(step.inputs[0], axis) for axis in step.node.attributes["dimensions"]}
    low = 1 if followed & {COLUMNS, ALL} else layout.columns
    high = layout.threads if followed & {ROWS, ALL} else layout.columns
    inside = min(high, subgroup)
    distance = low
    while distance < inside:
        states = [
            reduction.merge(state, [builder.shuffle_xor(register, distance) for register in state]) for state in states
        ]
        distance *= 2
    if high <= subgroup:
        return states
    return _through_shared(expression, staging, reduction, states, low, subgroup)


def _through_shared(
    expression: TileExpression, staging: Staging, reduction: Reduction, states: list[State], columns: int, subgroup: int
) -> list[State]:
    """Combine the states of all subgroups; `columns` of the lanes of each hold different ones."""
    builder, groups = expression.builder, expression.layout.threads // subgroup
    number = expression.number
    columns = min(columns, subgroup)
    memory = [staging.scratch(str(register.dtype), len(states) * groups * columns) for register in states[0]]
    column = builder.lane % number(columns) if columns > 1 else number(0)

    def place(slot: int, group: Register) -> Register:
        return (number(slot * groups) + group) * number(columns) + column

    if staging.was_used:
        builder.barrier()
    staging.was_used = True
    for slot, state in enumerate(states):
        for scratch, register in zip(memory, state, strict=True):
            scratch.store(place(slot, builder.subgroup_id), register)
    builder.barrier()
    result: list[State] = []
    for slot in range(len(states)):
        total = [scratch.load(place(slot, number(0))) for scratch in memory]
        for group in range(1, groups):
            total = reduction.merge(total, [scratch.load(place(slot, number(group))) for scratch in memory])
        result.append(total)
    for scratch in memory:
        staging.give_back(scratch)
    return result


def _serial(expression: TileExpression, step: Step, reduction: Reduction) -> list[State]:
    """Walk all elements of each result in order; operands are staged or can be computed anywhere."""
    operand, dimensions = step.inputs[0], tuple(step.node.attributes["dimensions"])
    extents = tuple(operand.shape[axis] for axis in dimensions)
    count = 1
    for extent in extents:
        count *= extent
    start = [register for element in reduction.initial() for register in parts(element)]
    if reduction.has_identity:
        start = reduction.identity()
    states: list[State] = []
    for index in expression.slots(step.outputs[0]):
        kept = expression.dims(index)

        def one(number: Register, state: State, kept: tuple[Register, ...] = kept) -> State:
            with expression.scope():
                inner = dict(zip(dimensions, expression.split(number, extents), strict=True))
                rest = iter(kept)
                dims = tuple(inner[axis] if axis in inner else next(rest) for axis in range(len(operand.shape)))
                index = expression.index(operand.shape, dims=dims)
                return reduction.add(state, [expression.at(each, index) for each in reduction.operands])

        states.append(expression.builder.loop(0, count, 1, start, one))
    return states
