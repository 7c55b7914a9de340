"""Cube root, reciprocal square root and hypotenuse."""

from __future__ import annotations

from ..spirv import Builder, Value
from .exact import exact
from .formats import absolute, copy_sign, format_of, infinity, is_infinite, magnitude_bits, native, scalar_dtype

# A third of the exponent and mantissa bits plus this is a cube root good to 5 bits (Kahan).
_CBRT_BITS = {"f32": 709958130, "f64": 0x2A9F789300000000}
_CBRT_DROP = 0.25
_CBRT_LIFT = {"f32": 2.0**9, "f64": 2.0**19}
_CBRT_STEPS = {"f32": 2, "f64": 3}


def cbrt(b: Builder, x: Value) -> Value:
    """Return the cube root with the sign of x; a subnormal number counts as 0."""
    form = format_of(x)
    size = absolute(b, x)
    # Away from both ends of the range three times the cube is below 2^126, past which a GPU's division may give zero,
    # and what it misses is no subnormal number.
    is_large = size > 1.0
    lift = _CBRT_LIFT[form.dtype]
    scaled = exact(size * b.select(is_large, b.const(form.dtype, _CBRT_DROP**3), b.const(form.dtype, lift**3)))
    root = b.bitcast(magnitude_bits(b, scaled) // 3 + _CBRT_BITS[form.dtype], form.dtype)
    for _ in range(_CBRT_STEPS[form.dtype]):
        # Halley's step, written as a correction so that its rounding errors shrink with it.
        cube = exact(root * root) * root
        root = exact(root + root * (exact(scaled - cube) / (cube + (cube + scaled))))
    root = root * b.select(is_large, b.const(form.dtype, 1 / _CBRT_DROP), b.const(form.dtype, 1 / lift))
    has_root = (size >= form.smallest_normal) & (size <= form.largest)
    return b.select(has_root, copy_sign(b, root, x), x)


def rsqrt(b: Builder, x: Value) -> Value:
    """Return 1 / sqrt(x)."""
    # Vulkan bounds its own f32 function by 2 units, and the quotient of two of its operations by more; f64 by nothing.
    return native(b, "inverse_sqrt", x) if scalar_dtype(x) == "f32" else 1.0 / native(b, "sqrt", x)


def hypot(b: Builder, x: Value, y: Value) -> Value:
    """Return sqrt(x² + y²) without overflow or underflow on the way; infinite if either operand is."""
    dtype = format_of(x).dtype
    large, small = larger_and_smaller(b, x, y)
    # Past 2^126 a GPU's division may give zero.
    scale = b.select(large > 1.0, b.const(dtype, 0.125), b.const(dtype, 1.0))
    ratio = b.select(large == 0.0, small, (small * scale) / (large * scale))
    result = large * native(b, "sqrt", ratio * ratio + 1.0)
    return b.select(is_infinite(b, x) | is_infinite(b, y), infinity(b, dtype), result)


def larger_and_smaller(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """Return |x| and |y| in descending order; of a NaN and a number, both orders occur."""
    x_size, y_size = absolute(b, x), absolute(b, y)
    is_ordered = x_size > y_size
    return b.select(is_ordered, x_size, y_size), b.select(is_ordered, y_size, x_size)
