"""Tiles that lie in memory as they are: copied in groups of 16 bytes."""

from __future__ import annotations

from dataclasses import dataclass
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
    source, node = value, expression.producers.get(value)
    while node is not None and node.op == "reshape" and _wide(node.inputs[0]) == _wide(source):
        source = node.inputs[0]
        node = expression.producers.get(source)
    arrays = expression.roles.memory.arrays
    origin = source if source in arrays else node.inputs[0] if node is not None and node.inputs else None
    if origin is None or origin not in arrays or source.dtype not in ("f32", "i32", "u32", "f16", "bf16"):
        return None
    array, width = expression.arrays[arrays[origin]], GROUP_BYTES // dtypes.itemsize(source.dtype)
    if source is origin:
        start, steps = (expression.number(0),) * len(source.shape), [0] * len(source.shape)
    elif node is not None and node.op == "dynamic_slice":
        start = tuple(start_positions(expression, node, list(node.inputs[1:]), origin.shape, source.shape))
        rooms = [extent - size for extent, size in zip(origin.shape, source.shape, strict=True)]
        steps = [gcd(divisor(expression, each), room) for each, room in zip(node.inputs[1:], rooms, strict=True)]
    else:
        return None
    last = [axis for axis, extent in enumerate(source.shape) if extent != 1]
    if not last or last[-1] != len(source.shape) - 1:
        return None
    fits = all(size % width == 0 for size in (source.shape[-1], array.shape[-1], steps[-1]))
    return Plain(array, origin.shape, start, source.shape) if fits else None


def _wide(value: Value) -> list[int]:
    return [extent for extent in value.shape if extent != 1]


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
