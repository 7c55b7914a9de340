"""Cut deep matrix products with few results in parts along depth, which then run side by side.

Before                                                        After
  %2 = dot_general(%0: f32[768,8192], %1: f32[8192,768])        %3 = reshape(%0) : f32[768,8,1024]
                                                                %4 = reshape(%1) : f32[8,1024,768]
                                                                %5 = dot_general(%3, %4) {batch 8} : f32[8,768,768]
                                                                %2 = reduce(%5) {dimensions=(0), kind=add}

Several contracted axes that stand side by side are cut as one; of others, only the first is.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from shaders.capabilities import Capabilities

from ..bodies import binary_body
from ..graph import Graph, Node, Value, map_regions

# Rows and columns that one workgroup makes in the largest tiles.
TILE = 128
# Workgroups that fill a large GPU several times, so that the last round of them is no large part.
WANTED_TILES = 640
# A part is at least this deep: shallower ones cost more in partial results than they win.
SHORTEST_DEPTH = 512


def split_dot(graph: Graph, capabilities: Capabilities) -> Graph:
    """Return the graph with deep products split; CPU drivers have too few cores to gain from it."""
    if capabilities.is_cpu:
        return graph
    fresh = graph.free_id()
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in ("while", "case"):
            nodes.append(map_regions(node, lambda region: split_dot(region, capabilities)))
            continue
        parts = part_count(node)
        made = [node] if parts == 1 else _split(node, parts, fresh)
        fresh += len(made) + 2
        nodes.extend(made)
    return replace(graph, nodes=tuple(nodes))


def part_count(node: Node) -> int:
    """Return into how many parts to cut a product's depth; one to leave it whole."""
    if node.op != "dot_general" or node.output.dtype not in ("f32", "f16", "bf16"):
        return 1
    a = node.attributes
    lhs, rhs = node.inputs[0].shape, node.inputs[1].shape
    depth = prod(lhs[axis] for axis in a["lhs_contract"])
    cut = prod(lhs[axis] for axis in a["lhs_contract"][: _cut_axes(node)])
    batch = prod(lhs[axis] for axis in a["lhs_batch"])
    rows = node.inputs[0].size // max(batch * depth, 1)
    columns = prod(rhs) // max(batch * depth, 1)
    tiles = batch * -(-rows // TILE) * -(-columns // TILE)
    parts = 1
    while parts * 2 * tiles <= WANTED_TILES and cut % (parts * 2) == 0 and depth // (parts * 2) >= SHORTEST_DEPTH:
        parts *= 2
    return parts


def _cut_axes(node: Node) -> int:
    """Return how many contracted axes are cut as one: all of them where they stand side by side, else the first."""
    sides = [node.attributes[f"{side}_contract"] for side in ("lhs", "rhs")]
    together = all(tuple(axes) == tuple(range(axes[0], axes[0] + len(axes))) for axes in sides if axes)
    return len(sides[0]) if together else 1


def _split(node: Node, parts: int, fresh: int) -> list[Node]:
    a, where, count = node.attributes, node.where, _cut_axes(node)
    dtype = "f32"
    operands: list[Value] = []
    made: list[Node] = []
    attributes: dict[str, object] = {"precision": a["precision"]}
    for side, operand in zip(("lhs", "rhs"), node.inputs, strict=True):
        axis, *_ = a[f"{side}_contract"]
        after = axis + count
        extent = prod(operand.shape[axis:after])
        shape = (*operand.shape[:axis], parts, extent // parts, *operand.shape[after:])
        value = Value(fresh, operand.dtype, shape)
        fresh += 1
        made.append(Node("reshape", (operand,), (value,), {}, where))
        operands.append(value)
        rest = {name: [i + (2 - count) * (i >= after) for i in a[f"{side}_{name}"]] for name in ("batch", "contract")}
        attributes[f"{side}_batch"] = (axis, *rest["batch"])
        attributes[f"{side}_contract"] = (axis + 1, *rest["contract"][count:])
    partial = Value(fresh, dtype, (parts, *node.output.shape))
    zero = Value(fresh + 1, dtype, ())
    made.append(Node("dot_general", tuple(operands), (partial,), attributes, where))
    made.append(Node("constant", (), (zero,), {"value": np.zeros((), np.float32)}, where))
    same = node.output.dtype == dtype
    total = node.output if same else Value(fresh + 2, dtype, node.output.shape)
    made.append(
        Node(
            "reduce",
            (partial, zero),
            (total,),
            {"dimensions": (0,), "kind": "add", "body": binary_body("add", "f32")},
            where,
        )
    )
    if not same:
        made.append(Node("convert", (total,), node.outputs, {}, where))
    return made
