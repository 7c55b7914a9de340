"""Integer arithmetic where SPIR-V leaves results undefined: division, shifts, powers, counted bits.

Values are i32, u32, i64 or u64 registers; `width` is the number of bits of the element type that a register holds.
"""

from __future__ import annotations

from ..spirv import Builder, Value
from .formats import native, scalar_dtype

_SIGNED = frozenset({"i32", "i64"})
_UNSIGNED_TWIN = {"i32": "u32", "u32": "u32", "i64": "u64", "u64": "u64"}


def divide(b: Builder, x: Value, y: Value) -> Value:
    """Return the quotient rounded toward zero; -1 (all bits) for y = 0, and x for x = least, y = -1."""
    quotient = _magnitude(b, x) // _safe_divisor(b, y)
    if scalar_dtype(x) in _SIGNED:
        return b.select(y == 0, b.const(x.dtype, -1), _signed_by(b, quotient, x, y))
    return b.select(y == 0, ~b.const(x.dtype, 0), quotient)


def remainder(b: Builder, x: Value, y: Value) -> Value:
    """Return x - y (x / y) with the sign of x; x for y = 0, and 0 for x = least, y = -1."""
    if scalar_dtype(x) not in _SIGNED:
        return b.select(y == 0, x, x % _safe_divisor(b, y))
    rest = _signed_by(b, _magnitude(b, x) % _safe_divisor(b, y), x, None)
    return b.select(y == 0, x, rest)


def power(b: Builder, x: Value, y: Value) -> Value:
    """Return x^y, wrapping; for negative y the reciprocal rounded toward zero, 0 for x = 0."""
    unsigned = _UNSIGNED_TWIN[scalar_dtype(x)]

    def body(carries: list[Value]) -> list[Value]:
        total, square, left = carries
        return [b.select((left & 1) != 0, total * square, total), square * square, left >> 1]

    start = [b.const(x.dtype, 1), x, b.bitcast(y, unsigned)]
    result = b.while_loop(lambda carries: carries[2] != 0, body, start, most=64)[0]
    if scalar_dtype(x) not in _SIGNED:
        return result
    parity = b.select((y & 1) != 0, b.const(x.dtype, -1), b.const(x.dtype, 1))
    reciprocal = b.select(x == -1, parity, b.select(x == 1, b.const(x.dtype, 1), b.const(x.dtype, 0)))
    return b.select(y < 0, reciprocal, result)


def shift_left(b: Builder, x: Value, amount: Value, width: int) -> Value:
    """Return x shifted left, 0 where the unsigned amount is `width` or more; bits from `width` on may be set."""
    count, is_inside = _shift_count(b, amount, width)
    return b.select(is_inside, x << count, b.const(x.dtype, 0))


def shift_right_logical(b: Builder, x: Value, amount: Value, width: int) -> Value:
    """Return x shifted right with zeros entering at bit `width`; 0 where the amount is `width` or more."""
    count, is_inside = _shift_count(b, amount, width)
    bits = b.bitcast(x, _UNSIGNED_TWIN[scalar_dtype(x)])
    if width < 32:
        bits = bits & ((1 << width) - 1)
    return b.bitcast(b.select(is_inside, bits >> count, b.const(bits.dtype, 0)), x.dtype)


def shift_right_arithmetic(b: Builder, x: Value, amount: Value, width: int) -> Value:
    """Return x shifted right with copies of its highest bit; only those where the amount is `width` or more."""
    count = b.min(b.bitcast(amount, _UNSIGNED_TWIN[scalar_dtype(amount)]), width - 1)
    signed = scalar_dtype(x) if scalar_dtype(x) in _SIGNED else "i" + scalar_dtype(x)[1:]
    bits = b.bitcast(x, signed)
    if scalar_dtype(x) not in _SIGNED and width < 32:
        bits = (bits << (32 - width)) >> (32 - width)
    return b.bitcast(bits >> count, x.dtype)


def popcount(b: Builder, x: Value, width: int) -> Value:
    """Return the number of set bits among the lowest `width`."""
    total: Value | None = None
    for word in _words(b, x, width):
        total = b.bit_count(word) if total is None else total + b.bit_count(word)
    assert total is not None
    return b.convert(total, scalar_dtype(x))


def count_leading_zeros(b: Builder, x: Value, width: int) -> Value:
    """Return the number of clear bits above the highest set one; `width` for 0."""
    low, *high = _words(b, x, width)
    # The highest bit of 0 is -1, so that this is 32 for 0.
    count = min(width, 32) - 1 - native(b, "find_msb", low)
    for word in high:
        count = b.select(word == 0, count + 32, 31 - native(b, "find_msb", word))
    return b.convert(count, scalar_dtype(x))


def _safe_divisor(b: Builder, y: Value) -> Value:
    """Return the unsigned |y|, 1 for 0: what division by zero gives differs between devices."""
    size = _magnitude(b, y)
    return b.select(size == 0, b.const(size.dtype, 1), size)


def _magnitude(b: Builder, x: Value) -> Value:
    """Return the unsigned |x|; SPIR-V's signed division of the least number by -1 is undefined."""
    if scalar_dtype(x) not in _SIGNED:
        return x
    return b.bitcast(b.select(x < 0, -x, x), _UNSIGNED_TWIN[scalar_dtype(x)])


def _signed_by(b: Builder, size: Value, x: Value, y: Value | None) -> Value:
    """Return the unsigned size as signed, negated where x and y have different signs."""
    value = b.bitcast(size, x.dtype)
    is_negative = x < 0 if y is None else (x ^ y) < 0
    return b.select(is_negative, -value, value)


def _shift_count(b: Builder, amount: Value, width: int) -> tuple[Value, Value]:
    """Return an amount that is never out of range and whether the given one is inside."""
    unsigned = b.bitcast(amount, _UNSIGNED_TWIN[scalar_dtype(amount)])
    return unsigned & (31 if unsigned.dtype == "u32" else 63), unsigned < width


def _words(b: Builder, x: Value, width: int) -> list[Value]:
    """Return the u32 words of the lowest `width` bits, least significant first."""
    bits = b.bitcast(x, _UNSIGNED_TWIN[scalar_dtype(x)])
    if width == 64:
        return [b.convert(bits, "u32"), b.convert(bits >> 32, "u32")]
    return [bits if width == 32 else bits & ((1 << width) - 1)]
