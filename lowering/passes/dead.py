"""Drop what nobody reads: nodes, carries of loops, results of branches, captured values, operands of tile kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import Graph, Node, Value


def drop_dead(graph: Graph) -> Graph:
    """Return the graph without dead nodes; loops and branches lose dead carries, results and captures as well.

    Before                                  After
      %1 = sine(%0)                           return %0
      return %0
    """
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        if node.op == "while":
            node = _trim_while(node, needed)
        elif node.op == "case":
            node = _trim_case(node, needed)
        elif node.op == "tile":
            node = _trim_tile(node)
        kept.append(node)
        needed.update(node.inputs)
    kept.reverse()
    # Node compares by identity: an unchanged graph stays the same object.
    return graph if tuple(kept) == graph.nodes else replace(graph, nodes=tuple(kept))


def _used_inputs(graph: Graph) -> set[int]:
    used = {value for node in graph.nodes for value in node.inputs} | set(graph.outputs)
    return {position for position, value in enumerate(graph.inputs) if value in used}


def _trim_while(node: Node, needed: set[Value]) -> Node:
    """Keep the carries that the condition, a needed result or another kept carry depends on."""
    found = node.attributes
    count = len(node.outputs)
    cond, body = _condition(found), found["body"]
    alive = {i for i, value in enumerate(node.outputs) if value in needed}
    used = _used_inputs(cond)
    while True:
        wanted = alive | {i for i in used if i < count}
        trimmed = drop_dead(replace(body, outputs=_pick(body.outputs, wanted)))
        used |= _used_inputs(trimmed)
        grown = wanted | {i for i in used if i < count}
        if grown == wanted:
            break
        alive = grown
    kept = sorted(wanted) + sorted(i for i in used if i >= count)
    if len(kept) == len(node.inputs) and cond is found["cond"] and trimmed.nodes == body.nodes:
        return node
    attributes = {
        **found,
        "cond": replace(cond, inputs=_pick(cond.inputs, kept)),
        "body": replace(trimmed, inputs=_pick(body.inputs, kept)),
        "captures": len(kept) - len(wanted),
    }
    return replace(node, inputs=_pick(node.inputs, kept), outputs=_pick(node.outputs, wanted), attributes=attributes)


def _condition(found: Mapping[str, Any]) -> Graph:
    """Return the condition's graph; that of a loop with a known number of rounds asks for nothing."""
    cond: Graph = found["cond"]
    if found["trip_count"] is None or not _used_inputs(cond):
        return drop_dead(cond)
    always = Node("constant", (), cond.outputs, {"value": np.array(True)})
    return replace(cond, nodes=(always,))


def _trim_case(node: Node, needed: set[Value]) -> Node:
    wanted = [i for i, value in enumerate(node.outputs) if value in needed]
    branches = [drop_dead(replace(b, outputs=_pick(b.outputs, wanted))) for b in node.attributes["branches"]]
    kept = sorted(set().union(*map(_used_inputs, branches)))
    if len(wanted) == len(node.outputs) and len(kept) == len(node.inputs) - 1:
        return node
    index, *captured = node.inputs
    return replace(
        node,
        inputs=(index, *_pick(captured, kept)),
        outputs=_pick(node.outputs, wanted),
        attributes={"branches": tuple(replace(b, inputs=_pick(b.inputs, kept)) for b in branches)},
    )


def _trim_tile(node: Node) -> Node:
    """Keep the operands that the cell reads, and those whose memory becomes a result's."""
    cell, axes, count = drop_dead(node.attributes["cell"]), len(node.attributes["grid"]), len(node.inputs)
    used = _used_inputs(cell)
    kept = [i for i in range(count) if i < node.attributes["updates"] or axes + i in used]
    if len(kept) == count:
        return node
    around = [*range(axes), *(axes + i for i in kept), *range(axes + count, len(cell.inputs))]
    cell = replace(cell, inputs=_pick(cell.inputs, around))
    return replace(node, inputs=_pick(node.inputs, kept), attributes={**node.attributes, "cell": cell})


def _pick(values: Sequence[Value], positions: Iterable[int]) -> tuple[Value, ...]:
    return tuple(values[i] for i in sorted(positions))
