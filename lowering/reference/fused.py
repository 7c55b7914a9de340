"""What the nodes that the compiler itself makes mean: fusions, copies and parts of reductions."""

from __future__ import annotations

import math

import numpy as np

from ..graph import Node, Value
from .meaning import Arrays, Meaning, RunGraph
from .reduce import reduce


def fusion(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Run the body."""
    return tuple(run(node.attributes["body"], inputs))


def copy(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return the operand."""
    return (inputs[0],)


def partial_reduce(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Reduce each row in consecutive parts of equal length; the last may be shorter, or empty."""
    count, parts = len(node.outputs), node.attributes["parts"]
    dimensions = node.attributes["dimensions"]
    arrays, inits = inputs[:count], inputs[count:]
    kept = [axis for axis in range(arrays[0].ndim) if axis not in dimensions]
    shape = tuple(arrays[0].shape[axis] for axis in kept)
    total = math.prod(arrays[0].shape[axis] for axis in dimensions)
    rows = [array.transpose((*kept, *dimensions)).reshape((*shape, total)) for array in arrays]
    length = -(-total // parts)
    results: list[tuple[np.ndarray, ...]] = []
    for part in range(parts):
        pieces = [row[..., part * length : (part + 1) * length] for row in rows]
        typed = tuple(Value(v.id, v.dtype, shape) for v in node.outputs)
        single = Node("reduce", node.inputs, typed, {**node.attributes, "dimensions": (len(shape),)}, node.where)
        results.append(reduce(single, [*pieces, *inits], run))
    return tuple(np.stack(column, axis=-1) for column in zip(*results, strict=True))


MEANINGS: dict[str, Meaning] = {"fusion": fusion, "copy": copy, "partial_reduce": partial_reduce}
