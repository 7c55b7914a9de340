"""Which tiles are left out: as many as a share of the weight allows, the same for all queries of a tile."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..tiling.plan import largest_within
from .bounds import QueryTiles, Tiles, Visited

# Up to this many tiles of keys all thresholds are tried at once; with more the threshold is found by bisection.
_FEW = 256


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


def skip_within(upper: Tiles, least: QueryTiles, eps: QueryTiles) -> Visited:
    """Leave out the lightest tiles, while what they weigh stays below eps for every query of a tile.

    sum_skipped e^U <= eps / (1 - eps) Z'   =>   skipped / (skipped + kept) <= eps,   where what Z' sums is kept

    Args:
        upper: U, at least the log weight of each tile.
        least: at most log Z' of each query of a tile; minus infinity where none is known, and nothing is left out.
        eps: share of the weight that may be left out.

    Returns:
        Which tiles are left out. Tiles of equal bounds share their fate.
    """
    count = upper.shape[3]
    # Sums round too.
    room = jnp.log(eps) - jnp.log1p(-eps) + jnp.log1p(-2 * count * jnp.finfo(upper.dtype).eps) + least
    relative = jnp.where(upper == -jnp.inf, -jnp.inf, upper - room[..., None])
    if count <= _FEW:
        weights, is_lighter = jnp.exp(relative), relative[..., None, :] <= relative[..., None]
        fits = jnp.sum(jnp.where(is_lighter, weights[..., None, :], 0), axis=4) <= 1
        # Nothing is lighter than what is no number.
        return fits & ~jnp.isnan(relative)
    threshold = jax.vmap(jax.vmap(jax.vmap(lambda logs: largest_within(logs, jnp.zeros((), logs.dtype)))))
    return relative <= threshold(relative)[..., None]
