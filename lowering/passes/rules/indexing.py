"""Reads of what was just put together, and reads and writes at places known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ... import dtypes
from ...graph import Node, Value
from ..rewriting import Rewriter, Rule
from .folding import zeros
from .movement import broadcast, reshape

Bounds = Sequence[int]


def slice_(rewriter: Rewriter, value: Value, start: Bounds, limit: Bounds, stride: Bounds, where: str = "") -> Value:
    """Return every stride-th element from start up to limit, in each dimension."""
    shape = [-((a - b) // step) for a, b, step in zip(start, limit, stride, strict=True)]
    found = {"start": tuple(start), "limit": tuple(limit), "stride": tuple(stride)}
    return rewriter.emit("slice", (value,), value.dtype, shape, found, where)


def window(rewriter: Rewriter, value: Value, start: Bounds, sizes: Bounds, where: str = "") -> Value:
    """Return a slice of given sizes without gaps."""
    limit = [a + n for a, n in zip(start, sizes, strict=True)]
    return slice_(rewriter, value, start, limit, [1] * len(limit), where)


def slice_of_slice(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """slice(slice(x)) -> slice(x)."""
    inner = rewriter.producer(node.inputs[0], "slice")
    if inner is None:
        return None
    found, before = node.attributes, inner.attributes
    start = [a + b * step for a, b, step in zip(before["start"], found["start"], before["stride"], strict=True)]
    stride = [a * b for a, b in zip(before["stride"], found["stride"], strict=True)]
    limit = [a + max(n - 1, 0) * step + min(n, 1) for a, n, step in zip(start, node.output.shape, stride, strict=True)]
    return (slice_(rewriter, inner.inputs[0], start, limit, stride, node.where),)


def slice_of_concatenate(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """slice(concatenate(x, y)) inside y -> slice(y)."""
    inner = rewriter.producer(node.inputs[0], "concatenate")
    if inner is None:
        return None
    found, dimension = node.attributes, inner.attributes["dimension"]
    offset = 0
    for part in inner.inputs:
        end = offset + part.shape[dimension]
        if offset <= found["start"][dimension] and found["limit"][dimension] <= end:
            start = _with(found["start"], dimension, found["start"][dimension] - offset)
            limit = _with(found["limit"], dimension, found["limit"][dimension] - offset)
            return (slice_(rewriter, part, start, limit, found["stride"], node.where),)
        offset = end
    return None


def slice_of_pad(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """slice(pad(x)) inside x -> slice(x); inside the padding -> broadcast(value)."""
    inner = rewriter.producer(node.inputs[0], "pad")
    if inner is None or any(inner.attributes["interior"]):
        return None
    value, filler = inner.inputs
    low = inner.attributes["low"]
    start = [a - b for a, b in zip(node.attributes["start"], low, strict=True)]
    limit = [a - b for a, b in zip(node.attributes["limit"], low, strict=True)]
    places = list(zip(start, limit, value.shape, strict=True))
    if all(first >= 0 and last <= extent for first, last, extent in places):
        return (slice_(rewriter, value, start, limit, node.attributes["stride"], node.where),)
    if any(last <= 0 or first >= extent for first, last, extent in places):
        return (broadcast(rewriter, filler, node.output.shape, (), node.where),)
    return None


def slice_of_broadcast(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """slice(broadcast(x)) -> broadcast(slice(x)), which reads fewer elements."""
    inner = rewriter.producer(node.inputs[0], "broadcast_in_dim")
    if inner is None:
        return None
    dimensions = inner.attributes["dimensions"]
    start, limit, stride = ([node.attributes[name][i] for i in dimensions] for name in ("start", "limit", "stride"))
    read = slice_(rewriter, inner.inputs[0], start, limit, stride, node.where)
    return (broadcast(rewriter, read, node.output.shape, dimensions, node.where),)


def concatenate_of_slices(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """concatenate(x[0:2], x[2:5]) -> x[0:5]."""
    dimension = node.attributes["dimension"]
    parts = list(node.inputs)
    merged: list[Value] = [parts[0]]
    for part in parts[1:]:
        joined = _joined(rewriter, merged[-1], part, dimension)
        if joined is None:
            merged.append(part)
        else:
            merged[-1] = joined
    if len(merged) == len(parts):
        return None
    if len(merged) == 1:
        return (merged[0],)
    output = node.output
    return (rewriter.emit("concatenate", tuple(merged), output.dtype, output.shape, node.attributes, node.where),)


def _joined(rewriter: Rewriter, left: Value, right: Value, dimension: int) -> Value | None:
    """Return the one slice that two slices of one array make, if the second starts where the first ends."""
    first, second = rewriter.producer(left, "slice"), rewriter.producer(right, "slice")
    if first is None or second is None or first.inputs != second.inputs:
        return None
    a, b = first.attributes, second.attributes
    if any(n != 1 for n in (*a["stride"], *b["stride"])) or a["limit"][dimension] != b["start"][dimension]:
        return None
    rest = [i for i in range(len(left.shape)) if i != dimension]
    if any(a[name][i] != b[name][i] for name in ("start", "limit") for i in rest):
        return None
    limit = _with(a["limit"], dimension, b["limit"][dimension])
    return slice_(rewriter, first.inputs[0], a["start"], limit, a["stride"], first.where)


def dynamic_slice_at_constant(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dynamic_slice(x, constants) -> slice(x)."""
    value, *starts = node.inputs
    sizes = node.attributes["sizes"]
    known = _clamped(rewriter, starts, value.shape, sizes)
    return None if known is None else (window(rewriter, value, known, sizes, node.where),)


def whole_dynamic_slice(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dynamic_slice(x) of everything -> x."""
    del rewriter
    return (node.inputs[0],) if node.inputs[0].shape == node.output.shape else None


def whole_update(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dynamic_update_slice(x, u) of everything -> u."""
    del rewriter
    return (node.inputs[1],) if node.inputs[1].shape == node.output.shape else None


def gather_of_one(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """gather(x) of one slice -> slice(x) at a constant start, else dynamic_slice(x)."""
    value, start = node.inputs
    found = node.attributes
    count = len(found["start_index_map"])
    sizes = found["slice_sizes"]
    if start.size != count or node.output.size != math.prod(sizes):
        return None
    vector = rewriter.constant_value(start)
    if vector is not None:
        numbers = np.broadcast_to(vector, start.shape).reshape(-1)
        first = [0] * len(value.shape)
        for number, dimension in zip(numbers, found["start_index_map"], strict=True):
            first[dimension] = min(max(int(number), 0), value.shape[dimension] - sizes[dimension])
        read = window(rewriter, value, first, sizes, node.where)
    else:
        starts = _components(rewriter, start, found["start_index_map"], len(value.shape), node.where)
        read = rewriter.emit("dynamic_slice", (value, *starts), value.dtype, sizes, {"sizes": sizes}, node.where)
    return (reshape(rewriter, read, node.output.shape, node.where),)


def gather_in_order(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """gather(x, iota) of every element along the first axis -> x."""
    value, start = node.inputs
    found, inner = node.attributes, _counting(rewriter, start)
    sizes = (1, *value.shape[1:])
    if inner is None or inner.attributes["dimension"] or start.shape != (value.shape[0], 1):
        return None
    if found["start_index_map"] != (0,) or found["slice_sizes"] != sizes or 0 in found["offset_dims"]:
        return None
    return (reshape(rewriter, value, node.output.shape, node.where),)


def sign_of_iota(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Iota < 0 -> False."""
    left, right = node.inputs
    bound = rewriter.splat(right)
    if _counting(rewriter, left) is None or bound is None or node.attributes["direction"] != "LT" or bound > 0:
        return None
    return (zeros(rewriter, node.output, node.where),)


def _counting(rewriter: Rewriter, value: Value) -> Node | None:
    """Return the iota that makes a value; None where there is none, or its integers wrap around."""
    inner = rewriter.producer(value, "iota")
    dtype = dtypes.NUMPY[value.dtype]
    is_short = (
        inner is None or dtype.kind not in "iu" or value.shape[inner.attributes["dimension"]] - 1 <= np.iinfo(dtype).max
    )
    return inner if is_short else None


def _components(rewriter: Rewriter, start: Value, index_map: Sequence[int], rank: int, where: str) -> list[Value]:
    """Return one scalar start for each dimension of an array; 0 where the index vector has none."""
    flat = reshape(rewriter, start, (start.size,), where)
    result = [zeros(rewriter, Value(0, start.dtype, ()), where)] * rank
    for component, dimension in enumerate(index_map):
        piece = window(rewriter, flat, [component], [1], where)
        result[dimension] = reshape(rewriter, piece, (), where)
    return result


def scatter_of_one(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """scatter(x) that sets one slice at a constant place inside x -> dynamic_update_slice(x); outside -> x."""
    found = node.attributes
    if found["kind"] != "set" or len(node.outputs) != 1:
        return None
    value, indices, update = node.inputs
    vector = rewriter.constant_value(indices)
    if vector is None or indices.size != len(found["scatter_dims_to_operand_dims"]):
        return None
    inserted = (*found["inserted_window_dims"], *found["input_batching_dims"])
    windows = iter(sorted(found["update_window_dims"]))
    sizes = [1 if i in inserted else update.shape[next(windows)] for i in range(len(value.shape))]
    if update.size != math.prod(sizes):
        return None
    start = [0] * len(sizes)
    numbers = np.broadcast_to(vector, indices.shape).reshape(-1)
    for number, dimension in zip(numbers, found["scatter_dims_to_operand_dims"], strict=True):
        start[dimension] = int(number)
    if any(not 0 <= a <= extent - n for a, n, extent in zip(start, sizes, value.shape, strict=True)):
        return (value,)
    starts = tuple(rewriter.constant(np.array(a, np.int32), (), node.where) for a in start)
    inputs = (value, reshape(rewriter, update, sizes, node.where), *starts)
    return (rewriter.emit("dynamic_update_slice", inputs, value.dtype, value.shape, where=node.where),)


def _clamped(rewriter: Rewriter, starts: Sequence[Value], shape: Bounds, sizes: Bounds) -> list[int] | None:
    """Return constant starts moved inside, or None if one is not constant and matters."""
    result = []
    for start, extent, size in zip(starts, shape, sizes, strict=True):
        array = rewriter.splat(start)
        if array is None and extent != size:
            return None
        result.append(0 if array is None else min(max(int(array), 0), extent - size))
    return result


def _with(values: Sequence[int], position: int, value: int) -> tuple[int, ...]:
    return (*values[:position], value, *values[position + 1 :])


RULES: dict[str, tuple[Rule, ...]] = {
    "compare": (sign_of_iota,),
    "concatenate": (concatenate_of_slices,),
    "dynamic_slice": (whole_dynamic_slice, dynamic_slice_at_constant),
    "dynamic_update_slice": (whole_update,),
    "gather": (gather_of_one, gather_in_order),
    "scatter": (scatter_of_one,),
    "slice": (slice_of_slice, slice_of_concatenate, slice_of_pad, slice_of_broadcast),
}
