"""Cut long reductions with few results in parts that run side by side, then reduce the parts.

Before                                                    After
  %2 = reduce(%0: f32[67108864], %1) {dimensions=(0)}       %3 = partial_reduce(%0, %1) {parts=512} : f32[512]
                                                            %2 = reduce(%3, %1) {dimensions=(0)}
"""

from __future__ import annotations

from dataclasses import replace

from shaders.capabilities import Capabilities

from ..graph import Graph, Node, Value
from ..schedule import extents, minor_is_reduced

# Elements that one part should have at least: shorter parts cost more in launches than they win.
SHORTEST_PART = {True: 16384, False: 2048}
# Workgroups (or, for columns, lanes) that keep a device busy.
BUSY = {True: 8, False: 1024}
BUSY_COLUMNS = {True: 64, False: 262144}
# A part is no longer than this, so that running sums keep their accuracy and no lane works for long.
LONGEST_PART = 1 << 20


def split_reduce(graph: Graph, capabilities: Capabilities) -> Graph:
    """Return the graph with long reductions in two stages; regions of loops and branches as well."""
    fresh = 1 + max((v.id for v in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs))), default=0)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in ("while", "case"):
            nodes.append(replace(node, attributes={k: _regions(v, capabilities) for k, v in node.attributes.items()}))
            continue
        parts = part_count(node, capabilities)
        if parts == 1:
            nodes.append(node)
            continue
        kept = node.outputs[0].shape
        partial = tuple(Value(fresh + i, v.dtype, (*kept, parts)) for i, v in enumerate(node.outputs))
        fresh += len(partial)
        inits = node.inputs[len(node.outputs) :]
        nodes.append(Node("partial_reduce", node.inputs, partial, {**node.attributes, "parts": parts}, node.where))
        last = {**node.attributes, "dimensions": (len(kept),)}
        nodes.append(Node("reduce", (*partial, *inits), node.outputs, last, node.where))
    return replace(graph, nodes=tuple(nodes))


def part_count(node: Node, capabilities: Capabilities) -> int:
    """Return how many parts to cut each row of a reduction into; one to leave it whole."""
    if node.op != "reduce" or node.attributes["kind"] is None or node.inputs[0].size == 0:
        return 1
    domain, reduced = node.inputs[0].shape, node.attributes["dimensions"]
    kept, count = extents(domain, tuple(reduced))
    cpu = capabilities.is_cpu
    if minor_is_reduced(domain, tuple(reduced)):
        wanted, shortest = BUSY[cpu] // max(kept, 1), SHORTEST_PART[cpu]
    else:
        wanted, shortest = BUSY_COLUMNS[cpu] // max(kept, 1), SHORTEST_PART[cpu] // 16
    parts = max(min(wanted, count // shortest), -(-count // LONGEST_PART))
    return max(parts, 1)


def _regions(value: object, capabilities: Capabilities) -> object:
    if isinstance(value, Graph):
        return split_reduce(value, capabilities)
    if isinstance(value, tuple) and any(isinstance(item, Graph) for item in value):
        return tuple(split_reduce(item, capabilities) for item in value)
    return value
