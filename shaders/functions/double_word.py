"""Numbers held as an unevaluated sum of two floats, with about twice the precision (Dekker 1971).

No fused multiply-add: halves of a mantissa are separated by masking bits, so that their products are exact everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

from ..spirv import Builder, Value
from .exact import exact
from .formats import format_of, truncate_bits


class DoubleWord(NamedTuple):
    """high + low, where |low| is at most about half a unit in the last place of high."""

    high: Value
    low: Value


def fast_two_sum(left: Value, right: Value) -> DoubleWord:
    """Return left + right exactly, if |left| >= |right| or left is 0."""
    total = exact(left + right)
    return DoubleWord(total, exact(right - exact(total - left)))


def two_sum(left: Value, right: Value) -> DoubleWord:
    """Return left + right exactly."""
    total = exact(left + right)
    part = exact(total - left)
    return DoubleWord(total, exact(exact(left - exact(total - part)) + exact(right - part)))


def two_product(b: Builder, left: Value, right: Value) -> DoubleWord:
    """Return left * right exactly; overflows where a factor exceeds the square root of the largest number."""
    left_high, left_low = _halves(b, left)
    right_high, right_low = _halves(b, right)
    product = exact(left * right)
    error = exact(exact(left_high * right_high) - product)
    error = exact(error + exact(left_high * right_low))
    error = exact(error + exact(left_low * right_high))
    return DoubleWord(product, exact(error + exact(left_low * right_low)))


def multiply(b: Builder, left: DoubleWord, right: DoubleWord) -> DoubleWord:
    """Return the product with a relative error of a few units of the doubled precision."""
    product = two_product(b, left.high, right.high)
    cross = left.high * right.low + left.low * right.high
    return fast_two_sum(product.high, exact(product.low + cross))


def divide(b: Builder, left: Value, right: DoubleWord) -> DoubleWord:
    """Return left / right; one step repairs what the device's division lacks."""
    quotient = exact(left / right.high)
    product = two_product(b, quotient, right.high)
    rest = exact(exact(exact(left - product.high) - product.low) - exact(quotient * right.low))
    return fast_two_sum(quotient, exact(rest / right.high))


def _halves(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return the upper half of the mantissa and the rest; both multiply exactly with other halves."""
    high = truncate_bits(b, x, (format_of(x).mantissa + 2) // 2)
    return high, exact(x - high)
