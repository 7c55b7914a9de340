"""atan2 by one division: the angle in the first octant, from a quotient of magnitude at most tan(pi/8)."""

from __future__ import annotations

from ..spirv import Builder, Value
from . import coefficients
from .exact import exact
from .formats import absolute, copy_sign, format_of, is_infinite, is_nan, is_negative, not_a_number, polynomial
from .roots import larger_and_smaller

_TAN_EIGHTH_PI = 0.41421356237309503


def atan2(b: Builder, y: Value, x: Value) -> Value:
    """Return the angle of the point (x, y), in [-pi, pi], with the signed zeros of IEEE 754."""
    dtype = format_of(x).dtype
    quarter, missing = coefficients.QUARTER_PI[dtype]
    octant = _first_octant(b, x, y)
    is_steep = ~(absolute(b, x) >= absolute(b, y))
    angle = b.select(is_steep, exact(2 * quarter - exact(octant - 2 * missing)), octant)
    angle = b.select(is_negative(b, x), exact(4 * quarter - exact(angle - 4 * missing)), angle)
    result = copy_sign(b, angle, y)
    return b.select(is_nan(b, x) | is_nan(b, y), not_a_number(b, dtype), result)


def _first_octant(b: Builder, x: Value, y: Value) -> Value:
    """Return atan(min(|x|, |y|) / max(|x|, |y|)), between 0 and pi/4."""
    dtype = format_of(x).dtype
    quarter, missing = coefficients.QUARTER_PI[dtype]
    large, small = larger_and_smaller(b, x, y)
    scale = _scale(b, large)
    large, small = exact(large * scale), exact(small * scale)
    is_upper = small > large * _TAN_EIGHTH_PI
    numerator = b.select(is_upper, exact(small - large), small)
    denominator = b.select(is_upper, exact(small + large), large)
    quotient = numerator / denominator
    z = quotient * quotient
    angle = exact(quotient + quotient * (z * polynomial(z, coefficients.ARCTANGENT[dtype])))
    angle = b.select(is_upper, exact(exact(angle + missing) + quarter), angle)
    both_infinite = is_infinite(b, x) & is_infinite(b, y)
    angle = b.select(both_infinite, b.const(dtype, quarter), angle)
    return b.select(large == 0.0, b.const(dtype, 0.0), angle)


def _scale(b: Builder, large: Value) -> Value:
    """Return a power of two by which sums do not overflow, differences are not subnormal and reciprocals are normal."""
    form = format_of(large)
    lift = 2.0 ** (form.mantissa + 2)
    up = b.select(large < form.smallest_normal * lift, b.const(form.dtype, lift), b.const(form.dtype, 1.0))
    return b.select(large > form.largest / 4, b.const(form.dtype, 0.125), up)
