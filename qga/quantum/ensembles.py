"""What a mixture of states can tell about which one was drawn: Holevo information."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from ..errors import ShapeError, describe, refuse
from .entropy import entropy

Densities = Complex[Array, "states width width"] | Float[Array, "states width width"]


def holevo(weights: Float[Array, " states"], densities: Densities) -> Float[Array, ""]:
    """Compute the Holevo information of an ensemble in nats, the quantum Jensen-Shannon divergence.

    chi = S(sum_t w_t rho_t) - sum_t w_t S(rho_t)

    No measurement learns more about t. Over a tree of tiles it adds up exactly: the entropy of the root is the sum of
    weight times chi over the nodes plus the mean entropy of the leaves. So it is the price of merging tiles:
    sum_t w_t |rho_t - rho|_1^2 <= 2 chi.

    Args:
        weights: w, a distribution.
        densities: rho_t, Hermitian, positive, trace one.

    Returns:
        From 0 (all states equal) to the entropy of the weights (orthogonal states).

    Raises:
        ShapeError: not one weight for each state.

    Needs an eigenvalue solver, which the CPU has.

    Source: Holevo 1973; Ohya and Petz 1993 (Pinsker).
    """
    if densities.ndim != 3 or densities.shape[1] != densities.shape[2] or weights.shape != densities.shape[:1]:
        refuse(
            ShapeError,
            "holevo: there must be one weight for each state.",
            got=f"weights {describe(weights)}, densities {describe(densities)}",
            want="[states] and [states, width, width]",
            fix="stack the density matrices along a leading axis.",
        )
    mixed = jnp.einsum("t,tij->ij", weights.astype(densities.dtype), densities)
    return entropy(mixed) - jnp.sum(weights * jax.vmap(entropy)(densities))
