"""The kernel that serves the readers of a table along one axis.

kept axis of the table: a tile of it for each workgroup;  walked axis: a loop, so many elements a round

for each round:
    tile = product of a window of one factor with one of the other, and what is computed from it
    sums = sums + (the tile's own sums, or tile @ window of what the table is multiplied by)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ...graph import Graph, Node, Value
from .code import Code
from .masks import Zone, find_mask, needed_for_nothing, zones_of
from .numbers import Numbers
from .parts import TILE, Reader, Table, UnfitError
from .rounds import Round
from .windows import Windows, lies

ROUND, BAND = 64, 32
"""Elements of the walked axis that a round has, and rows of a subgroup where there is one thin product.

Two products leave no registers for as many.
"""

TOGETHER = 128
"""Heads whose workgroups start together, the longest first, where a mask hides more of some than of others."""


def make_kernel(table: Table, readers: Sequence[Reader], numbers: Numbers) -> tuple[Node, list[Node]] | None:
    """Return the kernel that serves readers along one axis, and what puts its results in place; None: impossible."""
    try:
        return _Maker(table, readers, numbers).make()
    except UnfitError:
        return None


class _Maker:
    """Makes one kernel."""

    def __init__(self, table: Table, readers: Sequence[Reader], numbers: Numbers) -> None:
        self.table, self.readers, self.numbers = table, readers, numbers
        self.rank = len(table.shape)
        self.walked = readers[0].along
        self.kept = 2 * self.rank - 3 - self.walked
        self.is_single = len(table.products_below(reader.table for reader in readers)) == 1
        self.cell = Code()
        self.places = [self.cell.fresh("i32", ()) for _ in range(self.rank - 1)]
        first = self.cell.put("multiply", [self.cell.number(TILE), self.places[-1]], "i32", ())
        self.windows = Windows(self.cell, table.producers, self.places, first, self.kept, self.walked)
        self.mask = find_mask(table, readers, self.kept, self.walked)
        self.after: list[Node] = []
        self.has_peak = readers[-1].peak is not None

    def make(self) -> tuple[Node, list[Node]]:
        """Return the kernel and what puts its results in place."""
        sums = [self._start(reader) for reader in self.readers]
        for zone in self._zones():
            sums = sums if zone.start == zone.stop else self._loop(zone, sums)
        if self.has_peak:
            sums = self._finished(*sums)
        outputs = [self._output(reader) for reader in self.readers]
        contents = [self.cell.fresh(output.dtype, output.shape) for output in outputs]
        written = [self._written(*each) for each in zip(self.readers, sums, contents, strict=True)]
        inputs = (*self.places, *self.windows.operands.values(), *contents)
        cell = Graph("cell", inputs, tuple(self.cell.nodes), tuple(written))
        grid = (*self.table.shape[: self.rank - 2], self.table.shape[self.kept] // TILE)
        attributes = {"name": "table", "grid": grid, "updates": 0, "options": self._options(), "cell": cell}
        where = self.readers[0].node.where
        return Node("tile", tuple(self.windows.operands), tuple(outputs), attributes, where), self.after

    def _options(self) -> tuple[tuple[str, int], ...]:
        """Return what the kernel asks for.

        Elements are as exact as factors of 16 bits, so that exponentials may be the driver's. A NaN that the largest
        element of a row passes over comes back with the sum.
        """
        is_growing = self.mask is not None and self.kept < self.walked
        options = {"driver_exp": 1}
        options |= {"nan_in_extrema": 0} if self.has_peak else {}
        options |= {"last_first": TOGETHER} if is_growing else {}
        return tuple((options | ({"band": BAND} if self.is_single else {})).items())

    # -- loops -------------------------------------------------------------------------------------------------------
    def _zones(self) -> list[Zone]:
        """Return the rounds to go through; what adds nothing is left out where that is known when the kernel runs."""
        rounds = self.table.shape[self.walked] // ROUND
        if self.mask is None:
            return [Zone(self.cell.number(0), self.cell.number(rounds), None)]
        zones = zones_of(self.cell, self.mask, self.windows.first, ROUND, self.table.shape[self.walked])
        return [self._skipped(zone) for zone in zones]

    def _skipped(self, zone: Zone) -> Zone:
        """Return a zone that has no rounds where these are known to add nothing."""
        assert self.mask is not None
        if zone.is_open is None:
            return zone
        needs = needed_for_nothing(self.table, self.readers, self.mask, is_open=zone.is_open)
        if needs is None:
            return zone
        if not needs:
            return zone._replace(stop=zone.start)
        stop = self.cell.put("select", [self._are_moderate(needs), zone.start, zone.stop], "i32", ())
        return zone._replace(stop=stop)

    def _are_moderate(self, needs: set[Value]) -> Value:
        """Return whether no array that hidden elements are multiplied by holds a number that is not moderate."""
        cell = self.cell
        together: dict[tuple[int, ...], dict[Value, None]] = {}
        for value in sorted(needs, key=lambda value: value.id):
            base, _ = lies(value, self.table.producers)
            together.setdefault(base.shape, {})[base] = None
        each: list[Value] = []
        for bases in together.values():
            array, first = self.windows.array(self.numbers.are_moderate(tuple(bases))), cell.number(0)
            flag = cell.put("dynamic_slice", [array, first], "bool", (1,), sizes=(1,))
            each.append(cell.put("reshape", [cell.convert(flag, "i32")], "i32", ()))
        total = each[0]
        for more in each[1:]:
            total = cell.put("multiply", [total, more], "i32", ())
        return cell.compare(total, cell.number(0), "GT")

    def _loop(self, zone: Zone, sums: Sequence[Value]) -> list[Value]:
        """Return the sums after the rounds of a zone."""
        made = Round(self.table, self.windows, ROUND, self.mask, zone.is_open)
        carries = [made.body.fresh(total.dtype, total.shape) for total in sums]
        if self.has_peak:
            results = made.add_exponentials(self.readers[1], *carries)
        else:
            results = [made.add(reader, carry) for reader, carry in zip(self.readers, carries, strict=True)]
        stop = made.capture(zone.stop)
        following = made.body.put("add", [made.number, made.body.number(1)], "i32", ())
        inputs = (made.number, *carries, *made.captured.values())
        test = Code(count=made.body.count)
        goes_on = test.compare(made.number, stop, "LT")
        attributes = {
            "cond": Graph("cond", inputs, tuple(test.nodes), (goes_on,)),
            "body": Graph("body", inputs, tuple(made.body.nodes), (following, *results)),
            "captures": len(made.captured),
            "trip_count": self.table.shape[self.walked] // ROUND if self.mask is None else None,
        }
        totals = [self.cell.fresh(value.dtype, value.shape) for value in (made.number, *carries)]
        self.cell.nodes.append(Node("while", (zone.start, *sums, *made.captured), tuple(totals), attributes))
        return totals[1:]

    def _start(self, reader: Reader) -> Value:
        """Return what sums are before the first round."""
        if reader.other is not None:
            return self.cell.filled(0, "f32", (TILE, reader.other.shape[reader.sides.free]))
        start = self.table.producers.get(reader.node.inputs[1])
        if start is None or start.op != "constant":
            raise UnfitError
        return self.cell.filled(start.attributes["value"].astype(np.float32), "f32", (TILE,))

    def _finished(self, peak: Value, total: Value) -> list[Value]:
        """Return largest elements and sums as they are of whole rows.

        A row of nothing but minus infinity has no sum, and one that holds a NaN has no largest element.
        """
        cell, rows = self.cell, (TILE,)
        constant = partial(cell.filled, dtype="f32", shape=rows)
        total = cell.put("select", [cell.compare(peak, constant(-np.inf), "EQ"), constant(np.nan), total], "f32", rows)
        is_number = cell.put(
            "or",
            [
                cell.compare(total, total, "EQ"),
                cell.put("not", [cell.put("is_finite", [peak], "bool", rows)], "bool", rows),
            ],
            "bool",
            rows,
        )
        return [cell.put("select", [is_number, peak, constant(np.nan)], "f32", rows), total]

    # -- results -----------------------------------------------------------------------------------------------------
    def _output(self, reader: Reader) -> Value:
        """Return the kernel's result: the reader's own, or with its last two axes the other way round."""
        found = reader.node.output
        if reader.other is None or reader.is_left:
            return found
        output = self.numbers.fresh(found.dtype, (*found.shape[:-2], found.shape[-1], found.shape[-2]))
        axes = tuple(range(len(output.shape)))
        turned = {"permutation": (*axes[:-2], axes[-1], axes[-2])}
        self.after.append(Node("transpose", (output,), (found,), turned, reader.node.where))
        return output

    def _written(self, reader: Reader, total: Value, content: Value) -> Value:
        """Return the result with this workgroup's block in its place."""
        cell = self.cell
        batch = range(self.rank - 2) if reader.other is None else reader.sides.table_batch
        shape = (1,) * len(batch) + total.shape
        block = cell.put("reshape", [cell.convert(total, content.dtype)], content.dtype, shape)
        rest = [cell.number(0)] * (len(total.shape) - 1)
        starts = [*(self.places[axis] for axis in batch), self.windows.first, *rest]
        return cell.put("dynamic_update_slice", [content, block, *starts], content.dtype, content.shape)
