"""The quantum walk of a Markov chain: its phases, through the discriminant alone."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from .zeta import require_square

Operator = Float[Array, "rows rows"]


def discriminant(weights: Operator) -> Operator:
    """Compute D_ij = sqrt(P_ij P_ji), the symmetric matrix that governs the walk of Szegedy.

    For a reversible P it is similar to P. For a causal P it is diagonal and says nothing else.

    Raises:
        ShapeError: P is not square.

    Source: Szegedy 2004.
    """
    require_square("discriminant", weights)
    product = weights * weights.T
    positive = product > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, product, 1)), 0)


def szegedy_phases(weights: Operator) -> Float[Array, " rows"]:
    """Compute the phases of the walk operator W = S (2 Phi Phi^T - 1) on directed edges.

    W is unitary, and has the eigenvalues e^(+-i theta) with theta = arccos of the eigenvalues of the discriminant;
    all others are +1 or -1. So the zeros of det(1 - z W) lie on |z| = 1, and p(z) = (-z)^M det W conj(p(1 / conj z)).
    Simulated classically: no quantum speed-up is meant.

    Args:
        weights: P, row-stochastic.

    Returns:
        theta in [0, pi], ascending. W, of rows^2 dimensions, is never formed.

    Needs an eigenvalue solver, which the CPU has. The true derivative is infinite at theta = 0 and pi; where rounding
    puts an eigenvalue at or beyond +-1 it is taken as zero, so that a trivial phase does not spoil the others.

    Raises:
        ShapeError: P is not square.

    Error: a few eps of the eigenvalues, which arccos raises to sqrt(eps) near 0 and pi.
    Source: Szegedy 2004.
    """
    values = jnp.linalg.eigvalsh(discriminant(weights))[::-1]
    inside = jnp.abs(values) < 1
    # NaN is neither inside nor at an end, and stays.
    ends = jnp.where(values >= 1, 0, jnp.where(values <= -1, jnp.pi, values))
    return jnp.where(inside, jnp.arccos(jnp.where(inside, values, 0)), ends)


def phase_gap(weights: Operator) -> Float[Array, ""]:
    """Compute the second smallest phase, theta_2 >= sqrt(2 (1 - sigma_2)): the quadratic gap of the quantum walk.

    Needs an eigenvalue solver, which the CPU has.

    Raises:
        ShapeError: P is not square or has less than two rows.
    """
    if weights.shape[0] < 2:
        refuse(
            ShapeError,
            "phase_gap: a walk on one place has one phase and no gap.",
            got=describe(weights),
            want="[rows, rows] with at least two rows",
            fix="ask szegedy_phases for the single phase.",
        )
    return szegedy_phases(weights)[1]
