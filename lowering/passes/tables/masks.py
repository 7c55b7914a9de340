"""Which rounds of a loop a mask of positions hides, which it leaves open, and which hidden ones add nothing.

row >= column, rows kept:     open      rounds before the first row's own
                              mixed     up to the last row's
                              hidden    the rest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ... import dtypes
from ...graph import Node, Value
from ..axes import Axes, operand_axes
from .code import Code
from .numbers import LARGEST, MODERATE
from .parts import TILE, Reader, Table, UnfitError

_SIGNS = {"GE": (1, 0), "GT": (1, 1), "LE": (-1, 0), "LT": (-1, 1)}
_POSITIONS = ("i32", "i64")
# Sums of positions up to which neither the program's steps nor ours leave 32 bits.
_LARGEST = 1 << 29


@dataclass(frozen=True, slots=True)
class Mask:
    """A comparison of positions: true where kept_factor * kept + walked_sign * walked + constant >= 0.

    Attributes:
        value: its result.
        axes: the table's axes that its own follow.
        kept_factor: of the position along the kept axis.
        walked_sign: 1 or -1.
        constant: in elements.
    """

    value: Value
    axes: Axes
    kept_factor: int
    walked_sign: int
    constant: int


class Zone(NamedTuple):
    """Rounds from `start` to `stop`; `is_open`: the mask is true, or false, for all elements; None: it is mixed."""

    start: Value
    stop: Value
    is_open: bool | None


def find_mask(table: Table, readers: Sequence[Reader], kept: int, walked: int) -> Mask | None:
    """Return the comparison that all selections below some readers take their elements by."""
    found: dict[Value, Mask | None] = {}
    waiting = [reader.table for reader in readers]
    seen = set(waiting)
    while waiting:
        node = table.producers[waiting.pop()]
        if node.op == "select":
            source, axes = table.spread_from(node.inputs[0])
            found[source] = _mask(table, source, axes, kept, walked)
        more = table.values.intersection(node.inputs) - seen
        seen |= more
        waiting += [] if node.output in table.products else more
    masks = list(found.values())
    return masks[0] if len(masks) == 1 else None


def _mask(table: Table, value: Value, axes: Axes, kept: int, walked: int) -> Mask | None:
    """Return a comparison as a mask, if both sides are positions and numbers added up."""
    node = table.producers.get(value)
    if node is None or node.op != "compare" or node.attributes["direction"] not in _SIGNS:
        return None
    left, right = (_form(table, side, axes) for side in node.inputs)
    if left is None or right is None:
        return None
    sign, less = _SIGNS[node.attributes["direction"]]
    total = {axis: sign * (left.get(axis, 0) - right.get(axis, 0)) for axis in {*left, *right}}
    constant = total.pop(-1, 0) - less
    if {axis for axis, factor in total.items() if factor} - {kept, walked} or abs(total.get(walked, 0)) != 1:
        return None
    factor = total.get(kept, 0)
    return Mask(value, axes, factor, total[walked], constant)


def _form(table: Table, value: Value, axes: Axes) -> dict[int, int] | None:
    """Return a value as factors of positions by axis of the table, and what is added at -1."""
    node = table.producers.get(value)
    if node is None or value.dtype not in _POSITIONS:
        return None
    if node.op == "constant":
        number = int(node.attributes["value"].reshape(-1)[0]) if node.attributes["value"].size == 1 else _LARGEST
        return {-1: number} if abs(number) < _LARGEST else None
    if node.op == "iota":
        axis = axes[node.attributes["dimension"]]
        return {} if axis is None else {axis: 1}
    if node.op not in ("add", "subtract", "broadcast_in_dim", "reshape", "convert"):
        return None
    reads = [operand_axes(node, place, axes) for place in range(len(node.inputs))]
    forms = [
        None if each is None else _form(table, operand, each) for operand, each in zip(node.inputs, reads, strict=True)
    ]
    known = [form for form in forms if form is not None]
    if len(known) != len(forms):
        return None
    if len(known) == 1:
        return known[0]
    sign = 1 if node.op == "add" else -1
    total = {axis: known[0].get(axis, 0) + sign * known[1].get(axis, 0) for axis in {*known[0], *known[1]}}
    reached = sum(abs(factor) * (1 if axis < 0 else table.shape[axis]) for axis, factor in total.items())
    return total if reached < _LARGEST else None


def zones_of(cell: Code, mask: Mask, first: Value, size: int, extent: int) -> list[Zone]:
    """Return the zones of a loop over `extent` elements, `size` of them a round, for rows of a tile from `first` on."""
    rounds, factor = extent // size, mask.kept_factor
    # Along the tile the sum without the walked position goes from `low` to `high`.
    ends = [_plus(cell, cell.put("multiply", [first, cell.number(factor)], "i32", ()), mask.constant + more)
            for more in sorted((0, factor * (TILE - 1)))]  # fmt: skip
    low, high = ends
    nothing, all_rounds = cell.number(0), cell.number(rounds)
    if mask.walked_sign < 0:
        # Open where walked <= low, hidden where walked > high.
        opened = _rounds(cell, _plus(cell, low, 1), size, rounds)
        closed = _rounds(cell, _plus(cell, high, size), size, rounds)
        return [Zone(nothing, opened, True), Zone(opened, closed, None), Zone(closed, all_rounds, False)]
    # Hidden where walked < -high, open where walked >= -low.
    closed = _rounds(cell, cell.put("negate", [high], "i32", ()), size, rounds)
    opened = _rounds(cell, _plus(cell, cell.put("negate", [low], "i32", ()), size - 1), size, rounds)
    return [Zone(nothing, closed, False), Zone(closed, opened, None), Zone(opened, all_rounds, True)]


def _plus(cell: Code, value: Value, more: int) -> Value:
    return cell.put("add", [value, cell.number(more)], "i32", ()) if more else value


def _rounds(cell: Code, elements: Value, size: int, most: int) -> Value:
    """Return how many whole rounds a number of elements fills: none of fewer than no element, `most` of more."""
    positive = cell.put("maximum", [elements, cell.number(0)], "i32", ())
    return cell.put(
        "minimum", [cell.put("divide", [positive, cell.number(size)], "i32", ()), cell.number(most)], "i32", ()
    )


def needed_for_nothing(table: Table, readers: Sequence[Reader], mask: Mask, *, is_open: bool) -> set[Value] | None:
    """Return the arrays that must be moderate for elements to add nothing where a mask is true, or is false.

    None if they may add something.
    """
    needs: set[Value] = set()
    for reader in readers:
        hidden = _Hidden(table, mask, reader.peak.node.output if reader.peak else None, is_open=is_open)
        kind = reader.node.attributes.get("kind")
        try:
            state = hidden.state(reader.table)
        except UnfitError:
            return None
        if state != ("low" if kind == "max" else "zero") or kind == "min":
            return None
        needs |= hidden.needs | ({reader.other} if reader.other else set())
    return needs


class _Hidden:
    """What elements are where a mask is known: "low" is minus infinity, "zero" is zero, None is anything.

    `needs`: the arrays that must be moderate for that. What is below the largest element of a row is never the
    difference of two minus infinities: the kernel sees to it.
    """

    def __init__(self, table: Table, mask: Mask, peak: Value | None, *, is_open: bool) -> None:
        self.table, self.mask, self.peak, self.is_open = table, mask, peak, is_open
        self.needs: set[Value] = set()

    def state(self, value: Value) -> str | None:
        """Return what a table is."""
        node = self.table.producers.get(value)
        if node is None or value in self.table.products:
            return None
        if node.op == "select" and self.table.spread_from(node.inputs[0]) == (self.mask.value, self.mask.axes):
            return self.state(node.inputs[1 if self.is_open else 2])
        if node.op == "constant" and node.attributes["value"].size == 1:
            number = float(node.attributes["value"].reshape(-1)[0])
            return "zero" if number == 0 else "low" if number == -np.inf else None
        if node.op in ("convert", "broadcast_in_dim", "negate", "exponential"):
            return self._of_one(node)
        if node.op in ("multiply", "add", "subtract"):
            return self._of_two(node)
        return None

    def _of_one(self, node: Node) -> str | None:
        state = self.state(node.inputs[0])
        if node.op == "exponential":
            return "zero" if state == "low" else None
        if state == "low" and (node.op == "negate" or node.output.dtype not in dtypes.FLOATS):
            return None
        return state

    def _of_two(self, node: Node) -> str | None:
        left, right = node.inputs
        if node.op == "multiply":
            for one, other in ((left, right), (right, left)):
                state = self.state(one)
                if state == "zero" or (state == "low" and self._is_positive(other)):
                    self._bound(other)
                    return state
            return None
        if self.state(left) != "low":
            return None
        self._bound(right)
        return "low"

    def _is_positive(self, value: Value) -> bool:
        node = self.table.producers.get(value)
        return node is not None and node.op == "constant" and bool(np.all(node.attributes["value"] > 0))

    def _bound(self, value: Value) -> float:
        """Return what no element of a value is larger than, and note which arrays must be moderate for that.

        Raises:
            UnfitError: nothing is known of it, or f32 may not hold it.
        """
        node = self.table.producers.get(value)
        if value == self.peak:
            bound = MODERATE
        elif value in self.table.products:
            product = self.table.products[value]
            self.needs |= {product.rows, product.columns}
            bound = product.rows.shape[product.row_axes[-1]] * MODERATE**2
        elif node is not None and node.op == "constant":
            bound = float(np.max(np.abs(node.attributes["value"].astype(np.float64)), initial=0))
        elif node is not None and node.op == "iota":
            bound = float(max(value.shape))
        elif node is not None and node.op in ("broadcast_in_dim", "reshape", "convert"):
            bound = self._bound(node.inputs[0])
        elif value not in self.table.values:
            self.needs.add(value)
            bound = MODERATE
        elif node is not None and node.op in ("add", "subtract", "multiply", "negate"):
            bounds = [self._bound(operand) for operand in node.inputs]
            bound = float(np.prod(bounds)) if node.op == "multiply" else sum(bounds)
        else:
            raise UnfitError
        if not bound < LARGEST:
            raise UnfitError
        return bound
