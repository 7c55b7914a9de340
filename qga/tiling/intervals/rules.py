"""Which rule bounds which primitive."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from . import integers, numbers, tables, truths
from .box import Box, has_order, is_real, is_truth, point, unbounded
from .graph import Step

Rule = Callable[..., Box]

# They grow with each operand and do not round, or only move data: both ends are theirs.
_ISOTONE = frozenset(
    {
        "broadcast_in_dim", "ceil", "clamp", "concatenate", "copy", "cummax", "cummin", "device_put", "expand_dims",
        "floor", "max", "min", "optimization_barrier", "pad", "reduce_max", "reduce_min", "reshape", "rev", "round",
        "sign", "slice", "split", "squeeze", "stack", "stop_gradient", "tile", "transpose", "unstack",
    }
)  # fmt: skip

# False comes before true.
_ISOTONE_TRUTH = _ISOTONE | {"and", "or", "reduce_and", "reduce_or"}

_REAL: dict[str, Rule] = {
    **dict.fromkeys(numbers.INCREASING, numbers.increasing), "rsqrt": numbers.reciprocal_root,
    "add": numbers.add, "add_any": numbers.add, "sub": numbers.sub, "mul": numbers.mul, "div": numbers.div,
    "neg": numbers.falling, "abs": numbers.absolute, "square": numbers.square, "pow": numbers.power,
    "integer_pow": numbers.integer_pow, "sin": numbers.sine, "cos": numbers.cosine, "rem": numbers.rem,
    "reduce_sum": numbers.reduce_sum, "cumsum": numbers.cumsum, "dot_general": numbers.dot_general,
    "reduce_precision": numbers.reduce_precision, "is_finite": truths.is_finite,
}  # fmt: skip

_INTEGER: dict[str, Rule] = {
    "add": integers.add, "sub": integers.sub, "mul": integers.mul, "div": integers.div, "rem": integers.rem,
    "neg": integers.neg, "abs": integers.absolute, "square": integers.square, "integer_pow": integers.integer_pow,
    "shift_left": integers.shift_left, "shift_right_arithmetic": integers.shift_right,
    "shift_right_logical": integers.shift_right, "and": integers.bits, "or": integers.bits, "xor": integers.bits,
    "not": numbers.falling, "reduce_sum": integers.total, "cumsum": integers.total,
}  # fmt: skip

_TRUTH: dict[str, Rule] = {"xor": truths.either, "not": numbers.falling}

_ANY: dict[str, Rule] = {
    "lt": truths.less, "le": truths.less, "gt": truths.greater, "ge": truths.greater, "eq": truths.equal,
    "ne": truths.unequal, "select_n": truths.select, "convert_element_type": truths.convert,
    "dynamic_slice": tables.dynamic_slice, "gather": tables.gather,
}  # fmt: skip

# Of points they make points.
_EXACT = frozenset({"neg", "abs", "rem", "is_finite", *_ANY}) - {"convert_element_type"}


def bound_step(step: Step, boxes: list[Box], missed: set[str]) -> list[Box]:
    """Bound the results of a step; the name of a primitive without a rule is added to those that are missed."""
    name, is_plain = step.primitive.name, all(has_order(aval.dtype) for aval in step.avals)
    rule = _rule_of(step, boxes) if boxes and is_plain and all(box.low is not None for box in boxes) else None
    if all(box.is_point for box in boxes) and not (rule and _rounds(step, boxes)):
        return [point(each) for each in step.run(*(box.low for box in boxes))]
    if rule is None:
        missed.add(name)
        return [unbounded(aval) for aval in step.avals]
    return rule(step, *boxes)


def _rule_of(step: Step, boxes: list[Box]) -> Callable[..., list[Box]] | None:
    name, first = step.primitive.name, boxes[0]
    if name in (_ISOTONE_TRUTH if is_truth(first) else _ISOTONE):
        return isotone
    table = _REAL if is_real(first) else _TRUTH if is_truth(first) else _INTEGER
    rule = _ANY.get(name, table.get(name))
    return None if rule is None or not tables.is_read(step) else lambda *operands: [rule(*operands)]


def isotone(step: Step, *boxes: Box) -> list[Box]:
    """Bound what grows with each operand and is exact."""
    lows, highs = step.run(*(box.low for box in boxes)), step.run(*(box.high for box in boxes))
    return [Box(low, high) for low, high in zip(lows, highs, strict=True)]


def _rounds(step: Step, boxes: list[Box]) -> bool:
    """Tell whether a result may differ by a rounding between two devices."""
    if step.primitive.name in _EXACT or step.primitive.name in _ISOTONE_TRUTH:
        return False
    return any(is_real(box) for box in boxes) or jnp.issubdtype(step.avals[0].dtype, jnp.floating)
