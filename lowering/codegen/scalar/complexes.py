"""The meaning of each operation on c64 and c128 elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from shaders.functions import complexes as functions
from shaders.library.complex import Complex
from shaders.spirv import Builder

from .registers import Operand, Scalar

Unary = Callable[[Builder, Complex], Scalar]
Binary = Callable[[Builder, Complex, Complex], Complex]

UNARY: Final[dict[str, Unary]] = {
    "abs": functions.absolute,
    "cbrt": functions.cbrt,
    "cosine": functions.cos,
    "exponential": functions.exp,
    "exponential_minus_one": functions.expm1,
    "imag": lambda b, z: z.im,
    "log": functions.log,
    "log_plus_one": functions.log1p,
    "logistic": functions.logistic,
    "negate": lambda b, z: Complex(-z.re, -z.im),
    "real": lambda b, z: z.re,
    "rsqrt": functions.rsqrt,
    "sign": functions.sign,
    "sine": functions.sin,
    "sqrt": functions.sqrt,
    "tan": functions.tan,
    "tanh": functions.tanh,
}

BINARY: Final[dict[str, Binary]] = {
    "add": lambda b, z, w: Complex(z.re + w.re, z.im + w.im),
    "atan2": functions.atan2,
    "divide": functions.divide,
    "maximum": functions.maximum,
    "minimum": functions.minimum,
    "multiply": functions.multiply,
    "power": functions.power,
    "subtract": lambda b, z, w: Complex(z.re - w.re, z.im - w.im),
}


def clamp(b: Builder, low: Complex, x: Complex, high: Complex) -> Complex:
    """Return min(max(low, x), high) in the order of pairs (real, imaginary); `high` where x is NaN."""
    return functions.minimum(b, functions.maximum(b, low, x), high)


def apply(b: Builder, op: str, operands: Sequence[Operand]) -> Scalar | None:
    """Compute one element, or return None for an operation without a complex meaning."""
    if op in UNARY:
        return UNARY[op](b, operands[0].complex)
    if op in BINARY:
        return BINARY[op](b, operands[0].complex, operands[1].complex)
    return None
