"""Products of tiles on matrix units: operands staged in shared memory, sums in the fragments of each subgroup."""

from __future__ import annotations

from collections.abc import Sequence

from shaders.spirv import Builder, MatrixType
from shaders.spirv import Value as Register

from ...graph import Value
from ..dot import accumulator_dtype, layouts
from ..expression import Scalar
from .blocks import Step
from .expression import TileExpression
from .matrices import Partition
from .staging import Staging

# Shared memory that fragments pass through at once on their way to invocations.
_PASSAGE_BYTES = 9216
_LINE_PADDING = 4


def filled(builder: Builder, partition: Partition, dtype: str, number: float) -> list[Register]:
    """Return this subgroup's fragments of a tile that holds one number."""
    return [builder.const(_total_type(builder, partition, dtype), number)] * (partition.rows * partition.columns)


def _total_type(builder: Builder, partition: Partition, dtype: str) -> MatrixType:
    rows, columns, _ = partition.fragment
    return builder.matrix_type(dtype, rows, columns, "accumulator")


def multiply_add(
    expression: TileExpression, step: Step, partition: Partition, totals: Sequence[Register]
) -> list[Register]:
    """Return the totals with a product added; both operands are staged."""
    builder = expression.builder
    rows, columns, deep = partition.fragment
    sides = layouts(step.node)
    first_row, first_column = _first(expression, partition)
    dtype = step.inputs[0].dtype
    left = builder.matrix_type(dtype, rows, deep, "a")
    right = builder.matrix_type(dtype, deep, columns, "b")
    totals = list(totals)

    def load(side: int, outer: Register, along: int) -> Register:
        staged = expression.shared[step.inputs[side]]
        along_depth = sides[side].contract == (1,)
        depth = expression.number(along)
        line, place = (outer, depth) if along_depth else (depth, outer)
        pointer = staged.pointer(expression, line, place)
        column_major = along_depth == (side == 1)
        return builder.matrix_load(
            (left, right)[side], pointer, staged.pitch // staged.width, column_major=column_major
        )

    for along in range(0, sides[0].extent(sides[0].contract), deep):
        lhs = [load(0, first_row + expression.number(i * rows), along) for i in range(partition.rows)]
        for j in range(partition.columns):
            rhs = load(1, first_column + expression.number(j * columns), along)
            for i in range(partition.rows):
                at = i * partition.columns + j
                totals[at] = builder.matrix_multiply_add(lhs[i], rhs, totals[at])
    return totals


def _first(expression: TileExpression, partition: Partition) -> tuple[Register, Register]:
    """Return the first row and column of this subgroup's part."""
    number, part = expression.number, expression.builder.subgroup_id
    high, wide = partition.shape[0] // partition.down, partition.shape[1] // partition.across
    return part // number(partition.across) * number(high), part % number(partition.across) * number(wide)


def to_registers(
    expression: TileExpression, staging: Staging, value: Value, partition: Partition, fragments: Sequence[Register]
) -> list[Scalar]:
    """Return this invocation's elements of a tile whose fragments the subgroups hold.

    The fragments pass through shared memory in pieces: the same rows of fragments of every part at a time.
    """
    builder, number = expression.builder, expression.number
    rows, columns, _ = partition.fragment
    high = partition.shape[0] // partition.down
    spread = expression.layout.spread(expression.layout.axis(value, 0))
    chunk, is_known = _chunk(partition, spread)
    pitch = partition.shape[1] + _LINE_PADDING
    dtype = accumulator_dtype(value.dtype)
    scratch = staging.scratch(dtype, partition.down * chunk * rows * pitch)
    part_row = builder.subgroup_id // number(partition.across)
    _, first_column = _first(expression, partition)
    found: dict[int, Register] = {}
    slots = list(zip(expression.unique(value), expression.slots(value), strict=True))
    for piece in range(partition.rows // chunk):
        if staging.was_used:
            builder.barrier()
        staging.was_used = True
        for i in range(chunk):
            line = part_row * number(chunk * rows) + number(i * rows)
            for j in range(partition.columns):
                place = line * number(pitch) + first_column + number(j * columns)
                fragment = fragments[(piece * chunk + i) * partition.columns + j]
                scratch.store_matrix(place, fragment, pitch)
        builder.barrier()
        for slot, index in slots:
            row, column = expression.dims(index)
            line = row // number(high) * number(chunk * rows) + row % number(chunk * rows)
            if not is_known:
                # Which piece a row belongs to differs between invocations: each takes what is its own.
                element = scratch.load(line * number(pitch) + column)
                mine = row % number(high) // number(chunk * rows) == number(piece)
                before = found.get(id(index), element)
                found[id(index)] = builder.select(mine, element, before)
            elif slot[0] * spread % high // (chunk * rows) == piece:
                found[id(index)] = scratch.load(line * number(pitch) + column)
    staging.give_back(scratch)
    return [found[id(index)] for _, index in slots]


def _chunk(partition: Partition, spread: int) -> tuple[int, bool]:
    """Return how many rows of fragments of each part pass at once, and whether each slot belongs to one known piece."""
    rows = partition.fragment[0]
    line_bytes = 4 * partition.down * rows * (partition.shape[1] + _LINE_PADDING)
    chunks = [chunk for chunk in range(1, partition.rows + 1) if partition.rows % chunk == 0]
    known = [chunk for chunk in chunks if chunk * rows % min(spread, partition.rows * rows) == 0]
    for fitting in (known, chunks):
        small = [chunk for chunk in fitting if chunk * line_bytes <= _PASSAGE_BYTES]
        if small:
            return max(small), fitting is known
    return 1, 1 in known


def add(builder: Builder, left: Sequence[Register], right: Sequence[Register]) -> list[Register]:
    """Return the sum of two tiles, fragment by fragment."""
    return [a + b for a, b in zip(left, right, strict=True)]
