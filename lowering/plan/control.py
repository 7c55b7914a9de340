"""Loops and branches: regions run in place over memory that their values keep from round to round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph import Graph, Node, Value
from ..passes.axes import identity
from .steps import Guard, Launch, Level, Loop, Rounds, Storage

if TYPE_CHECKING:
    from .assemble import Assembler


def lower(assembler: Assembler, node: Node, places: dict[Value, Storage], guard: Guard | None) -> list[Level]:
    """Return the levels of a loop or branch; its results are already in `places`."""
    if node.op == "case":
        return _case(assembler, node, places, guard)
    return _while(assembler, node, places, guard)


def copy_node(source: Value, target: Value) -> Node:
    """Return a fusion that copies an array."""
    inner_source, inner_target = Value(0, source.dtype, source.shape), Value(1, source.dtype, source.shape)
    body = Graph("map", (inner_source,), (Node("reshape", (inner_source,), (inner_target,)),), (inner_target,))
    return _map_node(body, (source,), (target,), "copy")


def copy(assembler: Assembler, value: Value, source: Storage, target: Storage, guard: Guard | None) -> Launch | None:
    """Return the dispatch that copies an array from one memory to another."""
    twin = Value(value.id + 1, value.dtype, value.shape)
    return assembler.launch(copy_node(value, twin), {value: source, twin: target}, guard)


def _map_node(body: Graph, inputs: tuple[Value, ...], outputs: tuple[Value, ...], label: str) -> Node:
    shape = body.outputs[0].shape
    attributes = {
        "kind": "map",
        "domain": shape,
        "reduced": (),
        "output_axes": tuple(identity(value.shape) for value in body.outputs),
        "label": label,
        "body": body,
    }
    return Node("fusion", inputs, outputs, attributes)


def _while(assembler: Assembler, node: Node, places: dict[Value, Storage], guard: Guard | None) -> list[Level]:
    captures = node.attributes["captures"]
    count = len(node.inputs) - captures
    body: Graph = node.attributes["body"]
    carried = [places[value] for value in node.outputs]
    levels = _copy_in(assembler, node, places, guard)
    captured = [places[value] for value in node.inputs[count:]]
    trips = node.attributes["trip_count"]
    label = node.where or "while"
    if trips is not None:
        if trips > 0:
            steps = _round(assembler, body, carried, captured, guard)
            levels.append(Level([Rounds(trips, steps, tuple(carried), label)]))
        return levels
    flag = assembler.temporary(4)
    levels.append(Level([_first_flag(assembler, flag, guard)]))
    inner = Guard(flag, 1)
    condition = _condition(assembler, node.attributes["cond"], carried, captured, inner)
    levels.append(
        Level([Loop(condition, flag, _round(assembler, body, carried, captured, inner), tuple(carried), label)])
    )
    return levels


def _copy_in(assembler: Assembler, node: Node, places: dict[Value, Storage], guard: Guard | None) -> list[Level]:
    """Return the level that puts the initial values where the loop keeps them."""
    level = Level()
    for source, target in zip(node.inputs, node.outputs, strict=False):
        if places[source] is not places[target]:
            launch = copy(assembler, source, places[source], places[target], guard)
            if launch is not None:
                level.steps.append(launch)
    return [level] if level.steps else []


def _round(
    assembler: Assembler, body: Graph, carried: list[Storage], captured: list[Storage], guard: Guard | None
) -> list[Level]:
    """Return the levels of one round, which leaves the new values where the old ones were."""
    places = dict(zip(body.inputs, [*carried, *captured], strict=True))
    mutable = set(body.inputs[: len(carried)])
    levels, ends = assembler.region(body, places, dict(enumerate(carried)), mutable, guard)
    return levels + _exchange(assembler, body.outputs, ends, carried, guard)


def _exchange(
    assembler: Assembler,
    values: tuple[Value, ...],
    ends: list[Storage],
    targets: list[Storage],
    guard: Guard | None,
) -> list[Level]:
    """Return the copies of results into their places, through temporaries where a source is another's target."""
    first, second = Level(), Level()
    for value, end, target in zip(values, ends, targets, strict=True):
        if end is target:
            continue
        if any(end is other for other in targets):
            middle = assembler.temporary(value.nbytes)
            _append(first, copy(assembler, value, end, middle, guard))
            end = middle
        _append(second, copy(assembler, value, end, target, guard))
    return [level for level in (first, second) if level.steps]


def _append(level: Level, launch: Launch | None) -> None:
    if launch is not None:
        level.steps.append(launch)


def _condition(
    assembler: Assembler, graph: Graph, carried: list[Storage], captured: list[Storage], guard: Guard
) -> list[Level]:
    """Return the levels that bring the flag up to date; its last kernel alone writes it."""
    places = dict(zip(graph.inputs, [*carried, *captured], strict=True))
    levels, (end,) = assembler.region(graph, places, {}, set(), guard)
    holds = Value(0, "bool", ())
    flag = Value(1, "i32", ())
    body = Graph("map", (holds,), (Node("convert", (holds,), (flag,)),), (flag,))
    node = _map_node(body, (holds,), (flag,), "condition")
    launch = assembler.launch(node, {holds: end, flag: guard.flag}, guard)
    assert launch is not None
    return [*levels, Level([launch])]


class _Scalars:
    """Writes the body of a kernel that computes one i32 from a few scalars."""

    def __init__(self) -> None:
        self.inputs: dict[Value, Storage] = {}
        self.nodes: list[Node] = []
        self._count = 0

    def read(self, dtype: str, place: Storage) -> Value:
        """Return the scalar in some memory."""
        value = self._fresh(dtype)
        self.inputs[value] = place
        return value

    def number(self, value: int) -> Value:
        """Return an i32 constant."""
        return self.apply("constant", "i32", value=np.array(value, np.int32))

    def compare(self, direction: str, left: Value, right: Value) -> Value:
        """Return whether left stands in a relation to right."""
        return self.apply("compare", "bool", left, right, direction=direction, total_order=False)

    def apply(self, op: str, dtype: str, *inputs: Value, **attributes: object) -> Value:
        """Return the result of an operation."""
        value = self._fresh(dtype)
        self.nodes.append(Node(op, inputs, (value,), attributes))
        return value

    def launch(self, assembler: Assembler, result: Value, target: Storage, label: str) -> Launch:
        """Return the dispatch that stores the result; it runs whatever branch is taken."""
        body = Graph("map", tuple(self.inputs), tuple(self.nodes), (result,))
        node = _map_node(body, tuple(self.inputs), (result,), label)
        launch = assembler.launch(node, {**self.inputs, result: target}, None)
        assert launch is not None, "a scalar is never empty"
        return launch

    def _fresh(self, dtype: str) -> Value:
        self._count += 1
        return Value(self._count, dtype, ())


def _first_flag(assembler: Assembler, flag: Storage, guard: Guard | None) -> Launch:
    """Return the dispatch that sets a loop's flag: one, or zero where the surrounding branch is not taken."""
    body = _Scalars()
    if guard is None:
        return body.launch(assembler, body.number(1), flag, "begin")
    taken = body.compare("EQ", body.read("i32", guard.flag), body.number(guard.expected))
    return body.launch(assembler, body.apply("convert", "i32", taken), flag, "begin")


def _case(assembler: Assembler, node: Node, places: dict[Value, Storage], guard: Guard | None) -> list[Level]:
    branches: tuple[Graph, ...] = node.attributes["branches"]
    index, *captured = node.inputs
    flag = assembler.temporary(4)
    levels = [Level([_branch_flag(assembler, index, places[index], flag, len(branches), guard)])]
    targets = [places[value] for value in node.outputs]
    for number, branch in enumerate(branches):
        inner = Guard(flag, number)
        inputs = dict(zip(branch.inputs, (places[value] for value in captured), strict=True))
        steps, ends = assembler.region(branch, inputs, dict(enumerate(targets)), set(), inner)
        levels += steps + _exchange(assembler, branch.outputs, ends, targets, inner)
    return levels


def _branch_flag(
    assembler: Assembler, index: Value, place: Storage, flag: Storage, count: int, guard: Guard | None
) -> Launch:
    """Return the dispatch that writes which branch to take, -1 for none; out of range takes the last branch."""
    body = _Scalars()
    wide = body.apply("convert", "i32", body.read(index.dtype, place))
    last = body.number(count - 1)
    inside = body.apply("and", "bool", body.compare("GE", wide, body.number(0)), body.compare("LE", wide, last))
    chosen = body.apply("select", "i32", inside, wide, last)
    if guard is not None:
        taken = body.compare("EQ", body.read("i32", guard.flag), body.number(guard.expected))
        chosen = body.apply("select", "i32", taken, chosen, body.number(-1))
    return body.launch(assembler, chosen, flag, "branch")
