"""Which tiles are left out: as many as a share of the weight allows, the same for all queries of a tile."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..kernels.call import launch
from ..kernels.choice import Lead, choice_kernel, leads_by_tile, room_of
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
    """Return at most log eps / (1 - eps), by as much less as it, and sums of exponentials of all tiles, may round."""
    unit = float(jnp.finfo(bounds.upper.dtype).eps)
    odds = jnp.log(eps) - jnp.log1p(-eps)
    return odds - 4 * unit * jnp.abs(odds) + math.log1p(-2 * (bounds.upper.shape[3] + 4) * unit)


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
    bounds: PairBounds, seeds: Visited, log_sums: Float[Array, "batch queries heads"], log_room: QueryTiles, *,
    lead: Lead = "tile",
) -> Visits:  # fmt: skip
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
        lead: what weights are relative to.

    Returns:
        Which tiles are kept, none of those that are hidden. Tiles of equal bounds share their fate, but for seeds.
    """
    rows = bounds.upper.shape[2] * bounds.tile
    sums = jnp.moveaxis(log_sums, 1, 2)
    sums = jnp.pad(sums, ((0, 0), (0, 0), (0, rows - sums.shape[2])), constant_values=jnp.inf)
    return keep_above(bounds, seeds, sums.reshape(*bounds.upper.shape[:3], bounds.tile), log_room, lead=lead)


def keep_above(
    bounds: PairBounds, seeds: Visited, log_sums: Float[Array, "batch heads query_tiles parts"],
    log_room: QueryTiles, *, lead: Lead = "tile",
) -> Visits:  # fmt: skip
    """Leave out the lightest tiles as ``keep_within`` does, below log sums of parts of the queries of each tile.

    Args:
        bounds: as in ``keep_within``, here and below.
        seeds: likewise.
        log_sums: infinity where there is no query.
        log_room: likewise; the log of eps itself where sums are over all keys, whatever is left out.
        lead: likewise.
    """
    keep = partial(_keep_few if bounds.upper.shape[3] <= FEW else _keep_many, lead)
    return jax.vmap(jax.vmap(keep))(bounds.upper, bounds.is_open, seeds, log_room, log_sums)


@partial(jax.jit, static_argnums=0)
def _keep_few(lead: Lead, upper: Array, is_open: Array, seeds: Array, room: Array, sums: Array) -> Visits:
    operands = upper, is_open, seeds, room[:, None], sums
    visited, *lists = launch(choice_kernel(*operands, lead=lead), *operands)
    listed = unpack(lists)
    return Visits(visited, is_open, listed._replace(reference=sums) if lead == "each" else listed)


def _keep_many(lead: Lead, upper: Array, is_open: Array, seeds: Array, room: Array, sums: Array) -> Visits:
    least = jnp.min(sums, axis=1)
    room = room_of(least, room)
    relative = jnp.where(upper == -jnp.inf, -jnp.inf, upper - room[:, None])
    limit = jax.vmap(lambda logs: largest_within(logs, jnp.zeros((), logs.dtype)))(relative)
    visited = (seeds | ~(relative <= limit[:, None])) & (upper != -jnp.inf)
    if lead == "tile":
        return Visits(visited, is_open)
    listed = list_some(visited, is_open, jnp.ones((len(visited),), bool))
    leads = jnp.where(leads_by_tile(lead, upper, least), listed.lead, -1)
    return Visits(visited, is_open, listed._replace(lead=leads, reference=sums if lead == "each" else least[:, None]))
