"""Single integers of 64 bits that 32 bits hold: counters of loops, and what is computed of them.

With `jax_enable_x64` a number of Python counts a loop in 64 bits, and a place in an array is such a number in 32 bits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...graph import Graph, Node, Value
from ...loops import step_of
from ..rewriting import Rewriter, Rule
from .conversion import is_lossless
from .folding import constants_of

_LIMITS = np.iinfo(np.int32)
_WIDE = ("i64", "u64")
# The lower half of these results depends on the lower halves of operands only.
_MODULAR = ("add", "subtract", "multiply", "negate", "select")


def narrow_counters(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """While that counts a carry i64 within 32 bits -> while that counts an i32, read as i64."""
    found, count = node.attributes, len(node.outputs)
    position = next((place for place in range(count) if _is_short(rewriter, node, place)), None)
    if position is None:
        return None
    start = rewriter.splat(node.inputs[position])
    assert start is not None
    inputs, outputs = list(node.inputs), list(node.outputs)
    inputs[position] = rewriter.constant(start.astype(np.int32), ())
    outputs[position] = rewriter.new_value("i32", ())
    cond, body = (_with_narrow_input(found[name], position) for name in ("cond", "body"))
    attributes = {**found, "cond": cond, "body": _with_narrow_output(body, position)}
    results = list(rewriter.add(Node("while", tuple(inputs), tuple(outputs), attributes, node.where)))
    results[position] = rewriter.emit("convert", (results[position],), node.outputs[position].dtype, ())
    return tuple(results)


def _is_short(rewriter: Rewriter, node: Node, position: int) -> bool:
    """Tell whether a carry of 64 bits only counts, from a constant, and stays within 32 bits."""
    value, rounds = node.inputs[position], node.attributes["trip_count"]
    start = rewriter.splat(value)
    if value.dtype not in _WIDE or value.shape or start is None or rounds is None:
        return False
    step = step_of(node.attributes["body"], position, constants_of(rewriter, node.inputs))
    return step is not None and all(_fits(each) for each in (int(start), int(start) + rounds * step))


def _with_narrow_input(graph: Graph, position: int) -> Graph:
    wide = graph.inputs[position]
    narrow = Value(graph.free_id(), "i32", ())
    inputs = (*graph.inputs[:position], narrow, *graph.inputs[position + 1 :])
    return replace(graph, inputs=inputs, nodes=(Node("convert", (narrow,), (wide,)), *graph.nodes))


def _with_narrow_output(graph: Graph, position: int) -> Graph:
    narrow = Value(graph.free_id(), "i32", ())
    outputs = (*graph.outputs[:position], narrow, *graph.outputs[position + 1 :])
    return replace(graph, nodes=(*graph.nodes, Node("convert", (graph.outputs[position],), (narrow,))), outputs=outputs)


def narrow_arithmetic(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """convert(add(x, y)) to 32 bits -> add(convert(x), convert(y))."""
    value, target = node.inputs[0], node.output.dtype
    if value.dtype not in _WIDE or value.shape or target not in ("i32", "u32"):
        return None
    inner = rewriter.producer(value, *_MODULAR)
    if inner is None:
        return None
    operands = tuple(
        rewriter.emit("convert", (each,), target, (), where=node.where) if each.dtype == value.dtype else each
        for each in inner.inputs
    )
    return (rewriter.emit(inner.op, operands, target, (), inner.attributes, inner.where),)


def narrow_extrema(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """maximum(convert(x), 5) in 64 bits of numbers of 32 -> convert(maximum(x, 5)); so signs, and quotients by 2 on."""
    operands = _narrow(rewriter, node.inputs)
    if operands is None or (node.op in ("divide", "remainder") and not _is_plain_divisor(rewriter, node.inputs[1])):
        return None
    result = rewriter.emit(node.op, operands, "i32", (), node.attributes, node.where)
    return (rewriter.emit("convert", (result,), node.output.dtype, ()),)


def narrow_comparison(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """compare(convert(x), 5) in 64 bits of numbers of 32 -> compare(x, 5)."""
    operands = _narrow(rewriter, node.inputs)
    if operands is None:
        return None
    return (rewriter.emit("compare", operands, "bool", (), node.attributes, node.where),)


def narrow_starts(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """A window that starts at numbers of 32 bits in 64 -> the window that starts at those numbers."""
    arrays = 2 if node.op == "dynamic_update_slice" else 1
    starts = _narrow(rewriter, node.inputs[arrays:])
    if starts is None:
        return None
    inputs = (*node.inputs[:arrays], *starts)
    return (rewriter.emit(node.op, inputs, node.output.dtype, node.output.shape, node.attributes, node.where),)


def _narrow(rewriter: Rewriter, values: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """Return single integers of 64 bits as i32, None unless each of them is a constant or a converted number."""
    found = [_narrow_one(rewriter, value) for value in values]
    known = tuple(value for value in found if value is not None)
    return known if known and len(known) == len(values) else None


def _narrow_one(rewriter: Rewriter, value: Value) -> Value | None:
    if value.dtype not in _WIDE or value.shape:
        return None
    known = rewriter.splat(value)
    if known is not None:
        return rewriter.constant(known.astype(np.int32), ()) if _fits(int(known)) else None
    node = rewriter.producer(value, "convert")
    # A negative number becomes a large one of u64.
    if node is None or not all(is_lossless(node.inputs[0].dtype, each) for each in ("i32", value.dtype)):
        return None
    source = node.inputs[0]
    return source if source.dtype == "i32" else rewriter.emit("convert", (source,), "i32", ())


def _is_plain_divisor(rewriter: Rewriter, value: Value) -> bool:
    """Tell whether a divisor is a constant for which quotients of both sizes are the same: not 0, not -1."""
    known = rewriter.splat(value)
    return known is not None and int(known) > 0


def _fits(number: int) -> bool:
    return int(_LIMITS.min) <= number <= int(_LIMITS.max)


RULES: dict[str, tuple[Rule, ...]] = {
    "while": (narrow_counters,),
    "convert": (narrow_arithmetic,),
    "compare": (narrow_comparison,),
    **dict.fromkeys(("minimum", "maximum", "sign", "divide", "remainder"), (narrow_extrema,)),
    **dict.fromkeys(("dynamic_slice", "dynamic_update_slice"), (narrow_starts,)),
}
