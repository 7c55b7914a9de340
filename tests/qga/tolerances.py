"""How far a computed array may be from the truth: c * eps(dtype) * sqrt(depth) * scale, and never by its size."""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike

# Roundings between a good implementation and the float64 truth for each step of the longest chain.
CPU_ROUNDINGS = 4
# Vulkan allows exp (3 + 2|x|) units in the last place and division 2.5; scores of the tests stay below |x| = 16.
VULKAN_ROUNDINGS = 40


def bound(dtype: np.typing.DTypeLike, depth: int = 1, scale: float = 1.0, roundings: float = CPU_ROUNDINGS) -> float:
    """Return the largest error allowed.

    Args:
        dtype: of the accumulators.
        depth: length of the longest reduction.
        scale: largest magnitude of what is reduced.
        roundings: c, by platform.
    """
    return roundings * float(np.finfo(dtype).eps) * depth**0.5 * scale


def worst(got: ArrayLike, want: ArrayLike) -> float:
    """Return the largest error; infinite where NaN or infinities are in different places."""
    high, low = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert high.shape == low.shape, f"shapes {high.shape} and {low.shape}"
    finite = np.isfinite(low)
    if not np.array_equal(high[~finite], low[~finite], equal_nan=True) or not np.isfinite(high[finite]).all():
        return float("inf")
    return float(np.max(np.abs(high[finite] - low[finite]), initial=0.0))


def assert_close(
    got: ArrayLike, want: ArrayLike, *, depth: int = 1, scale: float = 1.0, roundings: float = CPU_ROUNDINGS
) -> None:
    """Require ``got`` within the bound of its dtype around ``want``."""
    allowed = bound(np.asarray(got).dtype, depth, scale, roundings)
    error = worst(got, want)
    assert error <= allowed, f"off by {error:.3g}, allowed {allowed:.3g}"


def assert_far(got: ArrayLike, want: ArrayLike, *, depth: int = 1, scale: float = 1.0) -> None:
    """Require a difference well above the bound: the negative twin of ``assert_close``."""
    assert worst(got, want) > 100 * bound(np.asarray(got).dtype, depth, scale)
