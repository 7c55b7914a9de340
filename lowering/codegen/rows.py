"""Reductions along rows or columns, with everything that is computed before, between and after them.

A kernel walks each row of its domain in phases. A phase feeds the reductions whose inputs are known; its results are
held in registers and the next phase may use them. The last phase writes what has the domain's full size.

    phase 1   for each element: maximum
    phase 2   for each element: sum of exp(x - maximum)
    last      for each element: store exp(x - maximum) / sum
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Graph, Node, Value
from ..schedule import Schedule, extents
from . import maps, moves
from .combine import Reduction, State
from .expression import Expression
from .index import Index
from .runs import Runs, store_all
from .uniform import hoist

# The body of a loop: from its counter and what it carries to what it carries on.
Body = Callable[[Register, list[Register]], list[Register]]


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: rows over the rows of one workgroup."""
    kept, _ = extents(fusion.attributes["domain"], fusion.attributes["reduced"])
    return -(-kept * part_count(fusion) // (schedule.workgroup // schedule.lanes))


def part_count(fusion: Node) -> int:
    """Return into how many parts a partial reduction cuts each row; one for whole rows."""
    if fusion.attributes["kind"] != "partial":
        return 1
    return fusion.attributes["body"].nodes[-1].attributes["parts"]


@dataclass
class _Row:
    """The row that a lane works on: its position, the lane's place in it, and where its elements begin and end."""

    kept: tuple[Register, ...]
    lane: Register
    begin: Register
    count: int
    parts: int
    valid: Register | None
    number: Register


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A workgroup reduces workgroup / lanes rows; lanes of a row walk it side by side."""
    row = _locate(builder, expression, fusion, schedule)
    walk = _Walk(expression, fusion, schedule, row)
    hoist(expression, fusion, row.kept)
    for phase in phases(fusion.attributes["body"]):
        reductions = [Reduction(expression, node) for node in phase]
        states = walk.reduce(reductions)
        for reduction, state in zip(reductions, states, strict=True):
            _publish(expression, reduction, _across(reduction, state, schedule))
        settle(expression, fusion.attributes["body"])
    _finish(builder, expression, fusion, schedule, row, walk)


def phases(body: Graph) -> list[list[Node]]:
    """Return the reductions of a body, grouped so that each group needs results of earlier groups only."""
    depth: dict[Value, int] = {}
    found: dict[int, list[Node]] = {}
    for node in body.nodes:
        level = max((depth.get(value, 0) for value in node.inputs), default=0)
        if node.op in _REDUCTIONS:
            found.setdefault(level, []).append(node)
            level += 1
        for value in node.outputs:
            depth[value] = level
    return [found[level] for level in sorted(found)]


def settle(expression: Expression, body: Graph) -> None:
    """Compute, once a row, what depends on the row's results and on nothing that changes along it."""
    uniform = {*expression.fixed, *(value for value in body.inputs if value.size == 1)}
    for node in body.nodes:
        # A reduction that is not known yet belongs to a later phase, however few its results are.
        known = node.outputs[0] in expression.fixed
        if known or node.op in _REDUCTIONS or (node.op in moves.RULES and node.op not in _SPREADING):
            continue
        if not all(value in uniform for value in node.inputs):
            continue
        value = node.output
        uniform.add(value)
        if any(operand in expression.fixed for operand in node.inputs):
            expression.fixed[value] = expression.at(value, moves.origin(expression, value.shape))


_REDUCTIONS = frozenset({"reduce", "partial_reduce"})
# A row's result keeps its value through these, wherever along the row it is asked for.
_SPREADING = frozenset({"broadcast_in_dim", "reshape", "constant"})


def _across(reduction: Reduction, state: State, schedule: Schedule) -> State:
    if schedule.lanes == 1:
        return state
    if schedule.lanes <= schedule.subgroup:
        return reduction.across(state, schedule.lanes)
    return reduction.across_workgroup(state, schedule.subgroup, schedule.workgroup)


def _publish(expression: Expression, reduction: Reduction, state: State) -> None:
    for value, element in zip(reduction.node.outputs, reduction.finish(state), strict=True):
        expression.fixed[value] = element


def _locate(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> _Row:
    domain, reduced = fusion.attributes["domain"], fusion.attributes["reduced"]
    kept, count = extents(domain, reduced)
    parts = part_count(fusion)
    total = kept * parts
    number = expression.number
    per_group = schedule.workgroup // schedule.lanes
    group = maps.global_index(expression, per_group)
    if schedule.lanes == 1:
        row, lane = group + maps.local_index(expression), number(0)
    elif schedule.lanes <= schedule.subgroup:
        row, lane = builder.subgroup_id, builder.lane
        if schedule.lanes < schedule.subgroup:
            lanes, sides = (
                builder.const("u32", each) for each in (schedule.lanes, schedule.subgroup // schedule.lanes)
            )
            row, lane = row * sides + lane // lanes, lane % lanes
        row, lane = group + builder.convert(row, expression.index_dtype), builder.convert(lane, expression.index_dtype)
    else:
        row, lane = group, maps.local_index(expression)
    valid = None
    if total % per_group:
        valid = row < number(total)
        row = builder.min(row, number(total - 1))
    shape = tuple(extent for axis, extent in enumerate(domain) if axis not in reduced)
    chunk = -(-count // parts)
    place, part = _cut_row(expression, row, kept, parts, side_by_side=schedule.lanes == 1)
    begin = part * number(chunk)
    return _Row(expression.split(place, shape), lane, begin, chunk, parts, valid, place * number(parts) + part)


def _cut_row(
    expression: Expression, row: Register, kept: int, parts: int, *, side_by_side: bool
) -> tuple[Register, Register]:
    """Return the row and the part of it that a numbered piece of work stands for.

    `side_by_side`: neighbouring lanes take neighbouring rows (columns in memory), so that they read neighbours.
    """
    number = expression.number
    if parts == 1:
        return row, number(0)
    return (row % number(kept), row // number(kept)) if side_by_side else (row // number(parts), row % number(parts))


class _Run(NamedTuple):
    """Positions of neighbouring elements, and the condition for them to exist."""

    indices: list[Index]
    inside: Register | None


class _Walk:
    """Visits the elements of a row that belong to this lane."""

    def __init__(self, expression: Expression, fusion: Node, schedule: Schedule, row: _Row) -> None:
        self.expression, self.schedule, self.row = expression, schedule, row
        self.domain: tuple[int, ...] = fusion.attributes["domain"]
        self.reduced: tuple[int, ...] = fusion.attributes["reduced"]
        self.extent = extents(self.domain, self.reduced)[1]
        self.runs = Runs(expression, fusion, schedule.run)
        self._held: list[_Run] | None = None

    def reduce(self, reductions: list[Reduction]) -> list[State]:
        """Return each reduction's state over this lane's elements."""
        states = [reduction.identity() for reduction in reductions]
        if self.row.count == 0:
            return states
        if self.schedule.in_registers:
            for run in _together(self.held()):
                states = self._feed(reductions, states, run)
            return states
        widths = [len(state) for state in states]

        def body(base: Register, carries: list[Register]) -> list[Register]:
            current = list(_cut(carries, widths))
            with self.expression.scope():
                for run in self._block(base):
                    current = self._feed(reductions, current, run)
            return [register for state in current for register in state]

        flat = [register for state in states for register in state]
        return list(_cut(self._loop(body, flat), widths))

    def visit(self, action: Callable[[list[Index], Register | None], None]) -> None:
        """Run an action at each run of this lane's elements; it gets the condition for the elements to exist."""
        if self.row.count == 0:
            return
        if self.schedule.in_registers:
            for run in self.held():
                action(*run)
            return

        def body(base: Register, carries: list[Register]) -> list[Register]:
            with self.expression.scope():
                for run in self._block(base):
                    action(*run)
            return carries

        self._loop(body, [])

    def held(self) -> list[_Run]:
        """Return the positions of a row kept in registers: the same in each phase, so that nothing is read twice."""
        if self._held is None:
            width = self.schedule.lanes * self.schedule.run
            steps = -(-self.row.count // width)
            self._held = [self._position(self._first(), step * width) for step in range(steps)]
        return self._held

    def _first(self) -> Register:
        return self.row.lane * self.schedule.run if self.schedule.run > 1 else self.row.lane

    def _loop(
        self, body: Callable[[Register, list[Register]], list[Register]], carries: list[Register]
    ) -> list[Register]:
        number = self.expression.number
        stride = self.schedule.lanes * self.schedule.per_lane
        builder = self.expression.builder
        return builder.loop(number(0), number(self.row.count), number(stride), carries, body)

    def _block(self, base: Register) -> Iterator[_Run]:
        first = base + self._first()
        width = self.schedule.lanes * self.schedule.run
        blocks = self.row.count % (self.schedule.lanes * self.schedule.per_lane)
        for step in range(self.schedule.per_lane // self.schedule.run):
            yield self._position(first, step * width, ragged=blocks != 0)

    def _position(self, first: Register, offset: int, ragged: bool | None = None) -> _Run:
        """Return legal positions of a run and the condition for it to belong to the row: all of it does, or nothing."""
        expression, run = self.expression, self.schedule.run
        number = expression.number
        place = first + number(offset)
        if ragged is None:
            ragged = offset + self.schedule.lanes * run > self.row.count
        absolute = self.row.begin + place
        tests = [place < number(self.row.count)] if ragged else []
        if self.row.count * self.row.parts != self.extent:
            tests.append(absolute < number(self.extent))
        if not tests:
            return _Run(self._indices(absolute), None)
        inside = tests[0] if len(tests) == 1 else expression.builder.logical_and(*tests)
        return _Run(self._indices(expression.builder.min(absolute, number(self.extent - run))), inside)

    def _indices(self, place: Register) -> list[Index]:
        expression = self.expression
        shape = tuple(self.domain[axis] for axis in self.reduced)
        along = dict(zip(self.reduced, expression.split(place, shape), strict=True))
        kept = iter(self.row.kept)
        return self.runs.positions([along[axis] if axis in along else next(kept) for axis in range(len(self.domain))])

    def _feed(self, reductions: list[Reduction], states: list[State], run: _Run) -> list[State]:
        result: list[State] = []
        for reduction, state in zip(reductions, states, strict=True):
            elements = [[self.expression.at(operand, index) for operand in reduction.operands] for index in run.indices]
            result.append(reduction.keep_if(run.inside, reduction.add_all(state, elements), state))
        return result


def _together(runs: Sequence[_Run]) -> Iterator[_Run]:
    """Join neighbouring runs that exist on any condition to one."""
    for exists, some in itertools.groupby(runs, key=lambda run: run.inside is None):
        if exists:
            yield _Run([index for run in some for index in run.indices], None)
        else:
            yield from some


def _cut(flat: list[Register], widths: list[int]) -> Iterator[State]:
    place = 0
    for width in widths:
        yield flat[place : place + width]
        place += width


def _finish(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule, row: _Row, walk: _Walk) -> None:
    """Write the results of rows once, and what has the domain's size element by element."""
    outputs = list(zip(fusion.attributes["body"].outputs, fusion.attributes["output_axes"], strict=True))
    if fusion.attributes["kind"] == "partial":
        _store_once(builder, expression, schedule, row, [(value, row.number) for value, _ in outputs])
        return
    wide = {axis for axis, extent in enumerate(fusion.attributes["domain"]) if extent != 1}
    full = [
        (v, a)
        for v, a in outputs
        if {x for x in a if x is not None} == wide and wide & set(fusion.attributes["reduced"])
    ]
    small = [(v, a) for v, a in outputs if (v, a) not in full]
    if small:
        _store_rows(builder, expression, fusion, schedule, row, small)
    if full:
        walk.visit(lambda indices, inside: _store_full(builder, expression, fusion, row, full, indices, inside))


def _store_rows(
    builder: Builder, expression: Expression, fusion: Node, schedule: Schedule, row: _Row, outputs: list[Any]
) -> None:
    domain, reduced = fusion.attributes["domain"], fusion.attributes["reduced"]
    kept = iter(row.kept)
    zero = expression.number(0)
    dims = tuple(zero if axis in reduced else next(kept) for axis in range(len(domain)))
    shape = tuple(1 if axis in reduced else extent for axis, extent in enumerate(domain))
    index = expression.index(shape, dims=dims, linear=row.number)
    positions = {value: maps.along(expression, index, value.shape, axes) for value, axes in outputs}
    places = [(value, expression.linear(where)) for value, where in positions.items()]
    _store_once(builder, expression, schedule, row, places, positions)


def _store_once(
    builder: Builder,
    expression: Expression,
    schedule: Schedule,
    row: _Row,
    places: list[tuple[Value, Register]],
    positions: dict[Value, Index] | None = None,
) -> None:
    """Store from one lane of each valid row."""
    elements = [
        (value, place, expression.fixed[value] if positions is None else expression.at(value, positions[value]))
        for value, place in places
    ]

    def store() -> None:
        for value, place, element in elements:
            expression.store(value, place, element)

    condition = row.valid
    if schedule.lanes > 1:
        first = row.lane == expression.number(0)
        condition = first if condition is None else builder.logical_and(first, condition)
    if condition is None:
        store()
    else:
        builder.when(condition, store)


def _store_full(
    builder: Builder,
    expression: Expression,
    fusion: Node,
    row: _Row,
    outputs: list[Any],
    indices: list[Index],
    inside: Register | None,
) -> None:
    columns = maps.columns(expression, fusion, indices, [value for value, _ in outputs])
    condition = row.valid
    if inside is not None:
        condition = inside if condition is None else builder.logical_and(condition, inside)
    if condition is None:
        store_all(expression, columns)
    else:
        builder.when(condition, lambda: store_all(expression, columns))
