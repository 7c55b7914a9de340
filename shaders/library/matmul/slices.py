"""Matrix product of few rows by a matrix whose columns are contiguous.

Consecutive lanes take consecutive columns; the subgroups of a workgroup take turns along depth, so that a short result
still keeps many lanes busy, and their sums meet in shared memory.
"""

from __future__ import annotations

from functools import partial

from ...spirv import Builder, Value
from ..complex import Number, add, convert, from_parts, multiply_add, part_count, part_dtype, parts, zero
from .depth import Walk, sum_over_depth
from .masks import clamp_index, store_where
from .place import Place, place
from .problem import MatmulAccess, MatmulProblem
from .tiles import MatmulTiles

UNROLL = 4
"""Steps along depth whose loads are in flight together."""


def emit_slices(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel; one workgroup computes a tile of `part_rows` rows."""
    here = place(builder, problem, tiles)
    lanes = tiles.columns // tiles.part_columns
    slices = tiles.threads // lanes
    lane, turn = builder.local_index % lanes, builder.local_index // lanes
    rows = [clamp_index(builder, here.row + i, problem.rows, tiles.rows) for i in range(tiles.part_rows)]
    columns = [
        clamp_index(builder, here.column + lane + j * lanes, problem.columns, tiles.columns)
        for j in range(tiles.part_columns)
    ]

    def advance(depth: Value, totals: list[Number]) -> list[Number]:
        lhs = [convert(builder, access.load_lhs(builder, here.batch, row, depth), problem.accumulator) for row in rows]
        rhs = [
            convert(builder, access.load_rhs(builder, here.batch, depth, column), problem.accumulator)
            for column in columns
        ]
        return [
            multiply_add(left, right, totals[i * len(rhs) + j])
            for i, left in enumerate(lhs)
            for j, right in enumerate(rhs)
        ]

    totals = [zero(builder, problem.accumulator)] * (len(rows) * len(columns))
    unroll = UNROLL if problem.depth // tiles.splits >= UNROLL * slices else 1
    walk = Walk(here.start, here.stop, turn, slices, unroll)
    totals = sum_over_depth(builder, walk, problem.accumulator, totals, advance)
    _add_slices(builder, problem, tiles, access, (here, slices, totals))


def _add_slices(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    access: MatmulAccess,
    sums: tuple[Place, int, list[Number]],
) -> None:
    """Add the sums of all slices and store them; results are spread over all invocations."""
    here, slices, totals = sums
    lanes, threads, results = tiles.columns // tiles.part_columns, tiles.threads, tiles.rows * tiles.columns
    # One array a part: a complex sum lies in two.
    memory = [
        builder.shared(part_dtype(problem.accumulator), slices * results)
        for _ in range(part_count(problem.accumulator))
    ]
    lane, turn = builder.local_index % lanes, builder.local_index // lanes
    for index, total in enumerate(totals):
        for array, part in zip(memory, parts(total), strict=True):
            array[turn * results + lane + index * lanes] = part
    builder.barrier()

    def read(slice_index: int, result: Value) -> Number:
        return from_parts([array[result + slice_index * results] for array in memory])

    def finish(result: Value) -> None:
        total = read(0, result)
        for slice_index in range(1, slices):
            total = add(total, read(slice_index, result))
        row, column = here.row + result // tiles.columns, here.column + result % tiles.columns
        store = partial(access.store, builder, here.slot, row, column, total)
        store_where(builder, row, column, (problem.rows, problem.columns), (tiles.rows, tiles.columns), store)

    for first in range(0, results, threads):
        result = builder.local_index + first
        if first + threads > results:
            builder.when(result < results, partial(finish, result))
        else:
            finish(result)
