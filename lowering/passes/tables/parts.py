"""What the passes over tables speak of: thin products, readers, and the tables between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ... import ops
from ...graph import Node, Value
from ..axes import Axes, identity, operand_axes

TILE = 128
"""Elements of the kept axis that a workgroup has; extents of tables are multiples."""


MOVES = ("broadcast_in_dim", "transpose", "reshape")
"""Operations after which elements of a tile are still elements of the same tile."""


class UnfitError(Exception):
    """A table is computed from something that has no tiles."""


class Product(NamedTuple):
    """A thin product: each factor, and its axes: the table's batch axes in their order, its own free one, the depth."""

    rows: Value
    row_axes: tuple[int, ...]
    columns: Value
    column_axes: tuple[int, ...]


class Sides(NamedTuple):
    """How a product contracts a table: the table's batch axes in the result's order, and the other factor's axes."""

    table_batch: tuple[int, ...]
    batch: tuple[int, ...]
    summed: int
    free: int


_NO_SIDES = Sides((), (), 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A node that reads a table.

    Attributes:
        node: the reduction or product.
        table: what it reads.
        along: the axis of the table that it sums over.
        other: what it multiplies the table by; None of a reduction.
        sides: how, of a product.
        is_left: the table is the left factor.
        peak: of a sum of exponentials of what is below the largest element: the reader that finds that.
    """

    node: Node
    table: Value
    along: int
    other: Value | None = None
    sides: Sides = _NO_SIDES
    is_left: bool = True
    peak: Reader | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Tables of one shape: their values, how these and what they read are made, the thin products among them."""

    shape: tuple[int, ...]
    producers: Mapping[Value, Node]
    values: frozenset[Value]
    products: Mapping[Value, Product]

    def spread_from(self, value: Value) -> tuple[Value, Axes]:
        """Return what broadcasts and reshapes make a value of, and the axes of the value that its own follow."""
        axes, node = identity(value.shape), self.producers.get(value)
        while node is not None and node.op in ("broadcast_in_dim", "reshape"):
            before = operand_axes(node, 0, axes)
            if before is None:
                break
            value, axes = node.inputs[0], before
            node = self.producers.get(value)
        return value, axes

    def products_below(self, values: Iterable[Value]) -> set[Value]:
        """Return the thin products that tables are made of."""
        waiting = list(values)
        found, seen = set[Value](), set(waiting)
        while waiting:
            value = waiting.pop()
            if value in self.products:
                found.add(value)
                continue
            more = self.values.intersection(self.producers[value].inputs) - seen
            seen |= more
            waiting += more
        return found

    def steps_below(self, value: Value) -> int:
        """Count what is computed for a tile of a table, at most: back to arrays that lie in memory."""
        waiting, seen = [value], {value}
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is not None and (ops.is_elementwise(node) or node.op in MOVES):
                more = set(node.inputs) - seen
                seen |= more
                waiting += more
        return len(seen)
