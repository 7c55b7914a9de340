"""Bounds of what a tile weighs in a softmax, from its summary alone and safe against rounding."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from .summary import Around, Ball, Summary, around, summary_center

Queries = Float[Array, "queries width"]
Pairs = Float[Array, "queries tiles"]
Scale = float | Float[Array, ""]

# Largest third cumulant of a law on an interval of length one, over 3!: 1 / (6 sqrt 3) / 6.
_THIRD_ORDER = 1 / (36 * 3**0.5)


class Interval(NamedTuple):
    """Two numbers with the truth between them.

    Attributes:
        low: at most the truth.
        high: at least the truth.
    """

    low: Float[Array, "*batch"]
    high: Float[Array, "*batch"]


class MassBounds(NamedTuple):
    """What is known of log Z_T = log sum_(j in T) e^(s_j) for each query and tile; minus infinity where no key is.

    Attributes:
        lower: at most lambda_T = log |T| + mean score, hence at most log Z_T.
        upper: at least log Z_T.
        excess: at least kappa_T = log Z_T - lambda_T, the loss of replacing each score by the mean; zero or more.
        slack: at least the distance of any computed score of the tile, or of the computed mean, from the exact one.
    """

    lower: Pairs
    upper: Pairs
    excess: Pairs
    slack: Pairs


def mean_score(queries: Queries, summary: Summary, *, scale: Scale) -> Pairs:
    """Score each tile by its mean key: the mean of the scores, scale <q, c>.

    Args:
        queries: one row for each question.
        summary: of tiles of keys.
        scale: inverse temperature, of either sign.

    Returns:
        In the dtype of the summary; zero for a tile without keys.

    Raises:
        ShapeError: queries and summarised keys differ in width.
    """
    return _product(_scaled("mean_score", queries, summary, scale), summary_center(summary))


def score_interval(queries: Queries, summary: Summary, *, scale: Scale) -> Interval:
    """Bound the scores scale <q, k> of all keys k of each tile, from both sides.

    ball: scale <q, c> +- |scale q| r,   box: sum_i min/max(scale q_i low_i, scale q_i high_i);   the tighter of the two

    Sound in floating point: raised by the rounding of sums, products and radii at its worst.

    Args:
        queries: one row for each question.
        summary: of tiles of keys.
        scale: inverse temperature, of either sign.

    Returns:
        Bounds for each query and tile; a tile without keys has low = inf and high = -inf. Without derivatives.

    Raises:
        ShapeError: queries and summarised keys differ in width.

    Source: Gray and Moore 2001 (boxes and balls of a tree).
    """
    queries = _scaled("score_interval", queries, summary, scale)
    return _interval(queries, summary, _slack(queries, summary))


def mass_bounds(queries: Queries, summary: Summary, *, scale: Scale) -> MassBounds:
    """Bound the log mass of each tile: lambda_T <= log Z_T <= lambda_T + kappa.

    kappa = log[(u e^(-l) + l e^u) / (u + l)] for scores in [mean - l, mean + u];  kappa <= log cosh max(l, u)

    Jensen below; above, the exponential lies under its chord. Sharp: a tile of two keys at the ends reaches it.

    Args:
        queries: one row for each question.
        summary: of tiles of keys.
        scale: inverse temperature, of either sign.

    Returns:
        Bounds of the exact numbers, whatever was rounded on the way here. Without derivatives.

    Raises:
        ShapeError: queries and summarised keys differ in width.

    Error: ``slack`` is eps (3 width + members + 16) |scale| |q| max|k| and more where scores are large. A radius that
        ``summary_merge`` made rounds by eps (width + 6) max|k| more for each merge, which is not counted.
    Cost: four products of [queries, width] with [width, tiles]; no key is read.
    Source: Hoeffding 1963 (the chord); theory of this project.
    """
    scaled = _scaled("mass_bounds", queries, summary, scale)
    slack = _slack(scaled, summary)
    mean = lax.stop_gradient(_product(scaled, summary_center(summary)))
    low, high = _interval(scaled, summary, slack)
    there = (summary.members > 0)[None]
    # The exact mean is within slack of the computed one, so the reaches around it grow by slack.
    below, above = (jnp.where(there, reach + slack, 0) for reach in (mean - low, high - mean))
    count = jnp.log(jnp.maximum(summary.members, 1))[None]
    rounding = 4 * jnp.finfo(mean.dtype).eps * (1 + count + jnp.abs(mean))
    excess = chord_excess(below, above)
    lower = count + mean - slack - rounding
    upper = count + mean + slack + rounding + excess
    absent = jnp.asarray(-jnp.inf, mean.dtype)
    lower, upper = (jnp.where(there, bound, absent) for bound in (lower, upper))
    return MassBounds(lower, upper, excess, slack + rounding)


def chord_excess(below: Float[Array, "*batch"], above: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Bound log E e^X for X of mean zero in [-l, u]: log[(u e^(-l) + l e^u) / (u + l)].

    Args:
        below: l, zero or more.
        above: u, zero or more.

    Returns:
        The largest value, which the law on the two ends reaches, raised by its rounding; zero for a point.

    Source: Hoeffding 1963, also for (l + u)^2 / 8, which is less than the rounding where the interval is short.
    """
    length, eps = below + above, jnp.finfo(below.dtype).eps
    share = below / jnp.where(length > 0, length, 1)
    # Relative to the upper end, where neither term overflows.
    chord = above + jnp.log(jnp.maximum(share + (1 - share) * jnp.exp(-length), jnp.finfo(length.dtype).tiny))
    return jnp.minimum(jnp.maximum(chord, 0) + 8 * eps * (1 + above), (1 + 8 * eps) * jnp.square(length) / 8)


def excess_from_variance(variance: Float[Array, "*batch"], oscillation: Float[Array, "*batch"]) -> Interval:
    """Bound kappa_T by the variance of the tile's scores: |kappa_T - variance / 2| <= oscillation^3 / (36 sqrt 3).

    The cumulants of a law on an interval: a third one is at most length^3 / (6 sqrt 3).

    Args:
        variance: of the scores of the tile.
        oscillation: largest score minus smallest.

    Returns:
        Bounds of log mean e^(s - mean s), of which the lower is never below zero.

    Source: Taylor's formula with its remainder; theory of this project.
    """
    error = _THIRD_ORDER * oscillation**3
    return Interval(jnp.maximum(variance / 2 - error, 0), variance / 2 + error)


def dual_bound(query_summary: Summary | Ball, summary: Summary | Ball, *, scale: Scale) -> Interval:
    """Bound the scores of all pairs of a tile of queries and a tile of keys.

    |q k - c_Q c_T| <= |c_Q| r_T + |c_T| r_Q + r_Q r_T,   |q k| <= max|q| max|k|;   the tighter of the two

    Args:
        query_summary: of tiles of queries; its values are not looked at.
        summary: of tiles of keys.
        scale: inverse temperature, of either sign.

    Returns:
        Bounds for each tile of queries and tile of keys, sound in floating point as ``score_interval`` is. Without
        derivatives.

    Raises:
        ShapeError: queries and keys differ in width.

    Source: Gray and Moore 2001.
    """
    _scaled("dual_bound", summary_center(query_summary), summary, scale)
    scale = jnp.asarray(scale, summary.members.dtype)
    return around_bound(around(query_summary), around(summary), scale)


def around_bound(queries: Around, keys: Around, scale: Float[Array, "*batch"]) -> Interval:
    """Compute ``dual_bound`` for any axes in front."""
    middle, size = _product(queries.center, keys.center), jnp.abs(scale)[..., None, None]
    outer = lambda one, other: one[..., :, None] * other[..., None, :]  # noqa: E731
    reach = outer(queries.norm, keys.radius) + outer(queries.radius, keys.norm + keys.radius)
    depths = (3 * each.center.shape[-1] + each.members + 16 for each in (queries, keys))
    terms = next(depths)[..., :, None] + next(depths)[..., None, :]
    farthest = outer(queries.longest, keys.longest)
    slack = 3 * jnp.finfo(middle.dtype).eps * terms * farthest
    middle, reach, farthest = scale[..., None, None] * middle, size * (reach + slack), size * (farthest + slack)
    there = outer(queries.members, keys.members) > 0
    return _present(there, jnp.maximum(middle - reach, -farthest), jnp.minimum(middle + reach, farthest))


def _scaled(name: str, queries: Queries, summary: Summary | Ball, scale: Scale) -> Queries:
    if queries.ndim != 2 or summary.key_sum.ndim != 2 or queries.shape[1] != summary.key_sum.shape[1]:
        refuse(
            ShapeError,
            f"{name}: queries must have the width of the summarised keys.",
            got=f"queries {describe(queries)}, key_sum {describe(summary.key_sum)}",
            want="[queries, width] and [tiles, width]",
            fix="summarise the keys that these queries look at; map further axes with jax.vmap.",
        )
    dtype = summary.key_sum.dtype
    return queries.astype(dtype) * jnp.asarray(scale, dtype)


def _product(queries: Queries, vectors: Float[Array, "tiles width"]) -> Pairs:
    # Some devices multiply float32 with fewer bits unless asked not to; a bound of rounding must know.
    return jnp.matmul(queries, jnp.swapaxes(vectors, -1, -2), precision=lax.Precision.HIGHEST)


def _interval(queries: Queries, summary: Summary, slack: Pairs) -> Interval:
    queries = lax.stop_gradient(queries)
    there = summary.members > 0
    mean = lax.stop_gradient(_product(queries, summary_center(summary)))
    low, high = (jnp.where(there[:, None], edge, 0) for edge in (summary.low, summary.high))
    reach = _norm(queries)[:, None] * summary.radius[None, :]
    rising, falling = jnp.maximum(queries, 0), jnp.minimum(queries, 0)
    corner = _product(jnp.abs(queries), jnp.maximum(jnp.abs(low), jnp.abs(high)))
    box_slack = jnp.finfo(mean.dtype).eps * (queries.shape[1] + 4) * corner
    box_low = _product(rising, low) + _product(falling, high) - box_slack
    box_high = _product(rising, high) + _product(falling, low) + box_slack
    lowest, highest = jnp.maximum(mean - reach - slack, box_low), jnp.minimum(mean + reach + slack, box_high)
    return _present(jnp.broadcast_to(there, mean.shape), lowest, highest)


def _present(there: Array, low: Array, high: Array) -> Interval:
    far = jnp.asarray(jnp.inf, low.dtype)
    return Interval(jnp.where(there, low, far), jnp.where(there, high, -far))


def _slack(queries: Queries, summary: Summary) -> Pairs:
    """Bound the rounding of a score, of a mean score and of the reach of a ball by Higham's gamma, at its worst.

    Products over the width, sums over the members, radius and norm together round at most 6 width + 2 members + 32
    times by eps / 2 of |q| max|k|.
    """
    scale = _norm(lax.stop_gradient(queries))[:, None] * (summary.longest * _depth(summary))[None, :]
    return jnp.finfo(scale.dtype).eps * scale


def _depth(summary: Summary | Ball) -> Float[Array, " tiles"]:
    return 3 * summary.key_sum.shape[-1] + summary.members + 16


def _norm(vectors: Float[Array, "*rows width"]) -> Float[Array, "*rows"]:
    return jnp.sqrt(jnp.sum(jnp.square(vectors), axis=-1))
