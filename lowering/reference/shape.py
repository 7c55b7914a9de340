"""Operations that move or make elements without arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node
from .meaning import Arrays, Meaning, RunGraph, output_dtype


def constant(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the value, filled to the shape (read-only, without a copy)."""
    del inputs, run
    return (np.broadcast_to(node.attributes["value"], node.output.shape),)


def iota(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return each element's position along one dimension."""
    del inputs, run
    shape, dimension = node.output.shape, node.attributes["dimension"]
    column = np.arange(shape[dimension]).astype(output_dtype(node))
    return (np.broadcast_to(column.reshape([-1 if i == dimension else 1 for i in range(len(shape))]), shape),)


def reshape(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the same elements in row-major order in another shape."""
    del run
    return (inputs[0].reshape(node.output.shape),)


def bitcast_convert(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the same bytes read as another dtype."""
    del run
    return (np.ascontiguousarray(inputs[0]).reshape(-1).view(output_dtype(node)).reshape(node.output.shape),)


def broadcast_in_dim(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the input with its dimensions placed and repeated (read-only, without a copy)."""
    del run
    (array,) = inputs
    dimensions, shape = node.attributes["dimensions"], node.output.shape
    order = sorted(range(len(dimensions)), key=lambda i: dimensions[i])
    expanded = [1] * len(shape)
    for i in order:
        expanded[dimensions[i]] = array.shape[i]
    return (np.broadcast_to(array.transpose(order).reshape(expanded), shape),)


def transpose(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the input with permuted dimensions."""
    del run
    return (np.transpose(inputs[0], node.attributes["permutation"]),)


def slice_(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return every stride-th element from start up to limit."""
    del run
    found = node.attributes
    parts = zip(found["start"], found["limit"], found["stride"], strict=True)
    return (inputs[0][tuple(slice(*part) for part in parts)],)


def reverse(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the input back to front along some dimensions."""
    del run
    return (np.flip(inputs[0], node.attributes["dimensions"]),)


def pad(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the input with a value around and between its elements; negative edges cut."""
    del run
    array, value = inputs
    found = node.attributes
    return (pad_array(array, value, found["low"], found["high"], [n + 1 for n in found["interior"]]),)


def pad_array(
    array: np.ndarray, value: np.ndarray, low: Sequence[int], high: Sequence[int], spacing: Sequence[int]
) -> np.ndarray:
    """Place the elements `spacing` apart and put `value` between and around them; negative edges cut.

    Args:
        array: The elements.
        value: One element.
        low: Elements to add before the first, for each dimension.
        high: Elements to add after the last, for each dimension.
        spacing: Distance of neighbouring elements, at least 1, for each dimension.
    """
    inner = [(n - 1) * step + 1 if n else 0 for n, step in zip(array.shape, spacing, strict=True)]
    before, after = [max(n, 0) for n in low], [max(n, 0) for n in high]
    canvas = np.full([a + n + b for a, n, b in zip(before, inner, after, strict=True)], value, array.dtype)
    places = tuple(slice(a, a + n, step) for a, n, step in zip(before, inner, spacing, strict=True))
    canvas[places] = array
    cut = tuple(
        slice(max(-a, 0), max(extent - max(-b, 0), max(-a, 0)))
        for a, b, extent in zip(low, high, canvas.shape, strict=True)
    )
    return canvas[cut]


def concatenate(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the inputs joined along one dimension."""
    del run
    return (np.concatenate(inputs, node.attributes["dimension"]),)


MEANINGS: dict[str, Meaning] = {
    "bitcast_convert": bitcast_convert,
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "constant": constant,
    "iota": iota,
    "pad": pad,
    "reshape": reshape,
    "reverse": reverse,
    "slice": slice_,
    "transpose": transpose,
}
