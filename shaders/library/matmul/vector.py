"""Matrix product by reductions along depth: for few results, or few rows of a matrix whose depth is contiguous.

One subgroup makes `part_rows` x `part_columns` results: its lanes walk along depth side by side, so that both operands
are read in whole cache lines, and a subgroup reduction adds them up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...spirv import Builder, Value
from ..complex import Number, convert, from_parts, map_parts, multiply_add, parts, zero
from .depth import Walk, sum_over_depth
from .masks import clamp_index, store_where
from .place import Place, place
from .problem import MatmulAccess, MatmulProblem
from .tiles import MatmulTiles

UNROLL = 4
"""Steps along depth whose loads are in flight together."""


def emit_vector(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel; one workgroup computes `part_rows` rows, each of its subgroups `part_columns` columns."""
    assert tiles.subgroup is not None
    here = place(builder, problem, tiles)
    rows = [here.row + i for i in range(tiles.part_rows)]
    first = here.column
    if tiles.threads > tiles.subgroup:
        first = first + builder.subgroup_id * tiles.part_columns
    columns = [first + j for j in range(tiles.part_columns)]
    width, load_lhs, load_rhs = _loads(builder, problem, tiles, access, (here, rows, columns))

    def advance(depth: Value, totals: list[Number]) -> list[Number]:
        lhs, rhs = load_lhs(depth), load_rhs(depth)
        for step in range(width):
            totals = [
                multiply_add(left[step], right[step], totals[i * len(rhs) + j])
                for i, left in enumerate(lhs)
                for j, right in enumerate(rhs)
            ]
        return totals

    totals = [zero(builder, problem.accumulator)] * (len(rows) * len(columns))
    step = tiles.subgroup * width
    unroll = UNROLL if problem.depth // tiles.splits >= UNROLL * step else 1
    walk = Walk(here.start, here.stop, builder.lane * width, step, unroll)
    totals = sum_over_depth(builder, walk, problem.accumulator, totals, advance)
    totals = [map_parts(partial(builder.subgroup_reduce, "add"), total) for total in totals]

    def store_all() -> None:
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                store = partial(access.store, builder, here.slot, row, column, totals[i * len(columns) + j])
                sizes, tile = (problem.rows, problem.columns), (tiles.rows, tiles.columns)
                store_where(builder, row, column, sizes, tile, store)

    builder.when(builder.lane == 0, store_all)


Loads = Callable[[Value], list[list[Number]]]


def _loads(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    access: MatmulAccess,
    where: tuple[Place, list[Value], list[Value]],
) -> tuple[int, Loads, Loads]:
    """Return how many steps of depth one load brings, and what loads them for every row and every column."""
    here, rows, columns = where
    rows = [clamp_index(builder, row, problem.rows, tiles.rows) for row in rows]
    columns = [clamp_index(builder, column, problem.columns, tiles.columns) for column in columns]
    lhs_vector = access.lhs_vector if access.lhs_depth_contiguous else None
    rhs_vector = None if access.rhs_column_contiguous else access.rhs_vector
    wide = lhs_vector is not None and rhs_vector is not None
    lhs = lhs_vector if wide and lhs_vector is not None else access.load_lhs
    rhs = rhs_vector if wide and rhs_vector is not None else access.load_rhs

    def elements(value: Number) -> list[Number]:
        value = convert(builder, value, problem.accumulator)
        if not wide:
            return [value]
        return [from_parts([part[i] for part in parts(value)]) for i in range(4)]

    def load_lhs(depth: Value) -> list[list[Number]]:
        return [elements(lhs(builder, here.batch, row, depth)) for row in rows]

    def load_rhs(depth: Value) -> list[list[Number]]:
        return [elements(rhs(builder, here.batch, depth, column)) for column in columns]

    return (4 if wide else 1), load_lhs, load_rhs
