"""Shared memory of one subgroup, through which fragments become rows and rows fragments; nobody else waits for it.

A row lies in groups of 16 bytes, one more group than it has, so that neighbouring rows begin in other banks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

from shaders.capabilities import MatrixShape
from shaders.spirv import Builder, MatrixType, Shared
from shaders.spirv import Value as Register

from ..tile.vectors import GROUP_BYTES
from .matrices import Band

# What the subgroups of a workgroup take for factors on their way, beside keys and values: the smallest limit of a
# driver is 32 KiB, and tiles of 64 keys 64 wide take 18.
_BYTES = 10240
# Fragments of a row that are on their way at a time, at most.
_MOST = 4
_WIDE, _NARROW = GROUP_BYTES // 4, GROUP_BYTES // 2


@final
class Passage:
    """A subgroup's part of shared memory; every use of it begins once all lanes are done with the one before."""

    def __init__(self, builder: Builder, band: Band, unit: MatrixShape, *, is_native: bool) -> None:
        self.builder = builder
        self.band = band
        self.unit = unit
        self.is_native = is_native
        # Groups of a row of one fragment of f32, and of the columns of 16 bits that are on their way at a time.
        self.line = unit.n // _WIDE + 1
        self.columns = self._columns() if is_native else max(unit.n, unit.k)
        self.narrow_line = self.columns // _NARROW + 1
        self.area = band.high * max(self.line, self.narrow_line)
        self.memory: Shared = builder.shared(("u32", 4), self.area * band.subgroups)
        self.numbers: Shared = builder.shared("f32", band.high * band.subgroups)
        with builder.at_entry():
            # Who asks first may stand in a branch.
            self.start = builder.subgroup_id * builder.const("u32", self.area)
            self.first_number = builder.subgroup_id * builder.const("u32", band.high)

    def _columns(self) -> int:
        columns = least = max(self.unit.n, self.unit.k)
        rows = self.band.high * self.band.subgroups
        while 2 * columns * rows * 2 <= _BYTES and columns < _MOST * least:
            columns *= 2
        return columns

    def wait(self) -> None:
        """Wait for the subgroup."""
        self.builder.barrier("subgroup", shared_only=True)

    # -- rows of f32 ---------------------------------------------------------------------------------------------------
    def put(self, column: Sequence[Register]) -> None:
        """Write fragments of f32 that lie below one another, once the last use is over."""
        self.wait()
        for number, part in enumerate(column):
            place = self.start + self.builder.const("u32", number * self.unit.m * self.line)
            self.builder.matrix_store(self.memory.pointer(place), part, self.line)
        self.wait()

    def take(self, dtype: MatrixType, count: int) -> list[Register]:
        """Read what `put` writes."""
        places = [self.start + self.builder.const("u32", number * self.unit.m * self.line) for number in range(count)]
        return [self.builder.matrix_load(dtype, self.memory.pointer(place), self.line) for place in places]

    def reduced(
        self, column: Sequence[Register], dtype: MatrixType, combine: Callable[[Register, Register], Register]
    ) -> list[Register]:
        """Return fragments of which every element is what its row comes to."""
        builder = self.builder
        self.put(column)
        first = self.first_number
        for row, _ in self._rows():
            groups = (builder.const("u32", group) for group in range(self.unit.n // _WIDE))
            elements = [number for group in groups for number in self._numbers(row, group)]
            while len(elements) > 1:
                pairs = zip(elements[::2], elements[1::2], strict=True)
                elements = [combine(left, right) for left, right in pairs]
            self.numbers[first + row] = elements[0]
        self.wait()
        places = [first + builder.const("u32", number * self.unit.m) for number in range(len(column))]
        return [builder.matrix_load(dtype, self.numbers.pointer(place), 0, column_major=True) for place in places]

    def each_row(self, column: Sequence[Register], write: Callable[[Register, Register], None]) -> None:
        """Call `write` (row, number) for rows that have the same number in every column."""
        builder = self.builder
        self.put(column)
        for row, is_last in self._rows():
            number = next(self._numbers(row, builder.const("u32", 0)))
            if is_last is None:
                write(row, number)
            else:
                builder.when(is_last, lambda row=row, number=number: write(row, number))

    def _rows(self) -> Iterator[tuple[Register, Register | None]]:
        """Yield a row for this lane, and whether it is one, where some lanes get the last row once more."""
        builder, band = self.builder, self.band
        for offset in range(0, band.high, band.lanes):
            row = builder.lane + builder.const("u32", offset)
            if offset + band.lanes <= band.high:
                yield row, None
            else:
                yield builder.min(row, builder.const("u32", band.high - 1)), row < builder.const("u32", band.high)

    def _numbers(self, row: Register, group: Register) -> Iterator[Register]:
        """Yield the numbers of a group of a row."""
        words = self.memory[self.start + row * self.builder.const("u32", self.line) + group]
        return (self.builder.bitcast(word, "f32") for word in words)

    def eight(self, row: Register, group: Register) -> list[Register]:
        """Return eight numbers of a row."""
        return [number for half in (0, 1) for number in self._numbers(row, group * 2 + half)]

    def set_eight(self, row: Register, group: Register, numbers: Sequence[Register]) -> None:
        """Write eight numbers of a row, for `take`."""
        for half in (0, 1):
            words = [self.builder.bitcast(number, "u32") for number in numbers[4 * half : 4 * half + 4]]
            place = self.start + row * self.builder.const("u32", self.line) + (group * 2 + half)
            self.memory[place] = self.builder.vector(words)

    # -- first factors -------------------------------------------------------------------------------------------------
    def factors(
        self, parts: Sequence[Sequence[Register]], dtype: MatrixType, narrow: str
    ) -> Iterator[list[list[Register]]]:
        """Yield accumulators as first factors of this type, some columns after others: a product has work meanwhile.

        They are of 16 bits where those are native, else of f32.
        """
        step = self.columns // self.unit.n
        for first in range(0, len(parts[0]), step):
            chunk = [row[first : first + step] for row in parts]
            if self.is_native:
                self._put_narrow(chunk)
            else:
                self._pack(chunk, narrow)
            columns = range(0, len(chunk[0]) * self.unit.n, self.unit.k)
            yield [[self._take_narrow(dtype, number, column) for column in columns] for number in range(len(parts))]

    def _take_narrow(self, dtype: MatrixType, number: int, column: int) -> Register:
        pointer = self.memory.pointer(self._narrow_place(number, column))
        return self.builder.matrix_load(dtype, pointer, self.narrow_line)

    def _narrow_place(self, number: int, column: int) -> Register:
        group = number * self.unit.m * self.narrow_line + column // _NARROW
        return self.start + self.builder.const("u32", group) if group else self.start

    def _put_narrow(self, chunk: Sequence[Sequence[Register]]) -> None:
        self.wait()
        for number, row in enumerate(chunk):
            for place, part in enumerate(row):
                pointer = self.memory.pointer(self._narrow_place(number, place * self.unit.n))
                self.builder.matrix_store(pointer, part, self.narrow_line)
        self.wait()

    def _pack(self, chunk: Sequence[Sequence[Register]], dtype: str) -> None:
        """Let lanes round rows of f32, where matrices of 16 bits cannot be summed up, and so not be converted to."""
        builder, packed = self.builder, list[tuple[Register, Register]]()
        line = builder.const("u32", self.narrow_line)
        for place in range(len(chunk[0])):
            self.put([row[place] for row in chunk])
            for row, group in self.groups():
                numbers = self.eight(row, group)
                pairs = zip(numbers[::2], numbers[1::2], strict=True)
                words = builder.vector([packed_pair(builder, low, high, dtype) for low, high in pairs])
                offset = builder.const("u32", place * self.unit.n // _NARROW)
                packed.append((self.start + row * line + group + offset, words))
        # The rows of 16 bits lie where those of f32 were.
        self.wait()
        for place, words in packed:
            self.memory[place] = words
        self.wait()

    def groups(self) -> Iterator[tuple[Register, Register]]:
        """Yield (row, group of 8 columns) for this lane; lanes that have nothing left take the last one once more."""
        builder, band, wide = self.builder, self.band, self.unit.n // _NARROW
        total = band.high * wide
        for offset in range(0, total, band.lanes):
            number = builder.lane + builder.const("u32", offset)
            if offset + band.lanes > total:
                number = builder.min(number, builder.const("u32", total - 1))
            yield number // builder.const("u32", wide), number % builder.const("u32", wide)


def packed_pair(builder: Builder, low: Register, high: Register, dtype: str) -> Register:
    """Round two numbers to 16 bits, the first in the lower half of a word."""
    if dtype == "f16":
        return builder.bitcast(builder.convert(builder.vector([low, high]), "f16"), "u32")
    return builder.pack_bf16_pair(low, high)


def rounded(builder: Builder, number: Register, dtype: str) -> Register:
    """Return the number of 16 bits nearest to a number."""
    if dtype == "f16":
        return builder.convert(builder.convert(number, "f16"), "f32")
    return builder.round_bf16(number)
