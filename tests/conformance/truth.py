"""The second judge: what a primitive gives in extended precision, where JAX's own CPU is known to be off.

A row needs a reason that can be checked. The function computes in `numpy.longdouble` or `clongdouble` (64 bits of
mantissa on x86), so that its own error is far below one rounding of every dtype that JAX has. Where the platform's long
double is no wider than f64 there is no second judge for f64 and complex128.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Truth:
    """A primitive's value in extended precision, on which dtypes JAX's CPU alone cannot judge it, and why."""

    function: Callable[..., Any]
    dtypes: tuple[str, ...]
    reason: str


ROWS = {
    "atanh": Truth(
        np.arctanh, ("float64",), "XLA's f64 atanh is a difference of two log1p and loses 70 units with them"
    ),
    "log": Truth(np.log, ("complex128",), "XLA's c128 log loses 11 units of one where the modulus is near one"),
    "log1p": Truth(np.log1p, ("float64",), "XLA's f64 log1p loses up to 120 units between -0.42 and -0.37"),
}
REASONS = {primitive: row.reason for primitive, row in ROWS.items()}


def result(primitive: str, inputs: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the true result rounded to the dtype of `want`, or None where this judge has nothing to say.

    It speaks of one elementwise result of the row's dtypes, whose inputs have its dtype and its shape or none.
    """
    row = ROWS.get(primitive)
    if row is None or len(want) != 1:
        return None
    dtype, shape = want[0].dtype, want[0].shape
    if dtype.name not in row.dtypes or any(array.dtype != dtype or array.shape not in (shape, ()) for array in inputs):
        return None
    wide = np.clongdouble if dtype.kind == "c" else np.longdouble
    if np.finfo(np.longdouble).eps > np.finfo(np.float64).eps / 1024:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(row.function(*(array.astype(wide) for array in inputs))).astype(dtype)
