"""Store the accumulators of a matrix kernel.

Where an element of a fragment lies is the driver's secret, so fragments pass through shared memory, from which
neighbouring lanes take neighbouring columns. Sums that are only rounded and stored leave by 16 bytes, with no loop; an
epilogue sees them by runs of four or eight, and of several runs what it reads is under way before the first is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ...spirv import Builder, Shared, Value
from ...spirv.dtypes import BITS
from .layout import WORD_BITS
from .masks import store_where
from .place import Place
from .problem import MatmulAccess, MatmulProblem
from .slabs import BANK_GROUPS
from .tiles import MatmulTiles

GROUP = 4
"""Elements that a lane takes at once, where the caller takes groups."""

WHOLE_BITS = 128
"""Bits that a lane stores at once, where results are the sums, rounded."""

MOST_ROUNDS = 8
"""Rounds of whole groups that are written out side by side, so that each waits for no other."""

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


@dataclass(frozen=True, slots=True)
class _Leave:
    """How sums leave the desk: by whole groups, rounded, or through the caller's epilogue, in runs or one by one."""

    builder: Builder
    problem: MatmulProblem
    access: MatmulAccess
    slot: Value
    desk: Desk
    is_whole: bool

    @property
    def width(self) -> int:
        """Neighbours that leave together."""
        if self.is_whole:
            return WHOLE_BITS // BITS[self.problem.result]
        return self.access.longest_run if self.desk.width > 1 else 1

    def start(self, row: Value, column: Value, line: Value, along: Value) -> Callable[[], None]:
        """Take `width` sums from a line of the desk and make of them what is stored; return what writes it."""
        builder, access, desk = self.builder, self.access, self.desk
        at = (builder, self.slot, row, column)
        if self.is_whole:
            assert access.store_words is not None
            return partial(access.store_words, *at, _whole_group(builder, self.problem, desk, line, along))
        groups = self.width // desk.width
        sums = [
            builder.bitcast(desk.memory[line + along * groups + k], self.problem.accumulator) for k in range(groups)
        ]
        if access.store_run is None:
            return partial(access.store, *at, sums[0])
        return access.store_run(*at, [each[k] for each in sums for k in range(desk.width)])


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
    is_whole = access.store_words is not None and _can_store_words(problem, columns)
    desk = _desk(builder, problem, tiles, staged, is_grouped=is_whole or access.store_run is not None)
    leave = _Leave(builder, problem, access, here.slot, desk, is_whole)
    width = leave.width
    units = desk.together * columns // width

    def put(i: int, j: int, index: Value) -> Callable[[], None]:
        within, along = index // units, index % units
        row = here.row + part[0] + i * rows + within
        column = here.column + part[1] + j * columns + along * width
        made = partial(leave.start, row, column, desk.start + within * desk.pitch, along)
        sizes, tile = (problem.rows, problem.columns), (tiles.rows, tiles.columns)
        if all(size % step == 0 for size, step in zip(sizes, tile, strict=True)):
            return made()
        # What lies beyond an edge is neither read nor written.
        return partial(store_where, builder, row, column, sizes, tile, lambda: made()())

    for i in range(tiles.part_rows // rows):
        for j in range(0, across, desk.together):
            if i or j:
                builder.barrier("subgroup", shared_only=True)
            for k in range(desk.together):
                pointer = desk.memory.pointer(desk.start + k * columns // desk.width)
                builder.matrix_store(pointer, part[2][i * across + j + k], desk.pitch)
            builder.barrier("subgroup", shared_only=True)
            most = MOST_ROUNDS if is_whole or access.is_short else 1
            _each(builder, rows * units, tiles, partial(put, i, j), most_rounds=most)


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


def _can_store_words(problem: MatmulProblem, columns: int) -> bool:
    """Tell whether fragments hold whole groups, whose bits are known: sums as they are, or rounded to 16 bits."""
    is_rounded = problem.accumulator == "f32" and problem.result in ("f16", "bf16")
    is_same = problem.accumulator == problem.result and BITS[problem.result] == WORD_BITS
    return (is_rounded or is_same) and columns * BITS[problem.result] % WHOLE_BITS == 0


def _whole_group(builder: Builder, problem: MatmulProblem, desk: Desk, line: Value, along: Value) -> Value:
    """Return the bits of neighbouring results: what four words hold.

    Where that is two groups of the desk, every second half of eight lanes takes the second one first: eight lanes that
    read at once reach all banks.
    """
    if problem.result == problem.accumulator:
        return builder.bitcast(desk.memory[line + along], ("u32", GROUP))
    turn = along // (BANK_GROUPS // 2) % 2
    first = line + along * 2
    halves = [_rounded(builder, desk.memory[first + place], problem.result) for place in (turn, 1 - turn)]
    is_turned = turn == 1
    words = [builder.select(is_turned, halves[1 - half][i], halves[half][i]) for half in (0, 1) for i in (0, 1)]
    return builder.vector(words)


def _rounded(builder: Builder, sums: Value, dtype: str) -> list[Value]:
    """Return the two words that four sums make, each rounded to 16 bits: to f16 by the device, to bf16 in integers."""
    numbers = builder.bitcast(sums, "f32")
    if dtype == "bf16":
        return [builder.pack_bf16_pair(numbers[i], numbers[i + 1]) for i in range(0, GROUP, 2)]
    words = builder.bitcast(builder.convert(numbers, dtype), ("u32", GROUP // 2))
    return [words[i] for i in range(GROUP // 2)]


def _each(
    builder: Builder, count: int, tiles: MatmulTiles, body: Callable[[Value], Callable[[], None]], *, most_rounds: int
) -> None:
    """Run `body`, and what it returns, for every index below `count`, dealt out to the lanes.

    As many rounds as `most_rounds` are written out where all of them are whole; a loop keeps a long epilogue short.
    """
    assert tiles.subgroup is not None
    lanes = tiles.subgroup
    if count % lanes == 0 and count // lanes <= most_rounds:
        for write in [body(builder.lane + offset) for offset in range(0, count, lanes)]:
            write()
        return

    def one(offset: Value, _: list[Value]) -> None:
        index = builder.lane + offset
        builder.when(index < count if count % lanes else True, lambda: body(index)())

    builder.loop(0, count, lanes, [], one)
