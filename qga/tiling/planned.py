"""Attention that follows a plan and says how wrong it is: the reference of what a fast one must do."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from .certificate import Certificate, mixture_bounds, perturbation_bounds, rounding_oscillation, skipped_weight
from .cut import split
from .mass import Interval, MassBounds, Queries, Scale, mass_bounds, mean_score, score_interval
from .plan import COARSE, EXACT, SKIP, Plan, log_gap
from .summary import Summary, summary_mean


def attend_planned(
    queries: Queries,
    keys: Float[Array, "keys width"],
    values: Float[Array, "keys channels"],
    plan: Plan,
    summary: Summary,
    *,
    scale: Scale,
    tile: int,
) -> tuple[Float[Array, "queries channels"], Certificate]:
    """Average values by the softmax of dot scores, tiles as exact as the plan says, with a certificate for each query.

    exact: every key with its score;   coarse: one key of weight |T| e^(mean score) with the mean value;   skip: nothing

    A reference: it scores every key and selects, so it saves no time; an attention that visits exact tiles only comes
    later, and must return what this returns. Any plan is certified, whoever made it.

    Args:
        queries: one row for each question.
        keys: one row for each place looked at.
        values: one row for each key.
        plan: from ``plan``, or levels of one's own.
        summary: of the tiles of ``keys`` and ``values``.
        scale: inverse temperature.
        tile: keys of a tile.

    Returns:
        The averages and their certificate, whose bounds hold against the exact softmax of the exact scores, rounding
        included. The derivative is that of the approximation, the plan held constant: coarse tiles pass it to their
        members in equal parts. NaN for a query whose tiles are all skipped.

    Raises:
        ShapeError: keys, values, plan and summary do not fit together.

    Error: in the certificate. Rounding alone makes ``total_variation`` about the largest ``MassBounds.slack``.
    Cost: that of dense attention, queries times keys in memory.
    Source: theory of this project.
    """
    _check(queries, keys, values, plan, summary, tile)
    dtype = summary.key_sum.dtype
    (key_tiles, exists), (value_tiles, _) = (split(rows.astype(dtype), tile) for rows in (keys, values))
    scaled = queries.astype(dtype) * jnp.asarray(scale, dtype)
    scores = jnp.einsum("qd,tkd->qtk", scaled, key_tiles, precision=lax.Precision.HIGHEST)
    scores = jnp.where((plan.level == EXACT)[..., None] & exists[None], scores, -jnp.inf)
    coarse = jnp.log(summary.members)[None] + mean_score(queries, summary, scale=scale)
    coarse = jnp.where(plan.level == COARSE, coarse, -jnp.inf)
    peak = lax.stop_gradient(jnp.maximum(jnp.max(scores, axis=(1, 2)), jnp.max(coarse, axis=1)))[:, None]
    weights, coarse_weights = jnp.exp(scores - peak[..., None]), jnp.exp(coarse - peak)
    masses = jnp.sum(weights, axis=2) + coarse_weights
    total = jnp.einsum("qtk,tkc->qc", weights, value_tiles, precision=lax.Precision.HIGHEST)
    total += jnp.matmul(coarse_weights, summary_mean(summary), precision=lax.Precision.HIGHEST)
    out = total / jnp.sum(masses, axis=1, keepdims=True)
    log_masses = lax.stop_gradient(jnp.log(masses) + peak)
    bounds = mass_bounds(queries, summary, scale=scale)
    scores_of_tiles = score_interval(queries, summary, scale=scale)
    certificate = _certify(plan, lax.stop_gradient(summary), bounds, scores_of_tiles, log_masses)
    squares = jnp.sum(jnp.square(lax.stop_gradient(values).astype(dtype)), axis=1)
    value_scale = jnp.broadcast_to(jnp.sqrt(jnp.mean(squares)), certificate.kl.shape)
    return out, certificate._replace(value_scale=value_scale)


def _certify(
    plan: Plan, summary: Summary, bounds: MassBounds, scores: Interval, log_masses: Float[Array, "queries tiles"]
) -> Certificate:
    """Bound the errors of what was computed: ``log_masses`` are the computed log weights of the tiles."""
    coarse, skip = plan.level == COARSE, plan.level == SKIP
    only = lambda tiles, field: jnp.where(tiles, field, -jnp.inf)  # noqa: E731
    oscillation = rounding_oscillation(jnp.where(skip, 0, bounds.slack))
    # Every computed weight may be too high by half of the oscillation, and sums of many by as much again.
    kept = logsumexp(log_masses, axis=1) - oscillation - _sum_rounding(summary)
    gap, skipped = (logsumexp(each, axis=1) for each in (only(coarse, log_gap(bounds)), only(skip, bounds.upper)))
    distances = mixture_bounds(kept, gap, skipped, oscillation=oscillation)

    away, longest = spread(summary.members, summary.value_sum, summary.value_radius)
    excess = jnp.where(coarse, bounds.excess, 0)
    inside = jnp.minimum(jnp.tanh((scores.high - scores.low) / 4), jnp.sqrt(excess / 2))
    shares = jnp.where(coarse, jnp.exp(log_masses - kept[:, None]), 0)
    within = jnp.sum(shares * jnp.where(coarse, inside, 0) * 2 * summary.value_radius[None], axis=1)
    between, rounded = (perturbation_bounds(each).total_variation for each in (jnp.max(excess, axis=1), oscillation))
    left_out = skipped_weight(kept, skipped)
    refined = within + (left_out + between + rounded) * 2 * away
    out_error = jnp.minimum(distances.total_variation * 2 * away, refined) + 4 * _sum_rounding(summary) * longest
    exactly, coarsely, never = (
        jnp.sum(plan.level == level, axis=1, dtype=jnp.int32) for level in (EXACT, COARSE, SKIP)
    )
    sound = jnp.isfinite(out_error) & (distances.total_variation <= plan.promise)
    return Certificate(
        distances.kl, distances.total_variation, left_out, out_error, jnp.ones_like(out_error), exactly,
        jnp.zeros_like(exactly), coarsely, never, sound,
    )  # fmt: skip


def spread(
    members: Float[Array, "*batch tiles"],
    sums: Float[Array, "*batch tiles channels"],
    radii: Float[Array, "*batch tiles"],
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Bound how far values lie from their mean, twice which is at least their diameter, and from the origin."""
    center = jnp.sum(sums, axis=-2) / jnp.maximum(jnp.sum(members, axis=-1), 1)[..., None]
    means = sums / jnp.maximum(members, 1)[..., None]
    distance = jnp.sqrt(jnp.sum(jnp.square(means - center[..., None, :]), axis=-1))
    away = jnp.max(jnp.where(members > 0, distance + radii, 0), axis=-1)
    return away, away + jnp.sqrt(jnp.sum(jnp.square(center), axis=-1))


def _sum_rounding(summary: Summary) -> Float[Array, ""]:
    """Bound the relative rounding of a sum over all keys, and of the length of a value."""
    terms = jnp.sum(summary.members) + sum(summary.value_sum.shape) + 8
    return jnp.finfo(terms.dtype).eps * terms


def _check(queries: Array, keys: Array, values: Array, plan: Plan, summary: Summary, tile: int) -> None:
    tiles = summary.members.shape[0]
    fits = keys.ndim == values.ndim == 2 and keys.shape[0] == values.shape[0] and -(-keys.shape[0] // tile) == tiles
    if not fits or plan.level.shape != (queries.shape[0], tiles) or values.shape[1] != summary.value_sum.shape[1]:
        refuse(
            ShapeError,
            "attend_planned: plan and summary must be of these queries, keys and values.",
            got=f"keys {describe(keys)}, values {describe(values)}, level {describe(plan.level)}, {tiles} summaries",
            want=f"keys and values of {tiles} tiles of {tile} rows, level [queries, {tiles}]",
            fix="summarise split(keys, tile) and split(values, tile), and plan with that summary.",
        )
