"""x^y as exp(y log|x|), the logarithm and the product in doubled precision, and the special values of IEEE 754."""

from __future__ import annotations

from ..spirv import Builder, Value
from . import coefficients
from .double_word import DoubleWord, divide, fast_two_sum, multiply, two_product, two_sum
from .exact import exact
from .formats import (
    absolute,
    format_of,
    infinity,
    is_infinite,
    is_nan,
    is_negative,
    native,
    nearest_whole,
    not_a_number,
    polynomial,
    power_of_two,
)
from .logarithm import split_exponent

# Beyond this |y| every x but ±1 over- or underflows, and nearer products do not overflow.
_LARGEST_EXPONENT = {"f32": 2.0**40, "f64": 2.0**80}
# Beyond these exponents of e the result is 0 or infinite.
_EXP_RANGE = {"f32": (-110.0, 100.0), "f64": (-760.0, 720.0)}


def power(b: Builder, x: Value, y: Value) -> Value:
    """Return x^y; a negative x needs a whole y, and pow(1, y) = pow(x, 0) = 1 even for NaN. Subnormal x counts as 0."""
    form = format_of(x)
    limit = _LARGEST_EXPONENT[form.dtype]
    size = absolute(b, x)
    clamped = b.select(y > limit, b.const(form.dtype, limit), b.select(y < -limit, b.const(form.dtype, -limit), y))
    result = _exp(b, _times(b, log_double(b, size), clamped))
    result = _special_base(b, size, y, result)
    is_whole, is_odd = _parity(b, y)
    negated = b.select(is_odd, -result, result)
    signed = b.select(is_negative(b, x), negated, result)
    outside = (x < 0.0) & ~is_whole & (size < infinity(b, form.dtype))
    signed = b.select(outside | is_nan(b, x) | is_nan(b, y), not_a_number(b, form.dtype), signed)
    is_one = (x == 1.0) | (y == 0.0) | ((size == 1.0) & is_infinite(b, y))
    return b.select(is_one, b.const(form.dtype, 1.0), signed)


def log_double(b: Builder, x: Value) -> DoubleWord:
    """Return log(x) for positive normal x in doubled precision, relative to the logarithm."""
    dtype = format_of(x).dtype
    exponent, mantissa = split_exponent(b, x)
    f = exact(mantissa - 1.0)
    s = divide(b, f, fast_two_sum(b.const(dtype, 2.0), f))
    square = two_product(b, s.high, s.high)
    square = DoubleWord(square.high, exact(square.low + s.high * s.low * 2.0))
    third = DoubleWord(*(b.const(dtype, part) for part in coefficients.TWO_THIRDS[dtype]))
    cube_term = multiply(b, third, multiply(b, square, s))
    tail = s.high * square.high * square.high * polynomial(square.high, coefficients.ATANH_TAIL[dtype])
    whole = b.convert(exponent, dtype)
    high, low = coefficients.LN2[dtype]
    doubled = DoubleWord(s.high * 2.0, s.low * 2.0)
    first = fast_two_sum(exact(whole * high), doubled.high)
    second = two_sum(first.high, cube_term.high)
    rest = exact(first.low + exact(second.low + exact(cube_term.low + exact(doubled.low + exact(whole * low + tail)))))
    return fast_two_sum(second.high, rest)


def _times(b: Builder, logarithm: DoubleWord, y: Value) -> DoubleWord:
    product = two_product(b, logarithm.high, y)
    return fast_two_sum(product.high, exact(product.low + logarithm.low * y))


def _exp(b: Builder, x: DoubleWord) -> Value:
    """Return e^(high + low); two scalings, so that the whole range of exponents is reached."""
    dtype = format_of(x.high).dtype
    least, most = _EXP_RANGE[dtype]
    inside = (x.high > least) & (x.high < most)
    zero = b.const(dtype, 0.0)
    total = b.select(inside, x.high, zero)
    high, low = coefficients.LN2[dtype]
    whole, count = nearest_whole(b, total * coefficients.LOG2_E)
    r = exact(exact(exact(total - whole * high) - whole * low) + b.select(inside, x.low, zero))
    value = r + r * r * polynomial(r, coefficients.EXPM1[dtype]) + 1.0
    half = count >> 1
    scaled = value * power_of_two(b, half, dtype) * power_of_two(b, count - half, dtype)
    return b.select(inside, scaled, b.select(x.high > 0.0, infinity(b, dtype), zero))


def _special_base(b: Builder, size: Value, y: Value, result: Value) -> Value:
    """Put in the powers of 0 and of infinity."""
    form = format_of(size)
    zero, unbounded = b.const(form.dtype, 0.0), infinity(b, form.dtype)
    is_rising = y > 0.0
    of_zero = b.select(is_rising, zero, unbounded)
    of_infinity = b.select(is_rising, unbounded, zero)
    result = b.select(size < form.smallest_normal, of_zero, result)
    return b.select(size > form.largest, of_infinity, result)


def _parity(b: Builder, y: Value) -> tuple[Value, Value]:
    """Whether y is a whole number, and whether it is an odd one; infinities are even."""
    half = y * 0.5
    is_whole = native(b, "trunc", y) == y
    is_half_whole = native(b, "trunc", half) == half
    return is_whole, is_whole & ~is_half_whole
