"""What one lane would walk for long, in parts: reductions by a user's rule, scatters, the depth of products."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt, prod

import numpy as np

from ... import dtypes
from ...bodies import accumulator, binary_body, identity
from ...graph import Node, Value
from ..rewriting import Rewriter

# Rounds of one loop: half of what llvmpipe allows all loops of an invocation together.
LONGEST = 1 << 15
# A product's kernel takes several depths a round, but 64-bit ones as few as eight.
DEEPEST = 1 << 18
# Scatters of these run one lane an update, without a loop.
_ATOMIC = frozenset({"add", "max", "min", "and", "or", "xor"})


def cut_serial_reduce(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Reduce by a user's rule of many elements -> reduce of reduces, in order; the initial values change nothing."""
    arrays = node.inputs[: len(node.outputs)]
    dimensions = tuple(sorted(node.attributes["dimensions"]))
    shape = arrays[0].shape
    if node.attributes["kind"] is not None or prod(shape[axis] for axis in dimensions) <= LONGEST:
        return None
    *rest, axis = dimensions
    if rest:
        return _reduce(rewriter, node, _reduce(rewriter, node, arrays, (axis,)), tuple(rest))
    extent = shape[axis]
    part = 1 << (isqrt(extent - 1).bit_length())
    whole = extent // part * part
    pieces = _reduce(
        rewriter, node, tuple(_folded(rewriter, array, axis, whole, part) for array in arrays), (axis + 1,)
    )
    if whole < extent:
        tails = tuple(_slice(rewriter, array, axis, whole, extent) for array in arrays)
        ends = _reduce(rewriter, node, tails, (axis,))
        pieces = tuple(_append(rewriter, piece, end, axis) for piece, end in zip(pieces, ends, strict=True))
    return _reduce(rewriter, node, pieces, (axis,))


def _reduce(rewriter: Rewriter, node: Node, arrays: tuple[Value, ...], axes: tuple[int, ...]) -> tuple[Value, ...]:
    """Return the reduction of other arrays by the node's rule."""
    shape = [extent for axis, extent in enumerate(arrays[0].shape) if axis not in axes]
    outputs = tuple(rewriter.new_value(array.dtype, shape) for array in arrays)
    inputs = (*arrays, *node.inputs[len(arrays) :])
    return rewriter.add(Node("reduce", inputs, outputs, {**node.attributes, "dimensions": axes}, node.where))


def _folded(rewriter: Rewriter, array: Value, axis: int, whole: int, part: int) -> Value:
    """Return the first `whole` places along an axis as two axes: parts, and places in them."""
    shape = (*array.shape[:axis], whole // part, part, *array.shape[axis + 1 :])
    return rewriter.emit("reshape", (_slice(rewriter, array, axis, 0, whole),), array.dtype, shape)


def _slice(rewriter: Rewriter, array: Value, axis: int, start: int, limit: int) -> Value:
    if (start, limit) == (0, array.shape[axis]):
        return array
    starts, limits = [0] * len(array.shape), list(array.shape)
    starts[axis], limits[axis] = start, limit
    found = {"start": tuple(starts), "limit": tuple(limits), "stride": (1,) * len(starts)}
    shape = (*array.shape[:axis], limit - start, *array.shape[axis + 1 :])
    return rewriter.emit("slice", (array,), array.dtype, shape, found)


def _append(rewriter: Rewriter, array: Value, end: Value, axis: int) -> Value:
    """Return the array with one more place along an axis."""
    shape = (*array.shape[:axis], 1, *array.shape[axis + 1 :])
    last = rewriter.emit("reshape", (end,), end.dtype, shape)
    longer = (*array.shape[:axis], array.shape[axis] + 1, *array.shape[axis + 1 :])
    return rewriter.emit("concatenate", (array, last), array.dtype, longer, {"dimension": axis})


def cut_scatter(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Scatter of many updates that lanes look through -> scatters one after the other, in the updates' order."""
    count, a = len(node.outputs), node.attributes
    shape = node.inputs[count + 1].shape
    scattered = [axis for axis in range(len(shape)) if axis not in a["update_window_dims"]]
    is_atomic = count == 1 and a["kind"] in _ATOMIC and node.output.dtype in ("i32", "u32")
    if prod(shape[axis] for axis in scattered) <= LONGEST or a["unique"] or is_atomic:
        return None
    if a["input_batching_dims"]:
        return rewriter.add(_without_batching(rewriter, node))
    places = [axis for axis in range(len(node.inputs[count].shape)) if axis != a["index_vector_dim"]]
    axis, place = next((i, j) for i, j in zip(scattered, places, strict=True) if shape[i] > 1)
    rest = prod(shape[i] for i in scattered) // shape[axis]
    step = max(1, LONGEST // rest)
    results = node.inputs[:count]
    for start in range(0, shape[axis], step):
        stop = min(start + step, shape[axis])
        index = _slice(rewriter, node.inputs[count], place, start, stop)
        updates = (_slice(rewriter, update, axis, start, stop) for update in node.inputs[count + 1 :])
        fresh = tuple(rewriter.new_value(value.dtype, value.shape) for value in node.outputs)
        results = rewriter.add(Node("scatter", (*results, index, *updates), fresh, a, node.where))
    return results


def _without_batching(rewriter: Rewriter, node: Node) -> Node:
    """Return the scatter with what it batches over among its indices: slices of updates then stand for themselves."""
    count, a = len(node.outputs), node.attributes
    index, vector = node.inputs[count], a["index_vector_dim"]
    if vector == len(index.shape):
        index = rewriter.emit("reshape", (index,), index.dtype, (*index.shape, 1))
    column = (*index.shape[:vector], 1, *index.shape[vector + 1 :])
    dtype = index.dtype if dtypes.itemsize(index.dtype) >= 4 else "i32"
    columns = [rewriter.emit("iota", (), dtype, column, {"dimension": axis}) for axis in a["scatter_batching_dims"]]
    index = index if index.dtype == dtype else rewriter.emit("convert", (index,), dtype, index.shape)
    longer = (*index.shape[:vector], index.shape[vector] + len(columns), *index.shape[vector + 1 :])
    joined = rewriter.emit("concatenate", (*columns, index), dtype, longer, {"dimension": vector})
    batched = tuple(a["input_batching_dims"])
    attributes = {
        **a,
        "inserted_window_dims": tuple(sorted((*batched, *a["inserted_window_dims"]))),
        "scatter_dims_to_operand_dims": (*batched, *a["scatter_dims_to_operand_dims"]),
        "input_batching_dims": (),
        "scatter_batching_dims": (),
    }
    outputs = tuple(rewriter.new_value(value.dtype, value.shape) for value in node.outputs)
    inputs = (*node.inputs[:count], joined, *node.inputs[count + 1 :])
    return replace(node, inputs=inputs, outputs=outputs, attributes=attributes)


def cut_depth(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dot_general of great depth -> products of parts of the depth, side by side, and their sum."""
    a, (lhs, rhs) = node.attributes, node.inputs
    depth = prod(lhs.shape[axis] for axis in a["lhs_contract"])
    if depth <= DEEPEST:
        return None
    extents = [lhs.shape[axis] for axis in a["lhs_contract"]]
    longest = extents.index(max(extents))
    parts = min(extents[longest], -(-depth // DEEPEST))
    dtype = node.output.dtype
    kind = "or" if dtype == "bool" else "add"
    running = accumulator(kind, dtype)
    operands, attributes = [], {"precision": a["precision"]}
    for side, operand in (("lhs", lhs), ("rhs", rhs)):
        axis = a[f"{side}_contract"][longest]
        operands.append(_parts(rewriter, operand, axis, parts))
        attributes[f"{side}_batch"] = (axis, *(i + (i > axis) for i in a[f"{side}_batch"]))
        attributes[f"{side}_contract"] = tuple(i + (i >= axis) for i in a[f"{side}_contract"])
    shape = (parts, *node.output.shape)
    products = rewriter.emit("dot_general", tuple(operands), running, shape, attributes, node.where)
    start = rewriter.constant(np.asarray(identity(kind, running)).astype(dtypes.NUMPY[running]), ())
    found = {"dimensions": (0,), "kind": kind, "body": binary_body(kind, running)}
    total = rewriter.emit("reduce", (products, start), running, node.output.shape, found, node.where)
    return (total if running == dtype else rewriter.emit("convert", (total,), dtype, node.output.shape),)


def _parts(rewriter: Rewriter, array: Value, axis: int, parts: int) -> Value:
    """Return the array with an axis as two, parts and places in them, filled up with zeros."""
    extent = array.shape[axis]
    part = -(-extent // parts)
    if part * parts > extent:
        none = (0,) * len(array.shape)
        high = (*none[:axis], part * parts - extent, *none[axis + 1 :])
        shape = (*array.shape[:axis], part * parts, *array.shape[axis + 1 :])
        zero = rewriter.constant(np.zeros((), dtypes.NUMPY[array.dtype]), ())
        array = rewriter.emit("pad", (array, zero), array.dtype, shape, {"low": none, "high": high, "interior": none})
    return rewriter.emit("reshape", (array,), array.dtype, (*array.shape[:axis], parts, part, *array.shape[axis + 1 :]))
