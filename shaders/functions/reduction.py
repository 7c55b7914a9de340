"""Reduce an angle modulo a quarter turn: x = q pi/2 + r with |r| <= pi/4, to full relative precision of r.

Small angles take parts of pi/2 from x, each product exact (Cody and Waite 1980). Large ones multiply the mantissa by
the bits of 2/pi that matter, as integers (Payne and Hanek 1983).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..spirv import Builder, Value
from . import coefficients
from .exact import exact
from .formats import format_of, magnitude_bits, nearest_whole

# Up to here the quotient has at most 12 (22) bits, and the last part of pi/2 reaches far enough.
_SMALL = {"f32": 6400.0, "f64": 4194304.0}
# Words of 2/pi that the product needs: 2 bits of quadrant, leading zeros of the fraction, its mantissa, guard bits.
_WINDOW = {"f32": 3, "f64": 6}
# The largest power of two in the number of the first word that a finite number needs.
_LARGEST_STEP = {"f32": 4, "f64": 16}


def reduce_quadrant(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return r and the u32 q mod 4; r is NaN for infinite or NaN x."""
    form = format_of(x)
    limit = _SMALL[form.dtype]
    is_small = (x < limit) & (x > -limit)
    r, quadrant = b.branch(is_small, lambda: _subtract_parts(b, x), lambda: _multiply_bits(b, x))
    return r, quadrant


def _subtract_parts(b: Builder, x: Value) -> tuple[Value, Value]:
    whole, count = nearest_whole(b, x * coefficients.TWO_OVER_PI)
    r = x
    for part in coefficients.HALF_PI[format_of(x).dtype]:
        r = exact(r - whole * part)
    return r, b.bitcast(count, "u32") & 3


def _multiply_bits(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return r and q from the product of the mantissa with a window of 2/pi; see `_window`."""
    form = format_of(x)
    magnitude = magnitude_bits(b, x)
    exponent = b.convert(magnitude >> form.mantissa, "i32")
    mantissa = (magnitude & ((1 << form.mantissa) - 1)) | (1 << form.mantissa)
    # Bits of 2/pi that the mantissa lifts to multiples of 4 do not count; 32 zero bits keep the offset positive.
    offset = b.bitcast(exponent - (form.bias + form.mantissa + 2) + 32, "u32")
    product = _product(b, _words_of(b, mantissa), _window(b, offset, form.dtype))
    quadrant = (product[0] + (1 << 29)) >> 30
    fraction = _shift_left_two(product)
    is_negative = b.bitcast(fraction[0], "i32") < 0
    flip = b.select(is_negative, b.const("u32", 0xFFFFFFFF), b.const("u32", 0))
    r = _quarter_turns(b, [word ^ flip for word in fraction], form.dtype)
    turned_back = is_negative ^ (x < 0.0)
    r = b.select(turned_back, -r, r)
    quadrant = b.select(x < 0.0, b.const("u32", 0) - quadrant, quadrant) & 3
    is_finite = magnitude < form.infinity_bits
    return b.select(is_finite, r, b.const(form.dtype, float("nan"))), quadrant


def _words_of(b: Builder, mantissa: Value) -> list[Value]:
    """Return the u32 words of a mantissa, most significant first."""
    if mantissa.dtype == "u32":
        return [mantissa]
    return [b.convert(mantissa >> 32, "u32"), b.convert(mantissa, "u32")]


def _window(b: Builder, offset: Value, dtype: str) -> list[Value]:
    """Return the words of 2/pi, after 32 zero bits, from bit `offset` on; a chain of halving selections finds them."""
    count = _WINDOW[dtype] + 1
    step = _LARGEST_STEP[dtype]
    words = [b.const("u32", word) for word in (0, *coefficients.TWO_OVER_PI_BITS)]
    while step:
        is_beyond = (offset & (step << 5)) != 0
        words = [b.select(is_beyond, words[index + step], words[index]) for index in range(count + step - 1)]
        step >>= 1
    shift = offset & 31
    # Two shifts, because a shift by 32 is undefined.
    return [(words[i] << shift) | ((words[i + 1] >> 1) >> (31 - shift)) for i in range(count - 1)]


def _product(b: Builder, factors: Sequence[Value], window: Sequence[Value]) -> list[Value]:
    """Return the words of the product modulo 2^(32 words of the window), most significant first."""
    count = len(window)
    total = [b.const("u32", 0)] * count
    for row, factor in enumerate(reversed(factors)):
        carry = b.const("u32", 0)
        for column in range(count - 1 - row, -1, -1):
            low, high = b.umul_extended(factor, window[column + row])
            low, first = _add_carry(b, low, total[column])
            low, second = _add_carry(b, low, carry)
            total[column] = low
            carry = high + first + second
    return total


def _add_carry(b: Builder, left: Value, right: Value) -> tuple[Value, Value]:
    total = left + right
    return total, b.convert(total < left, "u32")


def _shift_left_two(words: Sequence[Value]) -> list[Value]:
    """Drop the two bits of the quadrant."""
    return [(word << 2) | (following >> 30) for word, following in itertools.pairwise(words)]


def _quarter_turns(b: Builder, fraction: Sequence[Value], dtype: str) -> Value:
    """Return pi/2 times the binary fraction, given as words.

    The leading bits of the fraction are few enough that their product with the first part of pi/2 is exact.
    """
    leading = {"f32": 0xFFF00000, "f64": 0xFFFFF000}[dtype]
    high = b.convert(fraction[0] & leading, dtype) * 2.0**-32
    low = b.convert(fraction[0] & (leading ^ 0xFFFFFFFF), dtype) * 2.0**-32
    for index, word in enumerate(fraction[1:4], 2):
        low = low + b.convert(word, dtype) * 2.0 ** (-32 * index)
    first, *others = coefficients.HALF_PI[dtype]
    rest = sum(others)
    return exact(high * first + (high * rest + low * (first + rest)))
