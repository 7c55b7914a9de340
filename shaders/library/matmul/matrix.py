"""Matrix product on matrix units: KHR cooperative matrices of a subgroup, operands staged in shared memory."""

from __future__ import annotations

from functools import partial

from ...spirv import Builder, Value
from ...spirv.dtypes import BITS
from .masks import store_where
from .place import Place, place
from .problem import MatmulAccess, MatmulProblem
from .staging import WIDTH, Stage, operands, pipeline
from .tiles import MatmulTiles

PADDING_BITS = 128
"""Added to a line of shared memory: neighbouring lines start on different banks and stay aligned for matrix loads."""


def emit_matrix(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel; one workgroup computes a tile of `rows` x `columns` results.

    Operands are staged as they lie in memory, so that whole vectors are copied; a matrix is then read row by row or
    column by column. Each subgroup multiplies `part_rows` x `part_columns` results out of fragments.
    """
    here = place(builder, problem, tiles)
    ragged = problem.depth % tiles.depth != 0
    stages = [
        Stage(
            builder,
            operand,
            tiles,
            here.stop,
            along_depth=operand.depth_contiguous,
            padding=PADDING_BITS // (BITS[operand.dtype] * WIDTH),
            ragged=ragged,
        )
        for operand in operands(builder, problem, tiles, access, here)
    ]
    first = _first_of_subgroup(builder, tiles)

    def multiply(buffer: Value, totals: list[Value]) -> list[Value]:
        return _multiply(builder, problem, tiles, stages, first, (buffer, totals))

    rows, columns, _ = _fragment(tiles)
    total = builder.matrix_type(problem.accumulator, rows, columns, "accumulator")
    count = (tiles.part_rows // rows) * (tiles.part_columns // columns)
    totals = [builder.const(total, 0)] * count
    totals = pipeline(builder, (here.start, here.stop), tiles.depth, stages, totals, multiply)
    _store(builder, problem, tiles, access, here, (*first, totals))


def _fragment(tiles: MatmulTiles) -> tuple[int, int, int]:
    assert tiles.fragment is not None
    return tiles.fragment


def _first_of_subgroup(builder: Builder, tiles: MatmulTiles) -> tuple[Value, Value]:
    """Return the first row and column of this subgroup's part, within the tile."""
    down = tiles.rows // tiles.part_rows
    part = builder.subgroup_id
    return part % down * tiles.part_rows, part // down * tiles.part_columns


def _multiply(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    stages: list[Stage],
    first: tuple[Value, Value],
    state: tuple[Value, list[Value]],
) -> list[Value]:
    """Multiply what lies in a buffer into the totals, one fragment's depth after the other."""
    buffer, totals = state
    rows, columns, depth = _fragment(tiles)
    left = builder.matrix_type(problem.lhs, rows, depth, "a")
    right = builder.matrix_type(problem.rhs, depth, columns, "b")
    down, across = tiles.part_rows // rows, tiles.part_columns // columns

    def load(stage: Stage, outer: Value, along: int, *, is_left: bool) -> Value:
        pointer = stage.arrays[0].pointer(stage.index(buffer, outer, builder.const("u32", along)))
        # A matrix lies row by row where its last axis is the contiguous one: depth on the left, columns on the right.
        column_major = stage.along_depth != is_left
        return builder.matrix_load(left if is_left else right, pointer, stage.pitch, column_major=column_major)

    for along in range(0, tiles.depth, depth):
        lhs = [load(stages[0], first[0] + i * rows, along, is_left=True) for i in range(down)]
        for j in range(across):
            rhs = load(stages[1], first[1] + j * columns, along, is_left=False)
            for i in range(down):
                at = i * across + j
                totals = [*totals[:at], builder.matrix_multiply_add(lhs[i], rhs, totals[at]), *totals[at + 1 :]]
    return totals


def _store(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    access: MatmulAccess,
    here: Place,
    part: tuple[Value, Value, list[Value]],
) -> None:
    """Store the results of this subgroup, a fragment at a time.

    Where an element of a fragment lies is the driver's secret, so each passes through a slice of shared memory, from
    which consecutive lanes take consecutive columns.
    """
    first_row, first_column, totals = part
    rows, columns, _ = _fragment(tiles)
    assert tiles.subgroup is not None
    lanes, size, across = tiles.subgroup, rows * columns, tiles.part_columns // columns
    slices = builder.shared(problem.accumulator, tiles.threads // lanes * size)
    start = builder.subgroup_id * size

    def put(element: Value, i: int, j: int) -> None:
        row = here.row + first_row + i * rows + element // columns
        column = here.column + first_column + j * columns + element % columns
        store = partial(access.store, builder, here.slot, row, column, slices[start + element])
        store_where(builder, row, column, (problem.rows, problem.columns), (tiles.rows, tiles.columns), store)

    for at, total in enumerate(totals):
        if at:
            builder.barrier()
        builder.matrix_store(slices.pointer(start), total, columns)
        builder.barrier()

        # A loop keeps the caller's epilogue in the code once a fragment instead of once an element.
        def put_one(offset: Value, _: list[Value], at: int = at) -> None:
            element = builder.lane + offset
            inside = element < size if size % lanes else True
            builder.when(inside, partial(put, element, *divmod(at, across)))

        builder.loop(0, size, lanes, [], put_one)
