"""exp, expm1, the logistic function and the hyperbolic tangent, by range reduction to |r| <= ln(2) / 2.

A kernel may let `exp` of f32 take the device's own power of two (`Builder.takes_exp2`), of numbers from 0 to 1 only.
"""

from __future__ import annotations

from ..spirv import Builder, Value
from . import coefficients
from .exact import exact, fused
from .formats import absolute, copy_sign, format_of, infinity, native, nearest_exponent, polynomial

# A margin for products with something below 1.
_LIFT = 8
# Below the first exp is smaller than any normal number, above the second it overflows.
_EXP_RANGE = {"f32": (-87.33654022216797, 88.72283172607422), "f64": (-708.3964185322641, 709.782712893384)}
# Below the first expm1 is -1; above the second tanh is 1.
_EXPM1_LOW = {"f32": -18.0, "f64": -40.0}
# Closer to zero than this expm1(x) is x.
_EXPM1_IDENTITY = {"f32": 2.0**-25, "f64": 2.0**-54}
_TANH_HIGH = {"f32": 9.25, "f64": 20.0}


def exp(b: Builder, x: Value) -> Value:
    """Return e^x; results below the smallest normal number are 0."""
    form = format_of(x)
    if b.takes_exp2 and form.dtype == "f32":
        return exp_by_exp2(b, x)
    low, high = _EXP_RANGE[form.dtype]
    exponent, power = _reduced_expm1(b, x)
    inside = b.select(x < low, b.const(form.dtype, 0.0), _scale(b, power + 1.0, exponent))
    return b.select(x <= high, inside, x + infinity(b, form.dtype))


def exp_by_exp2(b: Builder, x: Value) -> Value:
    """Return e^x as 2^k times the device's own 2^r with k = floor(x log2(e)), in ten instructions and no selection.

    The exponent's place holds 0, the number 0, for k = -127, and infinity for k = 128; to these k is clamped, and what
    x is beyond them, infinite or no number stays in r.
    """
    high, low = coefficients.LOG2_E_PARTS
    anchor = 1.5 * 2.0**23 + 127
    floor = fused(b, x, high, b.const("f32", -0.5))
    within = b.max(b.min(floor, b.const("f32", 128.0)), b.const("f32", -127.0))
    anchored = exact(within + anchor)
    r = fused(b, x, low, fused(b, x, high, -exact(anchored - anchor)))
    return native(b, "exp2", r) * b.bitcast(b.bitcast(anchored, "u32") << 23, "f32")


def scaled_exp(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return y and s with e^x = y s, where y is finite for somewhat larger x than e^x is; s is a power of two."""
    form = format_of(x)
    low, high = _EXP_RANGE[form.dtype]
    exponent, power = _reduced_expm1(b, x)
    is_large = x > 1.0
    lifted = b.select(is_large, exponent - (_LIFT << form.mantissa), exponent)
    inside = b.select(x < low, b.const(form.dtype, 0.0), _scale(b, power + 1.0, lifted))
    limit = high + 0.693 * _LIFT
    value = b.select(x <= limit, inside, x + infinity(b, form.dtype))
    return value, b.select(is_large, b.const(form.dtype, 2.0**_LIFT), b.const(form.dtype, 1.0))


def _scale(b: Builder, x: Value, exponent: Value) -> Value:
    """Return x 2^k for k in the exponent's place, if x and the result are normal."""
    form = format_of(x)
    return b.bitcast(b.bitcast(x, form.signed) + exponent, form.dtype)


def expm1(b: Builder, x: Value) -> Value:
    """Return e^x - 1, accurate near 0."""
    form = format_of(x)
    high = _EXP_RANGE[form.dtype][1]
    low = _EXPM1_LOW[form.dtype]
    inside = b.select(x < low, b.const(form.dtype, -1.0), _expm1_inside(b, x))
    result = b.select(x <= high, inside, x + infinity(b, form.dtype))
    # Halves of the smallest numbers are flushed, and -0 would lose its sign.
    return b.select(absolute(b, x) < _EXPM1_IDENTITY[form.dtype], x, result)


def logistic(b: Builder, x: Value) -> Value:
    """Return 1 / (1 + e^-x), as e^x / (1 + e^x) for negative x."""
    decay = exp(b, -absolute(b, x))
    return b.select(x < 0.0, decay, b.const(x.dtype, 1.0)) / (decay + 1.0)


def tanh(b: Builder, x: Value) -> Value:
    """Return the hyperbolic tangent as t / (t + 2) with t = expm1(2 |x|)."""
    high = _TANH_HIGH[format_of(x).dtype]
    size = absolute(b, x)
    t = _expm1_finite(b, b.select(size > high, b.const(x.dtype, high), size) * 2.0)
    return copy_sign(b, t / (t + 2.0), x)


def _reduced_expm1(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return k in the exponent's place and expm1(r), with x = k ln(2) + r."""
    high, low = coefficients.LN2[format_of(x).dtype]
    whole, exponent = nearest_exponent(b, x * coefficients.LOG2_E)
    # k times the high part is exact, so that a driver may round the product or not.
    r = fused(b, whole, -low, fused(b, whole, -high, x))
    return exponent, r + r * r * polynomial(r, coefficients.EXPM1[format_of(x).dtype])


def _expm1_finite(b: Builder, x: Value) -> Value:
    """Return expm1(x) as 2^k expm1(r) + (2^k - 1), for x of which 2^k is finite."""
    form = format_of(x)
    exponent, power = _reduced_expm1(b, x)
    scale = b.bitcast(exponent + (form.bias << form.mantissa), form.dtype)
    return b.math("fma", scale, power, exact(scale - 1.0))


def _expm1_inside(b: Builder, x: Value) -> Value:
    """Return expm1 between its limits as 2 (2^(k-1) expm1(r) + (2^(k-1) - 1/2)); 2^k itself may be infinite."""
    form = format_of(x)
    exponent, power = _reduced_expm1(b, x)
    scale = b.bitcast(exponent + ((form.bias - 1) << form.mantissa), form.dtype)
    return exact(scale * power + exact(scale - 0.5)) * 2.0
