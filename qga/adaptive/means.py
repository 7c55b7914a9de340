"""How much all keys weigh at least for a query, from the means of blocks of keys: no pair is scored for it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ..exact.grouped import Options
from ..exact.prepare import Prepared
from ..exact.scores import FIDELITY
from ..kernels.choice import Lead
from ..kernels.visits import FEW, Visits
from ..tiling.plan import Certified, Resolution
from .bounds import PairBounds, QueryTiles, Tiles
from .certify import sum_slack
from .choose import keep_above, log_odds
from .levels import Level, largest_error, level_rounds

# Blocks of a tile under a bias: of more keys a mean says less where a bias is steep, of fewer all costs more.
_BLOCKS = 2
# Options that do more to a score than a bias that is linear in the place of the key, or hide keys one by one.
_BEYOND = (
    "softcap", "bias", "score_mod", "mask", "mask_mod", "segments", "query_lengths", "key_lengths", "offsets", "factor",
)  # fmt: skip
# The largest exponent of a term beside the largest one of the others; what is more weighs no less.
_MOST = 80.0

Sums = Float[Array, "batch key_heads blocks width"]


class _Places(NamedTuple):
    """The places of some rows after each other: how many there are, the first and the last one; numbers of a shape."""

    members: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def part(self, number: int) -> _Places:
        """Return one part of each tile."""
        return _Places(*(each[:, number] for each in self))


def blocks_of(prepared: Prepared, resolution: Resolution, tile: int) -> int:
    """Return how many blocks of a tile of keys bound partition sums by their means; 0 where means are not asked.

    They are where scores are linear in the key, but for a bias that is linear in its place.
    """
    member, options = prepared.member, prepared.options
    is_asked = isinstance(resolution, Certified) and not resolution.coarse
    is_linear = not member.mods and member.score is not FIDELITY
    if not (is_asked and is_linear and all(getattr(options, name) is None for name in _BEYOND)):
        return 0
    # So many pairs of blocks would take longer than they save.
    is_long = -(-max(rows.shape[1] for rows in (member.queries, member.keys)) // tile) > FEW
    return 1 if is_long or tile % _BLOCKS or options.alibi is None else _BLOCKS


def keep_by_means(
    prepared: Prepared,
    bounds: PairBounds,
    level: Level,
    sums: Sums | None,
    room: tuple[QueryTiles, QueryTiles],
    *,
    lead: Lead,
) -> Visits:
    """Leave out the lightest tiles while they weigh at most a share of the sums over all keys; nothing is scored.

    sum_skipped e^U <= eps Z   =>   skipped <= eps,   whatever Z sums

    Args:
        prepared: a call that ``blocks_of`` cuts into blocks.
        bounds: of its pairs of tiles.
        level: the cheapest that tiles are scored at.
        sums: of the keys of each block; None where blocks are tiles.
        room: what an exponent may be rounded by, and eps.
        lead: as in ``keep_above``.
    """
    slack, share = room
    seen = ~(bounds.upper == -jnp.inf)
    # What is kept is summed with its rounding, and is lowered by that in a certificate.
    error = largest_error(bounds, level) + slack + sum_slack(bounds, seen, level_rounds(level, bounds.tile))
    log_room = log_odds(share, bounds) + jnp.log1p(-share) - 2 * error
    rows, columns = (lax.broadcasted_iota(jnp.int32, seen.shape, axis) for axis in (2, 3))
    # The own tile is kept, so that it leads.
    own, least = seen & (rows == columns), mean_sums(prepared, bounds, sums)
    return keep_above(bounds, own, least[..., None], log_room, lead=lead)


def mean_sums(prepared: Prepared, bounds: PairBounds, sums: Sums | None) -> QueryTiles:
    """Bound the log partition sums of all queries of each tile from below; minus infinity says nothing.

    Z_i >= sum_P |P| e^(mean score of P) >= sum_P |P| e^(scale c_Q c_P - |scale| r_Q |c_P| + bias of the mean place)

    by Jensen, over the blocks P of which a query sees all keys. That is asked for parts of a tile of queries, which are
    as long as blocks; infinity where there is no query.

    Args:
        prepared: a call that ``blocks_of`` cuts into blocks.
        bounds: of its pairs of tiles.
        sums: of the keys of each block; None where blocks are tiles.
    """
    (tiles, key_tiles), options = bounds.upper.shape[2:], prepared.options
    blocks = key_tiles if sums is None else sums.shape[2]
    rows = bounds.tile * key_tiles // blocks
    # Where all queries see all keys and nothing depends on places, a tile is one part.
    is_same = options.alibi is None and options.ahead is None and options.window[0] is None
    parts = 1 if is_same else bounds.tile // rows
    asking = _places(prepared.member.queries.shape[1], bounds.tile // parts, (tiles, parts))
    keys = _places(prepared.member.keys.shape[1], rows, (blocks,))
    score = _mean_scores(bounds, sums, keys)
    if options.alibi is not None:
        score += _bias(options.alibi.astype(score.dtype), asking.part(0).first, keys)
    rounding = 4 * float(jnp.finfo(score.dtype).eps)
    score -= rounding * (1 + jnp.abs(score))
    base, least = _sees_all(options, asking.part(0), keys), jnp.full(score.shape[:3], jnp.inf, score.dtype)
    for each in map(asking.part, range(parts)):
        rise = jnp.zeros((1, 1, 1), score.dtype)
        if options.alibi is not None:
            # The last blocks that a part sees have so much more of a bias than those that the first one sees.
            rise = jnp.maximum(_rise(options.alibi, each.first - asking.part(0).first, score.dtype), 0)
        found = _log_sum(score, _sees_all(options, each, keys), base, rise)
        if options.alibi is not None:
            far, near = (
                _rise(options.alibi, asking.part(0).first - places, score.dtype) for places in (each.last, each.first)
            )
            bias = jnp.minimum(far, near)
            found += bias - rounding * jnp.abs(bias)
        found -= rounding * (blocks + 8 + _MOST + jnp.abs(found))
        # A sum beyond the numbers is no bound, and what is no number neither.
        found = jnp.where(jnp.isfinite(found), found, -jnp.inf)
        least = jnp.minimum(least, jnp.where((each.members > 0)[None, None], found, jnp.inf))
    return lax.stop_gradient(least)


def _log_sum(
    logs: Tiles, seen: Bool[Array, "query_tiles blocks"], base: Bool[Array, "query_tiles blocks"], rise: QueryTiles
) -> QueryTiles:
    """Return at most the log of the sum of what is seen, relative to the largest of the first part and a rise."""
    largest = jnp.max(jnp.where(base[None, None], logs, -jnp.inf), axis=3, keepdims=True)
    largest = jnp.where(jnp.isfinite(largest), largest, 0) + rise[..., None]
    weights = jnp.exp(jnp.minimum(logs - largest, _MOST))
    return largest[..., 0] + jnp.log(jnp.sum(jnp.where(seen[None, None], weights, 0), axis=3))


def _places(count: int, rows: int, shape: tuple[int, ...]) -> _Places:
    first = np.arange(np.prod(shape), dtype=np.int32).reshape(shape) * np.int32(rows)
    members = np.clip(count - first, 0, rows)
    return _Places(members, first, first + np.maximum(members, 1) - 1)


def _mean_scores(bounds: PairBounds, sums: Sums | None, keys: _Places) -> Tiles:
    """Bound the log weight of each block without biases, |P| e^(mean score), for all queries of each tile."""
    dtype, width = bounds.upper.dtype, bounds.queries.center.shape[3]
    members = jnp.asarray(np.maximum(keys.members, 1), dtype)[None, None]
    if sums is None:
        vectors, lengths, counts = bounds.keys.center, bounds.keys.norm, jnp.ones((1, 1, 1), dtype)
    else:
        vectors, lengths, counts = sums, jnp.sqrt(jnp.sum(jnp.square(sums), axis=3)), members
    # A square that is no normal number may be lost.
    norms = (lengths + math.sqrt(width * float(jnp.finfo(dtype).tiny))) / counts
    vectors, norms = (jnp.repeat(each, bounds.group, axis=1) for each in (vectors, norms))
    queries, size = bounds.queries, jnp.abs(bounds.scale)[..., None, None]
    # Some devices multiply float32 with fewer bits unless asked not to. Divided after the product, which so waits less.
    middle = jnp.matmul(queries.center, jnp.swapaxes(vectors, 2, 3), precision=lax.Precision.HIGHEST)
    middle = middle / counts[:, :, None]
    terms = 2 * (3 * width + bounds.tile + 16)
    longest = jnp.repeat(jnp.max(bounds.keys.longest, axis=2), bounds.group, axis=1)[..., None]
    rounding = 3 * float(jnp.finfo(dtype).eps) * terms * queries.longest * longest
    reach = queries.radius[..., None] * norms[:, :, None] + rounding[..., None]
    found = bounds.scale[..., None, None] * middle - size * reach - bounds.slack[..., None]
    return found + jnp.log(members)[:, :, None]


def _bias(slopes: Float[Array, " heads"], first: np.ndarray, keys: _Places) -> Tiles:
    """Return the bias of the mean of a block for the first query of a tile: slope (mean place of keys - place)."""
    # Twice the distance is a whole number.
    twice = (keys.first + keys.last)[None] - 2 * first[:, None]
    return slopes[None, :, None, None] * jnp.asarray(twice / 2, slopes.dtype)[None, None]


def _rise(slopes: Float[Array, " heads"], distance: np.ndarray, dtype: Any) -> QueryTiles:
    """Return what a bias rises by over a distance in each tile of queries."""
    return slopes.astype(dtype)[None, :, None] * jnp.asarray(distance, dtype)[None, None]


def _sees_all(options: Options, asking: _Places, keys: _Places) -> Bool[Array, "parts blocks"]:
    """Tell which blocks every query of a part sees all keys of."""
    seen = jnp.broadcast_to((keys.members > 0)[None], (len(asking.first), len(keys.first)))
    if options.ahead is not None:
        seen &= jnp.asarray(keys.last)[None] <= jnp.asarray(asking.first + options.ahead)[:, None]
    if options.window[0] is not None:
        seen &= jnp.asarray(keys.first)[None] >= jnp.asarray(asking.last - options.window[0])[:, None]
    return seen
