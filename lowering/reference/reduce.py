"""Reductions over whole dimensions and over windows, with any body."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..bodies import identity
from ..graph import Node
from ..ops.rules import window_shape
from .bodies import run_body
from .meaning import Arrays, Meaning, RunGraph, wide_dtype
from .shape import pad_array

# Combines two tuples of arrays of one shape.
Combine = Callable[[Arrays, Arrays], Arrays]

_UFUNCS = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def reduce(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Combine all elements along some dimensions, starting from the inits; f16 and bf16 accumulate in f32."""
    count = len(node.outputs)
    arrays, inits = inputs[:count], inputs[count:]
    dimensions, kind = node.attributes["dimensions"], node.attributes["kind"]
    if kind in _UFUNCS:
        ufunc = _UFUNCS[kind]
        wide = wide_dtype(arrays[0].dtype)
        if not all(arrays[0].shape[i] for i in dimensions):
            return (np.broadcast_to(inits[0], node.output.shape),)
        total = ufunc.reduce(arrays[0].astype(wide, copy=False), axis=dimensions, dtype=wide, initial=None)
        return (np.asarray(ufunc(inits[0].astype(wide), total)).astype(arrays[0].dtype),)
    return _reduce_with_body(node, arrays, inits, run)


def _reduce_with_body(node: Node, arrays: Arrays, inits: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Combine neighbours pairwise until one is left, so that the order of the elements is kept."""
    dimensions, shape = node.attributes["dimensions"], node.outputs[0].shape
    depth = math.prod(arrays[0].shape[i] for i in dimensions)
    kept = [i for i in range(arrays[0].ndim) if i not in dimensions]
    parts: Arrays = [array.transpose((*dimensions, *kept)).reshape((depth, *shape)) for array in arrays]
    start = [np.broadcast_to(init, shape) for init in inits]
    if depth == 0:
        return tuple(start)
    while (depth := parts[0].shape[0]) > 1:
        even = depth - depth % 2
        pairs = run_body(node.attributes["body"], [a[0:even:2] for a in parts], [a[1:even:2] for a in parts], run)
        parts = [np.concatenate([pair, a[even:]]) for pair, a in zip(pairs, parts, strict=True)]
    return tuple(run_body(node.attributes["body"], start, [a[0] for a in parts], run))


def reduce_window(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Combine the elements under each position of a window.

    StableHLO pads with the inits, which a reduction may see any number of times. Like XLA, known kinds see them once;
    for other bodies, whose identity is not known, padding counts as the init.
    """
    count = len(node.outputs)
    arrays, inits = inputs[:count], inputs[count:]
    found = node.attributes
    shape = window_shape(arrays[0].shape, node)
    if 0 in shape:
        return tuple(np.zeros(shape, array.dtype) for array in arrays)
    kind = found["kind"]
    fillers = [np.asarray(identity(kind, node.inputs[0].dtype), arrays[0].dtype)] if kind in _UFUNCS else inits
    padded = [
        pad_array(array, filler, found["low"], found["high"], found["base_dilation"])
        for array, filler in zip(arrays, fillers, strict=True)
    ]
    combine = _combine(node, run)
    result: Arrays = [np.broadcast_to(init, shape) for init in inits]
    dtypes_out = [array.dtype for array in arrays]
    if kind in _UFUNCS:
        padded = [array.astype(wide_dtype(array.dtype), copy=False) for array in padded]
        result = [array.astype(wide_dtype(array.dtype), copy=False) for array in result]
    for offset in itertools.product(*map(range, found["window"])):
        places = _window_slices(offset, shape, node)
        result = combine(result, [array[places] for array in padded])
    return tuple(np.asarray(array).astype(dtype, copy=False) for array, dtype in zip(result, dtypes_out, strict=True))


def _combine(node: Node, run: RunGraph) -> Combine:
    kind, body = node.attributes["kind"], node.attributes["body"]
    if kind in _UFUNCS:
        return lambda left, right: [_UFUNCS[kind](left[0], right[0])]
    return lambda left, right: run_body(body, left, right, run)


def _window_slices(offset: Sequence[int], shape: Sequence[int], node: Node) -> tuple[slice, ...]:
    """Return where the element at `offset` of every window lies."""
    found = node.attributes
    starts = [o * d for o, d in zip(offset, found["window_dilation"], strict=True)]
    return tuple(
        slice(start, start + (extent - 1) * stride + 1, stride)
        for start, extent, stride in zip(starts, shape, found["strides"], strict=True)
    )


MEANINGS: dict[str, Meaning] = {"reduce": reduce, "reduce_window": reduce_window}
