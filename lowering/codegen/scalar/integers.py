"""The meaning of each operation on bool and integer elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shaders.functions import integers
from shaders.spirv import Builder, Value

from .registers import width

Unary = Callable[[Builder, Value, str], Value]
Binary = Callable[[Builder, Value, Value, str], Value]


def clamp(b: Builder, low: Value, x: Value, high: Value) -> Value:
    """Return min(max(x, low), high)."""
    return b.min(b.max(x, low), high)


def _absolute(b: Builder, x: Value, dtype: str) -> Value:
    return b.select(x < 0, -x, x) if dtype.startswith("i") else x


def _sign(b: Builder, x: Value, dtype: str) -> Value:
    if not dtype.startswith("i"):
        return b.select(x > 0, b.const(x.dtype, 1), b.const(x.dtype, 0))
    # Written with shifts: beside a remainder of the same number, selections of i64 end NVIDIA's compiler (580.159).
    unsigned, last = ("u64", 63) if dtype == "i64" else ("u32", 31)
    return (x >> last) | b.bitcast(b.bitcast(-x, unsigned) >> last, str(x.dtype))


UNARY: Final[dict[str, Unary]] = {
    "abs": _absolute,
    "count_leading_zeros": lambda b, x, dtype: integers.count_leading_zeros(b, x, width(dtype)),
    "negate": lambda b, x, dtype: -x,
    "not": lambda b, x, dtype: ~x,
    "popcnt": lambda b, x, dtype: integers.popcount(b, x, width(dtype)),
    "sign": _sign,
}

BINARY: Final[dict[str, Binary]] = {
    "add": lambda b, x, y, dtype: x + y,
    "and": lambda b, x, y, dtype: x & y,
    "divide": lambda b, x, y, dtype: integers.divide(b, x, y),
    "maximum": lambda b, x, y, dtype: b.max(x, y),
    "minimum": lambda b, x, y, dtype: b.min(x, y),
    "multiply": lambda b, x, y, dtype: x * y,
    "or": lambda b, x, y, dtype: x | y,
    "power": lambda b, x, y, dtype: integers.power(b, x, y),
    "remainder": lambda b, x, y, dtype: integers.remainder(b, x, y),
    "shift_left": lambda b, x, y, dtype: integers.shift_left(b, x, y, width(dtype)),
    "shift_right_arithmetic": lambda b, x, y, dtype: integers.shift_right_arithmetic(b, x, y, width(dtype)),
    "shift_right_logical": lambda b, x, y, dtype: integers.shift_right_logical(b, x, y, width(dtype)),
    "subtract": lambda b, x, y, dtype: x - y,
    "xor": lambda b, x, y, dtype: x ^ y,
}

# On bool, addition is "or" and multiplication is "and", as in StableHLO.
BOOL_BINARY: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "add": lambda x, y: x | y,
    "and": lambda x, y: x & y,
    "maximum": lambda x, y: x | y,
    "minimum": lambda x, y: x & y,
    "multiply": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
}
