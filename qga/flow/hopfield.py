"""Retrieval as a flow: the energy that attention descends. ``qga.tiling.critical_beta`` is where memories part."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import OptionError, refuse

State = Float[Array, " width"]
Keys = Float[Array, "keys width"]
Scale = float | Float[Array, ""]


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
        scale: beta, above zero.
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


def is_contraction(keys: Keys, scale: Scale) -> Bool[Array, ""]:
    """Tell whether retrieval has one fixed point that every cue flows to, for certain: |beta| diam^2 / 4 < 1.

    The derivative of a step is beta times a covariance of the keys, and no distribution on a set of diameter D has a
    variance above D^2 / 4 in any direction.

    Args:
        keys: the memories.
        scale: beta.

    Returns:
        True where it is certain. False says nothing; keys that are not finite give it.

    Cost: keys^2 width operations, memory of the keys.
    Error: never True by rounding: what is compared has at most width + 4 roundings of eps of its size, and must be
        below 1 by as much.
    Source: Popoviciu 1935; Banach 1922.

    Example:
        >>> keys = jnp.array([[1.0], [-1.0]])
        >>> bool(is_contraction(keys, 0.99)), bool(is_contraction(keys, 1.0))
        (True, False)
    """
    farthest = jnp.max(lax.map(lambda key: jnp.max(jnp.sum(jnp.square(keys - key[None]), axis=1)), keys))
    width, limits = keys.shape[1], jnp.finfo(farthest.dtype)
    # All summands are positive, so that roundings are relative; squares that underflow lose less than tiny each.
    slope = jnp.abs(scale) * (farthest + width * float(limits.tiny)) * 0.25
    return slope < 1 - (width + 4) * float(limits.eps)
