"""Short loops of cheap operations, written out."""

from __future__ import annotations

from ... import ops
from ...graph import Node, Value
from ..rewriting import Rewriter, Rule
from .control import inline

# Five rounds of threefry, the loop that every random number of JAX comes from, are 260 nodes.
_MAX_UNROLLED_NODES = 400


def unroll(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """While of few rounds over elementwise operations and movements -> the rounds one after the other, fused later."""
    found = node.attributes
    rounds, body = found["trip_count"], found["body"]
    if rounds is None or rounds * len(body.nodes) > _MAX_UNROLLED_NODES:
        return None
    if rounds > 1 and any(ops.TABLE[inner.op].family not in ("elementwise", "shape") for inner in body.nodes):
        return None
    count = len(node.outputs)
    carry, captured = node.inputs[:count], node.inputs[count:]
    for _ in range(rounds):
        carry = inline(rewriter, body, (*carry, *captured))
    return carry


RULES: dict[str, tuple[Rule, ...]] = {"while": (unroll,)}
