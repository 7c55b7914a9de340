"""Rates of growth: the entropy rate of a walk and the Mahler measure of a polynomial."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from ..quantum.entropy import row_entropy


def entropy_rate(weights: Float[Array, "rows rows"], stationary: Float[Array, " rows"]) -> Float[Array, ""]:
    """Compute how many nats each step of a walk tells: -sum_i pi_i sum_j P_ij log P_ij.

    Args:
        weights: P, row-stochastic.
        stationary: pi, kept by P.

    Raises:
        ShapeError: P is not square, or the law is not one number a row.

    Source: Shannon 1948.

    Example:
        >>> round(float(entropy_rate(jnp.full((2, 2), 0.5), jnp.full(2, 0.5)) / jnp.log(2.0)), 6)
        1.0
    """
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or stationary.shape != weights.shape[:1]:
        refuse(
            ShapeError,
            "entropy_rate: a square operator, and one number of the law for each row.",
            got=f"weights {describe(weights)}, stationary {describe(stationary)}",
            want="[rows, rows] and [rows]",
            fix="pass the law that the operator keeps (qga.routing.stationary).",
        )
    return jnp.sum(stationary * row_entropy(weights))


def log_mahler_measure(coefficients: Float[Array, " coefficients"]) -> Float[Array, ""]:
    """Compute the logarithmic Mahler measure of a polynomial: log |a| + sum over its roots of log max(1, |root|).

    The entropy of the toral map that the polynomial belongs to, and the growth rate of its exact orbits at the
    archimedean place. The mean of log |f| over the unit circle, by Jensen.

    Args:
        coefficients: highest power first, the first one not zero.

    Needs a general eigenvalue solver, which the CPU has.

    Raises:
        ShapeError: there is no coefficient, or they are no list.

    Error: that of the roots, which are ill-conditioned where they cluster.
    Source: Mahler 1962.

    Example:
        >>> round(float(log_mahler_measure(jnp.array([2.0, -6.0])) / jnp.log(6.0)), 5)  # 2 (x - 3)
        1.0
    """
    if coefficients.ndim != 1 or coefficients.size == 0:
        refuse(
            ShapeError,
            "log_mahler_measure: a polynomial is a list of coefficients.",
            got=describe(coefficients),
            want="[coefficients], at least one",
            fix="map over polynomials of one degree with jax.vmap.",
        )
    roots = jnp.roots(coefficients, strip_zeros=False)
    return jnp.log(jnp.abs(coefficients[0])) + jnp.sum(jnp.log(jnp.maximum(1, jnp.abs(roots))))
