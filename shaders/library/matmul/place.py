"""Where a workgroup works: its matrix, its part of the depth and its tile of the result."""

from __future__ import annotations

from typing import NamedTuple

from ...spirv import Builder, Value
from .problem import MatmulProblem
from .tiles import MatmulTiles, split_depth, tile_counts


class Place(NamedTuple):
    """What one workgroup computes; all u32.

    `batch` selects the operands and `slot` the result (they differ where depth is split), `row` and `column` are the
    first of the tile, or of the first of a strip; `start` and `stop` bound the depth.
    """

    batch: Value
    slot: Value
    row: Value
    column: Value
    start: Value
    stop: Value


def place(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles) -> Place:
    """Find the work of this workgroup from its index."""
    row_tiles, column_tiles = tile_counts(problem, tiles)
    column_tiles //= tiles.strip
    index = builder.group_id(0)
    slot = builder.const("u32", 0)
    if problem.batch * tiles.splits > 1:
        slot, index = index // (row_tiles * column_tiles), index % (row_tiles * column_tiles)
    row_tile, column_tile = _tile(builder, index, row_tiles, column_tiles, tiles.band)
    batch, start, stop = slot, builder.const("u32", 0), builder.const("u32", problem.depth)
    if tiles.splits > 1:
        size = split_depth(problem, tiles)
        batch, start = slot // tiles.splits, slot % tiles.splits * size
        stop = start + size
        if problem.depth % size:
            stop = builder.min(stop, problem.depth)
    return Place(batch, slot, row_tile * tiles.rows, column_tile * (tiles.columns * tiles.strip), start, stop)


def _tile(builder: Builder, index: Value, row_tiles: int, column_tiles: int, band: int) -> tuple[Value, Value]:
    """Walk down bands of `band` rows of tiles, column after column within a band."""
    if row_tiles == 1:
        return builder.const("u32", 0), index
    if column_tiles == 1:
        return index, builder.const("u32", 0)
    if band >= row_tiles:
        return index % row_tiles, index // row_tiles
    first = index // (band * column_tiles) * band
    within = index % (band * column_tiles)
    height = builder.const("u32", band)
    if row_tiles % band:
        height = builder.min(row_tiles - first, band)
    return first + within % height, within // height
