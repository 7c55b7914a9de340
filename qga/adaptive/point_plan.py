"""Which pairs of tiles of points are left out, expanded or scored, from the balls that they lie in, coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from .expansion import truncation_error

Points = Float[Array, "heads rows width"]
PerTile = Float[Array, "heads tiles"]
PerQueryTile = Float[Array, "heads query_tiles"]
Pairs = Float[Array, "heads query_tiles key_tiles"]
Chosen = Bool[Array, "heads query_tiles key_tiles"]

# Tiles of one level make up a tile of the level above; the coarsest level has at least as many.
BRANCHES = 4
# A weight may be off by this part of itself at most where its tile is expanded.
_LARGEST_ERROR = 0.1


class Balls(NamedTuple):
    """Where the points of tiles lie.

    Attributes:
        center: their mean, up to rounding; any point would do.
        radius: at least the distance of any of them from it.
        scatter: at least the mean square distance.
        members: how many points exist.
    """

    center: Float[Array, "heads tiles width"]
    radius: PerTile
    scatter: PerTile
    members: PerTile


class LevelPlan(NamedTuple):
    """What is done with pairs of tiles of one size; what has query tiles says it of the worst of their queries.

    Attributes:
        expanded: which pairs are expanded.
        error: largest relative error of an expanded weight.
        length: of the longest exponents that are expanded.
        slack: largest rounding of a score that is expanded.
        log_left: at least the log of what the pairs weigh that are left out here.
        left: how many pairs are left out here.
    """

    expanded: Chosen
    error: PerQueryTile
    length: PerQueryTile
    slack: PerQueryTile
    log_left: PerQueryTile
    left: Int[Array, "heads query_tiles"]


def level_count(tiles: int) -> int:
    """Return how many times tiles can be joined while at least ``BRANCHES`` of them are left."""
    return 0 if tiles < BRANCHES**2 else 1 + level_count(tiles // BRANCHES)


def surround_points(points: Points, exist: Bool[Array, " rows"], rows: int) -> Balls:
    """Find the balls that tiles of points lie in."""
    tiles = points.reshape(points.shape[0], -1, rows, points.shape[2])
    there = exist.reshape(1, -1, rows)
    members = jnp.sum(there, axis=2, dtype=points.dtype)
    total = jnp.sum(jnp.where(there[..., None], tiles, 0), axis=2)
    center = total / jnp.maximum(members, 1)[..., None]
    squares = jnp.where(there, jnp.sum(jnp.square(tiles - center[:, :, None]), axis=3), 0)
    # Rounding of squares, of their sum and of their root.
    room = 4 * (points.shape[2] + 8) * float(jnp.finfo(points.dtype).eps)
    scatter = jnp.sum(squares, axis=2) / jnp.maximum(members, 1) * (1 + rows * room)
    radius = jnp.sqrt(jnp.max(squares, axis=2)) * (1 + room)
    return Balls(center, radius, scatter, jnp.broadcast_to(members, radius.shape))


class Reach(NamedTuple):
    """What is known of the scores of pairs of tiles, -scale / 2 distance^2.

    Attributes:
        upper: at least the log weight of the keys for any query; minus infinity without keys.
        lower: at most the log weight, for any query.
        length: at least |scale e.d|, of the steps e and d from the centres of the two tiles.
        slack: at least the rounding of a score that is computed from these centres.
    """

    upper: Pairs
    lower: Pairs
    length: Pairs
    slack: Pairs


def reach_of(queries: Balls, keys: Balls, scale: Float[Array, " heads"], longest: Float[Array, " heads"]) -> Reach:
    """Bound scores over pairs of tiles.

    log |T| - scale / 2 (((D + rho)^2 + mean |k - c|^2) <= log Z_T <= log |T| - scale / 2 max(0, D - rho - R)^2

    with D the distance of the centres and rho, R the radii of queries and keys; the lower end by Jensen's inequality.

    Args:
        queries: of tiles.
        keys: of tiles of the same heads.
        scale: inverse temperature.
        longest: at least the coordinates that all points were rounded to.
    """
    half, eps = scale[:, None, None] / 2, float(jnp.finfo(scale.dtype).eps)
    steps = (queries.center[:, :, None, axis] - keys.center[:, None, :, axis] for axis in range(keys.center.shape[2]))
    distance = jnp.sqrt(sum(jnp.square(step) for step in steps))
    around, within = queries.radius[:, :, None], keys.radius[:, None]
    most = distance + around + within
    slack = eps * half * most * ((keys.center.shape[2] + 16) * most + 4 * longest[:, None, None])
    least = jnp.maximum(distance - around - within, 0)
    members = keys.members[:, None]
    log_members = jnp.where(members > 0, jnp.log(jnp.maximum(members, 1)), -jnp.inf)
    mean = jnp.square(distance + around) + keys.scatter[:, None]
    upper = log_members - half * jnp.square(least) + 2 * slack
    lower = log_members - half * mean - 2 * slack
    return Reach(upper, lower, 2 * half * around * within, slack)


def plan_points(
    queries: Sequence[Balls], keys: Sequence[Balls], scale: Float[Array, " heads"], longest: Float[Array, " heads"],
    *, order: int, pays: Sequence[bool], share: tuple[float, float],
) -> tuple[list[LevelPlan], Chosen]:  # fmt: skip
    """Decide from the coarsest level to the finest: leave a pair out, expand it, or look at its parts.

    left out: e^(U - log Z') <= skip |T| / N;   expanded: error <= rest / 2, or error e^(U - log Z') <= rest / 2 |T| / N

    so that what is left out weighs at most skip, and what is expanded moves weights by at most rest. Z' <= Z is summed
    over the tiles of the finest level. What is left at the finest level is scored.

    Args:
        queries: balls of each level, from coarse to fine.
        keys: likewise, of the same heads.
        scale: inverse temperature.
        longest: as in ``reach_of``.
        order: of expansions.
        pays: at which levels an expansion costs less than scores.
        share: skip and rest.

    Returns:
        What is done at each level, and the pairs of the finest one that are scored.
    """
    reaches = [reach_of(*balls, scale, longest) for balls in zip(queries, keys, strict=True)]
    least = [logsumexp(reaches[-1].lower, axis=2)]
    for _ in reaches[1:]:
        least.insert(0, jnp.min(least[0].reshape(*least[0].shape[:1], -1, BRANCHES), axis=2))
    count = jnp.maximum(jnp.sum(keys[-1].members, axis=1), 1)
    plans, is_open = [], jnp.ones(reaches[0].upper.shape, bool)
    for number, (reach, low) in enumerate(zip(reaches, least, strict=True)):
        part = jnp.log(jnp.maximum(keys[number].members, 1) / count[:, None])[:, None]
        weight = reach.upper - low[..., None] - part
        is_left = is_open & ((reach.upper == -jnp.inf) | (weight <= math.log(share[0])))
        error = truncation_error(reach.length, order)
        allowed = math.log(share[1] / 2) - jnp.minimum(weight, 0)
        fits = (jnp.log(error) <= allowed) & (error <= _LARGEST_ERROR) & bool(pays[number])
        is_expanded = is_open & ~is_left & fits
        plans.append(_level(reach, error, is_expanded, is_left))
        is_open &= ~(is_left | is_expanded)
        if number + 1 < len(reaches):
            is_open = jnp.repeat(jnp.repeat(is_open, BRANCHES, axis=1), BRANCHES, axis=2)
    return plans, is_open


def _level(reach: Reach, error: Pairs, expanded: Chosen, left: Chosen) -> LevelPlan:
    worst = lambda table: jnp.max(jnp.where(expanded, table, 0), axis=2)  # noqa: E731
    log_left = logsumexp(jnp.where(left, reach.upper, -jnp.inf), axis=2)
    return LevelPlan(
        expanded, worst(error), worst(reach.length), worst(reach.slack), log_left,
        jnp.sum(left, axis=2, dtype=jnp.int32),
    )  # fmt: skip


def longest_of(queries: Points, keys: Float[Array, "key_heads keys width"]) -> Float[Array, " heads"]:
    """Return the lengths of the longest query and of the longest key of each head, added up."""
    first, other = (jnp.sqrt(jnp.max(jnp.sum(jnp.square(each), axis=2), axis=1)) for each in (queries, keys))
    return first + jnp.repeat(other, len(first) // len(other))
