"""How far attention over points can be from the exact one, for each query, rounding included."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..tiling.certificate import Certificate, perturbation_bounds, rounding_of_exp, skipped_weight
from .arrange import Arranged
from .expand import BLOCK, Sums
from .expansion import Expansion
from .point_plan import BRANCHES, Chosen, LevelPlan, longest_of

PerQuery = Float[Array, "heads queries"]


class _Rounding(NamedTuple):
    """What rounding changes.

    Attributes:
        exponent: of any weight.
        summed: of sums of weights, and of weights times values, relative to those of their lengths.
    """

    exponent: PerQuery
    summed: PerQuery


def certify_points(
    points: Arranged, found: tuple[Sums, PerQuery], plans: list[LevelPlan], scored: Chosen,
    scale: Float[Array, " heads"], known: Expansion, promise: float,
) -> Certificate:  # fmt: skip
    """Bound the errors of attention over points, for each query.

    skipped <= S / (S + Z'),  S = sum_skipped e^U
    TV <= skipped + D / (1 - D) + tanh(x / 2) + w,  D = sum_expanded P_T error_T / (1 - error_T)
    KL <= -log(1 - skipped) + (largest error of a log weight + x)^2 / 2

    with x the rounding of an exponent and w that of sums. The change of a softmax p whose weights change by factors
    1 + h is at most E_p |h|, and D is computed with the changed weights.

    Args:
        points: in order.
        found: what was expanded, and the logs of the sums of what was scored.
        plans: of each level.
        scored: pairs of the finest tiles that were scored.
        scale: inverse temperature.
        known: the expansion.
        promise: largest total variation that was promised.
    """
    sums, log_near = found
    spread_out = _spread(points)
    rounding = _rounding(points, plans, scored, scale, known)
    exponent, summed = rounding
    log_sums = jnp.logaddexp(jnp.log(sums.total[..., 0]) + sums.peak, log_near)
    changed = jnp.exp(sums.peak - log_sums + 2 * (exponent + summed)) * sums.error
    changed /= jnp.maximum(1 - changed, 0)
    worst = -jnp.log1p(-_worst(spread_out, plans, lambda plan: plan.error))
    log_left = logsumexp(jnp.stack([spread_out(plan.log_left) for plan in plans]), axis=0)
    raised = log_left + 4 * jnp.finfo(log_left.dtype).eps * (scored.shape[2] + jnp.abs(log_left))
    skipped = skipped_weight(log_sums - worst - exponent - summed, raised)
    skipped = jnp.where(log_left == -jnp.inf, 0, skipped)
    rounded = perturbation_bounds(2 * exponent).total_variation + 2 * summed
    total_variation = jnp.minimum(skipped + changed + rounded, 1)
    kl = -jnp.log1p(-skipped) + perturbation_bounds(2 * (worst + exponent)).kl
    away, longest, rms = (jnp.repeat(each, points.group)[:, None] for each in _values(points))
    error = total_variation * 2 * away + (4 * summed + jnp.finfo(points.keys.dtype).eps) * longest
    kl, total_variation, skipped, error = (
        jnp.where(jnp.isnan(each), most, each)
        for each, most in ((kl, jnp.inf), (total_variation, 1), (skipped, 1), (error, jnp.inf))
    )
    exactly, coarsely, left = (spread_out(each) for each in _counts(plans, scored))
    is_sound = jnp.isfinite(error) & (total_variation <= promise)
    rms = jnp.broadcast_to(rms, kl.shape)
    return Certificate(
        kl, total_variation, skipped, error, rms, exactly, jnp.zeros_like(exactly), coarsely, left, is_sound
    )


def _spread(points: Arranged) -> Callable[[Array], Array]:
    """Return what gives every query what its tile has, of any level."""
    levels = {points.queries.shape[1] // size: size for size in points.sizes} | {points.tiles[0]: points.tile}
    return lambda tiles: jnp.repeat(tiles, levels[tiles.shape[1]], axis=1)[:, : points.counts[0]]


def _worst(
    spread_out: Callable[[Array], Array], plans: list[LevelPlan], field: Callable[[LevelPlan], Array]
) -> PerQuery:
    return reduce(jnp.maximum, [spread_out(field(plan)) for plan in plans])


def _rounding(
    points: Arranged, plans: list[LevelPlan], scored: Chosen, scale: Float[Array, " heads"], known: Expansion
) -> _Rounding:
    """Bound rounding: points were moved by units of their length, and products are of ``width`` terms."""
    spread_out, dtype = _spread(points), points.keys.dtype
    eps, width = float(jnp.finfo(dtype).eps), points.keys.shape[2]
    visits = spread_out(jnp.sum(scored, axis=2, dtype=dtype))
    near = eps * (width + 12) * scale / 2 * jnp.square(longest_of(points.queries, points.keys))
    near = jnp.where(visits > 0, near[:, None], 0)
    far = _worst(spread_out, plans, lambda plan: plan.slack)
    exponent = 2 * jnp.maximum(near, far) + 2 * rounding_of_exp(dtype)
    # Polynomials are e^(2 length) smaller than the sum of the sizes of their terms, at worst.
    grown = jnp.exp(2 * _worst(spread_out, plans, lambda plan: plan.length))
    terms = BLOCK + points.sizes[0] // BLOCK + known.terms + 8 * (known.order + 2)
    steps = sum(spread_out(jnp.sum(plan.expanded, axis=2, dtype=dtype)) for plan in plans)
    return _Rounding(exponent, eps * (grown * terms + 4 * steps + points.tile + 8 + 3 * visits))


def _counts(plans: list[LevelPlan], scored: Chosen) -> tuple[Array, ...]:
    """Count tiles of the finest level that were scored, expanded and left out, for tiles of queries of that level."""
    parts = [BRANCHES**step for step in reversed(range(len(plans)))]
    tiles = lambda part, each: part * jnp.repeat(each, part, axis=1)[:, : scored.shape[1]]  # noqa: E731
    pairs = list(zip(parts, plans, strict=True))
    expanded = sum(tiles(part, jnp.sum(plan.expanded, axis=2, dtype=jnp.int32)) for part, plan in pairs)
    left = sum(tiles(part, plan.left) for part, plan in pairs)
    return jnp.sum(scored, axis=2, dtype=jnp.int32), jnp.asarray(expanded), jnp.asarray(left)


def _values(points: Arranged) -> tuple[Array, ...]:
    """Return how far values lie from their mean and from the origin at most, and their root mean square length."""
    squares = jnp.sum(jnp.square(points.values), axis=2)
    away = points.values - jnp.mean(points.values, axis=1, keepdims=True)
    farthest = jnp.sqrt(jnp.max(jnp.sum(jnp.square(away), axis=2), axis=1))
    return farthest, jnp.sqrt(jnp.max(squares, axis=1)), jnp.sqrt(jnp.mean(squares, axis=1))
