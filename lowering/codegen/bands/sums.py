"""Numbers as sums of what is alike along a row, of places of columns, and of the rest: what each part is made of once.

A function of elements is written for one element, and a compiler shares what its elements have in common: what a row's
all have is made once a row, what a column's have once a column. A score and the distance of two places, scale s +
slope (key - query), is (scale) s + (slope) column + (slope (first key - query)), and a peak is taken from the last part
and not from the sum. That leaves two fused products and sums for each element, where there were four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from shaders.spirv import Builder
from shaders.spirv import Value as Register

_LARGEST = float(np.finfo(np.float32).max)
# A factor that a sum is multiplied by before somebody asks for it, at least.
_LEAST = 2.0**-24


class Line(NamedTuple):
    """A number: factor x even x register + offset; without a register the offset alone.

    ``even`` is the same for all elements; None for 1.

    Attributes:
        is_product: of two numbers of elements: it has been rounded already.
        is_shared: by all elements of a column.
    """

    register: Register | None = None
    factor: float = 1.0
    offset: float = 0.0
    even: Register | None = None
    is_product: bool = False
    is_shared: bool = False

    @property
    def is_bare(self) -> bool:
        """Tell whether the register is taken as it is, or its negative, and may be exact."""
        return self.register is not None and self.even is None and abs(self.factor) == 1 and not self.is_product


class Sum(NamedTuple):
    """A number in parts; what is known here is part of the first.

    Attributes:
        row: the same for all elements of a row.
        column: the place of a column, from the tile's first one on: so small that a factor rounds nothing that counts.
        each: the rest, without offsets.
    """

    row: Line = Line()
    column: Line = Line()
    each: tuple[Line, ...] = ()

    @property
    def literal(self) -> float | None:
        """The number, where it is known here."""
        has_registers = self.each or self.row.register is not None or self.column.register is not None
        return None if has_registers else self.row.offset


def scaled(builder: Builder, total: Sum, factor: float) -> Sum:
    """Return a sum times a number that is known here, as f32 rounds it: log 2 in units of log 2 is 1."""

    def times(line: Line) -> Line:
        if line.register is not None and not _is_held(line.factor * factor):
            line = Line(_of_line(builder, line))
        return line._replace(factor=line.factor * factor, offset=line.offset * factor)

    return total if np.float32(factor) == 1 else _each_line(builder, total, times)


def times_even(builder: Builder, total: Sum, even: Register) -> Sum:
    """Return a sum times what is the same for all elements."""

    def times(line: Line) -> Line:
        if line.register is None:
            return Line(even, line.offset) if line.offset else line
        if line.offset:
            return Line(_of_line(builder, line), even=even)
        return line._replace(even=even if line.even is None else line.even * even)

    return _each_line(builder, total, times)


def added(builder: Builder, left: Sum, right: Sum) -> Sum:
    """Return a sum of sums, part by part."""
    row, column = (_added(builder, one, two) for one, two in zip(left[:2], right[:2], strict=True))
    return Sum(row, column, left.each + right.each)


def product(builder: Builder, left: Sum, right: Sum) -> Line:
    """Return a product of sums; factors wait, or are taken into a sum whose parts they are added with."""
    for one, other in ((left, right), (right, left)):
        if _is_line(one) and not _is_line(other):
            line = _as_line(builder, one)
            # A sum that grew, or all but vanished, may be one that f32 does not hold.
            if _LEAST <= abs(line.factor) <= 1:
                left, right = Sum(each=(line._replace(factor=1.0),)), scaled(builder, other, line.factor)
    lines = [_as_line(builder, each) for each in (left, right)]
    if not _is_held(lines[0].factor * lines[1].factor):
        lines = [Line(_of_line(builder, each)) for each in lines]
    first, second = lines
    assert first.register is not None
    assert second.register is not None
    even = first.even if second.even is None else second.even if first.even is None else first.even * second.even
    return Line(first.register * second.register, first.factor * second.factor, even=even, is_product=True)


def negated(total: Sum) -> Sum:
    """Return the negative of a sum."""
    row, column, *each = (
        line._replace(factor=-line.factor, offset=-line.offset) for line in (total.row, total.column, *total.each)
    )
    return Sum(row, column, tuple(each))


def number(builder: Builder, total: Sum) -> Register:
    """Return a sum in a register; what elements have in common is added first."""
    row = total.row
    found = _of_line(builder, row) if row.register is not None or row.offset or total.literal is not None else None
    for line in (total.column, *sorted(total.each, key=lambda line: not line.is_shared)):
        if line.register is not None:
            found = _of_line(builder, line) if found is None else _plus(builder, found, line)
    assert found is not None
    return found


def _as_line(builder: Builder, total: Sum) -> Line:
    lines = [line for line in (total.row, total.column, *total.each) if line.register is not None]
    return lines[0] if _is_line(total) else Line(number(builder, total))


def _is_line(total: Sum) -> bool:
    """Tell whether a sum is one line without an offset."""
    lines = [line for line in (total.row, total.column, *total.each) if line.register is not None]
    return len(lines) == 1 and not total.row.offset


def _each_line(builder: Builder, total: Sum, times: Callable[[Line], Line]) -> Sum:
    """Multiply line by line, unless two of them are bare numbers: their difference may be far smaller than both."""
    bare = [line for line in (total.row, *total.each) if line.register is not None]
    if len(bare) > 1 and all(line.is_bare for line in bare):
        total = Sum(column=total.column, each=(Line(number(builder, total._replace(column=Line()))),))
    return Sum(times(total.row), times(total.column), tuple(map(times, total.each)))


def _is_held(factor: float) -> bool:
    """Tell whether f32 holds a product of factors: what one of them makes too large may be zero before."""
    return abs(factor) <= _LARGEST


def _added(builder: Builder, left: Line, right: Line) -> Line:
    offset = left.offset + right.offset
    if left.register is None or right.register is None:
        return (left if right.register is None else right)._replace(offset=offset)
    return Line(_plus(builder, _of_line(builder, left._replace(offset=0.0)), right), offset=offset)


def _plus(builder: Builder, register: Register, line: Line) -> Register:
    """Return a register plus a line without its offset."""
    if line.factor < 0:
        return register - _of_line(builder, line._replace(factor=-line.factor, offset=0.0))
    return register + _of_line(builder, line._replace(offset=0.0))


def _of_line(builder: Builder, line: Line) -> Register:
    if line.register is None:
        return builder.const("f32", line.offset)
    if np.float32(line.factor) == -1 and line.even is None:
        return builder.const("f32", line.offset) - line.register if line.offset else -line.register
    factor = None if np.float32(line.factor) == 1 else builder.const("f32", line.factor)
    if line.even is not None:
        factor = line.even if factor is None else line.even * factor
    register = line.register if factor is None else factor * line.register
    return register if line.offset == 0 else register + builder.const("f32", line.offset)
