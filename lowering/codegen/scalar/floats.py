"""The meaning of each operation on f16, bf16, f32 and f64 elements."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final

from shaders import functions
from shaders.functions import halves
from shaders.functions.exact import exact
from shaders.functions.formats import native
from shaders.functions.remainder import remainder
from shaders.spirv import Builder, Value

Unary = Callable[[Builder, Value], Value]
Binary = Callable[[Builder, Value, Value], Value]

_SIGN, _INFINITY, _NAN = 0x80000000, 0x7F800000, 0x7FC00000
"""Bits of f32."""


def maximum(b: Builder, x: Value, y: Value) -> Value:
    """Return the larger operand, NaN if either is, and +0 of two zeros."""
    chosen = b.select((x > y) | functions.is_nan(b, x), x, y)
    return _of_equals(b, x, y, chosen, is_maximum=True)


def minimum(b: Builder, x: Value, y: Value) -> Value:
    """Return the smaller operand, NaN if either is, and -0 of two zeros."""
    chosen = b.select((x < y) | functions.is_nan(b, x), x, y)
    return _of_equals(b, x, y, chosen, is_maximum=False)


def _of_equals(b: Builder, x: Value, y: Value, chosen: Value, *, is_maximum: bool) -> Value:
    """Join the sign bits of equal operands, which differ for zeros only; a known number but 0 needs no care."""
    if x.constant or y.constant:
        return chosen
    bits = "u64" if x.dtype == "f64" else "u32"
    left, right = b.bitcast(x, bits), b.bitcast(y, bits)
    joined = b.bitcast(left & right if is_maximum else left | right, x.dtype)
    return b.select(x == y, joined, chosen)


def extremum(b: Builder, values: Sequence[Value], *, is_maximum: bool) -> Value:
    """Return the largest or smallest of f32 registers as `maximum` and `minimum` do, by three integer operations each.

    Bits order numbers of one sign: the largest of all is the largest signed integer, or of negative ones the smallest
    unsigned integer; the smallest of all is the largest unsigned integer, or of positive ones the smallest. NaN lies
    beyond infinity on either side, and zeros of both signs are told apart.
    """
    bits = [b.bitcast(value, "u32") for value in values]
    top = functools.reduce(b.max, [b.bitcast(word, "i32") for word in bits])
    least, most = functools.reduce(b.min, bits), functools.reduce(b.max, bits)
    found = b.select(top >= 0, b.bitcast(top, "u32"), least) if is_maximum else b.select(most >= _SIGN, most, least)
    is_nan = (top > _INFINITY) | (most > (_SIGN | _INFINITY))
    return b.bitcast(b.select(is_nan, b.const("u32", _NAN), found), "f32")


def clamp(b: Builder, low: Value, x: Value, high: Value) -> Value:
    """Return min(max(x, low), high), NaN if any operand is."""
    return minimum(b, maximum(b, x, low), high)


def sign(b: Builder, x: Value) -> Value:
    """Return -1 or 1, and x itself where it is ±0 or NaN."""
    one = b.const(x.dtype, 1.0)
    return b.select(x > 0.0, one, b.select(x < 0.0, -one, x))


def round_away(b: Builder, x: Value) -> Value:
    """Return the nearest whole number, halves away from zero; the device's own rounding may take either."""
    whole = native(b, "trunc", x)
    is_far = functions.absolute(b, exact(x - whole)) >= 0.5
    return b.select(is_far, whole + functions.copy_sign(b, b.const(x.dtype, 1.0), x), whole)


def _native(name: str) -> Unary:
    return lambda b, x: native(b, name, x)


EXACT_UNARY: Final[dict[str, Unary]] = {
    "abs": functions.absolute,
    "ceil": _native("ceil"),
    "floor": _native("floor"),
    "negate": lambda b, x: -x,
    "round_nearest_afz": round_away,
    "round_nearest_even": _native("round_even"),
    "sign": sign,
    "real": lambda b, x: x,
    "imag": lambda b, x: b.const(x.dtype, 0.0),
}
"""Operations whose result has the dtype's precision if the operand has."""

ROUNDED_UNARY: Final[dict[str, Unary]] = {
    "cbrt": functions.cbrt,
    "cosine": functions.cos,
    "exponential": functions.exp,
    "exponential_minus_one": functions.expm1,
    "log": functions.log,
    "log_plus_one": functions.log1p,
    "logistic": functions.logistic,
    "rsqrt": functions.rsqrt,
    "sine": functions.sin,
    "sqrt": _native("sqrt"),
    "tan": functions.tan,
    "tanh": functions.tanh,
}
"""Operations whose result must be rounded to f16 or bf16."""

OF_HALVES: Final[dict[str, Unary]] = {"exponential": halves.exp, "logistic": halves.logistic, "tanh": halves.tanh}
"""Shorter ways to results of f16 and bf16, where `Builder.takes_exp2`."""

EXACT_BINARY: Final[dict[str, Binary]] = {"maximum": maximum, "minimum": minimum, "remainder": remainder}

ROUNDED_BINARY: Final[dict[str, Binary]] = {
    "add": lambda b, x, y: x + y,
    "atan2": functions.atan2,
    "divide": lambda b, x, y: x / y,
    "multiply": lambda b, x, y: x * y,
    "power": functions.power,
    "subtract": lambda b, x, y: x - y,
}
