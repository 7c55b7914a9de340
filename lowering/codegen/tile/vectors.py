"""Tiles that lie in memory as they are: copied in groups of 16 bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod

from shaders.spirv import Value as Register

from ... import dtypes
from ...graph import Node, Value
from ..moves import start_positions
from .expression import Array, TileExpression

GROUP_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A tile that is a window of an array.

    Attributes:
        array: that holds it.
        padded: the array's shape as the cell sees it.
        start: the window's first element along each dimension.
        shape: of the window.
    """

    array: Array
    padded: tuple[int, ...]
    start: tuple[Register, ...]
    shape: tuple[int, ...]


def find_plain(expression: TileExpression, value: Value) -> Plain | None:
    """Return the window that a tile is, if groups along its last axis lie whole in memory; None where they do not."""
    if value.dtype not in ("f32", "i32", "u32", "f16", "bf16"):
        return None
    window = _window(expression, value)
    if window is None:
        return None
    last = [axis for axis, extent in enumerate(window.shape) if extent != 1]
    if not last or last[-1] != len(window.shape) - 1:
        return None
    width = GROUP_BYTES // dtypes.itemsize(value.dtype)
    whole = (window.shape[-1], window.array.shape[-1], window.steps[-1])
    return Plain(window.array, window.padded, window.start, window.shape) if not any(n % width for n in whole) else None


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """A part of an array, as slices of slices make it.

    Attributes:
        array: that holds it.
        padded: the array's shape as the cell sees it.
        start: the window's first element along each dimension of the array.
        shape: of the window, dimension by dimension of the array.
        steps: numbers that divide the starts; 0 where a start is 0.
        axes: the array's dimension that each axis of the value is, None for axes of one element.
    """

    array: Array
    padded: tuple[int, ...]
    start: tuple[Register, ...]
    shape: tuple[int, ...]
    steps: tuple[int, ...]
    axes: tuple[int | None, ...]


def _window(expression: TileExpression, value: Value) -> _Window | None:
    number = expression.roles.memory.arrays.get(value)
    if number is not None:
        rank = len(value.shape)
        start, steps = (expression.number(0),) * rank, (0,) * rank
        return _Window(expression.arrays[number], value.shape, start, value.shape, steps, tuple(range(rank)))
    node = expression.producers.get(value)
    if node is None or node.op not in ("reshape", "dynamic_slice", "slice"):
        return None
    inner = _window(expression, node.inputs[0])
    if inner is None:
        return None
    if node.op == "reshape":
        return _reshaped(inner, node)
    if node.op == "slice" and any(step != 1 for step in node.attributes["stride"]):
        return None
    return _cut(expression, inner, node)


def _reshaped(inner: _Window, node: Node) -> _Window | None:
    """Follow a reshape that only adds or drops axes of one element."""
    wide = [axis for axis, extent in zip(inner.axes, node.inputs[0].shape, strict=True) if extent != 1]
    if [n for n in node.inputs[0].shape if n != 1] != [n for n in node.output.shape if n != 1]:
        return None
    rest = iter(wide)
    return replace(inner, axes=tuple(None if extent == 1 else next(rest) for extent in node.output.shape))


def _cut(expression: TileExpression, inner: _Window, node: Node) -> _Window | None:
    """Follow a slice: starts add up, along the dimensions of the array that the axes are."""
    operand, sizes = node.inputs[0], node.output.shape
    if node.op == "slice":
        places = [expression.number(first) for first in node.attributes["start"]]
        known = list(node.attributes["start"])
    else:
        places = start_positions(expression, node, list(node.inputs[1:]), operand.shape, sizes)
        rooms = [extent - size for extent, size in zip(operand.shape, sizes, strict=True)]
        known = [gcd(divisor(expression, each), room) for each, room in zip(node.inputs[1:], rooms, strict=True)]
    start, shape, steps = list(inner.start), list(inner.shape), list(inner.steps)
    for axis, place, step, size in zip(inner.axes, places, known, sizes, strict=True):
        if axis is not None:
            start[axis] = place if steps[axis] == 0 and start[axis].constant == 0 else start[axis] + place
            shape[axis], steps[axis] = size, gcd(steps[axis], step)
    return replace(inner, start=tuple(start), shape=tuple(shape), steps=tuple(steps))


def divisor(expression: TileExpression, value: Value) -> int:
    """Return a number that divides a scalar index whatever happens; 0 where the index is zero."""
    node = expression.producers.get(value)
    if node is None:
        return 1
    return _divisor(expression, node)


def _divisor(expression: TileExpression, node: Node) -> int:
    parts = [divisor(expression, operand) for operand in node.inputs] if node.op not in ("constant", "iota") else []
    if node.op == "constant":
        return abs(int(node.attributes["value"].reshape(-1)[0]))
    if node.op == "multiply":
        return prod(parts)
    if node.op in ("add", "subtract", "maximum", "minimum"):
        return gcd(*parts)
    if node.op == "select":
        return gcd(*parts[1:])
    if node.op in ("convert", "reshape", "broadcast_in_dim"):
        return parts[0]
    return 1


def groups_of(plain: Plain, dtype: str) -> tuple[int, int, int]:
    """Return the elements of a group, the groups of a line and the lines of a window."""
    width = GROUP_BYTES // dtypes.itemsize(dtype)
    return width, plain.shape[-1] // width, prod(plain.shape[:-1])


def load_group(expression: TileExpression, plain: Plain, dtype: str, line: Register, group: Register) -> Register:
    """Read four words of a window; lines beyond the array's true extents are zero."""
    builder, number = expression.builder, expression.number
    width, _, _ = groups_of(plain, dtype)
    along = expression.split(line, plain.shape[:-1])
    dims = [place + first for place, first in zip(along, plain.start, strict=False)]
    column = group * number(width) + plain.start[-1]
    inside: Register | None = None
    for place, extent, whole in zip((*dims, column), plain.array.shape, plain.padded, strict=True):
        if extent != whole:
            test = place < number(extent)
            inside = test if inside is None else builder.logical_and(inside, test)
    linear = expression.flatten((*dims, column), plain.array.shape)

    def load() -> Register:
        return plain.array.buffer.load_words(builder.divide_exactly(linear, width), 4)

    if inside is None:
        return load()
    (loaded,) = builder.branch(inside, load, lambda: builder.const(("u32", 4), 0))
    return loaded
