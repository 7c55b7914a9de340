"""Store the accumulators of a matrix kernel.

Where an element of a fragment lies is the driver's secret, so fragments pass through shared memory, from which
neighbouring lanes take neighbouring columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ...spirv import Builder, Shared, Value
from ...spirv.dtypes import BITS
from .masks import store_where
from .place import Place
from .problem import MatmulAccess, MatmulProblem
from .tiles import MatmulTiles

GROUP = 4
"""Elements that a lane takes at once, where the caller takes groups."""

PADDING = 2
"""Groups added to a line of groups: lines that a matrix store writes at once start on different banks."""

Part = tuple[Value, Value, list[Value]]
"""First row and column of a subgroup's part, within the tile, and its fragments row by row."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a subgroup puts down `together` neighbouring fragments of a row.

    A line is one row of them, `pitch` units of `width` elements apart from the next; the subgroup's first unit is
    `start`.
    """

    memory: Shared
    start: Value
    together: int
    width: int
    pitch: int


def store_fragments(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    access: MatmulAccess,
    here: Place,
    part: Part,
    staged: Shared,
) -> None:
    """Store the results of this subgroup; nobody reads `staged` any more."""
    assert tiles.fragment is not None
    rows, columns, _ = tiles.fragment
    across = tiles.part_columns // columns
    desk = _desk(builder, problem, tiles, staged, is_grouped=access.store_vector is not None)
    units = desk.together * columns // desk.width

    def put(i: int, j: int, index: Value) -> None:
        within, along = index // units, index % units
        row = here.row + part[0] + i * rows + within
        column = here.column + part[1] + j * columns + along * desk.width
        value = builder.bitcast(desk.memory[desk.start + within * desk.pitch + along], problem.accumulator)
        store = access.store_vector if access.store_vector is not None else access.store
        write = partial(store, builder, here.slot, row, column, value)
        store_where(builder, row, column, (problem.rows, problem.columns), (tiles.rows, tiles.columns), write)

    for i in range(tiles.part_rows // rows):
        for j in range(0, across, desk.together):
            if i or j:
                builder.barrier("subgroup", shared_only=True)
            for k in range(desk.together):
                pointer = desk.memory.pointer(desk.start + k * columns // desk.width)
                builder.matrix_store(pointer, part[2][i * across + j + k], desk.pitch)
            builder.barrier("subgroup", shared_only=True)
            _each(builder, rows * units, tiles, partial(put, i, j))


def _desk(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, staged: Shared, *, is_grouped: bool) -> Desk:
    """Take what the operands no longer need, if results are stored by groups of 16 bytes; else memory of its own."""
    assert tiles.fragment is not None
    assert tiles.subgroup is not None
    rows, columns, _ = tiles.fragment
    subgroups = tiles.threads // tiles.subgroup
    if is_grouped and BITS[problem.accumulator] == 32 and staged.dtype == ("u32", GROUP):
        across = tiles.part_columns // columns
        for together in (8, 4, 2, 1):
            pitch = together * columns // GROUP + PADDING
            if across % together == 0 and subgroups * rows * pitch <= staged.count:
                return Desk(staged, builder.subgroup_id * (rows * pitch), together, GROUP, pitch)
    width = GROUP if is_grouped else 1
    unit = (problem.accumulator, GROUP) if is_grouped else problem.accumulator
    pitch = columns // width
    memory = builder.shared(unit, subgroups * rows * pitch)
    return Desk(memory, builder.subgroup_id * (rows * pitch), 1, width, pitch)


def _each(builder: Builder, count: int, tiles: MatmulTiles, body: Callable[[Value], None]) -> None:
    """Run `body` for every index below `count`, dealt out to the lanes; a loop keeps the caller's epilogue short."""
    assert tiles.subgroup is not None
    lanes = tiles.subgroup

    def one(offset: Value, _: list[Value]) -> None:
        index = builder.lane + offset
        builder.when(index < count if count % lanes else True, partial(body, index))

    builder.loop(0, count, lanes, [], one)
