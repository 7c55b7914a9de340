"""Products of tiles on vector units: each invocation makes its own elements, reading operands a column at a time."""

from __future__ import annotations

import itertools
from math import lcm

from shaders.spirv import Value as Register

from ...graph import Value
from .. import scalar
from ..dot import Layout, accumulator_dtype, layouts
from ..expression import Scalar, parts, rebuild
from ..index import Index
from .blocks import Step
from .expression import Staged, TileExpression
from .staging import SLAB_BYTES, Staging

# Steps of depth that are written out in one round of the loop.
_UNROLL = 4


def emit_dot(expression: TileExpression, staging: Staging, step: Step) -> None:
    """Emit a product; operands that are neither staged nor computed anywhere pass through shared memory in slabs."""
    result = step.outputs[0]
    dtype = accumulator_dtype(result.dtype)
    zero = scalar.constant(expression.builder, dtype, 0)
    totals = [zero] * len(expression.slots(result))
    sides = layouts(step.node)
    passing = [value for value in dict.fromkeys(step.inputs) if not _is_reachable(expression, value)]
    depth = sides[0].extent(sides[0].contract)
    size = _slab_depth(expression, step, sides, passing) if passing else depth
    for first in range(0, depth, size):
        last = min(first + size, depth)
        with expression.scope():
            slabs = {value: _put_slab(expression, staging, step, value, (first, last)) for value in passing}
            staging.settle_writes(bool(passing))
            expression.shared.update(slabs)
            totals = _add_all(expression, step, sides, totals, (first, last))
            for value in passing:
                staging.release(value)
    expression.settle(result, [_convert(expression, total, dtype, result.dtype) for total in totals])


def _is_reachable(expression: TileExpression, value: Value) -> bool:
    """Tell whether any invocation can read any element of an operand."""
    return value in expression.shared or value in expression.roles.anywhere or value in expression.roles.memory.arrays


def _slab_depth(expression: TileExpression, step: Step, sides: tuple[Layout, Layout], passing: list[Value]) -> int:
    """Return how much of the depth passes at once: whole rounds of the invocations that share it."""
    depth, rounds, lines = sides[0].extent(sides[0].contract), [1], 1
    for value, side in zip(step.inputs, sides, strict=True):
        if value in passing:
            (axis,) = side.contract
            rounds.append(expression.layout.spread(expression.layout.axis(value, axis)))
            lines = max(lines, value.size // depth)
    unit = lcm(*rounds)
    fitting = [size for size in range(unit, depth, unit) if size * lines * 4 <= SLAB_BYTES]
    return max(fitting, default=min(unit, depth))


def _put_slab(
    expression: TileExpression, staging: Staging, step: Step, value: Value, bounds: tuple[int, int]
) -> Staged:
    """Write this invocation's share of a slab of an operand; the slab's places count from the start of the depth."""
    side = layouts(step.node)[step.inputs.index(value)]
    (axis,) = side.contract
    first, last = bounds
    spread = expression.layout.spread(expression.layout.axis(value, axis))
    elements = []
    for slot in expression.unique(value):
        if first <= slot[axis] * spread < last:
            dims = tuple(expression.places(value, each)[number] for each, number in enumerate(slot))
            elements.append((dims, expression.at(value, expression.index(value.shape, dims=dims))))
    shape = tuple(last - first if each == axis else extent for each, extent in enumerate(value.shape))
    staged = staging.take_slab(value, shape, axis, first)
    for dims, element in elements:
        scalar.store(expression.builder, staged.shared, expression.shared_place(staged, dims), element, value.dtype)
    return staged


def _add_all(
    expression: TileExpression,
    step: Step,
    sides: tuple[Layout, Layout],
    before: list[Scalar],
    bounds: tuple[int, int],
) -> list[Scalar]:
    """Add the products at a range of depth to each result of this invocation."""
    result = step.outputs[0]
    dtype = accumulator_dtype(result.dtype)
    builder = expression.builder
    positions = [expression.dims(index) for index in expression.slots(result)]
    start = [register for total in before for register in parts(total)]
    width = len(parts(before[0]))
    unroll = next(count for count in (_UNROLL, 2, 1) if (bounds[1] - bounds[0]) % count == 0)

    def round_of(first: Register, carried: list[Register]) -> list[Register]:
        totals = [rebuild(dtype, carried[i : i + width]) for i in range(0, len(carried), width)]
        with expression.scope():
            for offset in range(unroll):
                place = first + expression.number(offset) if offset else first
                totals = _add(expression, step, sides, (positions, place), totals, dtype)
        return [register for total in totals for register in parts(total)]

    flat = builder.loop(*bounds, unroll, start, round_of)
    return [rebuild(dtype, flat[i : i + width]) for i in range(0, len(flat), width)]


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
