"""Trip counts: how often a `while` with a counter runs, where constants tell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import dtypes
from .graph import Graph, Node, Value

_SWAPPED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE"}


def trip_count(cond: Graph, body: Graph, known: Mapping[int, np.ndarray]) -> int | None:
    """Return the number of rounds of a loop that counts a carry by a constant up or down to a constant, else None.

    Args:
        cond: The condition, over carry and captured values.
        body: The body, over the same inputs; its outputs are the next carry.
        known: Constant values of the loop's operands, by position.
    """
    test = _counter_test(cond, body, known)
    if test is None:
        return None
    position, direction, bound = test
    step = step_of(body, position, known)
    if position not in known or step is None:
        return None
    start = int(known[position])
    return _rounds(start, bound, step, direction, body.inputs[position].dtype)


def _counter_test(cond: Graph, body: Graph, known: Mapping[int, np.ndarray]) -> tuple[int, str, int] | None:
    """Return (carry position, direction, bound) of a condition `carry < bound`."""
    (result,) = cond.outputs
    producers = cond.producers()
    node = producers.get(result)
    if node is None or node.op != "compare" or node.attributes["direction"] not in _SWAPPED:
        return None
    left, right = node.inputs
    direction = node.attributes["direction"]
    bound = _constant(right, cond, producers, body, known)
    if bound is None or left not in cond.inputs:
        left, right, direction = right, left, _SWAPPED[direction]
        bound = _constant(right, cond, producers, body, known)
    if bound is None or left not in cond.inputs or left.dtype not in dtypes.INTEGERS or left.shape:
        return None
    return cond.inputs.index(left), direction, bound


def step_of(body: Graph, position: int, known: Mapping[int, np.ndarray]) -> int | None:
    """Return by how much each round moves a carry that only counts, else None."""
    if position >= len(body.outputs):
        return None
    producers = body.producers()
    node = producers.get(body.outputs[position])
    if node is None or node.op not in ("add", "subtract"):
        return None
    left, right = node.inputs
    if node.op == "add" and left != body.inputs[position]:
        left, right = right, left
    step = _constant(right, body, producers, body, known)
    if left != body.inputs[position] or step is None:
        return None
    return step if node.op == "add" else -step


def _constant(
    value: Value,
    graph: Graph,
    producers: Mapping[Value, Node],
    body: Graph,
    known: Mapping[int, np.ndarray],
) -> int | None:
    """Return the integer a value always has: a constant inside, or an operand with a known value that never changes."""
    node = producers.get(value)
    if node is not None:
        return int(node.attributes["value"]) if node.op == "constant" and not value.shape else None
    position = graph.inputs.index(value)
    is_invariant = position >= len(body.outputs) or body.outputs[position] == body.inputs[position]
    return int(known[position]) if is_invariant and position in known and not value.shape else None


def _rounds(start: int, bound: int, step: int, direction: str, dtype: str) -> int | None:
    if direction in ("GT", "GE"):
        start, bound, step = -start, -bound, -step
    if direction in ("LE", "GE"):
        bound += 1
    if start >= bound:
        return 0
    if step <= 0:
        return None
    rounds = -((start - bound) // step)
    # A counter that wraps around before it reaches the bound would run on.
    limits = np.iinfo(dtypes.NUMPY[dtype])
    last = start + rounds * step
    extreme = -int(limits.min) if direction in ("GT", "GE") else int(limits.max)
    return rounds if last <= extreme else None
