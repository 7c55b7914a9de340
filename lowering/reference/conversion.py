"""Changes of dtype and of precision."""

from __future__ import annotations

import numpy as np

from .. import dtypes
from .meaning import wide_dtype


def convert(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert as XLA does: floats to integers saturate with NaN as 0, to bool is "not zero", complex drops imag."""
    source, target = dtypes.NAMES[x.dtype], dtypes.NAMES[dtype]
    if source == target:
        return x
    if target == "bool":
        return np.asarray(x != 0)
    if source in dtypes.COMPLEX and target not in dtypes.COMPLEX:
        return convert(np.real(x), dtype)
    if source in dtypes.FLOATS and target in dtypes.INTEGERS:
        return _saturate(x.astype(np.float64), dtype)
    return x.astype(dtype)


def _saturate(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Truncate towards zero into the range of an integer dtype."""
    limits = np.iinfo(dtype)
    # The largest i64 and u64 are not doubles; everything from 2^63 (2^64) on saturates.
    above = x >= float(limits.max)
    below = x <= float(limits.min)
    inside = ~(above | below | np.isnan(x))
    result = np.where(inside, x, 0).astype(dtype)
    result = np.where(above, np.array(limits.max, dtype), result)
    return np.where(below, np.array(limits.min, dtype), result)


def total_order(x: np.ndarray) -> np.ndarray:
    """Map floats to integers in the order -NaN < -inf < ... < -0 < +0 < ... < inf < NaN; integers stay."""
    if dtypes.NAMES[x.dtype] not in dtypes.FLOATS:
        return x
    signed = np.dtype(f"i{x.dtype.itemsize}")
    bits = np.ascontiguousarray(x).view(signed).reshape(x.shape)
    return np.where(bits < 0, bits ^ np.array(np.iinfo(signed).max, signed), bits)


def reduce_precision(x: np.ndarray, exponent_bits: int, mantissa_bits: int) -> np.ndarray:
    """Round to a float format with fewer bits and back: halves to even, overflow to inf, underflow to signed 0."""
    wide = x.astype(wide_dtype(x.dtype))
    info = np.finfo(wide.dtype)
    unsigned = np.dtype(f"u{wide.dtype.itemsize}")
    bits = np.ascontiguousarray(wide).view(unsigned).reshape(wide.shape)
    rounded = _round_mantissa(bits, unsigned, info.nmant - mantissa_bits)
    # As many exponent bits as there are leave the range alone, subnormal numbers included.
    if exponent_bits < info.nexp:
        rounded = _limit_exponent(rounded, info, exponent_bits)
    result = np.ascontiguousarray(rounded.astype(unsigned)).view(wide.dtype).reshape(x.shape)
    return np.where(np.isnan(wide), wide, result).astype(x.dtype)


def _limit_exponent(bits: np.ndarray, info: np.finfo, exponent_bits: int) -> np.ndarray:
    """Send what exceeds the range of fewer exponent bits to infinity and what falls below it to 0, sign kept."""
    unsigned = bits.dtype
    bias, narrow_bias = ((1 << (count - 1)) - 1 for count in (info.nexp, exponent_bits))
    sign = bits & unsigned.type(1 << (8 * unsigned.itemsize - 1))
    exponent = (bits ^ sign) >> unsigned.type(info.nmant)
    infinity = sign | unsigned.type(((1 << info.nexp) - 1) << info.nmant)
    limited = np.where(exponent > unsigned.type(bias + narrow_bias), infinity, bits)
    return np.where(exponent <= unsigned.type(bias - narrow_bias), sign, limited)


def _round_mantissa(bits: np.ndarray, unsigned: np.dtype, dropped: int) -> np.ndarray:
    if dropped <= 0:
        return bits
    last = (bits >> unsigned.type(dropped)) & unsigned.type(1)
    half = unsigned.type((1 << (dropped - 1)) - 1)
    return (bits + last + half) & ~unsigned.type((1 << dropped) - 1)
