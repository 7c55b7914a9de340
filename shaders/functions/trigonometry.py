"""sin, cos and tan over the whole range: reduction to |r| <= pi / 4 and a quadrant, then two short polynomials."""

from __future__ import annotations

from ..spirv import Builder, Value
from . import coefficients
from .exact import exact
from .formats import format_of, polynomial
from .reduction import reduce_quadrant


def sin(b: Builder, x: Value) -> Value:
    """Return the sine; NaN for infinite x."""
    return sincos(b, x)[0]


def cos(b: Builder, x: Value) -> Value:
    """Return the cosine; NaN for infinite x."""
    return sincos(b, x)[1]


def sincos(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return sine and cosine for one reduction; what is not used costs nothing once the driver has removed it."""
    r, quadrant = reduce_quadrant(b, x)
    sine, cosine = _kernels(r)
    is_odd = (quadrant & 1) != 0
    first = _negate_where(b, b.select(is_odd, cosine, sine), quadrant & 2)
    second = _negate_where(b, b.select(is_odd, sine, cosine), (quadrant + 1) & 2)
    # Zero keeps its sign, which the reduction loses.
    return b.select(x == 0.0, x, first), second


def tan(b: Builder, x: Value) -> Value:
    """Return the tangent; NaN for infinite x."""
    r, quadrant = reduce_quadrant(b, x)
    sine, cosine = _kernels(r)
    is_odd = (quadrant & 1) != 0
    ratio = b.select(is_odd, cosine, sine) / b.select(is_odd, sine, cosine)
    return b.select(x == 0.0, x, _negate_where(b, ratio, (quadrant & 1) << 1))


def _kernels(r: Value) -> tuple[Value, Value]:
    """Return sin(r) and cos(r) for |r| <= pi / 4."""
    dtype = format_of(r).dtype
    z = r * r
    sine = r + r * (z * polynomial(z, coefficients.SINE[dtype]))
    cosine = 1.0 - (z * 0.5 - z * z * polynomial(z, coefficients.COSINE[dtype]))
    return exact(sine), exact(cosine)


def _negate_where(b: Builder, x: Value, two_or_zero: Value) -> Value:
    """Return -x where the u32 is 2, x where it is 0."""
    form = format_of(x)
    bit = b.convert(two_or_zero, form.unsigned) << (form.width - 2)
    return b.bitcast(b.bitcast(x, form.unsigned) ^ bit, form.dtype)
