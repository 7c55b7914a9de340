"""Group the nodes that one kernel computes.

Before                                   After
  %2 = reduce(%0, %1) {dimensions=(1)}     %5 = fusion(%0) {kind=rows, domain=(8,16), reduced=(1)}
  %3 = broadcast_in_dim(%2)                    graph ... reduce, broadcast, subtract, exponential
  %4 = subtract(%0, %3)
  %5 = exponential(%4)

A fusion's body reads memory through its inputs only. `domain` is the space its kernel walks, `reduced` the axes of it
that reductions run over, `output_axes` how each output's dimensions follow the domain's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..graph import Graph, Node, Value, map_regions
from . import merge
from .axes import Axes, identity
from .clusters import Cluster, Clusters
from .recompute import recompute
from .roots import choose_roots, is_large_constant, is_view


@dataclass
class _Renumber:
    """Hand out fresh value numbers, so that equal bodies print alike and share one kernel."""

    names: dict[Value, Value] = field(default_factory=dict)
    count: int = 0

    def __call__(self, value: Value) -> Value:
        if value not in self.names:
            self.names[value] = self.fresh(value)
        return self.names[value]

    def fresh(self, value: Value) -> Value:
        """Return a new value of the same type."""
        self.count += 1
        return Value(self.count - 1, value.dtype, value.shape)


def fuse(graph: Graph) -> Graph:
    """Return the graph with every computation inside `fusion` nodes; control flow keeps its regions, fused as well."""
    roots = choose_roots(graph)
    clusters = Clusters(graph, roots)
    for node in graph.nodes:
        if any(value in roots for value in node.outputs):
            clusters.add(_cluster_of(node, clusters.inlined))
    merge.vertical(clusters)
    merge.horizontal(clusters)
    merge.side_by_side(clusters)
    # Last, since it trades what kernels store against what they compute: both must be known.
    recompute(clusters)
    nodes = [_build(clusters, cluster) for cluster in clusters.ordered()]
    return replace(graph, nodes=tuple(node for node in nodes if node is not None))


def _cluster_of(node: Node, inlined: Callable[[Value], Node | None]) -> Cluster:
    if node.op in ("while", "case"):
        return Cluster("control", [node], (), frozenset(), {})
    if is_large_constant(node):
        return Cluster("constant", [node], (), frozenset(), {})
    if is_view(node):
        return Cluster("view", [node], (), frozenset(), {})
    if node.op == "reduce" and node.attributes["kind"] is not None:
        return _reduce_cluster(node)
    if node.op == "dot_general":
        return Cluster("dot", [node], node.output.shape, frozenset(), {node.output: identity(node.output.shape)})
    if node.op == "partial_reduce":
        return Cluster("partial", [node], node.inputs[0].shape, frozenset(node.attributes["dimensions"]), {})
    if node.op in KERNEL_OF and not (node.op == "dynamic_update_slice" and inlined(node.inputs[0]) is not None):
        return Cluster(KERNEL_OF[node.op], [node], node.outputs[0].shape, frozenset(), {})
    return Cluster("map", [node], node.output.shape, frozenset(), {node.output: identity(node.output.shape)})


# Anchors whose kernel takes producers in but nothing else along.
KERNEL_OF = {
    "reduce": "serial",
    "reduce_window": "window",
    "scatter": "scatter",
    "dynamic_update_slice": "update",
    "copy": "map",
    "tile": "tile",
}


# Kernels that work in the memory of what they update.
IN_PLACE = frozenset({"scatter", "update", "tile"})


def _reduce_cluster(node: Node) -> Cluster:
    domain = node.inputs[0].shape
    reduced = frozenset(node.attributes["dimensions"])
    kept: Axes = tuple(None if domain[a] == 1 else a for a in range(len(domain)) if a not in reduced)
    return Cluster("rows", [node], domain, reduced, dict.fromkeys(node.outputs, kept))


def _build(clusters: Clusters, cluster: Cluster) -> Node | None:
    """Return the node that stands for a cluster in the fused graph."""
    first = cluster.roots[0]
    if cluster.kind == "dead":
        return None
    if cluster.kind == "control":
        return map_regions(first, fuse)
    if cluster.kind in ("view", "constant"):
        return first
    body_nodes, reads = clusters.body(cluster)
    results = [v for node in cluster.roots for v in node.outputs]
    # A scatter and a tile kernel work in the memory of their results: all of them, used or not.
    outputs = [v for v in results if cluster.kind in ("scatter", "tile") or clusters.needed_outside(v, cluster)]
    if not outputs:
        outputs = list(cluster.roots[-1].outputs)
    inputs, body = _body(cluster, body_nodes, reads, outputs)
    attributes = {
        "kind": cluster.kind,
        "domain": cluster.domain,
        "reduced": tuple(sorted(cluster.reduced)),
        "output_axes": tuple(cluster.axes.get(v, identity(v.shape)) for v in outputs),
        "label": _label(body_nodes),
        "body": body,
    }
    where = next((node.where for node in cluster.roots if node.where), "")
    return Node("fusion", inputs, tuple(outputs), attributes, where)


def _body(
    cluster: Cluster, nodes: list[Node], reads: list[Value], outputs: list[Value]
) -> tuple[tuple[Value, ...], Graph]:
    """Return what a cluster reads, and its body over inputs for that.

    What an in-place kernel overwrites comes first, and once more if it is also read: the plan may then give the two
    different memory.
    """
    number = _Renumber()
    *inner, root = nodes
    count = root.attributes.get("updates", len(root.outputs)) if cluster.kind in IN_PLACE else 0
    operands = root.inputs[:count]
    elsewhere = {value for node in inner for value in node.inputs} | set(root.inputs[count:])
    rest = [value for value in reads if value not in operands or value in elsewhere]
    inputs = tuple([number.fresh(value) for value in operands] + [number(value) for value in rest])
    renamed = [replace(n, inputs=tuple(map(number, n.inputs)), outputs=tuple(map(number, n.outputs))) for n in inner]
    arguments = (*inputs[:count], *map(number, root.inputs[count:]))
    renamed.append(replace(root, inputs=arguments, outputs=tuple(map(number, root.outputs))))
    return (*operands, *rest), Graph(cluster.kind, inputs, tuple(renamed), tuple(map(number, outputs)))


LABEL_LENGTH = 60
_SILENT = frozenset({"constant", "broadcast_in_dim", "reshape", "convert"})


def _label(nodes: list[Node]) -> str:
    """Name a kernel after the operations inside, so that profilers show them."""
    names = dict.fromkeys(n.op for n in nodes if n.op not in _SILENT) or dict.fromkeys(n.op for n in nodes)
    return "+".join(names)[:LABEL_LENGTH]
