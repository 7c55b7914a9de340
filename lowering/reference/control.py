"""Loops and branches."""

from __future__ import annotations

import numpy as np

from ..graph import Node
from .meaning import Arrays, Meaning, RunGraph


def while_(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Run the body on the carry as often as is known, or as long as the condition holds."""
    found = node.attributes
    split = len(inputs) - found["captures"]
    carry, captured = tuple(inputs[:split]), tuple(inputs[split:])
    if found["trip_count"] is not None:
        for _ in range(found["trip_count"]):
            carry = run(found["body"], (*carry, *captured))
        return carry
    while bool(run(found["cond"], (*carry, *captured))[0]):
        carry = run(found["body"], (*carry, *captured))
    return carry


def case(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Run one branch; an index outside the range takes the last."""
    index, *captured = inputs
    branches = node.attributes["branches"]
    chosen = int(index) if 0 <= int(index) < len(branches) else len(branches) - 1
    return run(branches[chosen], captured)


MEANINGS: dict[str, Meaning] = {"case": case, "while": while_}
