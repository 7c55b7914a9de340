"""What each tile of keys weighs at most for a tile of queries, from summaries and the traced functions of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ..exact.family import Member
from ..exact.grouped import Options, chain_of
from ..exact.pairs import Pairs
from ..exact.scores import FIDELITY
from ..tiling.cut import split
from ..tiling.intervals import follow, tile_bounds
from ..tiling.mass import Interval, around_bound
from ..tiling.summary import Around

Tiles = Float[Array, "batch heads query_tiles key_tiles"]
QueryTiles = Float[Array, "batch heads query_tiles"]
Visited = Bool[Array, "batch heads query_tiles key_tiles"]


class PairBounds(NamedTuple):
    """What is known of each pair of tiles before any pair is scored; without derivatives.

    Attributes:
        upper: at least the log of what the tile of keys weighs for any query of the tile; minus infinity where every
            key is hidden from every query.
        is_open: no key is hidden from any query, for sure.
        slope: how many times its own change a change of a product of query and key may grow to in the score.
        slack: at least the distance of any computed product of the tile of queries from the exact one.
        rounding: of what happens to a score after its product.
        queries: where they lie.
        keys: likewise, [batch, key_heads, key_tiles].
        values: likewise.
        scale: inverse temperature of each head.
        tile: rows of a tile of either side.
    """

    upper: Tiles
    is_open: Bool[Array, "batch heads query_tiles key_tiles"]
    slope: Tiles
    slack: QueryTiles
    rounding: Tiles
    queries: Around
    keys: Around
    values: Around
    scale: Float[Array, "batch heads"]
    tile: int

    @property
    def group(self) -> int:
        """Query heads that share keys."""
        return self.queries.members.shape[1] // self.keys.members.shape[1]


def bound_pairs(member: Member, places: Sequence[Around], options: Options, tile: int, products: int = 1) -> PairBounds:
    """Bound the weights of all pairs of tiles.

    log sum_(j in T) e^(s_ij) <= log |T| + max s,   max s from balls around the mean query and the mean key, then
    through everything that happens to a score by interval arithmetic

    Args:
        member: how scores are computed.
        places: where queries, keys and values lie, by tiles of each head.
        options: what happens to a pair.
        tile: rows of a tile of either side.
        products: that a product of rows is made of.
    """
    asking, looked_at, held = map(_raised, places)
    group = asking.members.shape[1] // looked_at.members.shape[1]
    whole = jax.tree.map(lambda each: jnp.repeat(each, group, axis=1), looked_at) if group > 1 else looked_at
    scale = jnp.asarray(lax.stop_gradient(member.scale), whole.members.dtype)
    scale = jnp.broadcast_to(scale, whole.members.shape[:2])
    scores = _score_interval(member, asking, whole, scale)
    slack, room = _slack(member, asking, whole, scale, products)
    scores = Interval(scores.low - slack[..., None], scores.high + slack[..., None])
    chain = chain_of(member, options, is_plain=False)
    high, is_open, slope, rounding = scores.high, jnp.ones(scores.high.shape, bool), *_unchanged(scores.high)
    if chain:
        ends = _places(member.queries, asking, tile), _places(member.keys, whole, tile)
        high, is_open, slope, rounding = _through(chain, scores, room, ends)
    if chain and member.queries.dtype.itemsize == 2:
        # Scores of 16-bit rows go on in units of log 2. What lies below the largest one is rounded with its exponent.
        rounding += jnp.finfo(scale.dtype).eps * jnp.where(jnp.isfinite(high), jnp.abs(high), 0)
    if member.mods:
        # What a metric takes from squares of rows was summed before.
        rounding += jnp.finfo(scale.dtype).eps * (member.keys.shape[-1] + 8) * jnp.abs(high)
    members = whole.members[:, :, None]
    upper = jnp.where(members > 0, high + jnp.log(jnp.maximum(members, 1)), -jnp.inf)
    # Adding up two numbers rounds once, and the logarithm by a few units.
    upper += 4 * jnp.finfo(upper.dtype).eps * jnp.where(jnp.isfinite(upper), 1 + jnp.abs(upper), 0)
    known = lax.stop_gradient(
        (upper, is_open & (members == tile), slope, slack, rounding, asking, looked_at, held, scale)
    )
    return PairBounds(*known, tile)


def tiles_of(rows: Float[Array, "batch rows heads width"], tile: int) -> tuple[Array, Array]:
    """Cut rows into tiles, [batch, heads, tiles, tile, width], and say which of them exist."""
    return jax.vmap(jax.vmap(partial(split, tile=tile)))(jnp.swapaxes(rows, 1, 2))


def _raised(found: Around) -> Around:
    """Raise what bounds lengths: one whose square is no normal number may be lost."""
    lost = math.sqrt(found.center.shape[-1] * float(jnp.finfo(found.radius.dtype).tiny))
    return found._replace(radius=found.radius + lost, longest=found.longest + lost)


def _score_interval(member: Member, asking: Around, keys: Around, scale: Float[Array, "batch heads"]) -> Interval:
    """Bound the scores before anything happens to them."""
    if member.score is not FIDELITY:
        return around_bound(asking, keys, scale)
    # Overlaps of rays lie between 0 and 1; where the scale is known, queries may hold it.
    shape = (*asking.members.shape, keys.members.shape[2])
    known = member.limits and tuple(jnp.full_like(scale, each) for each in member.limits)
    ends = known or (jnp.minimum(scale, 0), jnp.maximum(scale, 0))
    return Interval(*(jnp.broadcast_to(end[..., None, None], shape) for end in ends))


def _slack(
    member: Member, asking: Around, keys: Around, scale: Float[Array, "batch heads"], products: int
) -> tuple[QueryTiles, QueryTiles]:
    """Bound the rounding of products of rows, and how far products of 16-bit numbers may be from them.

    Products of ``width`` terms, as often as there are products, are rounded once each and added up by fused
    additions that may cut off. Rows that were brought to length one were rounded too.
    """
    eps = jnp.finfo(scale.dtype).eps
    units = (products * keys.center.shape[-1] + 8) * eps
    if member.limits is not None or member.score is FIDELITY:
        units += 8 * jnp.finfo(member.keys.dtype).eps
    if member.score is FIDELITY:
        units *= 3
    inner = asking.longest * jnp.max(keys.longest, axis=2, keepdims=True)
    largest = jnp.abs(scale)[:, :, None] * (jnp.square(inner) if member.score is FIDELITY else inner)
    return units * largest, (units + 2.0**-9) * largest


def _unchanged(scores: Tiles) -> tuple[Tiles, Tiles]:
    return jnp.ones_like(scores), jnp.zeros_like(scores)


def _through(
    chain: Pairs, scores: Interval, room: QueryTiles, places: tuple[Interval, Interval]
) -> tuple[Tiles, Array, Tiles, Tiles]:
    """Bound scores from above after everything that happens to them, tell what is open, and how errors grow."""
    happened = Pairs(chain.score_mods, ())

    def bound(score: Interval, room: Array, batch: Array, head: Array, query: Interval, key: Interval) -> tuple:
        found = tile_bounds(chain, score, batch, head, query, key)
        if not chain.score_mods:
            return found.score.high, found.is_open, *_unchanged(found.score.high)
        # Products of fewer bits are not far outside of the interval.
        wide = Interval(score.low - room, score.high + room)
        errors = follow(lambda score, *where: happened(score, *where)[0], wide, batch, head, query, key)
        return found.score.high, found.is_open, errors.slope, errors.rounding

    batch, heads = (jnp.arange(size, dtype=jnp.int32) for size in scores.high.shape[:2])
    function = jax.vmap(bound, (0, None, None, None, None, 0))
    function = jax.vmap(function, (0, 0, None, None, 0, None))
    function = jax.vmap(function, (0, 0, None, 0, None, None))
    function = jax.vmap(function, (0, 0, 0, None, None, None))
    high, is_open, slope, rounding = function(scores, room, batch, heads, *places)
    return high, is_open, slope, rounding


def _places(rows: Array, tiles: Around, tile: int) -> Interval:
    """Return between which places the rows of each tile lie."""
    # Known before anything runs: what follows from places alone waits for no launch.
    first = np.arange(tiles.members.shape[2], dtype=np.int32) * np.int32(tile)
    return Interval(*map(jnp.asarray, (first, np.maximum(np.minimum(first + tile, rows.shape[1]) - 1, first))))
