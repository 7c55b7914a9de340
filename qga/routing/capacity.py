"""How many nats a head can route: mutual information, and its maximum over what is asked."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, refuse
from ..quantum.entropy import row_entropy
from .composition import Channel, check_channel


class Capacity(NamedTuple):
    """The capacity of a head, from below, with how much may be missing.

    Attributes:
        value: mutual information at ``query_weights`` in nats, a lower bound of the capacity.
        gap: the capacity is at most ``value`` + ``gap``; a duality gap, not an estimate.
        query_weights: the distribution over queries that reaches ``value``.
    """

    value: Float[Array, ""]
    gap: Float[Array, ""]
    query_weights: Float[Array, " queries"]


def mutual_information(weights: Channel, query_weights: Float[Array, " queries"]) -> Float[Array, ""]:
    """Compute how many nats the key that was looked at tells about the query: I = sum_i pi_i KL(P_i | pi P).

    Args:
        weights: P, row-stochastic.
        query_weights: pi, a distribution over the queries.

    Returns:
        From 0 (all queries look alike) to the log of the smaller side. ``qga.operators.mutual_information`` does
        the same without the matrix.

    Raises:
        ShapeError: P is no matrix, or pi has another number of queries.

    Source: Shannon 1948.

    Example:
        >>> round(float(mutual_information(jnp.eye(2), jnp.array([0.5, 0.5])) / jnp.log(2.0)), 6)
        1.0
    """
    check_channel("mutual_information", weights, query_weights)
    apart = divergences(weights, query_weights)
    # Infinite for queries of weight zero at most, which add nothing.
    return jnp.sum(query_weights * jnp.where(jnp.isfinite(apart), apart, 0))


def divergences(weights: Channel, query_weights: Float[Array, " queries"]) -> Float[Array, " queries"]:
    """Compute KL(P_i | pi P) of each row in nats; its largest entry bounds the capacity from above.

    Infinite for a row that looks where no row with weight does.

    Raises:
        ShapeError: P is no matrix, or pi has another number of queries.
    """
    check_channel("divergences", weights, query_weights)
    mean = query_weights @ weights
    logs = jnp.log(jnp.where(mean > 0, mean, 1))
    inside = -row_entropy(weights) - weights @ logs
    return jnp.where(jnp.any((weights > 0) & (mean == 0)[None], axis=1), jnp.inf, inside)


def capacity(weights: Channel, *, iterations: int) -> Capacity:
    """Maximise the mutual information over the queries by Blahut and Arimoto's iteration.

    C(P) = max_pi I(pi, P),   pi_i <- pi_i e^(KL(P_i | pi P)) / sum_k pi_k e^(KL(P_k | pi P))

    A head of capacity near zero returns the same mixture for every query and can be replaced by one vector.

    Args:
        weights: P, row-stochastic.
        iterations: at least 1; C - I is at most log(queries) / iterations, and the gap bounds it.

    Returns:
        The value with its duality gap max_i KL(P_i | pi P) - I >= C - I, both up to rounding. The first derivative is
        that of the maximum, by the envelope theorem; second ones leave out that the best weights move. Gap and weights
        carry none.

    Raises:
        OptionError: ``iterations`` is below 1.
        ShapeError: P is no matrix.

    Source: Blahut 1972; Arimoto 1972.

    Example:
        >>> round(float(capacity(jnp.array([[1.0, 0.0], [0.5, 0.5]]), iterations=200).value), 4)  # log(5 / 4)
        0.2231
    """
    check_channel("capacity", weights)
    if iterations < 1:
        refuse(
            OptionError,
            "capacity: iterations are counted from one.",
            got=f"iterations={iterations}",
            want="iterations >= 1",
            fix="raise iterations; the gap says when it is enough.",
        )
    fixed = lax.stop_gradient(weights)
    best = lax.stop_gradient(_maximise(fixed, iterations))
    value = mutual_information(weights, best)
    gap = jnp.max(divergences(fixed, best)) - lax.stop_gradient(value)
    return Capacity(value, jnp.maximum(gap, 0), best)


@partial(jax.jit, static_argnames="iterations")
def _maximise(weights: Channel, iterations: int) -> Float[Array, " queries"]:
    queries = weights.shape[0]
    # A query below this share cannot be seen in the sums, and numbers near zero slow a CPU down a hundredfold.
    floor = jnp.finfo(weights.dtype).eps ** 2

    def step(_: int, chances: Array) -> Array:
        exponents = divergences(weights, chances)
        grown = chances * jnp.exp(exponents - jnp.max(exponents))
        chances = grown / jnp.sum(grown)
        return jnp.where(chances < floor, 0, chances)

    return lax.fori_loop(0, iterations, step, jnp.full((queries,), 1 / queries, weights.dtype))
