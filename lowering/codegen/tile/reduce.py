"""Reductions of tiles: each invocation's own elements, then its subgroup, then the workgroup.

Reductions of a workgroup that stand side by side pass through shared memory together, between two barriers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shaders.spirv import Value as Register

from ..combine import Reduction, State
from ..expression import parts
from ..window import window_at
from .blocks import Step
from .expression import TileExpression
from .layout import ALL, COLUMNS, ROWS, Layout
from .roles import is_serial
from .staging import Staging

# Elements of shared memory up to which reductions pass through it together.
_EXCHANGED = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A reduction of which each subgroup has its own part; `columns` of its lanes hold different ones."""

    step: Step
    reduction: Reduction
    states: list[State]
    columns: int

    def size(self, groups: int) -> int:
        """Return the elements of shared memory that it passes through."""
        return len(self.states) * groups * self.columns * len(self.states[0])


def emit_reduce(expression: TileExpression, staging: Staging, step: Step, subgroup: int) -> None:
    """Emit a reduction; the result is the same in all invocations that shared in it."""
    if is_serial(step, expression.layout.joined):
        reduction = Reduction(expression, step.node)
        _finish(expression, step, reduction, _serial(expression, step, reduction))
    else:
        emit_together(expression, staging, [step], subgroup)


def emit_together(expression: TileExpression, staging: Staging, steps: Sequence[Step], subgroup: int) -> None:
    """Emit reductions of which none reads another's result and none is serial."""
    begun: list[_Begun] = []
    for step in steps:
        one = _begin(expression, step, subgroup)
        if is_exchanged(expression.layout, step, subgroup):
            begun.append(one)
        else:
            _finish(expression, step, one.reduction, one.states)
    for some in _in_parts(begun, expression.layout.threads // subgroup):
        for one, states in zip(some, _through_shared(expression, staging, some, subgroup), strict=True):
            _finish(expression, one.step, one.reduction, states)


def is_exchanged(layout: Layout, step: Step, subgroup: int) -> bool:
    """Tell whether the subgroups of a workgroup must exchange what they have of a reduction."""
    return not is_serial(step, layout.joined) and _reach(layout, step)[1] > subgroup


def _in_parts(begun: Sequence[_Begun], groups: int) -> Iterator[list[_Begun]]:
    """Cut a list of reductions so that each part has room, or is one reduction."""
    part: list[_Begun] = []
    for one in begun:
        if part and sum(each.size(groups) for each in (*part, one)) > _EXCHANGED:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _finish(expression: TileExpression, step: Step, reduction: Reduction, states: Sequence[State]) -> None:
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


def _reach(layout: Layout, step: Step) -> tuple[int, int]:
    """Return from which distance on, and up to which, invocations share in a result."""
    followed = {layout.axis(step.inputs[0], axis) for axis in step.node.attributes["dimensions"]}
    low = 1 if followed & {COLUMNS, ALL} else layout.columns
    return low, layout.threads if followed & {ROWS, ALL} else layout.columns


def _begin(expression: TileExpression, step: Step, subgroup: int) -> _Begun:
    """Combine the states of all invocations of a subgroup along what the reduced axes follow."""
    reduction, builder = Reduction(expression, step.node), expression.builder
    states = [_own(expression, step, reduction, kept) for kept in expression.unique(step.outputs[0])]
    low, high = _reach(expression.layout, step)
    distance = low
    while distance < min(high, subgroup):
        states = [
            reduction.merge(state, [builder.shuffle_xor(register, distance) for register in state]) for state in states
        ]
        distance *= 2
    return _Begun(step, reduction, states, min(low, subgroup))


def _through_shared(
    expression: TileExpression, staging: Staging, begun: Sequence[_Begun], subgroup: int
) -> list[list[State]]:
    """Combine the states of all subgroups, of several reductions between the same barriers."""
    builder, groups, number = expression.builder, expression.layout.threads // subgroup, expression.number

    def place(one: _Begun, slot: int, group: Register) -> Register:
        column = builder.lane % number(one.columns) if one.columns > 1 else number(0)
        return (number(slot * groups) + group) * number(one.columns) + column

    memories = [
        [staging.scratch(str(each.dtype), len(one.states) * groups * one.columns) for each in one.states[0]]
        for one in begun
    ]
    if staging.was_used:
        builder.barrier()
    staging.was_used = True
    for one, memory in zip(begun, memories, strict=True):
        for slot, state in enumerate(one.states):
            for scratch, register in zip(memory, state, strict=True):
                scratch.store(place(one, slot, builder.subgroup_id), register)
    builder.barrier()
    results: list[list[State]] = []
    for one, memory in zip(begun, memories, strict=True):
        results.append([])
        for slot in range(len(one.states)):
            total = [scratch.load(place(one, slot, number(0))) for scratch in memory]
            for group in range(1, groups):
                total = one.reduction.merge(
                    total, [scratch.load(place(one, slot, number(group))) for scratch in memory]
                )
            results[-1].append(total)
        for scratch in memory:
            staging.give_back(scratch)
    return results


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
