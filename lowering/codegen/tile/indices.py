"""Which updates of a scatter never meet: their index vectors count along the axes of their own array."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ... import dtypes
from ...graph import Node, Value

# How an element grows along each axis of its array, beside what is the same everywhere.
Growth = dict[int, int]


def is_injective(node: Node, producers: Mapping[Value, Node]) -> bool:
    """Tell whether the updates of a scatter surely never meet: each axis is counted by a component of its own.

    A component counts if its steps are as wide as the updates' windows.

    A component that wraps negative indices counts as if it did not: where it matters two updates would meet, and which
    of them stays is nobody's promise.
    """
    indices, vector = node.inputs[len(node.outputs)], node.attributes["index_vector_dim"]
    counted: set[int] = set()
    widths = _window_widths(node)
    for growth, width in zip(_components(indices, vector, producers), widths, strict=False):
        axes = [axis for axis, step in growth.items() if step] if growth is not None else []
        if growth is not None and len(axes) == 1 and abs(growth[axes[0]]) >= width:
            counted.add(axes[0])
    wide = {axis for axis, extent in enumerate(indices.shape) if extent != 1 and axis != vector}
    return wide <= counted


def _window_widths(node: Node) -> list[int]:
    """Return the extent of an update's window along the dimension that each component of an index moves."""
    a = node.attributes
    hidden = {*a["inserted_window_dims"], *a["input_batching_dims"]}
    update = node.inputs[len(node.outputs) + 1]
    extents = iter(update.shape[axis] for axis in a["update_window_dims"])
    wide = [1 if axis in hidden else next(extents) for axis in range(len(node.inputs[0].shape))]
    return [wide[axis] for axis in a["scatter_dims_to_operand_dims"]]


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
        dimension = node.attributes["dimension"]
        return {dimension: 1} if _holds(value.dtype, value.shape[dimension]) else None
    if node.op == "broadcast_in_dim":
        inner = _growth(node.inputs[0], producers)
        dimensions = node.attributes["dimensions"]
        return None if inner is None else {dimensions[axis]: step for axis, step in inner.items()}
    if node.op == "reshape":
        return _reshaped(node, producers)
    if node.op in ("add", "subtract"):
        return _sum(node, producers)
    if node.op == "convert":
        # A narrower integer wraps.
        return _growth(node.inputs[0], producers) if dtypes.itemsize(value.dtype) >= 4 else None
    if node.op == "select":
        # Negative indices count from the end: select(x < 0, x + n, x).
        first, second = (_growth(operand, producers) for operand in node.inputs[1:])
        return first if first == second else None
    return None


def _holds(dtype: str, count: int) -> bool:
    """Tell whether a dtype has a number of its own for each place of an axis."""
    kind = np.dtype(dtypes.NUMPY[dtype])
    return kind.kind in "iu" and count <= np.iinfo(kind).max


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
