"""Which pairs of tiles of points are left out and which are scored, where the nodes of a grid do not do."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from .arrange import Arranged, Cut, Points, exist

PerTile = Float[Array, "heads tiles"]
Pairs = Float[Array, "heads query_tiles key_tiles"]
Chosen = Bool[Array, "heads query_tiles key_tiles"]


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
    """

    upper: Pairs
    lower: Pairs


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
    return Reach(upper, lower)


class Left(NamedTuple):
    """What was left out for tiles of queries.

    Attributes:
        log_weight: at least the log of what the keys weigh that are left out.
        tiles: how many tiles of keys these are.
    """

    log_weight: Float[Array, "heads query_tiles"]
    tiles: Int[Array, "heads query_tiles"]


def plan_pairs(
    points: Arranged, scale: Float[Array, " heads"], done: tuple[Chosen, Chosen], tile: int, share: float
) -> tuple[Chosen, Left]:
    """Decide which pairs of tiles are scored: those that are not done, unless e^(U - log Z') <= share |T| / N.

    What is left out then weighs at most the share. Z' <= Z is summed over all tiles.

    Args:
        points: in order.
        scale: inverse temperature.
        done: tiles of queries, and tiles of keys: pairs of two that are done need nothing.
        tile: rows of a tile.
        share: of a promise.
    """
    queries, keys = (
        _surround(rows, cut, tile) for rows, cut in zip((points.queries, points.keys), points.cuts, strict=True)
    )
    keys = Balls(*(jnp.repeat(each, points.group, axis=0) for each in keys))
    reach = reach_of(queries, keys, scale, longest_of(*points.there))
    low = logsumexp(reach.lower, axis=2)
    part = jnp.log(jnp.maximum(keys.members, 1) / points.cuts[1].count)
    is_light = (reach.upper == -jnp.inf) | (reach.upper - low[..., None] - part[:, None] <= math.log(share))
    is_open = ~(done[0][..., None] & done[1][:, None])
    is_left = is_open & is_light
    log_left = logsumexp(jnp.where(is_left, reach.upper, -jnp.inf), axis=2)
    return is_open & ~is_light, Left(log_left, jnp.sum(is_left, axis=2, dtype=jnp.int32))


def _surround(points: Points, cut: Cut, tile: int) -> Balls:
    """Find the balls of the tiles in which any point exists."""
    some = -(-cut.count // tile) * tile
    return surround_points(points[:, :some], exist(cut)[:some], tile)


def longest_of(queries: Points, keys: Float[Array, "key_heads keys width"]) -> Float[Array, " heads"]:
    """Return the lengths of the longest query and of the longest key of each head, added up."""
    first, other = (jnp.sqrt(jnp.max(jnp.sum(jnp.square(each), axis=2), axis=1, initial=0)) for each in (queries, keys))
    return first + jnp.repeat(other, len(first) // len(other))
