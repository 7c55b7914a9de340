"""Replace what has nothing to compute over: empty reductions, products, updates and grids of tile kernels.

Before                                          After
  %2 = reduce(%0: f32[4,0], %1) {kind=add}        %2 = broadcast_in_dim(%1)
  %3 = dot_general(f32[4,0], f32[0,8])            %3 = constant 0
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import dtypes
from ..graph import Graph, Node, map_regions


def degenerate(graph: Graph) -> Graph:
    """Return the graph without operations over nothing; regions as well."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.extend(_replace(map_regions(node, degenerate) if node.op in ("while", "case") else node))
    return replace(graph, nodes=tuple(nodes))


def _replace(node: Node) -> list[Node]:
    if node.op in ("reduce", "reduce_window") and node.inputs[0].size == 0 and node.outputs[0].size:
        inits = node.inputs[len(node.outputs) :]
        return [
            Node("broadcast_in_dim", (init,), (value,), {"dimensions": ()}, node.where)
            for init, value in zip(inits, node.outputs, strict=True)
        ]
    if node.op == "dot_general" and node.inputs[0].size == 0 and node.output.size:
        zero = np.zeros((), dtypes.NUMPY[node.output.dtype])
        return [Node("constant", (), node.outputs, {"value": zero}, node.where)]
    if node.op == "scatter" and node.inputs[len(node.outputs)].size == 0 and _has_index_vector(node):
        return [
            Node("reshape", (source,), (value,), {}, node.where)
            for source, value in zip(node.inputs, node.outputs, strict=False)
        ]
    if node.op == "tile" and 0 in node.attributes["grid"]:
        return _without_workgroups(node)
    return [node]


def _without_workgroups(node: Node) -> list[Node]:
    """Return what a kernel that nobody runs gives: what its outputs held before, or zeros."""
    updates = node.attributes["updates"]
    kept = [
        Node("reshape", (source,), (value,), {}, node.where)
        for source, value in zip(node.inputs[:updates], node.outputs, strict=False)
    ]
    zeros = [
        Node("constant", (), (value,), {"value": np.zeros((), dtypes.NUMPY[value.dtype])}, node.where)
        for value in node.outputs[updates:]
    ]
    return kept + zeros


def _has_index_vector(node: Node) -> bool:
    """Tell an empty set of updates from a single update whose index vector has no components."""
    return node.inputs[len(node.outputs) + 1].size == 0
