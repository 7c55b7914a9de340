"""Element types: one short name for each, its size and its NumPy twin."""

from __future__ import annotations

import ml_dtypes
import numpy as np

NUMPY: dict[str, np.dtype] = {
    "bool": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "c64": np.dtype(np.complex64),
    "c128": np.dtype(np.complex128),
}
NAMES: dict[np.dtype, str] = {value: name for name, value in NUMPY.items()}

FLOATS = frozenset({"f16", "bf16", "f32", "f64"})
COMPLEX = frozenset({"c64", "c128"})
SIGNED = frozenset({"i8", "i16", "i32", "i64"})
UNSIGNED = frozenset({"u8", "u16", "u32", "u64"})
INTEGERS = SIGNED | UNSIGNED


def itemsize(dtype: str) -> int:
    """Return the bytes one element takes in memory; bool takes one byte."""
    return NUMPY[dtype].itemsize


def real_part(dtype: str) -> str:
    """Return the dtype of the real part: c64 -> f32, c128 -> f64, others unchanged."""
    return {"c64": "f32", "c128": "f64"}.get(dtype, dtype)
