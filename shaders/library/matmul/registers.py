"""Matrix product in registers, without barriers or shared memory: the style that drivers for CPUs run best.

One workgroup is one subgroup. Each lane makes `part_rows` x `part_columns` results; consecutive lanes take consecutive
columns. Rows of the left operand are spread over the lanes, one load for as many rows as there are lanes, and handed
out by subgroup broadcasts: on software drivers a load costs a loop over lanes, a broadcast almost nothing.
"""

from __future__ import annotations

from functools import partial

from ...spirv import Builder, Value
from ..complex import Number, convert, map_parts, multiply_add, zero
from .depth import Walk, sum_over_depth
from .masks import clamp_index, store_where
from .place import place
from .problem import MatmulAccess, MatmulProblem
from .tiles import MatmulTiles, ceil_divide


def emit_registers(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel; one workgroup computes a tile of `rows` x `columns` results."""
    here = place(builder, problem, tiles)
    lanes, dtype = tiles.threads, problem.accumulator
    loads = ceil_divide(tiles.part_rows, lanes)
    rows = [here.row + builder.lane + i * lanes for i in range(loads)]
    if lanes * loads > tiles.rows:
        # Lanes beyond the tile's rows load in vain, but must stay inside the matrix.
        rows = [builder.min(row, problem.rows - 1) for row in rows]
    rows = [clamp_index(builder, row, problem.rows, tiles.rows) for row in rows]
    columns = [here.column + builder.lane + i * lanes for i in range(tiles.part_columns)]
    inside = [clamp_index(builder, column, problem.columns, tiles.columns) for column in columns]

    def advance(depth: Value, totals: list[Number]) -> list[Number]:
        spread = [convert(builder, access.load_lhs(builder, here.batch, row, depth), dtype) for row in rows]
        lhs = [
            map_parts(partial(builder.broadcast, lane=i % lanes), spread[i // lanes]) for i in range(tiles.part_rows)
        ]
        rhs = [convert(builder, access.load_rhs(builder, here.batch, depth, column), dtype) for column in inside]
        return [
            multiply_add(left, right, totals[i * len(rhs) + j])
            for i, left in enumerate(lhs)
            for j, right in enumerate(rhs)
        ]

    totals = [zero(builder, dtype)] * (tiles.part_rows * tiles.part_columns)
    totals = sum_over_depth(builder, Walk(here.start, here.stop, unroll=tiles.depth), dtype, totals, advance)
    for i in range(tiles.part_rows):
        for j, column in enumerate(columns):
            row, total = here.row + i, totals[i * len(columns) + j]
            store = partial(access.store, builder, here.slot, row, column, total)
            sizes, tile = (problem.rows, problem.columns), (tiles.rows, tiles.columns)
            store_where(builder, row, column, sizes, tile, store)
