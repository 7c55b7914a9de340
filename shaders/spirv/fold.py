"""Fold operations on known numbers, so that index arithmetic written in Python stays small.

A rule returns the value that the operation equals, or None where nothing is known. Integer rules follow the wrapping
arithmetic of the dtype; float rules keep every bit, the sign of zero included, so `x + 0.0` is left alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from .dtypes import BITS, FLOATS, INTEGERS, UNSIGNED, element, wrap
from .grammar import Op

if TYPE_CHECKING:
    from .values import Value

SCALARS = INTEGERS | FLOATS
FOLDED = INTEGERS | {"bool"}
COMPARISONS: dict[str, Callable[[object, object], bool]] = {
    name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")
}

Rule = Callable[["Value", "Value"], "Value | None"]


def _exact(left: Value, right: Value, combine: Callable[[int, int], int]) -> Value | None:
    """Fold two known integers, wrapping; None when one is unknown or the dtype is no scalar integer."""
    dtype = left.dtype
    if not isinstance(dtype, str) or dtype not in INTEGERS or left.constant is None or right.constant is None:
        return None
    return left.builder.const(dtype, wrap(dtype, combine(int(left.constant), int(right.constant))))


def _is_zero(value: Value) -> bool:
    return value.constant == 0 and value.dtype in INTEGERS


def _is_one(value: Value) -> bool:
    """Whether a scalar or vector is known to be one; 1.0 * x and x / 1.0 keep every bit of x."""
    return value.constant == 1 and element(value.dtype) in SCALARS


def _truncating(left: int, right: int) -> int:
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _power_of_two(value: Value) -> int | None:
    """Return log2 of a known unsigned power of two."""
    if value.dtype not in UNSIGNED or value.constant is None:
        return None
    number = int(value.constant)
    return number.bit_length() - 1 if number > 0 and number & (number - 1) == 0 else None


def _add(left: Value, right: Value) -> Value | None:
    if _is_zero(left):
        return right
    return left if _is_zero(right) else _exact(left, right, operator.add)


def _sub(left: Value, right: Value) -> Value | None:
    return left if _is_zero(right) else _exact(left, right, operator.sub)


def _mul(left: Value, right: Value) -> Value | None:
    if _is_one(left) or _is_zero(right):
        return right
    if _is_one(right) or _is_zero(left):
        return left
    known = _exact(left, right, operator.mul)
    return _product(left, right) if known is None else known


def _product(left: Value, right: Value) -> Value | None:
    """Emit an integer product with a constant and remember its factors, so that an index can be divided again."""
    factor, known = (left, right) if left.constant is None else (right, left)
    if left.dtype not in INTEGERS or known.constant is None:
        return None
    builder = left.builder
    product = builder.binary(Op.IMul, left.dtype, factor.id, known.id)
    builder.products[product.id] = (factor, int(known.constant))
    return product


def _div(left: Value, right: Value) -> Value | None:
    if _is_one(right):
        return left
    if right.constant == 0:
        return None
    if left.constant is None and (shift := _power_of_two(right)) is not None:
        return left >> shift
    return _exact(left, right, _truncating)


def _mod(left: Value, right: Value) -> Value | None:
    if right.constant == 0:
        return None
    if left.constant is None and _power_of_two(right) is not None and right.constant is not None:
        return left & (int(right.constant) - 1)
    return _exact(left, right, lambda a, b: a - _truncating(a, b) * b)


def _and(left: Value, right: Value) -> Value | None:
    if left.dtype == "bool":
        return _logical(left, right, absorbing=False)
    if _is_zero(left) or _is_zero(right):
        return left if _is_zero(left) else right
    return _exact(left, right, operator.and_)


def _or(left: Value, right: Value) -> Value | None:
    if left.dtype == "bool":
        return _logical(left, right, absorbing=True)
    return right if _is_zero(left) else left if _is_zero(right) else _exact(left, right, operator.or_)


def _logical(left: Value, right: Value, *, absorbing: bool) -> Value | None:
    for known, other in ((left, right), (right, left)):
        if known.constant is not None:
            return known if bool(known.constant) == absorbing else other
    return None


def _xor(left: Value, right: Value) -> Value | None:
    return right if _is_zero(left) else left if _is_zero(right) else _exact(left, right, operator.xor)


def _lshift(left: Value, right: Value) -> Value | None:
    if _is_zero(right) or _is_zero(left):
        return left
    return _exact(left, right, operator.lshift) if _in_range(left, right) else None


def _rshift(left: Value, right: Value) -> Value | None:
    if _is_zero(right) or _is_zero(left):
        return left
    return _exact(left, right, operator.rshift) if _in_range(left, right) else None


def _in_range(left: Value, right: Value) -> bool:
    """Whether a shift is defined: a shift by the width or more has no meaning in SPIR-V."""
    dtype = left.dtype
    return isinstance(dtype, str) and right.constant is not None and 0 <= right.constant < BITS[dtype]


RULES: dict[str, Rule] = {
    "add": _add, "sub": _sub, "mul": _mul, "truediv": _div, "floordiv": _div, "mod": _mod, "and": _and, "or": _or,
    "xor": _xor, "lshift": _lshift, "rshift": _rshift,
}  # fmt: skip
