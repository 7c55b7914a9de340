"""Rules of arithmetic on integers: exact, and without a bound where they may overflow or divide by zero."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from .box import Box, around, has_zero, limits, unbounded, unless
from .graph import Step
from .numbers import remainder_range

# A product that does not fit is seen in single precision, with room for its rounding.
_FITS = 1 - 2.0**-20


def add(step: Step, first: Box, second: Box) -> Box:
    """Bound a sum."""
    low, high = (step.run(*ends)[0] for ends in ((first.low, second.low), (first.high, second.high)))
    wraps = [_sum_wraps(*ends) for ends in ((first.low, second.low, low), (first.high, second.high, high))]
    return unless(wraps[0] | wraps[1], Box(low, high))


def _sum_wraps(first: Any, second: Any, total: Any) -> Any:
    return total < first if _is_unsigned(total) else ((first ^ total) & (second ^ total)) < 0


def sub(step: Step, first: Box, second: Box) -> Box:
    """Bound a difference of independent integers."""
    low, high = (step.run(*ends)[0] for ends in ((first.low, second.high), (first.high, second.low)))
    wraps = [_difference_wraps(*ends) for ends in ((first.low, second.high, low), (first.high, second.low, high))]
    return unless(wraps[0] | wraps[1], Box(low, high))


def _difference_wraps(first: Any, second: Any, total: Any) -> Any:
    return first < second if _is_unsigned(total) else ((first ^ second) & (first ^ total)) < 0


def _is_unsigned(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.unsignedinteger)


def mul(step: Step, first: Box, second: Box) -> Box:
    """Bound a product by its values at the four corners."""
    if step.operands[0] is step.operands[1]:
        return square(step, first)
    ends = [(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]
    sizes = [jnp.abs(_number(a) * _number(b)) for a, b in ends]
    return unless(around(*sizes).high > _largest(first), around(*(step.run(a, b)[0] for a, b in ends)))


def _number(array: Any) -> Any:
    return array.astype(jnp.float32)


def _largest(box: Box) -> float:
    return _FITS * float(limits(box.low.dtype)[1])


def div(step: Step, first: Box, second: Box) -> Box:
    """Bound a quotient, rounded toward zero, by its values at the four corners."""
    ends = [(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]
    return unless(has_zero(second) | _has_least(first), around(*(step.run(a, b)[0] for a, b in ends)))


def rem(step: Step, first: Box, second: Box) -> Box:
    """Bound a remainder: tight where the divisor is one number and the quotient does not change."""
    wide = remainder_range(first, second, 1)
    quotients = [lax.div(end, second.low) for end in (first.low, first.high)]
    is_tight = (quotients[0] == quotients[1]) & (second.low == second.high) & ~((first.low < 0) & (first.high > 0))
    low, high = (step.run(end, second.low)[0] for end in (first.low, first.high))
    result = Box(jnp.where(is_tight, low, wide.low), jnp.where(is_tight, high, wide.high))
    return unless(has_zero(second) | _has_least(first) | _has_least(second), result)


def _has_least(box: Box) -> Any:
    """Tell where a box holds the least signed integer, which has no opposite."""
    return jnp.zeros(box.low.shape, bool) if _is_unsigned(box.low) else box.low == limits(box.low.dtype)[0]


def neg(step: Step, box: Box) -> Box:
    """Bound the opposite."""
    if _is_unsigned(box.low):
        return unbounded(step.avals[0])
    return unless(_has_least(box), Box(-box.high, -box.low))


def absolute(step: Step, box: Box) -> Box:
    """Bound |x|: tight also where x may be zero."""
    ends = around(*(step.run(end)[0] for end in (box.low, box.high)))
    return unless(_has_least(box), Box(jnp.where(has_zero(box), jnp.zeros_like(ends.low), ends.low), ends.high))


def square(step: Step, box: Box) -> Box:
    """Bound x^2."""
    del step
    return _power(box, 2)


def integer_pow(step: Step, box: Box) -> Box:
    """Bound x^n."""
    exponent = step.params["y"]
    return unbounded(step.avals[0]) if exponent < 0 else _power(box, exponent)


def _power(box: Box, exponent: int) -> Box:
    low, high = box.low**exponent, box.high**exponent
    if exponent % 2 == 0:
        ends = around(low, high)
        low, high = jnp.where(has_zero(box) & (exponent > 0), jnp.zeros_like(ends.low), ends.low), ends.high
    size = around(*(jnp.abs(_number(end)) for end in (box.low, box.high))).high
    return unless(size**exponent > _largest(box), Box(low, high))


def shift_left(step: Step, box: Box, places: Box) -> Box:
    """Bound x 2^n."""
    ends = [(a, b) for a in (box.low, box.high) for b in (places.low, places.high)]
    sizes = [jnp.abs(_number(a)) * 2.0 ** _number(b) for a, b in ends]
    bad = _is_outside(places) | (around(*sizes).high > _largest(box))
    return unless(bad, around(*(step.run(a, b)[0] for a, b in ends)))


def shift_right(step: Step, box: Box, places: Box) -> Box:
    """Bound x / 2^n, rounded down; bits of a negative number that become digits have no bound."""
    ends = around(*(step.run(a, b)[0] for a in (box.low, box.high) for b in (places.low, places.high)))
    is_logical = step.primitive.name == "shift_right_logical"
    return unless(_is_outside(places) | ((box.low < 0) & is_logical), ends)


def _is_outside(places: Box) -> Any:
    return (places.low < 0) | (places.high >= jnp.iinfo(places.low.dtype).bits)


def bits(step: Step, first: Box, second: Box) -> Box:
    """Bound and, or, exclusive or of the bits of two numbers that are nowhere negative."""
    below = jnp.minimum if step.primitive.name == "and" else _filled
    zero = jnp.zeros_like(first.low)
    low = jnp.maximum(first.low, second.low) if step.primitive.name == "or" else zero
    return unless((first.low < 0) | (second.low < 0), Box(low, below(first.high, second.high)))


def _filled(first: Any, second: Any) -> Any:
    """Return the largest number with as many bits as the larger of two."""
    width = jnp.iinfo(first.dtype).bits
    top = jnp.asarray(width, first.dtype) - lax.clz(jnp.maximum(first, second))
    ones = jnp.asarray(limits(first.dtype)[1], first.dtype)
    spare = jnp.asarray(int(limits(first.dtype)[1]).bit_length(), first.dtype) - top
    return lax.shift_right_logical(ones, spare)


def total(step: Step, box: Box) -> Box:
    """Bound a sum over axes, or running sums."""
    low, high = (step.run(end)[0] for end in (box.low, box.high))
    size = jnp.maximum(jnp.abs(_number(box.low)), jnp.abs(_number(box.high)))
    axes = tuple(step.params["axes"]) if "axes" in step.params else step.params["axis"]
    most = jnp.sum(size, axes, keepdims="axis" in step.params)
    return unless(jnp.broadcast_to(most > _largest(box), low.shape), Box(low, high))
