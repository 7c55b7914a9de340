"""The meaning of `compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shaders.functions import formats
from shaders.spirv import Builder, Value

from ... import dtypes
from .registers import Operand

_DIRECTIONS: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "EQ": lambda x, y: x == y,
    "NE": lambda x, y: x != y,
    "LT": lambda x, y: x < y,
    "LE": lambda x, y: x <= y,
    "GT": lambda x, y: x > y,
    "GE": lambda x, y: x >= y,
}


def compare(b: Builder, left: Operand, right: Operand, direction: str, *, total_order: bool) -> Value:
    """Return whether left stands in that direction to right.

    NaN is unequal to everything and unordered; `total_order` ranks floats as -NaN < -inf < … < -0 < +0 < … < inf < NaN.
    """
    apply = _DIRECTIONS[direction]
    if left.dtype in dtypes.COMPLEX:
        return _compare_complex(left, right, direction)
    x, y = left.real, right.real
    if left.dtype == "bool" and direction not in ("EQ", "NE"):
        x, y = b.convert(x, "u32"), b.convert(y, "u32")
    if total_order and left.dtype in dtypes.FLOATS:
        x, y = _order_key(b, x), _order_key(b, y)
    return apply(x, y)


def _compare_complex(left: Operand, right: Operand, direction: str) -> Value:
    x, y = left.complex, right.complex
    assert direction in ("EQ", "NE"), "complex numbers have no order"
    return (x.re == y.re) & (x.im == y.im) if direction == "EQ" else (x.re != y.re) | (x.im != y.im)


def _order_key(b: Builder, x: Value) -> Value:
    """Return an integer that orders as the floats do: negative ones have their magnitude bits inverted."""
    form = formats.format_of(x)
    bits = b.bitcast(x, form.signed)
    return b.select(bits < 0, bits ^ (form.sign_bit - 1), bits)
