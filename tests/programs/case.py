"""What a program is, and numbers for its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Program:
    """A function with arguments; its results on a device are compared with those on JAX's CPU.

    Args:
        roundings: by how many roundings of one step two good implementations may differ.
        depth: length of the longest chain of roundings into one result.
        needs: a package without which the program cannot be run here.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    roundings: float = 8
    depth: int = 1
    needs: str = "jax"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Return seeded normal numbers."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    """Return seeded numbers between 0.1 and 1.1."""
    return np.asarray(np.random.default_rng(seed).uniform(0.1, 1.1, shape)).astype(np.float32)
