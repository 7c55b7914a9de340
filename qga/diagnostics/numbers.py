"""Small numbers that say whether attention does what it should: efficiency, consistency, saving, oscillation."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..errors import ShapeError, describe, refuse
from ..routing.capacity import capacity, mutual_information
from ..tiling.cut import split


class Efficiency(NamedTuple):
    """How much of what a head could route it does route.

    Attributes:
        of_capacity: I / C, from 0 to 1, as an interval: the capacity is known up to a duality gap.
        of_keys: I / log(keys), from 0 to 1.
    """

    of_capacity: tuple[Float[Array, ""], Float[Array, ""]]
    of_keys: Float[Array, ""]


class Saving(NamedTuple):
    """Work that was not done, with the error that this made. One says nothing without the other.

    Attributes:
        share: 1 - work of the tiles used / work of all tiles.
        total_variation: largest certified total variation between an approximate row and the exact one.
    """

    share: Float[Array, ""]
    total_variation: Float[Array, ""]


def routing_efficiency(
    weights: Float[Array, "queries keys"], query_weights: Float[Array, " queries"], *, iterations: int
) -> Efficiency:
    """Compare the information that a head routes with the most that it could.

    I(pi, P) / C(P)  and  I(pi, P) / log(keys)

    Args:
        weights: P, row-stochastic, of at least two keys.
        query_weights: pi, a distribution over the queries.
        iterations: of ``qga.routing.capacity``; more make the interval narrower.

    Returns:
        The first as the interval from I / (C + gap) to I / C; NaN for a head whose capacity is rounding: it routes
        nothing and could not. The second cannot reach 1 with fewer queries than keys.

    Raises:
        OptionError: ``iterations`` is below 1.
        ShapeError: P is no matrix, or pi has another number of queries.

    Source: Shannon 1948.
    """
    best = capacity(weights, iterations=iterations)
    routed = mutual_information(weights, query_weights)
    most = best.value + best.gap
    most = jnp.where(most > 64 * jnp.finfo(weights.dtype).eps, most, jnp.nan)
    interval = routed / most, jnp.where(jnp.isnan(most), jnp.nan, jnp.minimum(routed / best.value, 1))
    return Efficiency(interval, routed / jnp.log(jnp.asarray(weights.shape[1], weights.dtype)))


def coarse_error(field: Float[Array, " rows *rest"], tile: int) -> Float[Array, ""]:
    """Measure the share of a field that its tile means do not hold: 1 - |A x|^2 / |x|^2, A the mean over tiles.

    Args:
        field: x, not all zero.
        tile: rows of one tile; the last may be shorter.

    Returns:
        From 0 (constant on tiles) to 1 (every tile has mean zero); NaN for a field of zeros.

    Raises:
        OptionError: ``tile`` is below 1.
    """
    tiles, exists = split(field, tile)
    there = exists.reshape(*exists.shape, *[1] * (field.ndim - 1))
    counts = jnp.sum(there.astype(field.dtype), axis=1, keepdims=True)
    means = jnp.sum(jnp.where(there, tiles, 0), axis=1, keepdims=True) / counts
    # The energy of the deviations, without the cancellation of 1 - a ratio near one.
    away = jnp.where(there, tiles - means, 0)
    return jnp.sum(jnp.square(away)) / jnp.sum(jnp.square(field))


def consistency_error(
    energy: Float[Array, ""], squared_length: Float[Array, ""], largest: Float[Array, ""]
) -> Float[Array, ""]:
    """Scale a sheaf's disagreement to [0, 1]: x^T L x / (lambda x^T x), lambda at least the largest eigenvalue of L.

    ``qga.motivic.consistency`` computes it from edges and maps.

    Args:
        energy: x^T L x.
        squared_length: x^T x, positive.
        largest: lambda, a bound of the largest eigenvalue.

    Returns:
        From 0 (a global section) to 1; NaN for a field of zeros.

    Example:
        >>> float(consistency_error(jnp.array(4.0), jnp.array(2.0), jnp.array(2.0)))
        1.0
    """
    return energy / (largest * squared_length)


def certified_saving(
    used: Bool[Array, "query_tiles key_tiles"],
    total_variation: Float[Array, " queries"],
    *,
    work: Float[Array, "query_tiles key_tiles"] | None = None,
) -> Saving:
    """Report the share of work that was not done together with the certified error.

    1 - sum of the work of used tiles / work of all tiles

    Args:
        used: True for a pair of tiles that was computed exactly.
        total_variation: a certified bound for each query.
        work: positive multiplications of each pair, where tiles differ in length; all count alike by default.

    Returns:
        The share, from 0 (all was computed) to 1, and the largest bound. A share of work and no share of time.

    Raises:
        ShapeError: ``used`` is not a table of pairs of tiles, or there is none, or ``work`` is of another shape.

    Example:
        >>> saved = certified_saving(jnp.array([[True, False, False, False]]), jnp.array([0.01]))
        >>> float(saved.share)
        0.75
    """
    if used.ndim != 2 or used.size == 0 or (work is not None and work.shape != used.shape):
        spent = "" if work is None else f", work {describe(work)}"
        refuse(
            ShapeError,
            "certified_saving: there is one answer for each pair of tiles.",
            got=f"{describe(used)}{spent}",
            want="[query_tiles, key_tiles]",
            fix="pass the table of a plan.",
        )
    dtype = total_variation.dtype
    weights = jnp.ones(used.shape, dtype) if work is None else work.astype(dtype)
    share = jnp.sum(jnp.where(used, 0, weights)) / jnp.sum(weights)
    return Saving(share, jnp.max(total_variation))


def oscillation(scores: Float[Array, "queries keys"], tile: int) -> Float[Array, "queries tiles"]:
    """Measure how far the scores of each tile of keys lie apart: max - min, the price of one score for all of them.

    A tile whose scores are replaced by their mean moves the row by at most tanh(osc / 4) in total variation within
    the tile (``qga.tiling.perturbation_bounds``).

    Args:
        scores: finite.
        tile: keys of one tile; the last may be shorter.

    Raises:
        OptionError: ``tile`` is below 1.
        ShapeError: the scores are no matrix.

    Example:
        >>> oscillation(jnp.array([[1.0, 4.0, 2.0]]), 2).tolist()
        [[3.0, 0.0]]
    """
    if scores.ndim != 2:
        refuse(
            ShapeError,
            "oscillation: each query has a score for each key.",
            got=describe(scores),
            want="[queries, keys]",
            fix="map over heads with jax.vmap.",
        )
    low, high = (split(scores.T, tile, pad)[0] for pad in (jnp.inf, -jnp.inf))
    return (jnp.max(high, axis=1) - jnp.min(low, axis=1)).T
