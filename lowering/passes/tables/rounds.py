"""One round of a kernel's loop: the tiles of a table, made of windows of its factors and of what else it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ... import ops
from ...graph import Node, Value
from ..axes import Axes, identity, operand_axes
from .code import Code, held
from .masks import Mask
from .parts import MOVES, TILE, Product, Reader, Table, UnfitError
from .windows import Windows

_COMBINE = {"add": "add", "max": "maximum", "min": "minimum"}


@dataclass(eq=False)
class Round:
    """Writes the body of a loop. A tile has the table's kept axis first, then the walked one.

    Attributes:
        table: whose tiles are made.
        windows: what the workgroup reads.
        size: elements of the walked axis in a round.
        mask: a comparison that is known here; None where none is.
        is_open: what it is.
    """

    table: Table
    windows: Windows
    size: int
    mask: Mask | None = None
    is_open: bool | None = None
    body: Code = field(default_factory=Code)
    captured: dict[Value, Value] = field(default_factory=dict)
    _tiles: dict[tuple[Value, Axes], Value] = field(default_factory=dict)
    _instead: dict[Value, Value] = field(default_factory=dict)
    _inside: dict[tuple[Value, Axes], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.number = self.body.fresh("i32", ())
        self.begin = self.body.put("multiply", [self.number, self.body.number(self.size)], "i32", ())

    def capture(self, value: Value) -> Value:
        """Return a value of the cell as the loop calls it."""
        if value not in self.captured:
            self.captured[value] = self.body.fresh(value.dtype, value.shape)
        return self.captured[value]

    def add(self, reader: Reader, carry: Value) -> Value:
        """Return the sums of a reader after one more tile."""
        body = self.body
        tile = self.tile(reader.table, identity(self.table.shape))
        if reader.other is None:
            kind = reader.node.attributes["kind"]
            return body.put(_COMBINE[kind], [carry, body.reduce(tile, kind, (1,))], "f32", (TILE,))
        sides = reader.sides
        place = dict(zip(sides.batch, sides.table_batch, strict=True)) | {sides.summed: self.windows.walked}
        right, roles = self._read(reader.other, [place.get(axis) for axis in range(len(reader.other.shape))])
        made = body.product(body.convert(tile, right.dtype), right, (1, roles.index("walked")))
        return body.put("add", [carry, made], "f32", made.shape)

    def add_exponentials(self, reader: Reader, peak: Value, total: Value) -> list[Value]:
        """Return the largest elements so far, and the sums of the exponentials of what is below them.

        sum' = sum e^(peak - peak') + sum over the tile of e^(x - peak')
        """
        body, rows = self.body, (TILE,)
        assert reader.peak is not None
        largest = self.add(reader.peak, peak)
        # Where nothing is visible yet nothing is added: exponentials are of minus infinity, not of a NaN.
        lowest, nothing = (body.filled(number, "f32", rows) for number in (-np.inf, 0))
        below = body.put("select", [body.compare(largest, lowest, "EQ"), nothing, largest], "f32", rows)
        shrinks = body.put("exponential", [body.put("subtract", [peak, below], "f32", rows)], "f32", rows)
        self._instead[reader.peak.node.output] = below
        return [largest, self.add(reader, body.put("multiply", [total, shrinks], "f32", rows))]

    def tile(self, value: Value, axes: Axes) -> Value:
        """Return the part of a value that goes with this round's tile.

        Raises:
            UnfitError: it has none.
        """
        key = value, axes
        if key not in self._tiles:
            self._tiles[key] = self._tile(value, axes)
        return self._tiles[key]

    def _tile(self, value: Value, axes: Axes) -> Value:
        body, shape, node = self.body, self._shape(axes), self.table.producers.get(value)
        source, _ = self.table.spread_from(value) if len(shape) == 1 else (value, axes)
        if source in self._instead:
            return self._instead[source]
        if self.mask is not None and self.is_open is not None and (value, axes) == (self.mask.value, self.mask.axes):
            return body.filled(self.is_open, "bool", shape)
        if value in self.table.products:
            return self._product(self.table.products[value], axes)
        if node is None or not self._is_inside(node, axes):
            return self._leaf(value, axes)
        if node.op == "constant":
            made = body.filled(node.attributes["value"].reshape(-1)[0], value.dtype, shape)
            return body.convert(made, held(value.dtype))
        if node.op == "iota":
            return self._iota(node, axes)
        return self._computed(node, axes, shape)

    def _computed(self, node: Node, axes: Axes, shape: tuple[int, ...]) -> Value:
        reads = [each for each in self._reads(node, axes) if each is not None]
        inputs = [self.tile(operand, each) for operand, each in zip(node.inputs, reads, strict=True)]
        if node.op in MOVES:
            return self.body.spread(inputs[0], self._along(reads[0]), shape)
        dtype = held(node.output.dtype)
        if node.op == "convert":
            return self.body.convert(inputs[0], dtype)
        made = self.body.fresh(dtype, shape)
        self.body.nodes.append(replace(node, inputs=tuple(inputs), outputs=(made,)))
        return made

    def _reads(self, node: Node, axes: Axes) -> list[Axes | None]:
        return [operand_axes(node, place, axes) for place in range(len(node.inputs))]

    def _is_inside(self, node: Node, axes: Axes) -> bool:
        """Tell whether a value is computed in the loop; what follows one axis, and reads memory, is better read."""
        key = node.outputs[0], axes
        if key not in self._inside:
            self._inside[key] = self._is_made_inside(node, axes)
        return self._inside[key]

    def _is_made_inside(self, node: Node, axes: Axes) -> bool:
        if node.op == "constant":
            return node.attributes["value"].size == 1
        if node.op == "iota":
            return True
        reads = self._reads(node, axes)
        if not (ops.is_elementwise(node) or node.op in MOVES) or any(each is None for each in reads):
            return False
        if len(self._along(axes)) == 2:
            return True
        pairs = [(self.table.producers.get(value), each) for value, each in zip(node.inputs, reads, strict=True)]
        return all(each is not None and self._is_inside(each, place or ()) for each, place in pairs)

    def _shape(self, axes: Axes) -> tuple[int, ...]:
        return tuple((TILE, self.size)[place] for place in self._along(axes))

    def _along(self, axes: Axes) -> tuple[int, ...]:
        """Return which axes of a tile a value follows: 0 is the kept one, 1 the walked one."""
        both = self.windows.kept, self.windows.walked
        return tuple(place for place, axis in enumerate(both) if axis in axes)

    def _iota(self, node: Node, axes: Axes) -> Value:
        """Return positions along an axis of the table."""
        body, windows, axis = self.body, self.windows, axes[node.attributes["dimension"]]
        shape, dtype = self._shape(axes), held(node.output.dtype)
        if axis is None:
            return body.filled(0, dtype, shape)
        if axis not in (windows.kept, windows.walked):
            return body.convert(body.spread(self.capture(windows.places[axis]), (), shape), dtype)
        place = self._along(axes).index(self._along((axis,))[0])
        count = body.put("iota", (), "i32", shape, dimension=place)
        first = self.begin if axis == windows.walked else self.capture(windows.first)
        return body.convert(body.put("add", [count, body.spread(first, (), shape)], "i32", shape), dtype)

    def _product(self, product: Product, axes: Axes) -> Value:
        """Return a tile of a thin product: the window of the kept factor times the one of the walked factor."""
        if axes != identity(self.table.shape):
            raise UnfitError
        rank, factors = len(self.table.shape), {}
        for axis, factor, places in (
            (rank - 2, product.rows, product.row_axes),
            (rank - 1, product.columns, product.column_axes),
        ):
            follows: list[int | None] = [None] * len(factor.shape)
            for k, place in enumerate(places[:-1]):
                follows[place] = k if k < rank - 2 else axis
            factors[axis] = self._read(factor, follows)
        (left, lefts), (right, rights) = factors[self.windows.kept], factors[self.windows.walked]
        return self.body.product(left, right, (lefts.index("all"), rights.index("all")))

    def _leaf(self, value: Value, axes: Axes) -> Value:
        """Return a window of an array that lies in memory."""
        if not value.shape or value in self.table.values:
            raise UnfitError
        read, roles = self._read(value, axes)
        if "all" in roles:
            raise UnfitError
        read = self.body.convert(read, held(value.dtype))
        if roles == ("walked", "kept"):
            read = self.body.put("transpose", [read], read.dtype, read.shape[::-1], permutation=(1, 0))
        return read

    def _read(self, value: Value, follows: Sequence[int | None]) -> tuple[Value, tuple[str, ...]]:
        """Return the part of an array that goes with this round, and the roles of its axes."""
        window = self.windows.read(value, follows)
        inner, body = self.capture(window.value), self.body
        if "walked" not in window.roles:
            return inner, window.roles
        pairs = list(zip(window.roles, inner.shape, strict=True))
        shape = tuple(self.size if role == "walked" else extent for role, extent in pairs)
        starts = [self.begin if role == "walked" else body.number(0) for role, _ in pairs]
        return body.put("dynamic_slice", [inner, *starts], value.dtype, shape, sizes=shape), window.roles
