"""Tiles in fragments of the matrix units' own sizes (VK_KHR_cooperative_matrix): all that most drivers offer.

Which elements of a fragment a lane holds is the driver's secret, but it is the same for all fragments of one type:
arithmetic of elements needs nothing else. A number for each row is a fragment with that number in every column, so
that it meets every fragment of its row as it is. What must know places, such as a reduction or a change of use, passes
through the subgroup's own shared memory (`passage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, reduce
from typing import final

from shaders.capabilities import MatrixShape
from shaders.spirv import Builder, MatrixType, Shared
from shaders.spirv import Value as Register
from shaders.spirv.buffers import Buffer

from .copies import Copy
from .matrices import Band, Element, Given, Pieces, Tile, arithmetic_of_pieces, combine, loop_of_pieces, while_of_pieces
from .passage import Passage, rounded
from .whole import bits

Parts = tuple[tuple[Register, ...], ...]


@final
class Fragments:
    """`Matrices` where a tile is an array of fragments.

    `natives`: units whose sums are of 16 bits, if the device has them.
    """

    def __init__(self, builder: Builder, band: Band, unit: MatrixShape, natives: Sequence[MatrixShape]) -> None:
        self.builder = builder
        self.band = band
        self.unit = unit
        self.natives = [each.result for each in natives]
        self.made: dict[tuple[Pieces, int], Sequence[Sequence[Register]]] = {}

    @cached_property
    def passage(self) -> Passage:
        """The subgroup's part of shared memory."""
        return Passage(self.builder, self.band, self.unit, is_native=self.unit.a in self.natives)

    @cached_property
    def places(self) -> Shared:
        """Numbers from zero on, one for each row or column of a fragment, once `prepare` has run."""
        return self.builder.shared("u32", max(self.unit.m, self.unit.n))

    def prepare(self, *, asks_places: bool) -> None:
        """Write what functions of places read."""
        if not asks_places:
            return
        builder, count = self.builder, max(self.unit.m, self.unit.n)
        place = builder.min(builder.local_index, builder.const("u32", count - 1))
        self.places[place] = place
        builder.barrier()

    def part(self, dtype: MatrixType) -> MatrixType:
        """Return the type of a tile's fragments."""
        if dtype.use == "a":
            return dtype._replace(rows=self.unit.m, columns=self.unit.k)
        held = dtype.dtype if dtype.dtype in (*self.natives, "f32") else "f32"
        return dtype._replace(dtype=held, rows=self.unit.m, columns=self.unit.n)

    def _counts(self, dtype: MatrixType) -> tuple[int, int]:
        part = self.part(dtype)
        return dtype.rows // part.rows, dtype.columns // part.columns

    # -- memory --------------------------------------------------------------------------------------------------------
    def filled(self, dtype: MatrixType, number: float) -> Tile:
        """Return a tile of one number."""
        part = self.builder.const(self.part(dtype), number)
        return self._tile(dtype, lambda row, column: part)

    def load(
        self, dtype: MatrixType, places: Buffer, start: Register, stride: int, *, column_major: bool, is_grouped: bool
    ) -> Tile:
        """Read a tile; fragments that are the same are read once."""
        del is_grouped
        part, found = self.part(dtype), dict[int, Register]()
        down, along = (1, stride) if column_major else (stride, 1)
        if part.dtype != dtype.dtype:
            return self._gathered(dtype, places, start, (down, along))

        def read(row: int, column: int) -> Register:
            offset = row * part.rows * down + column * part.columns * along
            if offset not in found:
                pointer = places.pointer(self._moved(start, offset))
                found[offset] = self.builder.matrix_load(part, pointer, stride, column_major=column_major)
            return found[offset]

        return self._tile(dtype, read)

    def store(self, places: Buffer, start: Register, tile: Tile, stride: int, *, column_major: bool) -> None:
        """Write a tile."""
        held = self.joined(tile)
        dtype, part = held.dtype, self.part(held.dtype)
        down, along = (1, stride) if column_major else (stride, 1)
        if part.dtype != dtype.dtype:
            self._scatter(held, places, start, (down, along))
            return
        for row, parts in enumerate(held.parts):
            for column, each in enumerate(parts):
                offset = row * part.rows * down + column * part.columns * along
                pointer = places.pointer(self._moved(start, offset))
                self.builder.matrix_store(pointer, each, stride, column_major=column_major)

    def _gathered(self, dtype: MatrixType, places: Buffer, start: Register, strides: tuple[int, int]) -> Tile:
        """Read numbers that matrices hold in f32 only: lanes widen them."""
        part, columns = self.part(dtype), list[list[Register]]()
        for first in range(0, dtype.columns, self.unit.n):
            self.passage.wait()
            for row, group in self.passage.groups():
                at = self._eight(start, strides, row, group, first)
                numbers = [self.builder.convert(places[place], "f32") for place in at]
                self.passage.set_eight(row, group, numbers)
            self.passage.wait()
            columns.append(self.passage.take(part, self._counts(dtype)[0]))
        return Pieces(dtype, tuple(zip(*columns, strict=True)))

    def _scatter(self, held: Pieces, places: Buffer, start: Register, strides: tuple[int, int]) -> None:
        for column, parts in enumerate(zip(*held.parts, strict=True)):
            self.passage.put(parts)
            for row, group in self.passage.groups():
                at = self._eight(start, strides, row, group, column * self.unit.n)
                for place, number in zip(at, self.passage.eight(row, group), strict=True):
                    places[place] = number

    def _eight(
        self, start: Register, strides: tuple[int, int], row: Register, group: Register, column: int
    ) -> Iterator[Register]:
        """Yield the places of eight neighbours of a row."""
        down, along = (self.builder.const("u32", stride) for stride in strides)
        first = start + row * down + group * 8 * along
        return (first + self.builder.const("u32", (column + number) * strides[1]) for number in range(8))

    def _moved(self, start: Register, offset: int) -> Register:
        return start + self.builder.const("u32", offset) if offset else start

    def each_row(self, tile: Tile, write: Callable[[Register, Register], None]) -> None:
        """Give out numbers for rows."""
        self.passage.each_row([parts[0] for parts in self._wide(tile).parts], write)

    # -- change of form ------------------------------------------------------------------------------------------------
    def convert(self, tile: Tile, dtype: MatrixType) -> Tile:
        """Return a tile as another dtype, or as a first factor."""
        held = self.joined(tile)
        if held.dtype.dtype != dtype.dtype:
            held = self._rounded(held, dtype.dtype)
        if dtype.use == held.dtype.use:
            return held
        return Pieces(dtype, held.parts, is_late=True)

    def _rounded(self, held: Pieces, dtype: str) -> Pieces:
        """Return a tile in another dtype; where its fragments stay of f32, who reads them rounds them."""
        builder, before, after = self.builder, held.dtype, held.dtype._replace(dtype=dtype)
        if before.dtype not in (*self.natives, "f32"):
            # What lies in fragments of f32 has not been rounded yet.
            source = before.dtype
            held = self._mapped(
                after, lambda part: builder.matrix_map(lambda x: rounded(builder, x, source), part), held
            )
        part = self.part(after).dtype
        if part == "bf16" and before.dtype == "f32":
            # A device's own conversion may cut off; of what is a bf16 already it keeps every bit.
            held = self._mapped(
                before, lambda each: builder.matrix_map(lambda x: rounded(builder, x, part), each), held
            )
        return self._mapped(after, lambda each: builder.convert(each, part), held)

    def _wide(self, tile: Tile) -> Pieces:
        held = self.joined(tile)
        return held if held.dtype.dtype == "f32" else self._rounded(held, "f32")

    def spread(self, tile: Tile, columns: int) -> Tile:
        """Return a number for each row in so many columns: the same fragment again and again."""
        held = self.joined(tile)
        dtype = held.dtype._replace(columns=columns)
        return self._tile(dtype, lambda row, column: held.parts[row][0])

    def joined(self, tile: Tile) -> Pieces:
        """Return a tile whose elements are what it holds: partial sums are added up."""
        assert isinstance(tile, Pieces)
        if not tile.is_partial:
            return tile
        return self._over_rows(tile, "add")

    def partial(self, tile: Tile) -> Tile:
        """Return numbers for rows as partial sums: each is shared out evenly, over a power of two of columns."""
        assert isinstance(tile, Pieces)
        if tile.is_partial:
            return tile
        share = self.builder.const("f32", 1 / self.unit.n)
        return Pieces(tile.dtype, tuple((parts[0] * share,) for parts in tile.parts), is_partial=True)

    # -- arithmetic ----------------------------------------------------------------------------------------------------
    def reduced(self, tile: Tile, dtype: MatrixType, kind: str, *, is_partial: bool) -> Tile:
        """Reduce rows: fragments of a row first, then, if the result must not stay a partial sum, its elements."""
        builder = self.builder

        def join(*elements: Register) -> Register:
            return reduce(lambda left, right: self._combine(kind, left, right), elements)

        def row_of(parts: Sequence[Register]) -> Register:
            if kind == "add" or len(parts) == 1:
                return reduce(Register.__add__, parts)
            return builder.matrix_map(join, *parts)

        held = Pieces(dtype, tuple((row_of(parts),) for parts in self.joined(tile).parts), is_partial=is_partial)
        return held if is_partial else self._over_rows(held, kind)

    def _over_rows(self, tile: Pieces, kind: str) -> Pieces:
        column = [parts[0] for parts in tile.parts]
        found = self.passage.reduced(column, self.part(tile.dtype), lambda one, two: self._combine(kind, one, two))
        return Pieces(tile.dtype, tuple((part,) for part in found))

    def combined(self, tile: Tile, kind: str, number: Register) -> Tile:
        """Combine every element with a number."""
        held = self.joined(tile)
        join = lambda element: self._combine(kind, element, number)  # noqa: E731
        return self._mapped(held.dtype, lambda part: self.builder.matrix_map(join, part), held)

    def _combine(self, kind: str, left: Register, right: Register) -> Register:
        return combine(self.builder, kind, left, right, skips_nan=self.band.skips_nan)

    def product(self, left: Tile, copy: Copy, dtype: MatrixType, total: Tile, *, is_transposed: bool) -> Tile:
        """Return left @ right + total: each fragment of the second factor meets all rows at once."""
        builder, unit = self.builder, self.unit
        held, depth = self.joined(total), 0
        sums = [list(parts) for parts in held.parts]
        part = dtype._replace(rows=unit.k, columns=unit.n)
        for lines in self._factors(self.joined(left)):
            for number in range(len(lines[0])):
                for column in range(dtype.columns // unit.n):
                    place = depth, column * unit.n
                    second = copy.factor(builder, part, is_transposed=is_transposed, place=place)
                    for row, line in zip(sums, lines, strict=True):
                        row[column] = builder.matrix_multiply_add(line[number], second, row[column])
                depth += unit.k
        return Pieces(held.dtype, tuple(map(tuple, sums)))

    def _factors(self, left: Pieces) -> Iterator[Sequence[Sequence[Register]]]:
        """Yield the fragments of a first factor; one that is late is made once in each block that reads it."""
        if not left.is_late:
            yield left.parts
            return
        key = left, self.builder.block
        if key not in self.made:
            found: list[list[Register]] = [[] for _ in left.parts]
            for lines in self.passage.factors(left.parts, self.part(left.dtype), left.dtype.dtype):
                yield lines
                for row, line in zip(found, lines, strict=True):
                    row += line
            self.made[key] = found
        else:
            yield self.made[key]

    def arithmetic(self, op: str, left: Tile, right: Tile) -> Tile:
        """Return the sum, difference, product or quotient of tiles."""
        return arithmetic_of_pieces(op, left, right)

    def apply(self, dtype: MatrixType, given: Given, element: Element) -> Tile:
        """Call a function of elements for what lies at the same place of fragments."""
        builder, part = self.builder, self.part(dtype)
        leaves = {value: self.joined(tile) for value, tile in given.tiles.items()}
        places = self._places(part, given)

        def one(row: int, column: int) -> Register:
            first_row = None if given.first_row is None else self._moved(given.first_row, row * self.unit.m)

            def body(*elements: Register) -> Register:
                known = dict(given.numbers)
                known.update((value, bits(builder, value, each)) for value, each in zip(leaves, elements, strict=False))
                own = [builder.bitcast(each, "u32") for each in elements[len(leaves) : len(leaves) + len(places)]]
                zero = builder.const("u32", 0)
                down = zero if first_row is None else first_row + own[0]
                along = self._moved(own[-1], column * self.unit.n) if given.asks_columns else zero
                return element(known, down, along)

            parts = [held.parts[row][column] for held in leaves.values()]
            return builder.matrix_map(body, *(parts or [builder.const(part, 0.0)][: not places]), *places)

        return self._tile(dtype, one)

    def _places(self, part: MatrixType, given: Given) -> list[Register]:
        """Return fragments whose elements say, bit by bit, in which row and in which column they are."""
        found = []
        for is_asked, column_major in ((given.first_row is not None, True), (given.asks_columns, False)):
            if is_asked:
                pointer = self.places.pointer(self.builder.const("u32", 0))
                found.append(self.builder.matrix_load(part, pointer, 0, column_major=column_major))
        return found

    def _tile(self, dtype: MatrixType, part: Callable[[int, int], Register]) -> Pieces:
        rows, columns = self._counts(dtype)
        return Pieces(dtype, tuple(tuple(part(row, column) for column in range(columns)) for row in range(rows)))

    def _mapped(self, dtype: MatrixType, function: Callable[[Register], Register], held: Pieces) -> Pieces:
        return Pieces(dtype, tuple(tuple(map(function, parts)) for parts in held.parts))

    # -- loops ---------------------------------------------------------------------------------------------------------
    def loop(self, trips: int, first: Sequence[Tile], body: Callable[[list[Tile]], list[Tile]]) -> list[Tile]:
        """Run `body` so often."""
        return loop_of_pieces(self.builder, trips, first, body)

    def while_loop(
        self, check: Callable[[list[Tile]], Register], body: Callable[[list[Tile]], list[Tile]], first: Sequence[Tile]
    ) -> list[Tile]:
        """Run `body` as long as `check` holds."""
        return while_of_pieces(self.builder, check, body, first)
