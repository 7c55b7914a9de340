"""Integer arithmetic as XLA defines it where NumPy or C leave a choice."""

from __future__ import annotations

import numpy as np


def divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Divide towards zero; x / 0 is -1 (all bits set), and the least number / -1 is itself."""
    zero = y == 0
    # The least number / -1 overflows; negation wraps as wanted.
    negated = _is_minus_one(y)
    safe = np.where(zero | negated, np.ones_like(y), y)
    quotient = x // safe
    if np.issubdtype(x.dtype, np.signedinteger):
        quotient = quotient + ((quotient * safe != x) & ((x < 0) != (safe < 0))).astype(x.dtype)
        quotient = np.where(negated, -x, quotient)
    return np.where(zero, np.array(-1).astype(x.dtype), quotient).astype(x.dtype)


def remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return x - y * (x / y), with the sign of x; x % 0 is x."""
    zero = y == 0
    safe = np.where(zero | _is_minus_one(y), np.ones_like(y), y)
    return np.where(zero, x, np.fmod(x, safe)).astype(x.dtype)


def power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Multiply x by itself y times, wrapping around; a negative exponent gives 0 unless x is 1 or -1."""
    x, y = np.broadcast_arrays(x, y)
    result, base, exponent = np.ones_like(x), x.copy(), np.where(y < 0, np.zeros_like(y), y)
    while np.any(exponent):
        result = np.where(exponent & 1, result * base, result)
        base = base * base
        exponent = exponent >> 1
    parity = np.where(y & 1, x, np.ones_like(x))
    inverse = np.where(x == 1, x, np.where(_is_minus_one(x), parity, np.zeros_like(x)))
    return np.where(y < 0, inverse, result).astype(x.dtype)


def shift_left(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Shift left; an amount outside [0, width) gives 0."""
    width, inside, safe = _amount(x, amount)
    del width
    return np.where(inside, np.left_shift(x, safe), np.zeros_like(x)).astype(x.dtype)


def shift_right_logical(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Shift right and fill with 0; an amount outside [0, width) gives 0."""
    width, inside, safe = _amount(x, amount)
    unsigned = np.dtype(f"u{width // 8}")
    shifted = np.right_shift(x.astype(unsigned), safe.astype(unsigned))
    return np.where(inside, shifted, np.zeros_like(shifted)).astype(x.dtype)


def shift_right_arithmetic(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Shift right and fill with the highest bit; an amount outside [0, width) leaves copies of that bit only."""
    width, inside, safe = _amount(x, amount)
    signed = x.astype(np.dtype(f"i{width // 8}"))
    last = np.array(width - 1, signed.dtype)
    return np.right_shift(signed, np.where(inside, safe.astype(signed.dtype), last)).astype(x.dtype)


def count_ones(x: np.ndarray) -> np.ndarray:
    """Count the set bits; a negative number has those of its two's complement."""
    return np.bitwise_count(x.astype(np.dtype(f"u{x.dtype.itemsize}"))).astype(x.dtype)


def count_leading_zeros(x: np.ndarray) -> np.ndarray:
    """Count the zero bits above the highest set bit."""
    width = x.dtype.itemsize * 8
    bits = x.astype(np.dtype(f"u{width // 8}"))
    smeared = bits
    for step in (1, 2, 4, 8, 16, 32):
        if step < width:
            smeared = smeared | (smeared >> np.array(step, bits.dtype))
    return (width - np.bitwise_count(smeared)).astype(x.dtype)


def _amount(x: np.ndarray, amount: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the width of x, where the amount is inside [0, width), and the amount made safe."""
    width = x.dtype.itemsize * 8
    inside = (amount >= 0) & (amount < width)
    return width, inside, np.where(inside, amount, np.zeros_like(amount))


def _is_minus_one(y: np.ndarray) -> np.ndarray:
    return y == -1 if np.issubdtype(y.dtype, np.signedinteger) else np.zeros(y.shape, np.bool_)
