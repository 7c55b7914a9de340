"""Decide which memory each value of a graph lives in, and order the nodes so that overwriting is safe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..graph import Graph, Node, Value
from ..passes.axes import Axes, identity, reads
from . import control
from .order import VIEWS, Dependencies
from .steps import Storage

if TYPE_CHECKING:
    from .assemble import Assembler

IN_PLACE = ("update", "scatter", "tile")


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
        arranger.settle_loop(node)
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
    count = inner.attributes.get("updates", len(inner.outputs))
    return [
        (outside[operand], results[result])
        for operand, result in zip(inner.inputs[:count], inner.outputs[:count], strict=False)
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
        for operand, _ in _updated(node):
            if _may_overwrite(graph, base, order, producers, mutable, operand, node):
                continue
            twin = Value(fresh, operand.dtype, operand.shape)
            fresh += 1
            nodes.append(control.copy_node(operand, twin))
            operands[operands.index(operand)] = twin
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
        if node.op in VIEWS:
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
    if sum(base.get(value, value) is memory for value in node.inputs) > 1:
        return False
    views = {n.output for n in others if n.op in VIEWS}
    firsts = [order.place[id(n)] for n in others if not views.intersection(n.outputs)]
    return order.try_order(firsts, order.place[id(node)])


def _origins(graph: Graph, base: dict[Value, Value]) -> dict[Value, Value]:
    """Map each value to the one whose memory decides where it lives, through views and in-place updates."""
    origin = {value: value for value in graph.inputs}
    for node in graph.nodes:
        pairs = {result: operand for operand, result in _updated(node)}
        for value in node.outputs:
            source = pairs.get(value, base.get(value, value))
            origin[value] = origin[source] if source is not value else value
    return origin


def _readers_by_memory(graph: Graph, origin: dict[Value, Value]) -> dict[Value, list[Node]]:
    result: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for memory in dict.fromkeys(origin[value] for value in node.inputs):
            result.setdefault(memory, []).append(node)
    return result


class _Arranger:
    """Gives memory to values, with the order that overwriting demands."""

    def __init__(self, graph: Graph, places: dict[Value, Storage], mutable: set[Value], assembler: Assembler) -> None:
        self.graph, self.places, self.mutable, self.assembler = graph, places, mutable, assembler
        self.order = Dependencies(graph)
        self.base = _bases(graph)
        self.producers = graph.producers()
        self.claimed: dict[Value, Storage] = {}
        self.origin = _origins(graph, self.base)
        self.readers = _readers_by_memory(graph, self.origin)
        self.kept = {self.origin[value] for value in graph.outputs}
        self.owners = {id(places[value]): value for value in mutable}
        self.taken: set[int] = set()
        self._keep_update_order()

    def settle_output(self, position: int, storage: Storage) -> None:
        """Make an output in the wanted memory, if its value is computed here and nothing else needs that memory."""
        value = self.origin[self.graph.outputs[position]]
        producer = self.producers.get(value)
        if producer is None or producer.op == "constant" or value in self.claimed or value in self.places:
            return
        owner = self.owners.get(id(storage))
        if value.nbytes != storage.nbytes:
            return
        if owner is not None and not self._may_take(owner, value, producer):
            return
        self.claimed[value] = storage
        self.taken.add(id(storage))

    def settle_loop(self, node: Node) -> None:
        """Let what starts a loop be made where the loop keeps it, if nothing else reads it."""
        if node.op != "while":
            return
        for start, result in zip(node.inputs, node.outputs, strict=False):
            producer = self.producers.get(start)
            alone = self.readers.get(start, []) == [node] and node.inputs.count(start) == 1
            own = start not in self.kept and self.origin[start] is start and start not in self.claimed
            if producer is None or producer.op != "fusion" or not alone or not own:
                continue
            storage = self.claimed.get(result) or self.assembler.temporary(result.nbytes)
            self.claimed[start] = self.claimed[result] = storage

    def place(self, node: Node) -> None:
        """Give memory to the results of a node."""
        if node.op == "constant":
            self.places[node.output] = self.assembler.constant(node)
            return
        if node.op in VIEWS:
            self.places[node.output] = self.places[node.inputs[0]]
            return
        shared = {result: self.places[operand] for operand, result in _updated(node)}
        for value in node.outputs:
            self.places[value] = shared.get(value) or self.claimed.get(value) or self.assembler.temporary(value.nbytes)

    def _may_take(self, owner: Value, value: Value, producer: Node) -> bool:
        """Tell whether `value` may be made in the memory of the input `owner`; orders the owner's readers before it."""
        if owner in self.kept or id(self.places[owner]) in self.taken:
            return False
        readers = self.readers.get(owner, [])
        if producer.op == "while":
            if not self._starts_alone(owner, value, producer):
                return False
        elif producer.op != "fusion" or (
            producer in readers and not _reads_in_step(producer, owner, value, self.origin)
        ):
            return False
        firsts = [self.order.place[id(n)] for n in readers if n is not producer and n.op not in VIEWS]
        return self.order.try_order(firsts, self.order.place[id(producer)])

    def _starts_alone(self, owner: Value, value: Value, loop: Node) -> bool:
        """Tell whether a loop's result is carried from `owner`, and the loop reads that memory for nothing else."""
        origins = [self.origin[operand] for operand in loop.inputs]
        return origins.count(owner) == 1 and origins[loop.outputs.index(value)] is owner

    def _keep_update_order(self) -> None:
        """Order all other readers of an updated operand before its update; copies have made that possible."""
        for node in self.graph.nodes:
            for operand, _ in _updated(node):
                memory = self.base.get(operand, operand)
                readers = [n for n in _readers(self.graph, self.base, memory) if n is not node and n.op not in VIEWS]
                done = self.order.try_order([self.order.place[id(n)] for n in readers], self.order.place[id(node)])
                assert done, "an update was left in place although its operand is read later"


def _reads_in_step(node: Node, source: Value, result: Value, origin: dict[Value, Value]) -> bool:
    """Tell whether each lane reads of `source` only the element that it writes of `result`, or reduces it before.

    `origin` names the value whose memory each one lies in, through views and updates in place.

    A row's results are written once all its lanes have read what they reduce; what other lanes read of a row after that
    is used for nothing unless the row has outputs of full size.
    """
    if node.attributes["kind"] not in ("map", "rows", "dot"):
        return False
    body: Graph = node.attributes["body"]
    axes = dict(zip(node.outputs, node.attributes["output_axes"], strict=True))[result]
    wide = {axis for axis, extent in enumerate(node.attributes["domain"]) if extent != 1}
    is_full = {axis for axis in axes if axis is not None} == wide
    if not is_full and any(row != axes for row in node.attributes["output_axes"]):
        return False
    inside = [b for b, v in zip(body.inputs, node.inputs, strict=True) if origin[v] is source]
    if any(value.dtype != result.dtype or value.shape != result.shape for value in inside):
        return False
    return all(found == axes for value, found in _body_reads(node) if value in inside)


def _body_reads(node: Node) -> Iterator[tuple[Value, Axes | None]]:
    """Yield what a fusion's body reads from memory, with maps in the coordinates of its domain."""
    body: Graph = node.attributes["body"]
    start: list[tuple[Value, Axes | None]] = list(zip(body.outputs, node.attributes["output_axes"], strict=True))
    producers = body.producers()
    for inner in body.nodes:
        if inner.op == "reduce" and node.attributes["kind"] == "rows":
            count = len(inner.outputs)
            start += [(value, identity(node.attributes["domain"])) for value in inner.inputs[:count]]
            start += [(value, ()) for value in inner.inputs[count:]]
            for value in inner.outputs:
                del producers[value]
    return reads(start, producers.get)
