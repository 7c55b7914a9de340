"""What each tile of keys weighs at most for a tile of queries, from summaries and the traced functions of pairs."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..exact.family import Member
from ..exact.grouped import Options, chain_of
from ..exact.pairs import Pairs
from ..exact.scores import FIDELITY
from ..tiling.cut import split
from ..tiling.intervals import enclose, tile_bounds
from ..tiling.mass import Interval, dual_bound
from ..tiling.summary import Ball, surround

Tiles = Float[Array, "batch heads query_tiles key_tiles"]
QueryTiles = Float[Array, "batch heads query_tiles"]


class PairBounds(NamedTuple):
    """What is known of each pair of tiles before any pair is scored; without derivatives.

    Attributes:
        upper: at least the log of what the tile of keys weighs for any query of the tile; minus infinity where every
            key is hidden from every query.
        is_open: no key is hidden from any query, for sure.
        slope: at least how much faster than a product of query and key the score may change.
        slack: at least the distance of any computed score of the tile of queries from the exact one, but for what
            happens to it after its product.
        happens: whether anything does.
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
    happens: bool
    queries: Ball
    keys: Ball
    values: Ball
    scale: Float[Array, "batch heads"]
    tile: int

    @property
    def group(self) -> int:
        """Query heads that share keys."""
        return self.queries.members.shape[1] // self.keys.members.shape[1]


def bound_pairs(
    member: Member, values: Float[Array, "batch keys key_heads channels"], options: Options, tile: int
) -> PairBounds:
    """Bound the weights of all pairs of tiles.

    log sum_(j in T) e^(s_ij) <= log |T| + max s,   max s from balls around the mean query and the mean key, then
    through everything that happens to a score by interval arithmetic

    Args:
        member: how scores are computed.
        values: of the keys.
        options: what happens to a pair.
        tile: rows of a tile of either side.
    """
    asking, looked_at, held = (_surround(rows, tile) for rows in (member.queries, member.keys, values))
    group = asking.members.shape[1] // looked_at.members.shape[1]
    whole = jax.tree.map(lambda each: jnp.repeat(each, group, axis=1), looked_at)
    scale = jnp.asarray(lax.stop_gradient(member.scale), whole.members.dtype)
    scale = jnp.broadcast_to(scale, whole.members.shape[:2])
    scores = jax.vmap(jax.vmap(partial(_score_interval, member)))(asking, whole, scale)
    chain = chain_of(member, options, is_plain=False)
    high, is_open, slope = scores.high, jnp.ones(scores.high.shape, bool), jnp.ones_like(scores.high)
    if chain:
        high, is_open, slope = _through(chain, scores, _places(asking, tile), _places(whole, tile))
    members = whole.members[:, :, None]
    upper = jnp.where(members > 0, high + jnp.log(jnp.maximum(members, 1)), -jnp.inf)
    # Adding up two numbers rounds once, and the logarithm by a few units.
    upper += 4 * jnp.finfo(upper.dtype).eps * jnp.where(jnp.isfinite(upper), 1 + jnp.abs(upper), 0)
    # Products of width terms, each rounded once, added up by fused additions that may cut off.
    terms = whole.key_sum.shape[-1] + 8
    largest = asking.longest * jnp.max(whole.longest, axis=2, keepdims=True)
    slack = jnp.finfo(scale.dtype).eps * terms * jnp.abs(scale)[:, :, None] * largest
    return PairBounds(
        upper, is_open & (members == tile), slope, slack, bool(chain), asking, looked_at, held, scale, tile
    )


def tiles_of(rows: Float[Array, "batch rows heads width"], tile: int) -> tuple[Array, Array]:
    """Cut rows into tiles, [batch, heads, tiles, tile, width], and say which of them exist."""
    return jax.vmap(jax.vmap(partial(split, tile=tile)))(jnp.swapaxes(rows, 1, 2))


def _surround(rows: Float[Array, "batch rows heads width"], tile: int) -> Ball:
    """Find the balls of tiles, [batch, heads, tiles]."""
    return jax.vmap(jax.vmap(partial(surround, tile=tile), 1))(rows)


def _score_interval(member: Member, asking: Ball, keys: Ball, scale: Float[Array, ""]) -> Interval:
    """Bound the scores of one head before anything happens to them."""
    if member.score is not FIDELITY:
        return dual_bound(asking, keys, scale=scale)
    # Overlaps of rays lie between 0 and 1, but for rounding.
    margin = 8 * jnp.finfo(scale.dtype).eps * (1 + jnp.abs(scale))
    shape = asking.members.shape + keys.members.shape
    ends = jnp.minimum(scale, 0) - margin, jnp.maximum(scale, 0) + margin
    return Interval(*(jnp.full(shape, end) for end in ends))


def _through(chain: Pairs, scores: Interval, queries: Interval, keys: Interval) -> tuple[Array, Array, Array]:
    """Bound scores from above after everything that happens to them, tell what is open, and how fast they change."""

    def bound(score: Interval, batch: Array, head: Array, query: Interval, key: Interval) -> tuple[Array, ...]:
        found = tile_bounds(chain, score, batch, head, query, key)
        if not chain.score_mods:
            return found.score.high, found.is_open, jnp.ones_like(found.score.high)

        def slope(score: Array, query: Array, key: Array) -> Array:
            happened = Pairs(chain.score_mods, ())
            return jax.jvp(
                lambda score: happened(score, batch, head, query, key)[0], (score,), (jnp.ones_like(score),)
            )[1]

        steep = enclose(slope, score, query, key)
        return found.score.high, found.is_open, jnp.maximum(jnp.abs(steep.low), jnp.abs(steep.high))

    batch, heads = (jnp.arange(size, dtype=jnp.int32) for size in scores.high.shape[:2])
    function = jax.vmap(bound, (0, None, None, None, 0))
    function = jax.vmap(function, (0, None, None, 0, None))
    function = jax.vmap(function, (0, None, 0, None, None))
    high, is_open, slope = jax.vmap(function, (0, 0, None, None, None))(scores, batch, heads, queries, keys)
    return high, is_open, slope


def _places(rows: Ball, tile: int) -> Interval:
    """Return between which places the rows of each tile lie."""
    count = rows.members.shape[2]
    first = jnp.arange(count, dtype=jnp.int32) * tile
    return Interval(first, first + jnp.maximum(rows.members[0, 0].astype(jnp.int32), 1) - 1)
