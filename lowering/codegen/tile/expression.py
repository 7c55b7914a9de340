"""Evaluate the values of a cell: registers by position, shared memory, arrays in device memory, or an expression."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from shaders.spirv import Builder, Pointer, Shared
from shaders.spirv import Value as Register

from ...errors import UnsupportedError, message
from ...graph import Graph, Node, Value
from .. import scalar
from ..expression import Expression, Scalar, parts
from ..index import Index
from .blocks import Block
from .layout import ALL, COLUMNS, INSIDE, ROWS, Layout, is_line
from .roles import Roles

# Elements of a tile that an invocation holds at most: each is written out, and drivers take more than linear time.
MOST_SLOTS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """A tile in shared memory, row by row.

    Attributes:
        shared: the memory; with a `width` above one, in groups of 16 bytes that only matrix units read.
        pitch: elements from one row of the last axis to the next.
        shape: of the tile.
        width: elements of a group.
        axis: where only a slab of a tile is held, the axis that is cut; `shape` is then the slab's.
        first: where the slab starts along it.
    """

    shared: Shared
    pitch: int
    shape: tuple[int, ...]
    width: int = 1
    axis: int = -1
    first: int = 0

    def pointer(self, expression: TileExpression, line: Register, place: Register) -> Pointer:
        """Return the address of an element of a tile with two axes, for a matrix load; it starts a group."""
        group = expression.builder.divide_exactly(place, self.width) if self.width > 1 else place
        return self.shared.pointer(line * expression.number(self.pitch // self.width) + group)


@dataclass(frozen=True, slots=True)
class Array:
    """An array in memory: its buffer and its true extents, where the cell sees whole blocks."""

    buffer: Any
    shape: tuple[int, ...]


class TileExpression(Expression):
    """Evaluates the values of one cell inside one workgroup.

    Positions are told apart by the registers that hold them: the same place along the same axes is the same `Index`, so
    that a tile's elements are found by the position at which they are asked for.
    """

    def __init__(
        self, builder: Builder, cell: Block, roles: Roles, layout: Layout, arrays: Mapping[int, Array]
    ) -> None:
        super().__init__(builder, Graph("cell", (), (), ()), {}, "u32")
        self.roles = roles
        self.layout = layout
        self.arrays = arrays
        self.producers: dict[Value, Node] = {
            value: step.node for step, _ in cell.walk() if not step.blocks for value in step.outputs
        }
        self.tiles: dict[Value, dict[int, Scalar]] = {}
        self.shared: dict[Value, Staged] = {}
        self._indices: dict[tuple[Any, ...], Index] = {}
        self._places: dict[int, list[Register]] = {}

    # -- positions ---------------------------------------------------------------------------------------------------
    def index(self, shape: tuple[int, ...], **given: Any) -> Index:
        """Return the position: the same object for the same registers along each dimension."""
        dims = given.get("dims")
        if dims is None and given.get("linear") is not None:
            dims = self.split(given["linear"], shape)
        if dims is None:
            dims = self.split(self.linear(given["like"]), shape)
        key = (shape, tuple(register.id for register in dims))
        if key not in self._indices:
            self._indices[key] = super().index(shape, dims=tuple(dims))
        return self._indices[key]

    def places(self, value: Value, axis: int) -> list[Register]:
        """Return this invocation's places along an axis of a tile, kept within it."""
        extent = value.shape[axis]
        number = self.layout.classes.get((value, axis))
        if extent == 1 or number is None:
            return [self.number(place) for place in range(extent)]
        if number not in self._places:
            with self.builder.at_entry():
                self._places[number] = self._spread(extent, self.layout.follows[number])
        return self._places[number]

    def _spread(self, extent: int, follows: str) -> list[Register]:
        count = self.layout.spread(follows)
        if count == 1:
            return [self.number(place) for place in range(extent)]
        first, places = self.coordinate(follows), []
        for start in range(0, extent, count):
            place = first + self.number(start) if start else first
            places.append(self.builder.min(place, self.number(extent - 1)) if start + count > extent else place)
        return places

    def coordinate(self, follows: str) -> Register:
        """Return this invocation's place in the rectangle along what an axis follows."""
        lane, columns = self.builder.local_index, self.number(self.layout.columns)
        if follows == INSIDE:
            return self.number(0)
        if follows == ALL:
            return lane
        return lane // columns if follows == ROWS else lane % columns

    def exists(self, value: Value, axis: int, slot: int) -> Register | None:
        """Return whether a slot along an axis is a place of the tile, None where it always is."""
        extent, number = value.shape[axis], self.layout.classes.get((value, axis))
        if extent == 1 or number is None:
            return None
        count = self.layout.spread(self.layout.follows[number])
        if (slot + 1) * count <= extent:
            return None
        return self.coordinate(self.layout.follows[number]) + self.number(slot * count) < self.number(extent)

    def alone(self, value: Value) -> Register | None:
        """Return whether this invocation is the first of those that hold the same elements of a tile."""
        followed = {self.layout.axis(value, axis) for axis in range(len(value.shape))}
        if ALL in followed or {ROWS, COLUMNS} <= followed:
            return None
        rest = [ROWS, COLUMNS] if not followed & {ROWS, COLUMNS} else [ROWS] if COLUMNS in followed else [COLUMNS]
        found: Register | None = None
        for each in rest:
            test = self.coordinate(each) == self.number(0)
            found = test if found is None else self.builder.logical_and(found, test)
        return found

    def slots(self, value: Value) -> list[Index]:
        """Return the positions at which this invocation holds a tile, in row-major order.

        Raises:
            UnsupportedError: there are so many that a driver would compile for minutes.
        """
        axes = [self.places(value, axis) for axis in range(len(value.shape))]
        count = prod(map(len, axes))
        if count > MOST_SLOTS:
            node = self.producers.get(value)
            raise UnsupportedError(_slots_text(value, count, self.layout, "" if node is None else node.where))
        return [self.index(value.shape, dims=dims) for dims in itertools.product(*axes)]

    # -- values ------------------------------------------------------------------------------------------------------
    def elements(self, value: Value) -> list[Scalar]:
        """Return this invocation's elements of a tile, or the one element of a scalar."""
        return [self.at(value, index) for index in self.slots(value)]

    def settle(self, value: Value, elements: list[Scalar]) -> None:
        """Say what this invocation's elements of a value are."""
        if value.shape == ():
            self.fixed[value] = elements[0]
        else:
            self.tiles[value] = {id(i): e for i, e in zip(self.slots(value), elements, strict=True)}

    def is_settled(self, value: Value) -> bool:
        """Tell whether a value's elements are known already."""
        return value in self.tiles or value in self.fixed

    def _known(self, value: Value, index: Index) -> Scalar | None:
        tile = self.tiles.get(value)
        found = None if tile is None else tile.get(id(index))
        return super()._known(value, index) if found is None else found

    def _node(self, value: Value) -> Node | None:
        if value in self.roles.memory.arrays or value in self.shared or value in self.tiles:
            return None
        return self.producers.get(value)

    def _compute(self, value: Value, index: Index) -> Scalar:
        if value in self.roles.memory.arrays:
            return self.read(self.arrays[self.roles.memory.arrays[value]], value, index)
        if value in self.shared:
            staged = self.shared[value]
            return scalar.load(self.builder, staged.shared, self.shared_place(staged, self.dims(index)), value.dtype)
        node = self._node(value)
        assert node is not None, f"{value.text} is asked for where it does not lie"
        return super()._compute(value, index)

    def _apply(self, node: Node, operands: list[Scalar]) -> Scalar:
        if node.op == "exponential" and self.takes_driver_exp and node.output.dtype == "f32":
            return self.builder.math("exp", *parts(operands[0]))
        return super()._apply(node, operands)

    def shared_place(self, staged: Staged, dims: tuple[Register, ...]) -> Register:
        """Return where an element of a staged tile lies."""
        if not staged.shape:
            return self.number(0)
        if staged.first:
            moved = dims[staged.axis] - self.number(staged.first)
            dims = (*dims[: staged.axis], moved, *dims[staged.axis + 1 :])
        line = self.flatten(dims[:-1], staged.shape[:-1])
        return line * self.number(staged.pitch) + dims[-1]

    def read(self, array: Array, value: Value, index: Index) -> Scalar:
        """Read an element; beyond the true extents, where a block is cut off, anything will do: it is zero."""
        if self._has_lines(array, value) and (known := self.dims(index)[-1].constant) is not None:
            return self._read_line(array, value, index)[int(known)]
        place, inside = self.memory_place(array, value.shape, index)

        def load() -> Scalar:
            return scalar.load(self.builder, array.buffer, place, value.dtype)

        if inside is None:
            return load()
        return self.choose(inside, load, lambda: scalar.constant(self.builder, value.dtype, 0), value.dtype)

    def _has_lines(self, array: Array, value: Value) -> bool:
        """Tell whether one load brings a line along the last axis of an array."""
        is_read_only = self.roles.memory.arrays[value] not in self.roles.memory.written
        return is_read_only and array.shape == value.shape and is_line(value)

    def _read_line(self, array: Array, value: Value, index: Index) -> list[Register]:
        """Read a line along the last axis of an array at once: who wants one element of it mostly wants all."""
        before, count = self.dims(index)[:-1], value.shape[-1]

        def load() -> list[Register]:
            first = self.flatten(before, array.shape[:-1]) * self.number(count)
            return scalar.load_run(self.builder, array.buffer, first, count, value.dtype)

        return self.remember(("line", value, *(place.id for place in before)), load)

    def memory_place(self, array: Array, shape: tuple[int, ...], index: Index) -> tuple[Register, Register | None]:
        """Return the element number of a position in an array, and whether it is there."""
        dims, inside = self.dims(index), None
        for place, extent, whole in zip(dims, array.shape, shape, strict=True):
            if extent != whole:
                test = place < self.number(extent)
                inside = test if inside is None else self.builder.logical_and(inside, test)
        return self.flatten(dims, array.shape), inside

    def write(self, array: Array, value: Value, index: Index, element: Scalar) -> None:
        """Write an element of an array whose padded form has the type of `value`; what lies beyond it is dropped."""
        place, inside = self.memory_place(array, value.shape, index)

        def store() -> None:
            scalar.store(self.builder, array.buffer, place, element, value.dtype)

        self.builder.when(True if inside is None else inside, store)

    def unique(self, value: Value, skipped: frozenset[int] = frozenset()) -> Iterator[tuple[int, ...]]:
        """Yield the slot numbers of a tile along its axes, `skipped` ones left out."""
        counts = [len(self.places(value, axis)) for axis in range(len(value.shape)) if axis not in skipped]
        yield from itertools.product(*map(range, counts))


def _slots_text(value: Value, count: int, layout: Layout, where: str) -> str:
    return message(
        "A tile must be small enough for the registers of a workgroup.",
        got=f"{layout.text(value)}: {count:,} elements for each of {layout.threads} invocations",
        want=f"at most {MOST_SLOTS:,} elements for each",
        fix="give the call a grid and smaller blocks, or go through the block with pl.ds in a loop.",
        at=where,
        stage="codegen",
    )
