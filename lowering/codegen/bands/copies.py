"""Windows of arrays on their way through shared memory, in groups of 16 bytes."""

from __future__ import annotations

from dataclasses import dataclass

from shaders.spirv import Builder, MatrixType, Shared
from shaders.spirv import Value as Register

from ... import dtypes
from ...graph import Value
from ..tile.expression import Array
from ..tile.vectors import GROUP_BYTES
from .scalars import Scalars
from .views import View

WORD_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """How a workgroup copies a window: rows of `groups` groups, a group more apart in shared memory than they are long.

    Attributes:
        view: the window.
        memory: where it goes.
        rows, groups: its size.
        width: elements of a group.
        threads: that copy.
        dtype: of the window; integers of 8 bits become that on their way.
    """

    view: View
    memory: Shared
    rows: int
    groups: int
    width: int
    threads: int
    dtype: str

    @property
    def share(self) -> int:
        """Groups that an invocation copies."""
        return -(-self.rows * self.groups // self.threads)

    @property
    def words(self) -> int:
        """Words of a group as it is stored."""
        return self.width * dtypes.itemsize(self.view.stored or self.dtype) // WORD_BYTES

    def load(self, scalars: Scalars, array: Array, known: dict[Value, Register] | None = None) -> list[Register]:
        """Read this invocation's share of the window."""
        builder = scalars.builder
        line = self.view.strides[self.view.axes[0] or 0] // self.width
        start = scalars.start(self.view, known)
        first = start // builder.const("u32", self.width) if start.constant is None else None
        found: list[Register] = []
        for row, place in self._places(builder):
            group = row * builder.const("u32", line) + place
            group = (
                group
                if first is None and start.constant == 0
                else group + (builder.const("u32", int(start.constant or 0) // self.width) if first is None else first)
            )
            found.append(array.buffer.load_words(group, self.words))
        return found

    def store(self, builder: Builder, held: list[Register]) -> None:
        """Write this invocation's share into shared memory."""
        for (row, place), words in zip(self._places(builder), held, strict=True):
            if self.view.stored is not None:
                words = _widen(builder, words, self.view.stored, self.dtype)
            self.memory[row * builder.const("u32", self.groups + 1) + place] = words

    def _places(self, builder: Builder) -> list[tuple[Register, Register]]:
        total = self.rows * self.groups
        found = []
        for start in range(0, total, self.threads):
            number = builder.local_index + builder.const("u32", start)
            if start + self.threads > total:
                # Whoever has nothing left copies the last group once more.
                number = builder.min(number, builder.const("u32", total - 1))
            groups = builder.const("u32", self.groups)
            found.append((number // groups, number % groups))
        return found

    def factor(
        self, builder: Builder, dtype: MatrixType, *, is_transposed: bool, place: tuple[int, int] = (0, 0)
    ) -> Register:
        """Return the window, or a part that begins at a row and a column, as the second factor of a product."""
        row, column = reversed(place) if is_transposed else place
        start = row * (self.groups + 1) + column // self.width
        pointer = self.memory.pointer(builder.const("u32", start))
        return builder.matrix_load(dtype, pointer, self.groups + 1, column_major=is_transposed)


def words_of(value: Value) -> int:
    """Return how many groups of 16 bytes a window takes in shared memory."""
    return value.shape[0] * (value.shape[1] * dtypes.itemsize(value.dtype) // GROUP_BYTES + 1)


def make_copy(view: View, value: Value, threads: int, memory: Shared) -> Copy:
    """Return how a window is copied."""
    width = GROUP_BYTES // dtypes.itemsize(value.dtype)
    return Copy(view, memory, value.shape[0], value.shape[1] // width, width, threads, value.dtype)


def _widen(builder: Builder, words: Register, stored: str, dtype: str) -> Register:
    """Turn integers of 8 bits, four in a word, into numbers of 16, two in a word."""
    numbers = [_byte(builder, word, place, stored) for word in words for place in range(WORD_BYTES)]
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    if dtype == "f16":
        return builder.vector([builder.bitcast(builder.convert(builder.vector(pair), "f16"), "u32") for pair in pairs])
    # The upper half of an f32 is a bf16, and the lower half of these is zero.
    bits = ([builder.bitcast(builder.convert(number, "f32"), "u32") for number in pair] for pair in pairs)
    return builder.vector([(low >> 16) | high for low, high in bits])


def _byte(builder: Builder, word: Register, place: int, stored: str) -> Register:
    if stored == "u8":
        return (word >> (8 * place)) & 0xFF
    return builder.bitcast(word << (24 - 8 * place), "i32") >> 24
