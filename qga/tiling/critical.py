"""When a tile stops being one thing: the inverse temperature at which its mean splits."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse


class CriticalBeta(NamedTuple):
    """An inverse temperature with bounds.

    Attributes:
        low: below it the mean of the tile is stable.
        high: above it the mean of the tile is unstable.
    """

    low: Float[Array, ""]
    high: Float[Array, ""]


def critical_beta(covariance: Float[Array, "width width"], *, squarings: int = 8) -> CriticalBeta:
    """Bound beta = 1 / lambda_max of the covariance of a tile's keys, where attention of the keys to themselves splits.

    Below it the mean of the keys is a stable fixed point of x -> sum softmax(beta <k, x>) k, of keys from their mean;
    above it the mean splits along the leading eigenvector (deterministic annealing).

    lambda_max <= (Tr C^p)^(1 / p),   lambda_max >= (Tr C^p / Tr C^(p/2))^(2 / p),   p = 2^squarings

    By repeated squaring, since power iteration from an unlucky start gives one bound only.

    Args:
        covariance: C, symmetric and positive.
        squarings: matrix products, at least 1; the bounds differ by at most the factor width^(1 / 2^squarings),
            squared.

    Returns:
        Infinite for keys that are all equal.

    Raises:
        ShapeError: ``covariance`` is not square.
        OptionError: ``squarings`` is below 1.

    Error: bounds hold up to about squarings width eps, relative.
    Source: Rose, Gurewitz and Fox 1990; Ramsauer et al. 2021 for the fixed point.

    Example:
        >>> critical_beta(jnp.diag(jnp.asarray([4.0, 1.0]))).high.round(4).tolist()
        0.25
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        refuse(
            ShapeError,
            "critical_beta: a covariance is square.",
            got=describe(covariance),
            want="[width, width]",
            fix="pass one matrix, and map over tiles with jax.vmap.",
        )
    if squarings < 1:
        refuse(
            OptionError,
            "critical_beta: a bound from both sides needs one squaring.",
            got=f"squarings={squarings}",
            want="squarings >= 1",
            fix="raise squarings.",
        )
    trace = jnp.trace(covariance)
    spread = trace > 0
    power = covariance / jnp.where(spread, trace, 1)
    # log (Tr C^p)^(1 / p), of p = 1, 2, 4, ...; traces are divided out on the way, or they would leave the range.
    log_high = jnp.log(jnp.where(spread, trace, 1))
    log_low = log_high
    for step in range(1, squarings + 1):
        power = jnp.matmul(power, power, precision=lax.Precision.HIGHEST)
        trace = jnp.where(spread, jnp.trace(power), 1)
        power = power / trace
        log_high += jnp.log(trace) / 2**step
        log_low = log_high + jnp.log(trace) / 2**step
    return CriticalBeta(*(jnp.where(spread, jnp.exp(-log), jnp.inf) for log in (log_high, log_low)))
