"""Reductions and products over extents of 1, and of transposed operands."""

from __future__ import annotations

import math

from ...graph import Graph, Node, Value
from ..rewriting import Rewriter, Rule
from .conversion import is_lossless
from .folding import is_known_body
from .movement import broadcast, reshape, transpose


def reduce_one(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reduce(x) over extents of 1 -> body(init, reshape(x)), elementwise."""
    count = len(node.outputs)
    arrays, inits = node.inputs[:count], node.inputs[count:]
    dimensions, body, shape = node.attributes["dimensions"], node.attributes["body"], node.outputs[0].shape
    if math.prod(arrays[0].shape[i] for i in dimensions) != 1 or not is_known_body(body):
        return None
    starts = [broadcast(rewriter, init, shape, (), node.where) for init in inits]
    values = [reshape(rewriter, array, shape, node.where) for array in arrays]
    return _inline_body(rewriter, body, [*starts, *values], node)


def reduce_less(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reduce(x) over some extents of 1 among others -> reduce(reshape(x)) over the others."""
    count = len(node.outputs)
    arrays, dimensions = node.inputs[:count], node.attributes["dimensions"]
    dropped = [i for i in dimensions if arrays[0].shape[i] == 1]
    if not dropped:
        return None
    kept = [i for i in range(len(arrays[0].shape)) if i not in dropped]
    shape = [arrays[0].shape[i] for i in kept]
    values = tuple(reshape(rewriter, array, shape, node.where) for array in arrays)
    found = {**node.attributes, "dimensions": tuple(kept.index(i) for i in dimensions if i not in dropped)}
    outputs = tuple(rewriter.new_value(value.dtype, value.shape) for value in node.outputs)
    return rewriter.add(Node("reduce", (*values, *node.inputs[count:]), outputs, found, node.where))


def _inline_body(rewriter: Rewriter, body: Graph, arguments: list[Value], node: Node) -> tuple[Value, ...]:
    """Append a body of scalars as operations on whole arrays."""
    shape = node.outputs[0].shape
    renamed = dict(zip(body.inputs, arguments, strict=True))
    for inner in body.nodes:
        inputs = tuple(renamed[value] for value in inner.inputs)
        dtype = inner.output.dtype
        renamed[inner.output] = rewriter.emit(inner.op, inputs, dtype, shape, inner.attributes, node.where)
    return tuple(renamed[value] for value in body.outputs)


def dot_of_one(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dot_general over contracting extents of 1 -> product of broadcasts."""
    left, right = node.inputs
    found = node.attributes
    output = node.output
    if math.prod(left.shape[i] for i in found["lhs_contract"]) != 1 or left.dtype == "bool":
        return None
    if not (is_lossless(left.dtype, output.dtype) and is_lossless(right.dtype, output.dtype)):
        return None
    batch = len(found["lhs_batch"])
    rows = len(left.shape) - batch - len(found["lhs_contract"])
    spread = [
        _spread(rewriter, left, found["lhs_batch"], found["lhs_contract"], batch, node),
        _spread(rewriter, right, found["rhs_batch"], found["rhs_contract"], batch + rows, node),
    ]
    return (rewriter.emit("multiply", (spread[0], spread[1]), output.dtype, output.shape, where=node.where),)


def dot_of_transpose(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dot_general(transpose(x), y) -> dot_general(x, y) with x's own dimensions, where the result keeps its order."""
    operands, found, changed = list(node.inputs), dict(node.attributes), False
    for place, side in enumerate(("lhs", "rhs")):
        moved = rewriter.producer(operands[place], "transpose")
        if moved is None:
            continue
        permutation = moved.attributes["permutation"]
        batch, contract = found[f"{side}_batch"], found[f"{side}_contract"]
        free = [permutation[i] for i in range(len(permutation)) if i not in batch and i not in contract]
        if free != sorted(free):
            continue
        operands[place], changed = moved.inputs[0], True
        found[f"{side}_batch"] = tuple(permutation[i] for i in batch)
        found[f"{side}_contract"] = tuple(permutation[i] for i in contract)
    if not changed:
        return None
    output = node.output
    return (rewriter.emit("dot_general", tuple(operands), output.dtype, output.shape, found, node.where),)


def _spread(
    rewriter: Rewriter, value: Value, batch: tuple[int, ...], contract: tuple[int, ...], first: int, node: Node
) -> Value:
    """Return an operand in the result's dtype and shape; its free dimensions stand at `first` and after."""
    output = node.output
    free = [i for i in range(len(value.shape)) if i not in batch and i not in contract]
    if value.dtype != output.dtype:
        value = rewriter.emit("convert", (value,), output.dtype, value.shape, where=node.where)
    order = [*batch, *free, *contract]
    value = transpose(rewriter, value, order, node.where)
    value = reshape(rewriter, value, value.shape[: len(order) - len(contract)], node.where)
    places = [*range(len(batch)), *range(first, first + len(free))]
    return broadcast(rewriter, value, output.shape, places, node.where)


RULES: dict[str, tuple[Rule, ...]] = {
    "dot_general": (dot_of_one, dot_of_transpose),
    "reduce": (reduce_one, reduce_less),
}
