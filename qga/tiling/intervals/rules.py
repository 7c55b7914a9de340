"""Which rule bounds which primitive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import integers, numbers, tables, truths
from .box import Box, has_order, is_real, is_truth, point, unbounded
from .graph import Step

Rule = Callable[..., Box]

# They grow with each operand and do not round, or only move data: both ends are theirs. Booleans: false before true.
_ISOTONE = frozenset(
    {
        "broadcast_in_dim", "clamp", "concatenate", "copy", "cummax", "cummin", "expand_dims", "floor", "ceil",
        "max", "min", "optimization_barrier", "pad", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reshape",
        "rev", "round", "sign", "slice", "split", "squeeze", "stack",
        "stop_gradient", "tile", "unstack", "transpose", "device_put",
    }
)  # fmt: skip

_REAL: dict[str, Rule] = {
    **dict.fromkeys(numbers.INCREASING, numbers.increasing), **dict.fromkeys(numbers.DECREASING, numbers.decreasing),
    "add": numbers.add, "add_any": numbers.add, "sub": numbers.sub, "mul": numbers.mul, "div": numbers.div,
    "neg": integers.opposite_bits, "abs": numbers.absolute, "square": numbers.square, "pow": numbers.power,
    "integer_pow": numbers.integer_pow, "sin": numbers.sine, "cos": numbers.cosine, "rem": numbers.rem,
    "reduce_sum": numbers.reduce_sum, "cumsum": numbers.cumsum,
}  # fmt: skip

_INTEGER: dict[str, Rule] = {
    "add": integers.add, "sub": integers.sub, "mul": integers.mul, "div": integers.div, "rem": integers.rem,
    "neg": integers.neg, "abs": integers.absolute, "square": integers.square, "integer_pow": integers.integer_pow,
    "shift_left": integers.shift_left, "shift_right_arithmetic": integers.shift_right,
    "shift_right_logical": integers.shift_right, "and": integers.bits, "or": integers.bits, "xor": integers.bits,
    "not": integers.opposite_bits, "reduce_sum": integers.total,
    "cumsum": integers.total,
}  # fmt: skip

_TRUTH: dict[str, Rule] = {"and": truths.both, "or": truths.both, "xor": truths.either, "not": truths.opposite}

_ANY: dict[str, Rule] = {
    "lt": truths.less, "le": truths.less, "gt": truths.greater, "ge": truths.greater, "eq": truths.equal,
    "ne": truths.unequal, "select_n": truths.select, "convert_element_type": truths.convert,
    "dynamic_slice": tables.dynamic_slice, "gather": tables.gather,
}  # fmt: skip

# Of points they make no point, as a kernel may round otherwise than what bounds it.
_ROUNDS = frozenset(_REAL) - {"neg", "abs", "rem"}


def bound(step: Step, boxes: list[Box]) -> list[Box] | None:
    """Bound the results of a step by the boxes of its operands; None if there is no rule for it."""
    name, has_points = step.primitive.name, all(box.is_point for box in boxes)
    rule = _rule_of(step, boxes)
    is_plain = all(has_order(aval.dtype) for aval in step.avals)
    if has_points and not (rule and is_plain and _rounds(step, boxes)):
        return [point(each) for each in step.run(*(box.low for box in boxes))]
    if name in _ISOTONE and all(box.low is not None for box in boxes):
        return [Box(*ends) for ends in zip(*(step.run(*each) for each in _ends(boxes)), strict=True)]
    return [rule(step, *boxes)] if rule else None


def _rounds(step: Step, boxes: list[Box]) -> bool:
    """Tell whether a result may differ by a rounding between two devices."""
    if not any(is_real(box) for box in boxes) and step.primitive.name != "convert_element_type":
        return False
    return step.primitive.name in _ROUNDS or step.primitive.name == "convert_element_type"


def _rule_of(step: Step, boxes: list[Box]) -> Rule | None:
    name = step.primitive.name
    if not boxes or any(box.low is None for box in boxes) or not all(has_order(aval.dtype) for aval in step.avals):
        return None
    if name in _ANY:
        return _ANY[name] if tables.is_read(step) else None
    if is_real(boxes[0]):
        return _REAL.get(name)
    return _TRUTH.get(name) if is_truth(boxes[0]) else _INTEGER.get(name)


def _ends(boxes: list[Box]) -> tuple[list[Any], list[Any]]:
    return [box.low for box in boxes], [box.high for box in boxes]


def bound_or_none(step: Step, boxes: list[Box], missed: set[str]) -> list[Box]:
    """Bound the results of a step; one without a rule is noted and says nothing."""
    results = bound(step, boxes)
    if results is None:
        missed.add(step.primitive.name)
        return [unbounded(aval) for aval in step.avals]
    return results
