"""Take axes of one element away before a transpose beside a tile kernel, or put them back behind it.

Before                                              After
  %1 = transpose(%0: f16[1,n,h,d]) : [1,h,n,d]        %1 = reshape(%0) : [n,h,d]
  %2 = reshape(%1) : [h,n,d]                          %2 = transpose(%1) : [h,n,d]
  %3 = tile(%2)                                       %3 = tile(%2)

A reshape is a view, and a transpose next to a kernel can become part of it (`read_transposed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..graph import Graph, Node, Value, map_regions
from .dead import drop_dead


def drop_unit_axes(graph: Graph) -> Graph:
    """Return the graph with reshapes and transposes between a kernel and its neighbours in this order, everywhere."""
    producers, users = graph.producers(), graph.users()
    free = graph.free_id()
    nodes: list[Node] = []
    for node in graph.nodes:
        before = producers.get(node.inputs[0]) if len(node.inputs) == 1 else None
        ops = (None if before is None else before.op, node.op)
        pair: list[Node] = []
        if before is not None and ops == ("transpose", "reshape") and _has_tile(users.get(node.output, [])):
            pair = _swapped(before, node, before, Value(free, node.output.dtype, _wide(before.inputs[0].shape)))
        elif before is not None and ops == ("reshape", "transpose") and _has_tile([producers.get(before.inputs[0])]):
            pair = _swapped(before, node, node, Value(free, node.output.dtype, _wide(node.output.shape)))
        free += len(pair)
        nodes += pair or [map_regions(node, drop_unit_axes) if node.op in ("while", "case") else node]
    return drop_dead(replace(graph, nodes=tuple(nodes)))


def _has_tile(nodes: Sequence[Node | None]) -> bool:
    return any(node is not None and node.op == "tile" for node in nodes)


def _swapped(first: Node, second: Node, turn: Node, middle: Value) -> list[Node]:
    """Return a transpose and the reshape beside it in the other order; nothing where they do not commute.

    They do where the reshape takes all axes of one element away, or adds them, and changes nothing else.
    """
    whole = first.output.shape
    bare = second.output.shape if turn is first else first.inputs[0].shape
    if bare != _wide(whole) or bare == whole:
        return []
    kept = [axis for axis in turn.attributes["permutation"] if turn.inputs[0].shape[axis] != 1]
    permutation = tuple(sorted(kept).index(axis) for axis in kept)
    narrow = {**turn.attributes, "permutation": permutation}
    earlier, later = (
        replace(each, attributes=narrow) if each.op == "transpose" else each for each in (second, first)
    )  # fmt: skip
    return [
        replace(earlier, inputs=first.inputs, outputs=(middle,)),
        replace(later, inputs=(middle,), outputs=second.outputs),
    ]


def _wide(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
