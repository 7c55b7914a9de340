"""Clusters of root nodes on their way to become kernels, with the order between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..graph import Graph, Node, Value
from .axes import Axes, identity, operand_axes, reads


@dataclass(eq=False)
class Cluster:
    """Roots that one kernel will compute. `axes` maps each root's dimensions to the domain's.

    Kinds: map, rows (reductions and what surrounds them), dot, serial, partial, window, scatter, update; view, constant
    and control are no kernels, nor is what became dead. `again`: roots of other clusters that this one computes anew.
    """

    kind: str
    roots: list[Node]
    domain: tuple[int, ...]
    reduced: frozenset[int]
    axes: dict[Value, Axes]
    id: int = -1
    again: set[Value] = field(default_factory=set)


class Clusters:
    """All clusters of one graph. Reachability is kept as bit masks, so that a merge never makes a cycle."""

    def __init__(self, graph: Graph, roots: set[Value]) -> None:
        self.graph = graph
        self.roots = roots
        self.producers = graph.producers()
        self.order = {id(node): place for place, node in enumerate(graph.nodes)}
        self.items: dict[int, Cluster] = {}
        self.owner: dict[Value, Cluster] = {}
        self.above: dict[int, int] = {}  # cluster id -> mask of the clusters it depends on, directly or not
        self._outputs = set(graph.outputs)
        self._consumers: dict[Value, set[int]] = {}

    def add(self, cluster: Cluster) -> None:
        """Enter a cluster; those it reads from must be there already."""
        cluster.id = len(self.items)
        self.items[cluster.id] = cluster
        mask = 0
        for value in self.memory_reads(cluster):
            producer = self.owner.get(value)
            if producer is not None:
                mask |= self.above[producer.id] | 1 << producer.id
            self._consumers.setdefault(value, set()).add(cluster.id)
        self.above[cluster.id] = mask
        for node in cluster.roots:
            for value in node.outputs:
                self.owner[value] = cluster

    def inlined(self, value: Value) -> Node | None:
        """Return the node to compute a value in place, or `None` if it lives in memory."""
        return None if value in self.roots else self.producers.get(value)

    def domain_reads(self, cluster: Cluster) -> list[tuple[Value, Axes | None]]:
        """Return what the cluster's roots read, with maps in the coordinates of its domain."""
        result: list[tuple[Value, Axes | None]] = []
        for node in cluster.roots:
            result.extend(reads(self._start(cluster, node), lambda value: self._computed(cluster, value)))
        return result

    def memory_reads(self, cluster: Cluster) -> list[Value]:
        """Return the values from memory that the cluster's roots read, each once, own roots left out."""
        own = {value for node in cluster.roots for value in node.outputs}
        return [value for value in dict.fromkeys(v for v, _ in self.domain_reads(cluster)) if value not in own]

    def producers_of(self, cluster: Cluster) -> list[Cluster]:
        """Return the clusters that this one reads from, nearest first."""
        found = {self.owner[v].id: self.owner[v] for v in self.memory_reads(cluster) if v in self.owner}
        return sorted(found.values(), key=lambda item: -self._place(item))

    def can_join(self, producer: Cluster, consumer: Cluster) -> bool:
        """Tell whether merging the two leaves no path from one to the other through a third."""
        bit = 1 << producer.id
        between = self.above[consumer.id] & ~bit
        while between:
            low = between & -between
            if self.above[low.bit_length() - 1] & bit:
                return False
            between ^= low
        return True

    def independent(self, first: Cluster, second: Cluster) -> bool:
        """Tell whether neither cluster depends on the other."""
        return not (self.above[first.id] >> second.id & 1 or self.above[second.id] >> first.id & 1)

    def join(self, producer: Cluster, consumer: Cluster, merged: Cluster) -> None:
        """Replace two clusters by their union, which keeps the consumer's number."""
        merged.id = consumer.id
        merged.roots = sorted((*producer.roots, *consumer.roots), key=lambda node: self.order[id(node)])
        gone, kept = 1 << producer.id, 1 << consumer.id
        mask = (self.above[producer.id] | self.above[consumer.id]) & ~(gone | kept)
        del self.items[producer.id], self.above[producer.id]
        self.items[consumer.id] = merged
        self.above[consumer.id] = mask
        for key, above in self.above.items():
            if above & (gone | kept):
                self.above[key] = (above & ~gone) | kept | mask
        for node in merged.roots:
            for value in node.outputs:
                self.owner[value] = merged
        for consumers in self._consumers.values():
            if producer.id in consumers:
                consumers.discard(producer.id)
                consumers.add(consumer.id)

    def needed_outside(self, value: Value, cluster: Cluster) -> bool:
        """Tell whether a root's value is an output or read by another cluster."""
        return self.is_output(value) or bool(self.readers(value, cluster))

    def is_output(self, value: Value) -> bool:
        """Tell whether a value is a result of the graph."""
        return value in self._outputs

    def readers(self, value: Value, cluster: Cluster) -> list[Cluster]:
        """Return the other clusters that read a value of this one from memory."""
        return [self.items[key] for key in sorted(self._consumers.get(value, set()) - {cluster.id})]

    def compute_again(self, reader: Cluster, values: Iterable[Value], leaves: Iterable[Value]) -> None:
        """Let a cluster compute roots of others itself, from `leaves` in memory."""
        for value in values:
            reader.again.add(value)
            self._consumers.get(value, set()).discard(reader.id)
        for value in leaves:
            self._consumers.setdefault(value, set()).add(reader.id)

    def body(self, cluster: Cluster) -> tuple[list[Node], list[Value]]:
        """Return the nodes a cluster computes, in order, and the memory values it reads."""
        own = {value for node in cluster.roots for value in node.outputs}
        nodes: list[Node] = []
        seen: set[int] = set()
        external: dict[Value, None] = {}
        # Operands first, in the order the roots ask for them: equal computations get equal bodies, and share a kernel.
        pending = [(node, False) for node in reversed(cluster.roots)]
        while pending:
            node, ready = pending.pop()
            if ready:
                nodes.append(node)
                continue
            if id(node) in seen:
                continue
            seen.add(id(node))
            pending.append((node, True))
            for value in reversed(node.inputs):
                producer = self.producers.get(value)
                if producer is not None and (value in own or self._computed(cluster, value) is not None):
                    pending.append((producer, False))
        for node in nodes:
            for value in node.inputs:
                if value not in own and self._computed(cluster, value) is None:
                    external[value] = None
        return nodes, list(external)

    def ordered(self) -> list[Cluster]:
        """Return the clusters in an order in which each follows what it depends on."""
        done = 0
        result: list[Cluster] = []
        waiting = sorted(self.items.values(), key=self._place)
        while waiting:
            rest: list[Cluster] = []
            for cluster in waiting:
                if self.above[cluster.id] & ~done:
                    rest.append(cluster)
                    continue
                result.append(cluster)
                done |= 1 << cluster.id
            if len(rest) == len(waiting):
                raise AssertionError("fusion made a cycle")
            waiting = rest
        return result

    def _computed(self, cluster: Cluster, value: Value) -> Node | None:
        """Return the node to compute a value in place inside a cluster, or `None` if it reads it from memory."""
        return self.producers.get(value) if value in cluster.again else self.inlined(value)

    def _place(self, cluster: Cluster) -> int:
        return self.order[id(cluster.roots[-1])]

    def _start(self, cluster: Cluster, node: Node) -> list[tuple[Value, Axes | None]]:
        """Return the operands of a root with their maps in domain coordinates."""
        if cluster.kind == "rows" and node.op == "reduce":
            count = len(node.outputs)
            full = identity(cluster.domain)
            return [(v, full if i < count else ()) for i, v in enumerate(node.inputs)]
        if cluster.kind in ("map", "rows", "dot") and node.op not in ("dot_general", "copy"):
            axes = cluster.axes[node.outputs[0]]
            return [(v, operand_axes(node, i, axes)) for i, v in enumerate(node.inputs)]
        return [(v, None) for v in node.inputs]
