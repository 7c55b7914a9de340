"""Exchange the operands of a matrix product that is only read transposed, where its rows come to lie side by side.

Before                                                After
  %2 = dot_general(%0, %1) : [b,h,d,q]                  %3 = dot_general(%1, %0) : [b,h,q,d]
  %4 = transpose(%2) {permutation=(0,3,1,2)}            %4 = transpose(%3) {permutation=(0,2,1,3)}
    : [b,q,h,d]                                           : [b,q,h,d]

A kernel stores neighbouring columns at once: now they stay neighbours, so that it can write the transpose itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..graph import Graph, Node, Value, map_regions


def turn_dot(graph: Graph) -> Graph:
    """Return the graph with such products turned, in regions as well."""
    users, producers, outputs = graph.users(), graph.producers(), set(graph.outputs)
    turned: dict[Value, Node] = {}
    for node in graph.nodes:
        product = _turns(node, producers)
        if product is not None and len(users[product.output]) == 1 and product.output not in outputs:
            turned[product.output] = node
    fresh = 1 + max((v.id for v in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs))), default=0)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in ("while", "case"):
            nodes.append(map_regions(node, turn_dot))
        elif node.op == "dot_general" and node.output in turned:
            nodes += _turned(node, turned[node.output], fresh)
            fresh += 1
        elif node.op != "transpose" or turned.get(node.inputs[0]) is not node:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _turns(node: Node, producers: Mapping[Value, Node]) -> Node | None:
    """Return the product whose rows a transpose lays side by side."""
    product = producers.get(node.inputs[0]) if node.op == "transpose" else None
    if product is None or product.op != "dot_general":
        return None
    wide = [axis for axis in node.attributes["permutation"] if product.output.shape[axis] != 1]
    batch, rows = _counts(product)
    return product if wide and batch <= wide[-1] < batch + rows else None


def _counts(product: Node) -> tuple[int, int]:
    """Return how many dimensions of a product are batch, and how many are rows."""
    a, left = product.attributes, product.inputs[0]
    batch = len(a["lhs_batch"])
    return batch, len(left.shape) - batch - len(a["lhs_contract"])


def _turned(product: Node, reader: Node, fresh: int) -> list[Node]:
    """Return the product of the exchanged operands, and its transpose where the order is not already right."""
    a, shape = product.attributes, product.output.shape
    batch, rows = _counts(product)
    order = (*range(batch), *range(batch + rows, len(shape)), *range(batch, batch + rows))
    attributes = {
        **a,
        **{f"lhs_{name}": a[f"rhs_{name}"] for name in ("batch", "contract")},
        **{f"rhs_{name}": a[f"lhs_{name}"] for name in ("batch", "contract")},
        "precision": tuple(reversed(a["precision"])),
    }
    permutation = tuple(order.index(axis) for axis in reader.attributes["permutation"])
    in_order = permutation == tuple(range(len(shape)))
    value = reader.output if in_order else Value(fresh, product.output.dtype, tuple(shape[axis] for axis in order))
    made = replace(product, inputs=tuple(reversed(product.inputs)), outputs=(value,), attributes=attributes)
    if in_order:
        return [made]
    return [made, replace(reader, inputs=(value,), attributes={**reader.attributes, "permutation": permutation})]
