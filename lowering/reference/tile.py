"""Tile kernels: the cell is run at every position of the grid, one after the other."""

from __future__ import annotations

import itertools

import numpy as np

from .. import dtypes
from ..graph import Node
from .meaning import Arrays, Meaning, RunGraph


def tile(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Run a tile kernel; what no workgroup writes of an output that is nobody's memory is zero."""
    found = node.attributes
    cell, grid, updates = found["cell"], found["grid"], found["updates"]
    fresh = [np.zeros(value.shape, dtypes.NUMPY[value.dtype]) for value in node.outputs[updates:]]
    contents = [*inputs[:updates], *fresh]
    shapes = [value.shape for value in cell.inputs[len(grid) :]]
    operands = [_padded(array, shape) for array, shape in zip(inputs, shapes, strict=False)]
    outputs = [_padded(array, shape) for array, shape in zip(contents, shapes[len(inputs) :], strict=True)]
    for position in itertools.product(*map(range, grid)):
        outputs = list(run(cell, (*(np.asarray(index, np.int32) for index in position), *operands, *outputs)))
    return tuple(
        np.ascontiguousarray(array[tuple(map(slice, value.shape))])
        for value, array in zip(node.outputs, outputs, strict=True)
    )


def _padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array with zeros up to whole blocks."""
    return np.pad(array, [(0, whole - extent) for extent, whole in zip(array.shape, shape, strict=True)])


MEANINGS: dict[str, Meaning] = {"tile": tile}
