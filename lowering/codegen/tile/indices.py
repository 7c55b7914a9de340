"""Which index vectors are all different: those that count along the axes of their own array."""

from __future__ import annotations

from collections.abc import Mapping

from ...graph import Node, Value

# How an element grows along each axis of its array, beside what is the same everywhere.
Growth = dict[int, int]


def is_injective(node: Node, producers: Mapping[Value, Node]) -> bool:
    """Tell whether the index vectors of a scatter are surely different: each axis is counted by a component of its own.

    A component that wraps negative indices counts as if it did not: where it matters two updates would meet, and which
    of them stays is nobody's promise.
    """
    indices, vector = node.inputs[len(node.outputs)], node.attributes["index_vector_dim"]
    counted: set[int] = set()
    for growth in _components(indices, vector, producers):
        axes = [axis for axis, step in growth.items() if step] if growth is not None else []
        if len(axes) == 1:
            counted.add(axes[0])
    wide = {axis for axis, extent in enumerate(indices.shape) if extent != 1 and axis != vector}
    return wide <= counted


def _components(indices: Value, vector: int, producers: Mapping[Value, Node]) -> list[Growth | None]:
    node = producers.get(indices)
    if node is not None and node.op == "concatenate" and node.attributes["dimension"] == vector:
        return [_growth(part, producers) for part in node.inputs]
    one_component = vector >= len(indices.shape) or indices.shape[vector] == 1
    return [_growth(indices, producers)] if one_component else []


def _growth(value: Value, producers: Mapping[Value, Node]) -> Growth | None:
    """Return how a value grows along its axes, None where it is no such function."""
    node = producers.get(value)
    if value.shape == () or all(extent == 1 for extent in value.shape):
        return {}
    if node is None:
        return None
    if node.op == "constant":
        return {} if node.attributes["value"].ndim == 0 else None
    if node.op == "iota":
        return {node.attributes["dimension"]: 1}
    if node.op == "broadcast_in_dim":
        inner = _growth(node.inputs[0], producers)
        dimensions = node.attributes["dimensions"]
        return None if inner is None else {dimensions[axis]: step for axis, step in inner.items()}
    if node.op == "reshape":
        return _reshaped(node, producers)
    if node.op in ("add", "subtract"):
        return _sum(node, producers)
    if node.op == "convert":
        return _growth(node.inputs[0], producers)
    if node.op == "select":
        # Negative indices count from the end: select(x < 0, x + n, x).
        first, second = (_growth(operand, producers) for operand in node.inputs[1:])
        return first if first == second else None
    return None


def _sum(node: Node, producers: Mapping[Value, Node]) -> Growth | None:
    left, right = (_growth(operand, producers) for operand in node.inputs)
    if left is None or right is None:
        return None
    sign = 1 if node.op == "add" else -1
    axes = left.keys() | right.keys()
    return {axis: left.get(axis, 0) + sign * right.get(axis, 0) for axis in axes}


def _reshaped(node: Node, producers: Mapping[Value, Node]) -> Growth | None:
    operand, result = node.inputs[0], node.output
    before = [axis for axis, extent in enumerate(operand.shape) if extent != 1]
    after = [axis for axis, extent in enumerate(result.shape) if extent != 1]
    inner = _growth(operand, producers)
    if inner is None or [operand.shape[axis] for axis in before] != [result.shape[axis] for axis in after]:
        return None
    places = dict(zip(before, after, strict=True))
    return {places[axis]: step for axis, step in inner.items() if axis in places}
