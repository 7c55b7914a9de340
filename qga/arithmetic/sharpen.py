"""Sharpening a row is a power map: the one place where arithmetic dynamics is attention itself."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import DomainError, refuse


def sharpen(weights: Float[Array, "*batch keys"], power: float | Float[Array, ""]) -> Float[Array, "*batch keys"]:
    """Raise the weights of a row to a power and normalise: p_i -> p_i^d / sum_j p_j^d.

    A combination: on attention rows this is a change of inverse temperature from beta to d beta; on the projective
    point [p_1 : ... : p_n] it is the power map, under which the Weil height of an exact row becomes d times as large
    (``qga.arithmetic.height``). That both are one map is the observation.

    Args:
        weights: rows that are positive or zero; zeros stay zero.
        power: d, positive.

    Returns:
        Rows that sum to one. A row of zeros stays zero; a row with a negative weight or NaN is NaN.

    Raises:
        DomainError: ``power`` is not positive (checked when it is a plain number).

    Error: relative, about d eps |log p|.
    Source: Silverman 2007, example 3.14 (power maps).

    Example:
        >>> sharpen(jnp.array([0.75, 0.25]), 2).round(6).tolist()
        [0.8999999761581421, 0.10000000149011612]
    """
    if isinstance(power, int | float) and not power > 0:
        refuse(
            DomainError,
            "sharpen: zeros stay zero under positive powers alone.",
            got=f"power={power}",
            want="power > 0",
            fix="use a power below one to flatten a row.",
        )
    # Not weights > 0: what is no weight must not pass for a zero.
    seen = weights != 0
    logs = jnp.where(seen, power * jnp.log(jnp.where(seen, weights, 1)), -jnp.inf)
    peak = jnp.max(logs, axis=-1, keepdims=True, initial=-jnp.inf)
    grown = jnp.exp(jnp.where(seen, logs - jnp.where(peak == -jnp.inf, 0, peak), -jnp.inf))
    total = jnp.sum(grown, axis=-1, keepdims=True)
    return grown / jnp.where(total == 0, 1, total)
