"""Tiles in shared memory: who writes them when, and which memory is used again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from math import prod

from shaders.spirv import Shared
from shaders.spirv import Value as Register

from ... import dtypes
from ...graph import Value
from .. import scalar
from ..expression import Scalar
from .expression import Staged, TileExpression
from .matrices import Matrices
from .vectors import GROUP_BYTES, Plain, find_plain, groups_of, load_group

SLAB_BYTES = 8192
"""Shared memory that an operand passes through at once, padding aside."""
WORDS = "u32x4"
"""Name of memory in groups of 16 bytes."""

# Groups that an invocation loads before it stores the first.
_IN_FLIGHT = 8
# An invocation's elements up to which copying into shared memory is written out.
_UNROLLED = 16
# How many times larger than a tile the memory may be that it lies in: it keeps all of it for as long as it is read.
_LARGER = 8


@dataclass
class Staging:
    """The shared memory of a kernel.

    `wait` asks for a tile and `flush` writes all that were asked for between two barriers, so that neighbouring tiles
    share them.
    """

    expression: TileExpression
    matrices: Matrices = field(default_factory=Matrices)
    free: list[tuple[str, Shared]] = field(default_factory=list)
    asked: list[Value] = field(default_factory=list)
    in_use: dict[Value, tuple[str, Shared]] = field(default_factory=dict)
    was_used: bool = False

    def wait(self, value: Value) -> None:
        """Ask for a tile to be in shared memory by the next `flush`."""
        self.asked.append(value)

    def flush(self) -> None:
        """Write the tiles that were asked for, and wait for all invocations."""
        if not self.asked:
            return
        builder = self.expression.builder
        if self.was_used:
            # Whoever still reads what lay here must be done.
            builder.barrier()
        self.was_used = True
        asked, self.asked = self.asked, []
        staged = {value: self._take(value) for value in asked}
        for value in asked:
            self._write(value, staged[value])
        self.expression.shared.update(staged)
        builder.barrier()

    def copy_of(self, value: Value, owner: Value) -> Staged:
        """Write a tile into memory that its `owner`, a value of the same type, gives back when it is released."""
        builder = self.expression.builder
        if self.was_used:
            builder.barrier()
        self.was_used = True
        self.expression.shared[owner] = staged = self._take(owner)
        self._write(value, staged)
        builder.barrier()
        return staged

    def release(self, value: Value) -> None:
        """Give the memory of a tile back; it is written again only after a barrier."""
        if value in self.in_use:
            del self.expression.shared[value]
            self.free.append(self.in_use.pop(value))

    def scratch(self, dtype: str, count: int) -> Scratch:
        """Take `count` elements of shared memory, to be given back with `give_back`."""
        if dtype in ("f32", "i32", "u32") and (item := self._find(WORDS, -(-count // 4))) is not None:
            return Scratch(self.expression, dtype, item)
        return Scratch(self.expression, dtype, self._memory(dtype, count))

    def give_back(self, scratch: Scratch) -> None:
        """Give scratch memory back."""
        self.free.append(scratch.item)

    def _memory(self, dtype: str, count: int) -> tuple[str, Shared]:
        return self._find(dtype, count) or self._new(dtype, count)

    def _lasting(self, dtype: str, count: int) -> tuple[str, Shared]:
        """Return memory of a tile; a small one leaves what exchanges and slabs pass through to them."""
        return self._find(dtype, count, _LARGER * count) or self._new(dtype, count)

    def _new(self, dtype: str, count: int) -> tuple[str, Shared]:
        return dtype, self.expression.builder.shared(("u32", 4) if dtype == WORDS else dtype, count)

    def _find(self, dtype: str, count: int, most: float = math.inf) -> tuple[str, Shared] | None:
        """Take the smallest free memory that holds this much, and at most so much."""
        fitting = [item for item in self.free if item[0] == dtype and count <= item[1].count <= most]
        best = min(fitting, key=lambda item: item[1].count, default=None)
        if best is not None:
            self.free.remove(best)
        return best

    def _take(self, value: Value) -> Staged:
        plain = self._plain_operand(value)
        if plain is not None:
            width, groups, lines = groups_of(plain, value.dtype)
            item = self._lasting(WORDS, lines * (groups + 1))
            self.in_use[value] = item
            return Staged(item[1], (groups + 1) * width, value.shape, width)
        pitch = pitch_of(value, for_matrix=value in self.matrices.operands)
        width = 2 if value.dtype in dtypes.COMPLEX else 1
        count = prod(value.shape[:-1]) * pitch * width if value.shape else width
        item = self._lasting(dtypes.real_part(value.dtype), count)
        self.in_use[value] = item
        return Staged(item[1], pitch, value.shape)

    def take_slab(self, value: Value, shape: tuple[int, ...], axis: int, first: int) -> Staged:
        """Take memory for a slab of a tile, which the caller writes before `settle_writes`."""
        if self.was_used:
            # Whoever still reads what lay here must be done.
            self.expression.builder.barrier()
        self.was_used = True
        slab = Value(-1, value.dtype, shape)
        width = 2 if value.dtype in dtypes.COMPLEX else 1
        dtype, count = dtypes.real_part(value.dtype), prod(shape[:-1]) * pitch_of(slab) * width
        # Slabs of all sizes share their memory.
        item = self._memory(dtype, max(count, (SLAB_BYTES + SLAB_BYTES // 8) // dtypes.itemsize(dtype)))
        self.in_use[value] = item
        return Staged(item[1], pitch_of(slab), shape, axis=axis, first=first)

    def settle_writes(self, has_written: bool) -> None:
        """Wait until all invocations have written."""
        if has_written:
            self.expression.builder.barrier()

    def _plain_operand(self, value: Value) -> Plain | None:
        """Return the window that a tile is, if matrix units alone read it and it can be copied as it lies."""
        if value not in self.matrices.only or self.expression.is_settled(value):
            return None
        return find_plain(self.expression, value)

    def _write(self, value: Value, staged: Staged) -> None:
        expression = self.expression
        if staged.width > 1:
            self._copy_words(value, staged)
            return
        is_read = value in expression.roles.anywhere or value in expression.roles.memory.arrays
        if is_read and not expression.is_settled(value):
            self._copy(value, staged)
            return
        for index, element in zip(expression.slots(value), expression.elements(value), strict=True):
            self._put(value, staged, expression.dims(index), element)

    def _copy_words(self, value: Value, staged: Staged) -> None:
        """Copy a window in groups of 16 bytes; an invocation loads several before it stores the first."""
        expression, plain = self.expression, self._plain_operand(value)
        assert plain is not None
        builder, number = expression.builder, expression.number
        _, groups, lines = groups_of(plain, value.dtype)
        threads, count = expression.layout.threads, groups * lines
        starts = list(range(0, count, threads))
        for first in range(0, len(starts), _IN_FLIGHT):
            places: list[tuple[Register, Register, Register | None]] = []
            for start in starts[first : first + _IN_FLIGHT]:
                unit = builder.local_index + number(start) if start else builder.local_index
                exists = None
                if start + threads > count:
                    exists = unit < number(count)
                    unit = builder.min(unit, number(count - 1))
                line, group = unit // number(groups), unit % number(groups)
                loaded = load_group(expression, plain, value.dtype, line, group)
                places.append((line * number(groups + 1) + group, loaded, exists))
            for place, loaded, exists in places:
                store = partial(staged.shared.store, place, loaded)
                builder.when(True if exists is None else exists, store)

    def _copy(self, value: Value, staged: Staged) -> None:
        """Bring a tile from memory: consecutive invocations take consecutive elements."""
        expression, threads = self.expression, self.expression.layout.threads
        builder = expression.builder
        rounds = -(-value.size // threads)

        def one(start: Register | None) -> None:
            with expression.scope():
                place = builder.local_index if start is None else builder.local_index + start

                def put() -> None:
                    index = expression.index(value.shape, linear=place)
                    self._put(value, staged, expression.dims(index), expression.at(value, index))

                builder.when(True if value.size % threads == 0 else place < expression.number(value.size), put)

        if rounds <= _UNROLLED:
            for number in range(rounds):
                one(expression.number(number * threads) if number else None)
        else:
            builder.loop(0, rounds * threads, threads, [], lambda start, _: one(start))

    def _put(self, value: Value, staged: Staged, dims: tuple[Register, ...], element: Scalar) -> None:
        place = self.expression.shared_place(staged, dims)
        scalar.store(self.expression.builder, staged.shared, place, element, value.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Scratch:
    """Shared memory for one exchange: elements of a 32-bit dtype may lie in memory that is made of groups."""

    expression: TileExpression
    dtype: str
    item: tuple[str, Shared]

    def load(self, place: Register) -> Register:
        """Read an element."""
        shared = self.item[1]
        if self.item[0] != WORDS:
            return shared[place]
        number = self.expression.number
        return self.expression.builder.bitcast(shared.component(place // number(4), place % number(4)), self.dtype)

    def store(self, place: Register, value: Register) -> None:
        """Write an element."""
        shared = self.item[1]
        if self.item[0] != WORDS:
            shared[place] = value
            return
        number, builder = self.expression.number, self.expression.builder
        shared.set_component(place // number(4), place % number(4), builder.bitcast(value, "u32"))

    def store_matrix(self, place: Register, fragment: Register, pitch: int) -> None:
        """Write a fragment whose lines are `pitch` elements apart; both are multiples of four elements."""
        width = 4 if self.item[0] == WORDS else 1
        group = self.expression.builder.divide_exactly(place, width) if width > 1 else place
        self.expression.builder.matrix_store(self.item[1].pointer(group), fragment, pitch // width)


def pitch_of(value: Value, *, for_matrix: bool = False) -> int:
    """Return the elements from one line of a staged tile to the next: odd, so that columns fall on different banks.

    Matrix units read groups of 16 bytes; an odd number of those does the same for them.
    """
    if not value.shape:
        return 1
    if for_matrix:
        width = GROUP_BYTES // dtypes.itemsize(value.dtype)
        groups = -(-value.shape[-1] // width)
        return (groups + 1 - groups % 2) * width
    extent = value.shape[-1]
    lines = prod(value.shape[:-1])
    words = max(4 // dtypes.itemsize(dtypes.real_part(value.dtype)), 1)
    return extent if lines == 1 or (extent // words) % 2 else extent + words
