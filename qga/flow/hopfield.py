"""Retrieval as a flow: the energy that attention descends, and the temperature at which memories part."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import OptionError, refuse

State = Float[Array, " width"]
Keys = Float[Array, "keys width"]
Scale = float | Float[Array, ""]


class Critical(NamedTuple):
    """An inverse temperature and what is certain about it.

    Attributes:
        lower: a lower bound of the critical value.
        upper: an upper bound.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]


def hopfield_energy(state: State, keys: Keys, scale: Scale) -> Float[Array, ""]:
    """Compute the energy that retrieval lowers: E(x) = -(1 / beta) log sum_j e^(beta <k_j, x>) + |x|^2 / 2.

    Source: Ramsauer et al. 2021.
    """
    return jnp.sum(jnp.square(state)) / 2 - jax.nn.logsumexp(scale * (keys @ state)) / scale


@partial(jax.jit, static_argnames="steps")
def hopfield(state: State, keys: Keys, scale: Scale, *, steps: int) -> State:
    """Retrieve a memory: x <- sum_j softmax_j(beta <k_j, x>) k_j, attention of a state to its memories again and again.

    No step raises ``hopfield_energy`` (a concave-convex procedure), and every step ends in the hull of the keys.

    Args:
        state: x, the cue.
        keys: the memories.
        scale: beta.
        steps: at least 0.

    Raises:
        OptionError: ``steps`` is negative.

    Source: Ramsauer et al. 2021; Yuille and Rangarajan 2003.
    """
    if steps < 0:
        refuse(
            OptionError,
            "hopfield: steps are counted from zero.",
            got=f"steps={steps}",
            want="steps >= 0",
            fix="raise steps.",
        )
    return lax.scan(lambda x, _: (jax.nn.softmax(scale * (keys @ x)) @ keys, None), state, None, length=steps)[0]


@partial(jax.jit, static_argnames="steps")
def critical_scale(covariance: Float[Array, "width width"], *, steps: int = 50) -> Critical:
    """Bound the inverse temperature at which the mean of some keys stops being a memory: 1 / lambda_max(Cov).

    Below it, the mean of centred keys is a stable retrieval; above it the mean splits, the first phase transition of
    deterministic annealing. So a tile with scale lambda_max < 1 may be one.

    The power method gives a Rayleigh quotient r <= lambda_max; the trace of powers bounds from above:
    lambda_max <= (Tr C^p)^(1/p), off by at most the factor width^(1/p).

    Args:
        covariance: C, symmetric, positive, not zero.
        steps: of the power method; p is the power of two at or below 2^8.

    Returns:
        An interval that holds 1 / lambda_max, up to rounding.

    Cost: width^2 steps + 8 width^3 operations; no eigenvalues are needed.
    Source: Rose, Gurewitz and Fox 1990.
    """
    start = covariance[:, jnp.argmax(jnp.diagonal(covariance))]

    def push(_: int, vector: Array) -> Array:
        vector = covariance @ vector
        return vector / jnp.sqrt(jnp.sum(jnp.square(vector)))

    vector = lax.fori_loop(0, steps, push, start / jnp.sqrt(jnp.sum(jnp.square(start))))
    below = vector @ covariance @ vector
    # (Tr C^p)^(1/p) with p = 2^8, each squaring scaled so that nothing overflows.
    scaled, logs, power = covariance / jnp.trace(covariance), jnp.log(jnp.trace(covariance)), 1.0
    for _ in range(8):
        scaled, power = scaled @ scaled, 2 * power
        size = jnp.trace(scaled)
        scaled, logs = scaled / size, logs + jnp.log(size) / power
    return Critical(jnp.exp(-logs), 1 / below)


def is_contraction(keys: Keys, scale: Scale) -> Bool[Array, ""]:
    """Tell whether retrieval has one fixed point that every cue flows to, for certain: beta diam^2 / 4 < 1.

    The derivative of a step is beta times a covariance of the keys, and no distribution on a set of diameter D has a
    variance above D^2 / 4 in any direction.

    Cost: keys^2 width operations, memory of the keys.
    Source: Popoviciu 1935; Banach 1922.
    """
    farthest = lax.map(lambda key: jnp.max(jnp.sum(jnp.square(keys - key[None]), axis=1)), keys)
    return scale * jnp.max(farthest) / 4 < 1
