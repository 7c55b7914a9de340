"""Matrix product through shared memory: the style of GPUs for dtypes that have no matrix units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ...spirv import Builder, Value
from ..complex import Number, flatten, is_complex, multiply_add, unflatten, zero
from .depth import Walk, sum_over_depth
from .masks import store_where
from .place import Place, place
from .problem import MatmulAccess, MatmulProblem
from .staging import WIDTH, Stage, operands, pipeline
from .tiles import MatmulTiles

PADDING = 1
"""Vectors added to a line of shared memory."""

UNROLL = 4
"""Depths multiplied in one round; more only makes the code longer."""


def emit_tiled(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel; one workgroup computes a tile of `rows` x `columns` results.

    It stages slabs of both operands, `depth` deep, as vectors along the outer axes. Each invocation multiplies
    `part_rows` by `part_columns` elements at every depth of a slab. It owns vectors of rows and columns that lie a
    whole grid of invocations apart, so that neighbouring invocations read neighbouring vectors.
    """
    here = place(builder, problem, tiles)
    ragged, dtype = problem.depth % tiles.depth != 0, problem.accumulator
    stages = [
        Stage(
            builder,
            replace(operand, dtype=dtype),
            tiles,
            here.stop,
            along_depth=False,
            padding=PADDING,
            ragged=ragged,
        )
        for operand in operands(builder, problem, tiles, access, here)
    ]
    rows, columns = _vectors_of_invocation(builder, tiles)

    def multiply(buffer: Value, carried: list[Value]) -> list[Value]:
        def advance(depth: Value, totals: list[Number]) -> list[Number]:
            lhs = [x for row in rows for x in stages[0].read(buffer, row, depth)]
            rhs = [x for column in columns for x in stages[1].read(buffer, column, depth)]
            return [
                multiply_add(left, right, totals[i * len(rhs) + j])
                for i, left in enumerate(lhs)
                for j, right in enumerate(rhs)
            ]

        walk = Walk(builder.const("u32", 0), builder.const("u32", tiles.depth), unroll=UNROLL)
        return flatten(sum_over_depth(builder, walk, dtype, unflatten(carried, dtype), advance))

    totals = flatten([zero(builder, dtype)] * (tiles.part_rows * tiles.part_columns))
    totals = pipeline(builder, (here.start, here.stop), tiles.depth, stages, totals, multiply)
    _store(builder, problem, tiles, access, here, (rows, columns), unflatten(totals, dtype))


def _vectors_of_invocation(builder: Builder, tiles: MatmulTiles) -> tuple[list[Value], list[Value]]:
    """Return the first row and the first column of each vector that this invocation owns, within the tile."""
    grid_columns = tiles.columns // tiles.part_columns
    grid_rows = tiles.rows // tiles.part_rows
    row, column = builder.local_index // grid_columns, builder.local_index % grid_columns
    rows = [(row + i * grid_rows) * WIDTH for i in range(tiles.part_rows // WIDTH)]
    columns = [(column + j * grid_columns) * WIDTH for j in range(tiles.part_columns // WIDTH)]
    return rows, columns


def _store(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    access: MatmulAccess,
    here: Place,
    vectors: tuple[list[Value], list[Value]],
    totals: Sequence[Number],
) -> None:
    """Store this invocation's results, runs of columns at once where the caller takes them."""
    sizes, tile = (problem.rows, problem.columns), (tiles.rows, tiles.columns)
    rows = [here.row + row + i for row in vectors[0] for i in range(WIDTH)]
    for i, row in enumerate(rows):
        for j, first in enumerate(vectors[1]):
            column = here.column + first
            at = i * tiles.part_columns + j * WIDTH
            values = totals[at : at + WIDTH]
            if access.store_run is not None and not is_complex(problem.accumulator):
                run = partial(access.store_run, builder, here.slot, row, column, flatten(values))
                store_where(builder, row, column, sizes, tile, lambda run=run: run()())
                continue
            for k, value in enumerate(values):
                store = partial(access.store, builder, here.slot, row, column + k, value)
                store_where(builder, row, column + k, sizes, tile, store)
