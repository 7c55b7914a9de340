"""How long a flow takes to mix: bounds from its spectral gap."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import DomainError, refuse
from .bottlenecks import Bounds, Law


def mixing_time_bounds(gap: Float[Array, ""], stationary: Law, *, distance: float = 0.25) -> Bounds:
    """Bound the time after which the heat flow of a reversible walk is close to stationary from every start.

    log(1 / (2 eps)) / gap  <=  t_mix(eps)  <=  log(1 / (2 eps sqrt(pi_min))) / gap

    The flow is H_t = e^(-t (I - P)) of ``qga.flow.heat``, and t_mix(eps) the first time at which every row of it is
    within eps of the law in total variation.

    Args:
        gap: the spectral gap of a reversible walk. For another walk, that of its additive reversibilisation gives a
            valid upper bound and no lower one.
        stationary: pi, positive.
        distance: eps, between 0 and 1/2.

    Returns:
        Times in the unit of the flow; infinite for a gap of zero.

    Raises:
        DomainError: ``distance`` is not between 0 and 1/2.

    Source: Levin, Peres and Wilmer 2009, relaxation time bounds, in continuous time.
    """
    if not 0 < distance < 0.5:
        refuse(
            DomainError,
            "mixing_time_bounds: closeness in total variation is a fraction of one half.",
            got=f"distance={distance}",
            want="0 < distance < 0.5",
            fix="use 0.25, the convention.",
        )
    smallest = jnp.min(stationary)
    lower = jnp.log(1 / (2 * distance)) / gap
    return Bounds(lower, (jnp.log(1 / (2 * distance)) - jnp.log(smallest) / 2) / gap)
