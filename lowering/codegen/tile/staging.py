"""Tiles in shared memory: who writes them when, and which memory is used again."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from shaders.spirv import Shared
from shaders.spirv import Value as Register

from ... import dtypes
from ...graph import Value
from .. import scalar
from ..expression import Scalar
from .expression import Staged, TileExpression

# An invocation's elements up to which copying into shared memory is written out.
_UNROLLED = 16


@dataclass
class Staging:
    """The shared memory of a kernel.

    `wait` asks for a tile and `flush` writes all that were asked for between two barriers, so that neighbouring tiles
    share them.
    """

    expression: TileExpression
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

    def stage_now(self, value: Value) -> None:
        """Write one tile, whether or not others were asked for."""
        if value not in self.expression.shared:
            self.wait(value)
            self.flush()

    def release(self, value: Value) -> None:
        """Give the memory of a tile back; it is written again only after a barrier."""
        self.expression.shared.pop(value, None)
        if value in self.in_use:
            self.free.append(self.in_use.pop(value))

    def scratch(self, dtype: str, count: int) -> tuple[str, Shared]:
        """Take `count` elements of shared memory, to be given back with `give_back`."""
        fitting = [item for item in self.free if item[0] == dtype and item[1].count >= count]
        if fitting:
            best = min(fitting, key=lambda item: item[1].count)
            self.free.remove(best)
            return best
        return dtype, self.expression.builder.shared(dtype, count)

    def give_back(self, item: tuple[str, Shared]) -> None:
        """Give scratch memory back."""
        self.free.append(item)

    def _take(self, value: Value) -> Staged:
        pitch = pitch_of(value)
        width = 2 if value.dtype in dtypes.COMPLEX else 1
        count = prod(value.shape[:-1]) * pitch * width if value.shape else width
        item = self.scratch(dtypes.real_part(value.dtype), count)
        self.in_use[value] = item
        return Staged(item[1], pitch, value.shape)

    def _write(self, value: Value, staged: Staged) -> None:
        expression = self.expression
        if not expression.is_settled(value) and value in expression.roles.anywhere:
            self._copy(value, staged)
            return
        for index, element in zip(expression.slots(value), expression.elements(value), strict=True):
            self._put(value, staged, expression.dims(index), element)

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


def pitch_of(value: Value) -> int:
    """Return the elements from one line of a staged tile to the next: odd, so that columns fall on different banks."""
    if not value.shape:
        return 1
    extent = value.shape[-1]
    lines = prod(value.shape[:-1])
    words = max(4 // dtypes.itemsize(dtypes.real_part(value.dtype)), 1)
    return extent if lines == 1 or (extent // words) % 2 else extent + words
