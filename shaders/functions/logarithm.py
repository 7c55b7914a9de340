"""log and log1p.

The argument is 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and log(1 + f) = 2 atanh(f / (2 + f)).
"""

from __future__ import annotations

from ..spirv import Builder, Value
from . import coefficients
from .exact import exact
from .formats import format_of, infinity, not_a_number, polynomial, power_of_two, scalar_dtype

_SQRT_HALF_BITS = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}
# Closer to zero than this log1p(x) is x.
_LOG1P_IDENTITY = {"f32": 2.0**-25, "f64": 2.0**-54}


def log(b: Builder, x: Value) -> Value:
    """Return the natural logarithm; a subnormal number counts as 0."""
    exponent, mantissa = split_exponent(b, x)
    result = _assemble(exact(mantissa - 1.0), b.convert(exponent, scalar_dtype(x)))
    return _special(b, x, result, x >= format_of(x).smallest_normal)


def log1p(b: Builder, x: Value) -> Value:
    """Return log(1 + x), accurate near 0.

    f = x 2^-k + (2^-k - 1) rounds once, relative to f itself, where (1 + x) 2^-k - 1 would keep the rounding of 1 + x.
    """
    form = format_of(x)
    shifted = x + 1.0
    exponent, _ = split_exponent(b, shifted)
    # Two is added to the exponent because -k alone would leave the normal range for the largest x.
    scale = power_of_two(b, 2 - exponent, form.dtype)
    f = exact(exact(x * 0.25) * scale + exact(scale * 0.25 - 1.0))
    result = _assemble(f, b.convert(exponent, form.dtype))
    size_is_tiny = (x < _LOG1P_IDENTITY[form.dtype]) & (x > -_LOG1P_IDENTITY[form.dtype])
    return b.select(size_is_tiny, x, _special(b, shifted, result, shifted >= form.smallest_normal))


def split_exponent(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return the i32 k and m with x = 2^k m and sqrt(1/2) <= m < sqrt(2), for positive normal x."""
    form = format_of(x)
    bits = b.bitcast(x, form.signed)
    exponent = (bits - _SQRT_HALF_BITS[form.dtype]) >> form.mantissa
    return b.convert(exponent, "i32"), b.bitcast(bits - (exponent << form.mantissa), form.dtype)


def _assemble(f: Value, exponent: Value) -> Value:
    """Return exponent ln(2) + log(1 + f), the small terms added first."""
    high, low = coefficients.LN2[format_of(f).dtype]
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    tail = s * (half_square + z * polynomial(z, coefficients.ATANH[format_of(f).dtype]))
    return exact(exponent * high - exact(exact(half_square - (tail + exponent * low)) - f))


def _special(b: Builder, x: Value, result: Value, is_normal: Value) -> Value:
    """Put in what log is outside the positive finite numbers; x is the argument of log."""
    below = b.select(x < 0.0, not_a_number(b, x.dtype), -infinity(b, x.dtype))
    return b.select(x < infinity(b, x.dtype), b.select(is_normal, result, below), x)
