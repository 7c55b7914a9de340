"""Run the scalar body of a reduction or scatter on whole arrays at once."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from ..ops import is_elementwise
from .meaning import Arrays, RunGraph


def run_body(body: Graph, left: Arrays, right: Arrays, run: RunGraph) -> list[np.ndarray]:
    """Apply a body of scalars to each pair of elements of two tuples of arrays of one shape."""
    operands = [*left, *right]
    shape = np.broadcast_shapes(*(array.shape for array in operands))
    if all(node.op == "constant" or is_elementwise(node) for node in body.nodes):
        return [np.broadcast_to(array, shape) for array in run(body, operands)]
    flat = [np.broadcast_to(array, shape).reshape(-1) for array in operands]
    results = [np.empty(shape, array.dtype) for array in left]
    for position in range(flat[0].size):
        scalars = run(body, [array[position].reshape(()) for array in flat])
        for result, scalar in zip(results, scalars, strict=True):
            result.reshape(-1)[position] = scalar
    return results
