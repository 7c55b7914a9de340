"""Tiles in the registers of lanes, multiplied and added by the lanes themselves: what every GPU can do.

Lanes of a subgroup stand in rows of four. A lane has every so manieth row of the band, and of each 16 columns the four
at its own place:

    lane 4 r + c    rows r, r + R, r + 2 R, …    columns 4 c … 4 c + 3, 16 + 4 c …, …        R rows of lanes

A number for each row is a register for each of a lane's rows, the same in its row of lanes, or a partial sum. First
factors are read where they lie: from memory, or from the subgroup's own part of shared memory.
For each four steps of depth a lane reads four numbers for each of its rows and of its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import final

from shaders.capabilities import MatrixShape
from shaders.spirv import Builder, MatrixType, Shared
from shaders.spirv import Value as Register
from shaders.spirv.buffers import Buffer

from .. import scalar
from .copies import Copy
from .matrices import (
    Band,
    Element,
    Given,
    Pieces,
    Placed,
    Rows,
    Tile,
    arithmetic_of_pieces,
    combine,
    flat,
    formed,
    loop_of_pieces,
    while_of_pieces,
)
from .passage import rounded
from .scalars import single
from .whole import bits

# Lanes of a row, columns that neighbours have together, and numbers of a vector.
_ROW, _WIDE, _VECTOR = 4, 16, 4
# Rows of a lane where nobody asks: each number of a second factor meets as many.
ROWS_OF_A_LANE = 4
Parts = tuple[tuple[Register, ...], ...]


def unit_of(subgroup: int) -> tuple[MatrixShape, MatrixShape]:
    """Return what lanes multiply at a time, as if it were a unit, and the same for numbers for rows."""
    unit = MatrixShape(subgroup // _ROW, _WIDE, _WIDE, "f32", "f32", "f32", "f32", "subgroup")
    return unit, MatrixShape(unit.m, 1, _WIDE, "f32", "f32", "f32", "f32", "subgroup")


@final
class Lanes:
    """`Matrices` in registers."""

    def __init__(self, builder: Builder, band: Band) -> None:
        self.builder = builder
        self.band = band
        self.lane_rows = band.lanes // _ROW
        self.count = band.high // self.lane_rows
        self.passages: dict[int, Shared] = {}
        self.depth = 0
        with builder.at_entry():
            # Who asks first may stand in a branch.
            self.row = builder.lane // builder.const("u32", _ROW)
            self.place = builder.lane % builder.const("u32", _ROW)
            self.column = self.place * builder.const("u32", _VECTOR)

    # -- places --------------------------------------------------------------------------------------------------------
    def _columns(self, dtype: MatrixType) -> int:
        """Return how many columns a lane has."""
        return max(1, dtype.columns // _ROW)

    def _down(self, row: int) -> Register:
        """Return the row of the band that is a lane's row of this number."""
        return self._moved(self.row, row * self.lane_rows)

    def _along(self, column: int) -> Register:
        """Return the column of a tile that is a lane's column of this number."""
        return self._moved(self.column, column // _VECTOR * _WIDE + column % _VECTOR)

    def _moved(self, place: Register, offset: int) -> Register:
        return place + self.builder.const("u32", offset) if offset else place

    def _times(self, place: Register, stride: int) -> Register:
        return place * self.builder.const("u32", stride)

    def _tile(self, dtype: MatrixType, part: Callable[[int, int], Register]) -> Pieces:
        columns = range(self._columns(dtype))
        return Pieces(dtype, tuple(tuple(part(row, column) for column in columns) for row in range(self.count)))

    def _mapped(self, function: Callable[[Register], Register], held: Pieces, dtype: MatrixType) -> Pieces:
        return Pieces(dtype, tuple(tuple(map(function, parts)) for parts in held.parts))

    # -- memory --------------------------------------------------------------------------------------------------------
    def filled(self, dtype: MatrixType, number: float) -> Tile:
        """Return a tile of one number."""
        part = self.builder.const("f32", number)
        return self._tile(dtype, lambda row, column: part)

    def load(
        self, dtype: MatrixType, places: Buffer, start: Register, stride: int, *, column_major: bool, is_grouped: bool
    ) -> Tile:
        """Read a tile; a first factor stays where it is, if nobody writes there."""
        down, along = (1, stride) if column_major else (stride, 1)
        if dtype.use == "a" and places.parameter.access == "r":
            four = _VECTOR if is_grouped and along == 1 and places.parameter.dtype == "f32" else 1
            return Placed(dtype, partial(self._rows_in_memory, places, start, (down, along), four))
        found = dict[tuple[int, int], Register]()

        def read(row: int, column: int) -> Register:
            # What does not move along an axis is read once.
            key = row if down else 0, column if along and dtype.columns > 1 else 0
            if key not in found:
                place = start + self._times(self._down(row), down) if down else start
                if along and dtype.columns > 1:
                    place += self._times(self._along(column), along)
                found[key] = self._number(places, place)
            return found[key]

        return self._tile(dtype, read)

    def _number(self, places: Buffer, place: Register) -> Register:
        """Read a number as lanes hold it: floats of f32, integers bit by bit."""
        number = single(scalar.load(self.builder, places, place, places.parameter.dtype))
        return number if number.dtype == "f32" else self.builder.bitcast(number, "f32")

    def store(self, places: Buffer, start: Register, tile: Tile, stride: int, *, column_major: bool) -> None:
        """Write a tile."""
        held = self.joined(tile)
        down, along = (1, stride) if column_major else (stride, 1)
        for row, parts in enumerate(held.parts):
            first = start + self._times(self._down(row), down)
            for column, number in enumerate(parts):
                place = first + self._times(self._along(column), along)
                scalar.store(self.builder, places, place, number, places.parameter.dtype)

    def each_row(self, tile: Tile, write: Callable[[Register, Register], None]) -> None:
        """Give out numbers for rows: the first lane of a row does."""
        held = self.joined(tile)

        def rows() -> None:
            for row, parts in enumerate(held.parts):
                write(self._down(row), parts[0])

        self.builder.when(self.place == 0, rows)

    # -- change of form ------------------------------------------------------------------------------------------------
    def convert(self, tile: Tile, dtype: MatrixType) -> Tile:
        """Return a tile as another dtype, or as a first factor, which is the same to lanes."""
        held = self.joined(tile)
        if dtype.dtype in ("f32", held.dtype.dtype):
            return Pieces(dtype, held.parts)
        return self._mapped(lambda number: rounded(self.builder, number, dtype.dtype), held, dtype)

    def spread(self, tile: Tile, columns: int) -> Tile:
        """Return a number for each row in so many columns."""
        held = self.joined(tile)
        return self._tile(held.dtype._replace(columns=columns), lambda row, column: held.parts[row][0])

    def partial(self, tile: Tile) -> Tile:
        """Return numbers for rows as partial sums: each is shared out evenly."""
        assert isinstance(tile, Pieces)
        if tile.is_partial:
            return tile
        share = self.builder.const("f32", 1 / _ROW)
        return Pieces(tile.dtype, tuple((parts[0] * share,) for parts in tile.parts), is_partial=True)

    def joined(self, tile: Tile) -> Pieces:
        """Return a tile whose numbers are what it holds: partial sums are added up."""
        assert isinstance(tile, Pieces)
        return self._over_lanes(tile, "add") if tile.is_partial else tile

    # -- arithmetic ----------------------------------------------------------------------------------------------------
    def reduced(self, tile: Tile, dtype: MatrixType, kind: str, *, is_partial: bool) -> Tile:
        """Reduce rows: a lane's own columns first, in pairs."""
        parts = tuple((self._folded(kind, list(row)),) for row in self.joined(tile).parts)
        held = Pieces(dtype, parts, is_partial=is_partial)
        return held if is_partial else self._over_lanes(held, kind)

    def _folded(self, kind: str, numbers: list[Register]) -> Register:
        while len(numbers) > 1:
            rest = numbers[len(numbers) // 2 * 2 :]
            pairs = zip(numbers[::2], numbers[1::2], strict=False)
            numbers = [*(self._combine(kind, left, right) for left, right in pairs), *rest]
        return numbers[0]

    def _over_lanes(self, tile: Pieces, kind: str) -> Pieces:
        def over(number: Register) -> Register:
            for distance in (1, 2):
                number = self._combine(kind, number, self.builder.shuffle_xor(number, distance))
            return number

        return Pieces(tile.dtype, tuple((over(parts[0]),) for parts in tile.parts))

    def combined(self, tile: Tile, kind: str, number: Register) -> Tile:
        """Combine every element with a number."""
        held = self.joined(tile)
        return self._mapped(lambda element: self._combine(kind, element, number), held, held.dtype)

    def _combine(self, kind: str, left: Register, right: Register) -> Register:
        return combine(self.builder, kind, left, right, skips_nan=self.band.skips_nan)

    def arithmetic(self, op: str, left: Tile, right: Tile) -> Tile:
        """Return the sum, difference, product or quotient of tiles."""
        return arithmetic_of_pieces(op, left, right)

    def apply(self, dtype: MatrixType, given: Given, element: Element) -> Tile:
        """Call a function for each element."""
        leaves = {value: self.joined(tile) for value, tile in given.tiles.items()}
        zero = self.builder.const("u32", 0)

        def one(row: int, column: int) -> Register:
            known = dict(given.numbers)
            for value, held in leaves.items():
                known[value] = bits(self.builder, value, held.parts[row][column])
            down = zero if given.first_row is None else given.first_row + self._down(row)
            along = self._along(column) if given.asks_columns else zero
            made = element(known, down, along)
            return made if made.dtype == "f32" else self.builder.bitcast(made, "f32")

        made = self._tile(dtype, one)
        # What loops read again and again is written once.
        return Placed(dtype, self._put(made, lasts=True)) if dtype.use == "a" and not self.depth else made

    # -- products ------------------------------------------------------------------------------------------------------
    def product(self, left: Tile, copy: Copy, dtype: MatrixType, total: Tile, *, is_transposed: bool) -> Tile:
        """Return left @ right + total, 16 steps of depth in each round of a loop."""
        held, steps = self.joined(total), range(0, _WIDE, _VECTOR)
        rights, count = self._by_depth if is_transposed else self._by_column, self._columns(held.dtype)
        rows_at = left.rows_at if isinstance(left, Placed) else self._put(self.joined(left))

        def advance(chunk: Register, sums: list[Register]) -> list[Register]:
            depth = self._times(chunk, _WIDE)
            for step in steps:
                sums = self._added(sums, rows_at(depth, step), rights(copy, depth, step, count))
            return sums

        sums = self.builder.loop(0, dtype.rows // _WIDE, 1, flat([held]), advance, unroll=False)
        (found,) = formed([held], sums)
        return found

    def _added(self, sums: Sequence[Register], rows: Parts, right: Parts) -> list[Register]:
        """Add products of four steps of depth: rows by depth times depth by columns."""
        found, columns = list(sums), len(right[0])
        for depth in range(_VECTOR):
            for row in range(self.count):
                for column in range(columns):
                    place = row * columns + column
                    found[place] = rows[row][depth] * right[depth][column] + found[place]
        return found

    def _by_depth(self, copy: Copy, depth: Register, step: int, count: int) -> Parts:
        """Read four steps of depth of a second factor whose rows are columns: a vector for each column."""
        group = self._group(depth, step)
        lines = [self._vector(copy, self._along(column), group) for column in range(count)]
        return tuple(zip(*lines, strict=True))

    def _by_column(self, copy: Copy, depth: Register, step: int, count: int) -> Parts:
        """Read four steps of depth of a second factor: vectors of columns."""
        found = []
        for number in range(_VECTOR):
            row = self._moved(depth, step + number)
            groups = [self._moved(self.place, each * _ROW) for each in range(count // _VECTOR)]
            found.append(tuple(part for group in groups for part in self._vector(copy, row, group)))
        return tuple(found)

    def _group(self, depth: Register, step: int) -> Register:
        """Return the vector of a line that holds these four steps of depth."""
        return self._moved(depth // self.builder.const("u32", _VECTOR), step // _VECTOR)

    def _vector(self, copy: Copy, row: Register, group: Register) -> tuple[Register, ...]:
        words = copy.memory[self._times(row, copy.groups + 1) + group]
        return tuple(self.builder.bitcast(word, "f32") for word in words)

    def _rows_in_memory(
        self, places: Buffer, first: Register, strides: tuple[int, int], four: int, depth: Register, step: int
    ) -> Parts:
        """Read four steps of depth of a lane's rows from an array, `four` numbers at a time."""
        (down, along), found = strides, []
        for row in range(self.count):
            start = first + self._times(self._down(row), down) + self._times(self._moved(depth, step), along)
            if four == _VECTOR:
                words = places.load_words(self.builder.divide_exactly(start, _VECTOR), _VECTOR)
                found.append(tuple(self.builder.bitcast(word, "f32") for word in words))
            else:
                numbers = (self._moved(start, number * along) for number in range(_VECTOR))
                found.append(tuple(self._number(places, place) for place in numbers))
        return tuple(found)

    def _put(self, held: Pieces, *, lasts: bool = False) -> Rows:
        """Write a first factor for the subgroup to read; return how. What lasts has memory of its own."""
        builder, line = self.builder, held.dtype.columns // _VECTOR + 1
        count = self.band.high * line * self.band.subgroups
        passage = None if lasts else self.passages.get(count)
        if passage is None:
            passage = builder.shared(("u32", _VECTOR), count)
        if not lasts:
            self.passages[count] = passage
        area = self._times(builder.subgroup_id, self.band.high * line)
        lines = [area + self._times(self._down(row), line) for row in range(self.count)]
        # Whoever writes first waits for those who still read what a product before has left.
        builder.barrier("subgroup", shared_only=True)
        for start, numbers in zip(lines, held.parts, strict=True):
            for first in range(0, len(numbers), _VECTOR):
                words = builder.vector([builder.bitcast(each, "u32") for each in numbers[first : first + _VECTOR]])
                passage[self._moved(start + self.place, first)] = words
        builder.barrier("subgroup", shared_only=True)

        def rows_at(depth: Register, step: int) -> Parts:
            group = self._group(depth, step)
            return tuple(tuple(builder.bitcast(word, "f32") for word in passage[start + group]) for start in lines)

        return rows_at

    # -- loops ---------------------------------------------------------------------------------------------------------
    def loop(self, trips: int, first: Sequence[Tile], body: Callable[[list[Tile]], list[Tile]]) -> list[Tile]:
        """Run `body` so often."""
        return loop_of_pieces(self.builder, trips, first, self._inside(body))

    def while_loop(
        self, check: Callable[[list[Tile]], Register], body: Callable[[list[Tile]], list[Tile]], first: Sequence[Tile]
    ) -> list[Tile]:
        """Run `body` as long as `check` holds."""
        return while_of_pieces(self.builder, check, self._inside(body), first)

    def _inside(self, body: Callable[[list[Tile]], list[Tile]]) -> Callable[[list[Tile]], list[Tile]]:
        """Return a body that knows that it is one."""

        def run(tiles: list[Tile]) -> list[Tile]:
            self.depth += 1
            found = body(tiles)
            self.depth -= 1
            return found

        return run
