"""What a named case is, and numbers for its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A function with arguments: its value, gradient, vmap, donation, verification and file all come from this row.

    Args:
        roundings: by how many roundings of one step two good implementations may differ.
        depth: length of the longest sum into one result.
        floor: magnitude below which errors do not scale with the result: that of terms that cancel.
        donate: positions of leaves of the arguments that the caller gives up.
        gradient: positions of arguments that the sum of all float results is differentiated by.
        is_mapped: whether the function is also run under vmap over two variants of each argument.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    roundings: float = 8
    depth: int = 1
    floor: float = 0.0
    donate: tuple[int, ...] = ()
    gradient: tuple[int, ...] = ()
    is_mapped: bool = False


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Return seeded normal numbers."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def integers(*shape: int, seed: int = 0, low: int = -50, high: int = 50, dtype: Any = np.int32) -> np.ndarray:
    """Return seeded whole numbers of [low, high)."""
    return np.asarray(np.random.default_rng(seed).integers(low, high, shape)).astype(dtype)


def complexes(*shape: int, seed: int = 0) -> np.ndarray:
    """Return seeded complex numbers."""
    return (normal(*shape, seed=seed) + 1j * normal(*shape, seed=seed + 1)).astype(np.complex64)
