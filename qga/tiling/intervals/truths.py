"""Rules of comparisons, of truths, of choices and of a change of dtype.

A truth is certain where its low end is true and possible where its high end is.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np

from .box import Box, is_real, is_truth, known, limits, outward, point, unless
from .graph import Step


def less(step: Step, first: Box, second: Box) -> Box:
    """Bound x < y and x <= y; where one may be NaN, both answers are possible."""
    first, second = _numbered(first), _numbered(second)
    if step.primitive.name == "lt":
        return Box(first.high < second.low, ~(first.low >= second.high))
    return Box(first.high <= second.low, ~(first.low > second.high))


def greater(step: Step, first: Box, second: Box) -> Box:
    """Bound x > y and x >= y."""
    first, second = _numbered(first), _numbered(second)
    if step.primitive.name == "gt":
        return Box(first.low > second.high, ~(first.high <= second.low))
    return Box(first.low >= second.high, ~(first.high < second.low))


def equal(step: Step, first: Box, second: Box) -> Box:
    """Bound x = y."""
    if step.operands[0] is step.operands[1]:
        same = ~jnp.isnan(first.low) if is_real(first) else jnp.ones(first.low.shape, bool)
        return Box(same, jnp.ones_like(same))
    first, second = _numbered(first), _numbered(second)
    certain = (first.low == first.high) & (second.low == second.high) & (first.low == second.low)
    return Box(certain, ~((first.high < second.low) | (second.high < first.low)))


def unequal(step: Step, first: Box, second: Box) -> Box:
    """Bound x != y; a number that is not itself is NaN."""
    same = equal(step, first, second)
    return Box(~same.high, ~same.low)


def _numbered(box: Box) -> Box:
    return Box(box.low.astype(jnp.int32), box.high.astype(jnp.int32)) if is_truth(box) else box


def is_finite(step: Step, box: Box) -> Box:
    """Bound that a number is finite."""
    del step
    infinite = (box.low == jnp.inf) | (box.high == -jnp.inf)
    return Box(jnp.isfinite(box.low) & jnp.isfinite(box.high), ~infinite)


def either(step: Step, first: Box, second: Box) -> Box:
    """Bound that exactly one of two is so."""
    del step
    certain = (first.low == first.high) & (second.low == second.high)
    differ = first.low ^ second.low
    return Box(certain & differ, ~certain | differ)


def select(step: Step, which: Box, *cases: Box) -> Box:
    """Bound a choice by the cases that are possible."""
    del step
    which = _numbered(which)
    low, high = limits(cases[0].low.dtype)
    possible = [(which.low <= number) & (which.high >= number) for number in range(len(cases))]
    lows = [jnp.where(may, case.low, high) for may, case in zip(possible, cases, strict=True)]
    highs = [jnp.where(may, case.high, low) for may, case in zip(possible, cases, strict=True)]
    if is_truth(cases[0]):
        return Box(reduce(jnp.logical_and, lows), reduce(jnp.logical_or, highs))
    return Box(reduce(jnp.minimum, lows), reduce(jnp.maximum, highs))


def convert(step: Step, box: Box) -> Box:
    """Bound a number in another dtype: rounded to nearest if it becomes a floating one, else toward zero."""
    target = step.params["new_dtype"]
    number = known(box)
    if number is not None and (jnp.issubdtype(target, jnp.floating) or not is_real(box)):
        return point(np.asarray(number).astype(target))
    low, high = (step.run(end)[0] for end in (box.low, box.high))
    if target == jnp.bool_:
        return Box((box.low > 0) | (box.high < 0), ~((box.low == 0) & (box.high == 0)))
    if jnp.issubdtype(target, jnp.floating):
        return _rounded(box, low, high)
    return unless(~_fits(box, target), Box(low, high))


def _rounded(box: Box, low: Any, high: Any) -> Box:
    """Widen what may have been rounded."""
    if is_truth(box):
        return Box(low, high)
    wide = outward(Box(low, high), 1)
    if is_real(box):
        own, other = jnp.finfo(box.low.dtype), jnp.finfo(low.dtype)
        return Box(low, high) if other.nmant >= own.nmant and other.maxexp >= own.maxexp else wide
    # Integers of so few bits are floating numbers themselves.
    digits = jnp.finfo(low.dtype).nmant + 1
    small = (jnp.abs(low) <= 2.0**digits) & (jnp.abs(high) <= 2.0**digits)
    return Box(jnp.where(small, low, wide.low), jnp.where(small, high, wide.high))


def _fits(box: Box, target: Any) -> Any:
    """Tell where every value of a box is one of an integer dtype."""
    if is_truth(box):
        return jnp.ones(box.low.shape, bool)
    least, most = (int(end) for end in limits(target))
    if is_real(box):
        return (box.low >= float(least)) & (box.high < float(most + 1))
    own = tuple(int(end) for end in limits(box.low.dtype))
    return (box.low >= max(least, own[0])) & (box.high <= min(most, own[1]))
