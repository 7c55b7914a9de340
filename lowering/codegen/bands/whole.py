"""Tiles as single matrices of any size (VK_NV_cooperative_matrix2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from shaders.spirv import Builder, MatrixType, Shared
from shaders.spirv import Value as Register
from shaders.spirv.buffers import Buffer
from shaders.spirv.functions import Callee

from ...graph import Value
from .checks import INTEGERS
from .copies import Copy
from .matrices import Band, Element, Given, Tile, arithmetic_of, combine, matrix_of
from .passage import rounded


@final
class Whole:
    """`Matrices` where a tile is one matrix."""

    def __init__(self, builder: Builder, band: Band) -> None:
        self.builder = builder
        self.band = band
        self.combiners: dict[str, Callee] = {}
        self.passage: Shared | None = None

    def filled(self, dtype: MatrixType, number: float) -> Tile:
        """Return a tile of one number."""
        return self.builder.const(dtype, number)

    def load(
        self, dtype: MatrixType, places: Buffer, start: Register, stride: int, *, column_major: bool, is_grouped: bool
    ) -> Tile:
        """Read a tile."""
        del is_grouped
        return self.builder.matrix_load(dtype, places.pointer(start), stride, column_major=column_major)

    def store(self, places: Buffer, start: Register, tile: Tile, stride: int, *, column_major: bool) -> None:
        """Write a tile."""
        self.builder.matrix_store(places.pointer(start), _one(tile), stride, column_major=column_major)

    def each_row(self, tile: Tile, write: Callable[[Register, Register], None]) -> None:
        """Give out numbers for rows: the matrix passes through shared memory, since each row has copies of its own."""
        builder, band, held = self.builder, self.band, _one(tile)
        if matrix_of(held).dtype != "f32":
            held = builder.matrix_convert(held, matrix_of(held)._replace(dtype="f32"))
        if self.passage is None:
            self.passage = builder.shared("f32", band.subgroups * band.high * band.thin)
        scratch, wide = self.passage, band.thin
        place = band.first_row * builder.const("u32", wide)
        builder.barrier()
        builder.matrix_store(scratch.pointer(place), held, wide)
        builder.barrier()
        for offset in range(0, band.high, band.lanes):
            row = builder.lane + builder.const("u32", offset)

            def write_row(row: Register = row) -> None:
                write(row, scratch[place + row * builder.const("u32", wide)])

            if offset + band.lanes > band.high:
                builder.when(row < builder.const("u32", band.high), write_row)
            else:
                write_row()

    def convert(self, tile: Tile, dtype: MatrixType) -> Tile:
        """Return a tile as another dtype, or as a first factor."""
        held = _one(tile)
        if dtype.dtype == "bf16" and matrix_of(held).dtype == "f32":
            # A device's own conversion may cut off; of what is a bf16 already it keeps every bit.
            held = self.builder.matrix_per_element(held, self._to_bf16())
        return self.builder.matrix_convert(held, dtype)

    def _to_bf16(self) -> Callee:
        """Return the function that rounds an element to bf16."""
        if "bf16" not in self.combiners:
            self.combiners["bf16"] = self.builder.function(
                "round", "f32", ["u32", "u32", "f32"], lambda _, __, element: rounded(self.builder, element, "bf16")
            )
        return self.combiners["bf16"]

    def spread(self, tile: Tile, columns: int) -> Tile:
        """Return a number for each row in so many columns."""
        wide = self.builder.matrix_type(matrix_of(tile).dtype, self.band.high, columns, "accumulator")
        return self.builder.matrix_reduce(_one(tile), wide, "row", self._combiner("spread"))

    def partial(self, tile: Tile) -> Tile:
        """Return the tile: there are no partial sums."""
        return tile

    def joined(self, tile: Tile) -> Tile:
        """Return the tile: there are no partial sums."""
        return tile

    def reduced(self, tile: Tile, dtype: MatrixType, kind: str, *, is_partial: bool) -> Tile:
        """Reduce rows."""
        del is_partial
        return self.builder.matrix_reduce(_one(tile), dtype, "row", self._combiner(kind))

    def combined(self, tile: Tile, kind: str, number: Register) -> Tile:
        """Combine every element with a number."""
        combiner = self._combiner(kind)
        called = self.builder.function(
            "start", "f32", ["u32", "u32", "f32", "f32"], lambda _, __, element, first: combiner(element, first)
        )
        return self.builder.matrix_per_element(_one(tile), called, number)

    def _combiner(self, kind: str) -> Callee:
        """Return the function that combines two elements of a reduction."""
        if kind not in self.combiners:
            self.combiners[kind] = self.builder.function(
                kind, "f32", ["f32", "f32"],
                lambda left, right: combine(self.builder, kind, left, right, skips_nan=self.band.skips_nan),
            )  # fmt: skip
        return self.combiners[kind]

    def product(self, left: Tile, copy: Copy, dtype: MatrixType, total: Tile, *, is_transposed: bool) -> Tile:
        """Return left @ right + total."""
        second = copy.factor(self.builder, dtype, is_transposed=is_transposed)
        return self.builder.matrix_multiply_add(_one(left), second, _one(total))

    def arithmetic(self, op: str, left: Tile, right: Tile) -> Tile:
        """Return the sum, difference, product or quotient of tiles."""
        return arithmetic_of(op, _one(left), _one(right))

    def apply(self, dtype: MatrixType, given: Given, element: Element) -> Tile:
        """Call a function of elements."""
        builder = self.builder
        tiles = {value: _one(tile) for value, tile in given.tiles.items()}
        first = next((value for value, matrix in tiles.items() if matrix.dtype == dtype), None)
        target = tiles[first] if first is not None else builder.const(dtype, 0.0)
        others = {value: matrix for value, matrix in tiles.items() if value != first}
        row = given.first_row
        operands = [*others.values(), *given.numbers.values(), *([row] if row is not None else [])]
        arguments = [_element(operand) for operand in operands]

        def body(down: Register, along: Register, own: Register, *rest: Register) -> Register:
            known: dict[Value, Register] = {} if first is None else {first: bits(builder, first, own)}
            for value, register in zip((*others, *given.numbers), rest, strict=False):
                known[value] = bits(builder, value, register)
            if row is not None:
                down = down + rest[-1]
            return element(known, down, along)

        called = builder.function(given.name, dtype.dtype, ["u32", "u32", dtype.dtype, *arguments], body)
        return builder.matrix_per_element(target, called, *operands)

    def loop(self, trips: int, first: Sequence[Tile], body: Callable[[list[Tile]], list[Tile]]) -> list[Tile]:
        """Run `body` so often."""
        started = list(map(_one, first))
        advance = lambda values: list(map(_one, body(list(values))))  # noqa: E731
        return list(self.builder.loop(0, trips, 1, started, lambda _, values: advance(values), unroll=False))

    def while_loop(
        self, check: Callable[[list[Tile]], Register], body: Callable[[list[Tile]], list[Tile]], first: Sequence[Tile]
    ) -> list[Tile]:
        """Run `body` as long as `check` holds."""
        advance = lambda values: list(map(_one, body(list(values))))  # noqa: E731
        return list(
            self.builder.while_loop(lambda values: check(list(values)), advance, list(map(_one, first)), unroll=False)
        )


def bits(builder: Builder, value: Value, register: Register) -> Register:
    """Return an element as the value's dtype: integers of tiles lie in matrices of f32 bit by bit."""
    is_held = value.size > 1 and value.dtype in INTEGERS
    return builder.bitcast(register, value.dtype) if is_held else register


def _one(tile: Tile) -> Register:
    assert isinstance(tile, Register)
    return tile


def _element(operand: Register) -> str:
    dtype = operand.dtype.dtype if isinstance(operand.dtype, MatrixType) else operand.dtype
    assert isinstance(dtype, str)
    return dtype
