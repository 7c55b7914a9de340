"""Elementary functions over the emitter's values, accurate to a few units in the last place on every driver.

Each takes the builder and f32 or f64 registers. They use additions, multiplications, divisions, square roots and bit
operations only, because the precision that Vulkan asks of a driver's own functions is low and f64 has none at all. The
one exception is the power of two of a kernel that allows it (`Builder.takes_exp2`): in `exp`, and in `halves`.
"""

from .arctangent import atan2
from .exponential import exp, exp_by_exp2, expm1, logistic, tanh
from .formats import absolute, copy_sign, is_finite, is_infinite, is_nan, is_negative
from .logarithm import log, log1p
from .power import power
from .roots import cbrt, hypot, rsqrt
from .trigonometry import cos, sin, sincos, tan

__all__ = [
    "absolute",
    "atan2",
    "cbrt",
    "copy_sign",
    "cos",
    "exp",
    "exp_by_exp2",
    "expm1",
    "hypot",
    "is_finite",
    "is_infinite",
    "is_nan",
    "is_negative",
    "log",
    "log1p",
    "logistic",
    "power",
    "rsqrt",
    "sin",
    "sincos",
    "tan",
    "tanh",
]
