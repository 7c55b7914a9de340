"""Functions whose result is rounded to f16 or bf16, from the device's own power of two (`Builder.takes_exp2`).

Vulkan lets `exp2` of x be off by 3 + 2 |x| units of f32. Where results of 16 bits are finite, |x| is at most 2^7 (f16:
25), so that a result is off by less than a twentieth of its unit before it is rounded; those below the smallest normal
f32 may be 0.
"""

from __future__ import annotations

from ..spirv import Builder, Value
from . import coefficients
from .exact import fused
from .formats import absolute, copy_sign, native

# Below it x - x^3 / 3 is closer to tanh(x) than a difference of numbers near 1.
_TANH_CUBIC = 2.0**-5


def exp(b: Builder, x: Value) -> Value:
    """Return e^x."""
    return native(b, "exp2", x * coefficients.LOG2_E)


def logistic(b: Builder, x: Value) -> Value:
    """Return 1 / (1 + e^-x)."""
    return b.const(x.dtype, 1.0) / (native(b, "exp2", x * -coefficients.LOG2_E) + 1.0)


def short_tanh(b: Builder, x: Value) -> Value:
    """Return the device's own hyperbolic tangent, which may be one of 16 bits (`Builder.has_short_tanh`).

    Error: 6.7e-4, and 1.3e-3 of itself, on an H100.
    """
    return b.relaxed(native(b, "tanh", x))


def tanh(b: Builder, x: Value) -> Value:
    """Return the hyperbolic tangent as 1 - 2 / (e^(2 |x|) + 1)."""
    size = absolute(b, x)
    grown = native(b, "exp2", size * (2 * coefficients.LOG2_E)) + 1.0
    far = copy_sign(b, b.const(x.dtype, 1.0) - b.const(x.dtype, 2.0) / grown, x)
    near = x * fused(b, x * x, -1 / 3, b.const(x.dtype, 1.0))
    return b.select(size < _TANH_CUBIC, near, far)
