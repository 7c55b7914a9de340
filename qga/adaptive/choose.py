"""Which tiles are left out: as many as a share of the weight allows, the same for all queries of a tile."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..kernels.call import launch
from ..kernels.choice import choice_kernel
from ..kernels.visits import FEW, Visits, list_some, unpack
from ..tiling.plan import largest_within
from .bounds import PairBounds, QueryTiles, Tiles, Visited

# Seeds of a tile of queries, at most: the two tiles at its place, the one before, the heaviest.
_SEEDS = 4


def seed_visits(upper: Tiles, first_places: Int[Array, "batch query_tiles"], tile: int) -> Visited:
    """Choose the tiles that are looked at before anything is decided: they bound the partition sum from below.

    The tile of a query's own place and the one before, where weights decay with distance, and the one that may weigh
    most.

    Args:
        upper: of the log weights of tiles; minus infinity where everything is hidden.
        first_places: place of the first query of each tile among the keys.
        tile: rows of a tile.
    """
    numbers = jnp.arange(upper.shape[3], dtype=jnp.int32)[None, None, None]
    own, last = ((places // tile)[:, None, :, None] for places in (first_places, first_places + tile - 1))
    is_near = (numbers >= own - 1) & (numbers <= last)
    is_heaviest = numbers == jnp.argmax(upper, axis=3, keepdims=True)
    return (is_near | is_heaviest) & ~(upper == -jnp.inf)


def log_odds(eps: QueryTiles, bounds: PairBounds) -> QueryTiles:
    """Return at most log eps / (1 - eps), by as much less as sums over all tiles of keys may round."""
    rounding = -2 * bounds.upper.shape[3] * float(jnp.finfo(bounds.upper.dtype).eps)
    return jnp.log(eps) - jnp.log1p(-eps) + math.log1p(rounding)


def seed_reference(bounds: PairBounds) -> QueryTiles:
    """Return what weights of seeds are summed relative to, a finite number: 1, or the largest bound where that is less.

    Wide numbers have room for all scores within 80 nats of it. Beyond, sums say that nothing is known.
    """
    largest = jnp.max(bounds.upper, axis=3)
    return jnp.where(jnp.isfinite(largest), jnp.minimum(largest, 0), 0)


def seed_slack(bounds: PairBounds, reference: QueryTiles, rounds: int) -> QueryTiles:
    """Bound the relative rounding of sums over seeds, each in rounds: of the terms of one, of all, of the reference."""
    eps = float(jnp.finfo(bounds.upper.dtype).eps)
    return eps * (bounds.tile + 8 + 3 * rounds * _SEEDS + 4 * jnp.abs(reference))


def may_leave(upper: Tiles, log_room: QueryTiles) -> Bool[Array, "batch heads query_tiles"]:
    """Tell where something may be left out whatever the seeds weigh: they weigh no more than their bounds say.

    Args:
        upper: at least the log weight of each tile; the heaviest is a seed.
        log_room: as in ``keep_within``.
    """
    lightest = jnp.min(jnp.where(upper == -jnp.inf, jnp.inf, upper), axis=3)
    return ~(lightest > jnp.max(upper, axis=3) + math.log(_SEEDS) + log_room)


def keep_within(
    bounds: PairBounds,
    seeds: Visited,
    log_sums: Float[Array, "batch queries heads"],
    log_room: QueryTiles,
    *,
    is_reference: bool = False,
) -> Visits:
    """Leave out the lightest tiles, while what they weigh stays below a share of the weight of every query of a tile.

    sum_skipped e^U <= eps / (1 - eps) Z'   =>   skipped / (skipped + kept) <= eps,   where what Z' sums is kept

    A threshold is found by bisection. Up to ``FEW`` tiles of keys one kernel does it and lists what is kept; longer
    lists are made by sums.

    Args:
        bounds: U, at least the log weight of each tile, minus infinity where everything is hidden.
        seeds: tiles that log Z' sums. They are kept: there is always something, and what is left out is compared with
            no less.
        log_sums: log Z' of each query; minus infinity where none is known, and nothing is left out.
        log_room: ``log_odds``, less what log Z' may be too high.
        is_reference: whether weights are taken relative to log Z' where it is known, instead of to a tile that leads.

    Returns:
        Which tiles are kept, none of those that are hidden. Tiles of equal bounds share their fate, but for seeds.
    """
    keep = partial(_keep_few if bounds.upper.shape[3] <= FEW else _keep_many, bounds.tile, is_reference)
    return jax.vmap(jax.vmap(keep))(bounds.upper, bounds.is_open, seeds, log_room, jnp.moveaxis(log_sums, 1, 2))


@partial(jax.jit, static_argnums=(0, 1))
def _keep_few(
    tile: int, is_reference: bool, upper: Array, is_open: Array, seeds: Array, room: Array, log_sums: Array
) -> Visits:
    sums = _by_tile(log_sums, len(upper), tile)
    operands = upper, is_open, seeds, room[:, None], sums
    visited, *lists = launch(choice_kernel(*operands, is_reference=is_reference), *operands)
    return Visits(visited, is_open, unpack(lists)._replace(reference=sums if is_reference else None))


def _keep_many(
    tile: int, is_reference: bool, upper: Array, is_open: Array, seeds: Array, room: Array, log_sums: Array
) -> Visits:
    sums = _by_tile(log_sums, len(upper), tile)
    least = jnp.min(sums, axis=1)
    room += least
    relative = jnp.where(upper == -jnp.inf, -jnp.inf, upper - room[:, None])
    limit = jax.vmap(lambda logs: largest_within(logs, jnp.zeros((), logs.dtype)))(relative)
    visited = (seeds | ~(relative <= limit[:, None])) & (upper != -jnp.inf)
    if not is_reference:
        return Visits(visited, is_open)
    listed = list_some(visited, is_open, jnp.ones((len(visited),), bool))
    lead = jnp.where(least > -jnp.inf, -1, listed.lead)
    return Visits(visited, is_open, listed._replace(lead=lead, reference=sums))


def _by_tile(log_sums: Float[Array, " queries"], tiles: int, tile: int) -> Float[Array, "tiles tile"]:
    return jnp.pad(log_sums, (0, tiles * tile - len(log_sums)), constant_values=jnp.inf).reshape(tiles, tile)
