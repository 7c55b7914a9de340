"""Products of tiles on vector units: each invocation makes its own elements, reading operands a column at a time."""

from __future__ import annotations

import itertools

from shaders.spirv import Value as Register

from .. import scalar
from ..dot import Layout, accumulator_dtype, layouts
from ..expression import Scalar, parts, rebuild
from ..index import Index
from .blocks import Step
from .expression import TileExpression

# Steps of depth that are written out in one round of the loop.
_UNROLL = 4


def emit_dot(expression: TileExpression, step: Step) -> None:
    """Emit a product; its operands are staged, or can be computed anywhere."""
    node, result = step.node, step.outputs[0]
    sides = layouts(node)
    depth = sides[0].extent(sides[0].contract)
    dtype = accumulator_dtype(result.dtype)
    builder = expression.builder
    positions = [expression.dims(index) for index in expression.slots(result)]
    zero = scalar.constant(builder, dtype, 0)
    start = [register for _ in positions for register in parts(zero)]
    width = len(parts(zero))
    unroll = next(count for count in (_UNROLL, 2, 1) if depth % count == 0)

    def round_of(first: Register, carried: list[Register]) -> list[Register]:
        totals = [rebuild(dtype, carried[i : i + width]) for i in range(0, len(carried), width)]
        with expression.scope():
            for offset in range(unroll):
                place = first + expression.number(offset) if offset else first
                totals = _add(expression, step, sides, (positions, place), totals, dtype)
        return [register for total in totals for register in parts(total)]

    flat = builder.loop(0, depth, unroll, start, round_of)
    totals = [rebuild(dtype, flat[i : i + width]) for i in range(0, len(flat), width)]
    expression.settle(result, [_convert(expression, total, dtype, result.dtype) for total in totals])


def _add(
    expression: TileExpression,
    step: Step,
    sides: tuple[Layout, Layout],
    where: tuple[list[tuple[Register, ...]], Register],
    totals: list[Scalar],
    dtype: str,
) -> list[Scalar]:
    """Add the products at one depth; elements that several results share are read once."""
    positions, depth = where
    known: dict[tuple[int, tuple[int, ...]], Scalar] = {}
    batch_count, free_count = len(sides[0].batch), len(sides[0].free)

    def element(side: int, batch: tuple[Register, ...], free: tuple[Register, ...]) -> Scalar:
        key = (side, tuple(register.id for register in (*batch, *free)))
        if key not in known:
            layout, operand = sides[side], step.inputs[side]
            index = _operand_index(expression, layout, batch, free, depth)
            known[key] = _convert(expression, expression.at(operand, index), operand.dtype, dtype)
        return known[key]

    result: list[Scalar] = []
    for dims, total in zip(positions, totals, strict=True):
        batch, rest = dims[:batch_count], dims[batch_count:]
        left = element(0, batch, rest[:free_count])
        right = element(1, batch, rest[free_count:])
        product = scalar.emit(expression.builder, "multiply", [left, right], [dtype, dtype], dtype, {})
        result.append(scalar.emit(expression.builder, "add", [total, product], [dtype, dtype], dtype, {}))
    return result


def _operand_index(
    expression: TileExpression,
    layout: Layout,
    batch: tuple[Register, ...],
    free: tuple[Register, ...],
    depth: Register,
) -> Index:
    dims: list[Register | None] = [None] * len(layout.shape)
    contracted = expression.split(depth, tuple(layout.shape[axis] for axis in layout.contract))
    groups = ((layout.batch, batch), (layout.free, free), (layout.contract, contracted))
    for axis, register in itertools.chain.from_iterable(zip(*group, strict=True) for group in groups):
        dims[axis] = register
    return expression.index(layout.shape, dims=tuple(dims))


def _convert(expression: TileExpression, element: Scalar, source: str, target: str) -> Scalar:
    if source == target:
        return element
    return scalar.emit(expression.builder, "convert", [element], [source], target, {})
