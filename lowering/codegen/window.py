"""Windowed reductions: running ones (cumulative sums and their kin) along one axis, and any other by brute force."""

from __future__ import annotations

from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Graph, Node, Value
from ..schedule import Schedule
from ..windows import running_axis
from . import maps
from .combine import Reduction
from .expression import Expression, Scalar
from .index import Index, size_of


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: one lane for each line or each output element."""
    body: Graph = fusion.attributes["body"]
    shape, axis = body.nodes[-1].outputs[0].shape, running_axis(body.nodes[-1])
    lanes = size_of(shape) if axis is None else size_of(shape) // shape[axis]
    return -(-lanes // schedule.workgroup)


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A lane computes one line of a running reduction, or one element of any other."""
    node = fusion.attributes["body"].nodes[-1]
    axis = running_axis(node)
    lane = maps.global_index(expression, schedule.workgroup) + maps.local_index(expression)
    shape = node.outputs[0].shape
    total = size_of(shape) if axis is None else size_of(shape) // shape[axis]

    def run() -> None:
        with expression.scope():
            if axis is None:
                _window(builder, expression, node, lane)
            else:
                _line(builder, expression, node, lane, axis)

    builder.when(lane < expression.number(total), run)


def _line(builder: Builder, expression: Expression, node: Node, line: Register, axis: int) -> None:
    """Walk a line from the end the windows share, storing the running value."""
    reduction = Reduction(expression, node)
    operand, output = node.inputs[0], node.outputs[0]
    number = expression.number
    others = tuple(extent for place, extent in enumerate(operand.shape) if place != axis)
    rest = expression.split(line, others)
    backward = node.attributes["low"][axis] == 0 and operand.shape[axis] > 1

    def step(count: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            along = number(operand.shape[axis] - 1) - count if backward else count
            index = expression.index(operand.shape, dims=(*rest[:axis], along, *rest[axis:]))
            state = reduction.add(carries, [expression.at(operand, index)])
            (element,) = reduction.finish(state)
            expression.store(output, expression.linear(index), element)
            return state

    _ = builder.loop(number(0), number(operand.shape[axis]), number(1), reduction.identity(), step)


def _window(builder: Builder, expression: Expression, node: Node, lane: Register) -> None:
    elements = window_at(builder, expression, node, expression.split(lane, node.outputs[0].shape))
    for value, element in zip(node.outputs, elements, strict=True):
        if value in expression.buffers:
            expression.store(value, lane, element)


def window_at(builder: Builder, expression: Expression, node: Node, place: tuple[Register, ...]) -> list[Scalar]:
    """Join, in order, every element of the window at a place of the result that lies inside the array.

    StableHLO pads with the initial values, which a reduction may see any number of times; like XLA, see them once.
    """
    reduction = Reduction(expression, node)
    window = tuple(node.attributes["window"])
    number = expression.number

    def step(count: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            offsets = expression.split(count, window)
            inside, index = _tap(expression, node, place, offsets, reduction.operands[0])

            def take() -> list[Register]:
                with expression.scope():
                    return reduction.add(carries, [expression.at(operand, index) for operand in reduction.operands])

            return take() if inside is None else builder.branch(inside, take, lambda: carries)

    state = builder.loop(number(0), number(size_of(window)), number(1), reduction.identity(), step)
    return reduction.finish(state)


def _tap(
    expression: Expression, node: Node, place: tuple[Register, ...], offsets: tuple[Register, ...], operand: Value
) -> tuple[Register | None, Index]:
    """Return where in the operand a window element lies, and the condition for it to be there at all."""
    a, number, builder = node.attributes, expression.number, expression.builder
    inside: Register | None = None
    dims: list[Register] = []
    for axis, extent in enumerate(operand.shape):
        spot = place[axis] * number(a["strides"][axis]) + offsets[axis] * number(a["window_dilation"][axis])
        low, gap = a["low"][axis], a["base_dilation"][axis]
        spot = spot - number(low) if low >= 0 else spot + number(-low)
        tests: list[Register] = []
        if gap > 1:
            tests = [(spot % number(gap)) == number(0), spot < number((extent - 1) * gap + 1)]
            spot = spot // number(gap)
        elif low > 0 or a["high"][axis] > 0:
            tests = [spot < number(extent)]
        for test in tests:
            inside = test if inside is None else builder.logical_and(inside, test)
        dims.append(spot)
    return inside, expression.index(operand.shape, dims=tuple(dims))
