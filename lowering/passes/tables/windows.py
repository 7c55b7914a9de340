"""What a workgroup reads of an array in all rounds of its loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...graph import Node, Value
from ..axes import identity, operand_axes
from .code import Code
from .parts import TILE, UnfitError


class Window(NamedTuple):
    """A part of an array: its value in the cell, and what each of its axes follows: "kept", "walked" or "all"."""

    value: Value
    roles: tuple[str, ...]


@dataclass(eq=False)
class Windows:
    """The arrays that a cell reads, and its windows of them.

    Attributes:
        cell: that reads.
        producers: of the graph around the kernel.
        places: the workgroup's position along the table's batch axes.
        first: its first element along the kept axis.
        kept: the table's axis of which a workgroup has a tile.
        walked: the table's axis that it walks along.
        operands: arrays, and what they are called in the cell.
    """

    cell: Code
    producers: Mapping[Value, Node]
    places: Sequence[Value]
    first: Value
    kept: int
    walked: int
    operands: dict[Value, Value] = field(default_factory=dict)
    _made: dict[tuple[Value, tuple[int | None, ...]], Window] = field(default_factory=dict)

    def read(self, value: Value, follows: Sequence[int | None]) -> Window:
        """Return the window of an array, given the table's axis that each axis follows; others are read as a whole.

        Raises:
            UnfitError: its axes lie in memory in another order.
        """
        key = value, tuple(follows)
        if key not in self._made:
            self._made[key] = self._read(value, tuple(follows))
        return self._made[key]

    def array(self, value: Value) -> Value:
        """Return an array as the cell calls it."""
        if value not in self.operands:
            self.operands[value] = self.cell.fresh(value.dtype, value.shape)
        return self.operands[value]

    def _read(self, value: Value, follows: tuple[int | None, ...]) -> Window:
        base, origins = lies(value, self.producers)
        names = {self.kept: "kept", self.walked: "walked"}
        left = [
            axis
            for axis, (follow, extent) in enumerate(zip(follows, value.shape, strict=True))
            if (follow is None and extent > 1) or follow in names
        ]
        order = [axis for axis, _ in origins if axis in left]
        if order != left:
            raise UnfitError
        places = [self._place(value, axis, offset, follows) for axis, offset in origins]
        cell, sizes = self.cell, tuple(size for _, size in places)
        array = self.array(base)
        part = cell.put("dynamic_slice", [array, *(start for start, _ in places)], base.dtype, sizes, sizes=sizes)
        shape = tuple(TILE if follows[axis] == self.kept else value.shape[axis] for axis in left)
        roles = tuple("all" if follow is None else names[follow] for follow in (follows[axis] for axis in left))
        return Window(cell.put("reshape", [part], base.dtype, shape), roles)

    def _place(self, value: Value, axis: int | None, offset: int, follows: Sequence[int | None]) -> tuple[Value, int]:
        """Return the start and size of a window along an axis of the array, which an axis of the value walks."""
        cell, follow = self.cell, None if axis is None else follows[axis]
        extent = 1 if axis is None else value.shape[axis]
        if follow is None or follow == self.walked or extent == 1:
            return cell.number(offset), extent
        start = self.first if follow == self.kept else self.places[follow]
        if offset:
            start = cell.put("add", [start, cell.number(offset)], "i32", ())
        return start, TILE if follow == self.kept else 1


def lies(value: Value, producers: Mapping[Value, Node]) -> tuple[Value, list[tuple[int | None, int]]]:
    """Return the array that holds a value, and for each of its axes the value's axis that walks it and the first place.

    Looks through transposes, slices without steps, and reshapes that only add or drop axes of one element.
    """
    origins: list[tuple[int | None, int]] = [(axis, 0) for axis in range(len(value.shape))]
    node = producers.get(value)
    while node is not None:
        source = node.inputs[0] if node.inputs else None
        if node.op == "transpose":
            turned: list[tuple[int | None, int]] = [(None, 0)] * len(origins)
            for place, axis in enumerate(node.attributes["permutation"]):
                turned[axis] = origins[place]
            origins = turned
        elif node.op == "slice" and all(step == 1 for step in node.attributes["stride"]):
            starts = node.attributes["start"]
            origins = [(axis, offset + start) for (axis, offset), start in zip(origins, starts, strict=True)]
        elif node.op == "reshape" and source is not None:
            axes = operand_axes(node, 0, identity(node.output.shape))
            if axes is None:
                break
            origins = [(None, 0) if axis is None else origins[axis] for axis in axes]
        else:
            break
        assert source is not None
        value, node = source, producers.get(source)
    return value, origins
