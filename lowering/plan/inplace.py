"""Decide which memory each value of a graph lives in, and order the nodes so that overwriting is safe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..graph import Graph, Node, Value
from ..passes.axes import identity, reads
from . import control
from .order import Dependencies
from .steps import Storage

if TYPE_CHECKING:
    from .assemble import Assembler

IN_PLACE = ("update", "scatter")


@dataclass(frozen=True)
class Plan:
    """Nodes in levels, and the memory of every value."""

    levels: list[list[Node]]
    places: dict[Value, Storage]


def arrange(
    graph: Graph, places: dict[Value, Storage], wanted: dict[int, Storage], mutable: set[Value], assembler: Assembler
) -> Plan:
    """Return the plan of a graph; see `Assembler.region` for the arguments."""
    graph = _with_copies(graph, mutable)
    arranger = _Arranger(graph, dict(places), mutable, assembler)
    for position, storage in wanted.items():
        arranger.settle_output(position, storage)
    for node in graph.nodes:
        arranger.place(node)
    return Plan(arranger.order.levels(), arranger.places)


def _updated(node: Node) -> list[tuple[Value, Value]]:
    """Return (operand, result) pairs that share memory: the operands an in-place kernel overwrites."""
    if node.op != "fusion" or node.attributes["kind"] not in IN_PLACE:
        return []
    body: Graph = node.attributes["body"]
    inner = body.nodes[-1]
    outside = dict(zip(body.inputs, node.inputs, strict=True))
    results = dict(zip(body.outputs, node.outputs, strict=True))
    return [
        (outside[operand], results[result])
        for operand, result in zip(inner.inputs, inner.outputs, strict=False)
        if result in results
    ]


def _with_copies(graph: Graph, mutable: set[Value]) -> Graph:
    """Insert a copy wherever an in-place node's operand must survive: it is read later, given out, or not ours."""
    base = _bases(graph)
    order = Dependencies(graph)
    producers = graph.producers()
    fresh = 1 + max((v.id for v in _all_values(graph)), default=0)
    nodes: list[Node] = []
    for node in graph.nodes:
        operands = list(node.inputs)
        for operand, result in _updated(node):
            if _may_overwrite(graph, base, order, producers, mutable, operand, node):
                continue
            twin = Value(fresh, operand.dtype, operand.shape)
            fresh += 1
            nodes.append(control.copy_node(operand, twin))
            operands[node.inputs.index(operand)] = twin
        nodes.append(Node(node.op, tuple(operands), node.outputs, node.attributes, node.where))
    return Graph(graph.name, graph.inputs, tuple(nodes), graph.outputs, graph.aliases, graph.input_names)


def _all_values(graph: Graph) -> Iterable[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.outputs


def _bases(graph: Graph) -> dict[Value, Value]:
    """Map each value to the one whose memory it shares through views and in-place updates."""
    base: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op in ("reshape", "bitcast_convert"):
            base[node.output] = base.get(node.inputs[0], node.inputs[0])
    return base


def _readers(graph: Graph, base: dict[Value, Value], memory: Value) -> list[Node]:
    return [node for node in graph.nodes if any(base.get(value, value) is memory for value in node.inputs)]


def _may_overwrite(
    graph: Graph,
    base: dict[Value, Value],
    order: Dependencies,
    producers: dict[Value, Node],
    mutable: set[Value],
    operand: Value,
    node: Node,
) -> bool:
    """Tell whether `node` may destroy `operand`; if so, all its other readers are ordered before `node`."""
    memory = base.get(operand, operand)
    producer = producers.get(memory)
    if any(base.get(value, value) is memory for value in graph.outputs):
        return False
    if producer is None and memory not in mutable:
        return False
    if producer is not None and producer.op == "constant":
        return False
    others = [n for n in _readers(graph, base, memory) if n is not node]
    if any(_updated(other) and base.get(_updated(other)[0][0], _updated(other)[0][0]) is memory for other in others):
        return False
    if node.inputs.count(operand) > 1:
        return False
    views = {n.output for n in others if n.op in ("reshape", "bitcast_convert")}
    firsts = [order.place[id(n)] for n in others if not views.intersection(n.outputs)]
    return order.try_order(firsts, order.place[id(node)])


class _Arranger:
    """Gives memory to values, with the order that overwriting demands."""

    def __init__(self, graph: Graph, places: dict[Value, Storage], mutable: set[Value], assembler: Assembler) -> None:
        self.graph, self.places, self.mutable, self.assembler = graph, places, mutable, assembler
        self.order = Dependencies(graph)
        self.base = _bases(graph)
        self.producers = graph.producers()
        self.claimed: dict[Value, Storage] = {}
        self._keep_update_order()

    def settle_output(self, position: int, storage: Storage) -> None:
        """Make the memory of an output the wanted one, if its value is computed here and nothing else needs that memory."""
        value = self._origin(self.graph.outputs[position])
        producer = self.producers.get(value)
        if producer is None or producer.op == "constant" or value in self.claimed or value in self.places:
            return
        owner = next((v for v in self.mutable if self.places.get(v) is storage), None)
        if value.nbytes != storage.nbytes:
            return
        if owner is not None and not self._may_take(owner, value, producer):
            if storage.space == "input":
                self.claimed[value] = Storage("output", position, value.nbytes)
            return
        self.claimed[value] = storage

    def place(self, node: Node) -> None:
        """Give memory to the results of a node."""
        if node.op == "constant":
            self.places[node.output] = self.assembler.constant(node)
            return
        if node.op in ("reshape", "bitcast_convert"):
            self.places[node.output] = self.places[node.inputs[0]]
            return
        shared = {result: self.places[operand] for operand, result in _updated(node)}
        for value in node.outputs:
            self.places[value] = (
                shared.get(value) or self.claimed.get(value) or self.assembler.temporary(value.nbytes)
            )

    def _origin(self, value: Value) -> Value:
        """Follow views and in-place updates back to the value whose memory decides."""
        while True:
            value = self.base.get(value, value)
            producer = self.producers.get(value)
            pair = next((p for p in _updated(producer) if p[1] is value), None) if producer is not None else None
            if pair is None:
                return value
            value = pair[0]

    def _may_take(self, owner: Value, value: Value, producer: Node) -> bool:
        """Tell whether `value` may be made in the memory of the input `owner`; orders the owner's readers before it."""
        if any(self._origin(out) is owner for out in self.graph.outputs):
            return False
        if any(claim is self.places[owner] for claim in self.claimed.values()):
            return False
        if producer.op != "fusion":
            return False
        readers = self._memory_readers(owner)
        if producer in readers and not _reads_in_step(producer, owner, value, self.base):
            return False
        firsts = [self.order.place[id(n)] for n in readers if n is not producer and n.op not in _VIEWS]
        return self.order.try_order(firsts, self.order.place[id(producer)])

    def _memory_readers(self, memory: Value) -> list[Node]:
        return [n for n in self.graph.nodes if any(self._origin(v) is memory for v in n.inputs)]

    def _keep_update_order(self) -> None:
        """Order all other readers of an updated operand before its update; copies have made that possible."""
        for node in self.graph.nodes:
            for operand, _ in _updated(node):
                memory = self.base.get(operand, operand)
                readers = [n for n in _readers(self.graph, self.base, memory) if n is not node and n.op not in _VIEWS]
                done = self.order.try_order([self.order.place[id(n)] for n in readers], self.order.place[id(node)])
                assert done, "an update was left in place although its operand is read later"


_VIEWS = ("reshape", "bitcast_convert")


def _reads_in_step(node: Node, source: Value, result: Value, base: dict[Value, Value]) -> bool:
    """Tell whether each lane reads of `source` only the element that it writes of `result`."""
    if node.attributes["kind"] != "map":
        return False
    body: Graph = node.attributes["body"]
    inside = [b for b, v in zip(body.inputs, node.inputs, strict=True) if base.get(v, v) is source]
    producers = body.producers()
    axes = dict(zip(node.outputs, node.attributes["output_axes"], strict=True))
    if axes[result] != identity(result.shape) or result.shape != node.attributes["domain"]:
        return False
    start = list(zip(body.outputs, node.attributes["output_axes"], strict=True))
    for value, found in reads(start, lambda v: producers.get(v)):
        if value in inside and (found != identity(result.shape) or value.shape != result.shape):
            return False
    return all(value.dtype == result.dtype for value in inside)
