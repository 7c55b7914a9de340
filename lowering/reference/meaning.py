"""What a meaning is: from a node and its input arrays to its output arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import dtypes
from ..graph import Graph, Node

Arrays = Sequence[np.ndarray]
# Runs a nested graph on arrays.
RunGraph = Callable[[Graph, Arrays], tuple[np.ndarray, ...]]
Meaning = Callable[[Node, Arrays, RunGraph], tuple[np.ndarray, ...]]


def output_dtype(node: Node) -> np.dtype:
    """Return the NumPy dtype of a node's single result."""
    return dtypes.NUMPY[node.output.dtype]


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype to compute in: f32 for f16 and bf16, others unchanged."""
    return np.dtype(np.float32) if dtypes.NAMES[dtype] in ("f16", "bf16") else dtype


def widest_dtype(dtype: np.dtype) -> np.dtype:
    """Return f64 for floats and c128 for complex numbers, others unchanged."""
    name = dtypes.NAMES[dtype]
    if name in dtypes.FLOATS:
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if name in dtypes.COMPLEX else dtype
