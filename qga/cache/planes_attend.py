"""Attention to a cache in two planes: what is read of a tile is chosen by bounds, and every query is certified."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse
from ..tiling.certificate import Certificate, rounding_of_exp
from ..tiling.plan import Certified
from ..tiling.state import State, state_merge, state_read
from .planes import WORD, PlaneCache, Planes
from .planes_bounds import ROUNDED_LOG, Bounds, Levels, certify, choose_levels
from .planes_kernel import BOTH, FINE, HIGH, SKIP, score_tiles, sum_tiles

# A unit in the last place of 1 in float32: rounding of sums and products, to whichever side a device rounds.
_UNIT = 2.0**-23
# Room for the rounding of lengths.
_MARGIN = 1 + 2.0**-16
# Numbers of 32 bits that are read of each tile for its bounds: three of keys and four of values.
_MEASURES = 7


class _Asked(NamedTuple):
    """Queries of the heads that share keys, scaled, in float32, and at least their lengths."""

    rows: Float[Array, "batch key_heads group width"]
    length: Float[Array, "batch key_heads group"]


def attend_planes(
    cache: PlaneCache,
    query: Float[Array, "batch one heads width"],
    *,
    resolution: Certified,
    scale: float | Float[Array, "*#batch #heads"] | None = None,
) -> tuple[Float[Array, "batch one heads channels"], Certificate]:
    """Attend to a cache in two planes and certify each query; ``qga.cache.attend`` says what it is given."""
    _check(cache, query, resolution)
    asked, places = _ask(cache, query, scale), jnp.arange(cache.tiles, dtype=jnp.int32)[None]
    exists = places < cache.full_tiles[:, None]
    # Tiles that do not exist are read where the first one lies, once.
    places = jnp.where(exists, places if cache.table is None else cache.table, 0)
    queries = jnp.swapaxes(asked.rows.reshape(*asked.rows.shape[:3], -1, WORD), 3, 4)
    scores, log_sums = score_tiles(queries, places, cache.keys)
    recent, slack, size = _recent(cache, asked)
    planes = _measured(cache, cache.keys, places), _measured(cache, cache.values, places)
    bounds = _bound(planes, asked, jnp.where(exists[:, None, None], log_sums, -jnp.inf))
    bounds = bounds._replace(recent=recent.peak + jnp.log(recent.mass), recent_error=slack, recent_size=size)
    unit, grid = _value_scale(cache, places, exists), 2 / cache.tile
    levels = choose_levels(bounds, resolution.eps * unit, grid=grid, dtype=query.dtype)
    levels = jnp.where(exists[:, None], levels, SKIP)
    parts = sum_tiles(queries, places, levels, scores, (cache.keys, cache.values))
    found = state_merge(_join(State(*parts)), recent)
    # What is left out keeps its weight, at a value of zero, so that the others keep theirs.
    skipped = logsumexp(jnp.where(levels[:, :, None] == SKIP, bounds.log_sums, -jnp.inf), axis=3)
    nothing = State(skipped, (skipped > -jnp.inf).astype(skipped.dtype), jnp.zeros_like(found.total))
    results = state_read(state_merge(found, nothing))
    certificate = certify(bounds, levels, results, unit, eps=resolution.eps, dtype=query.dtype)
    return _finish(cache, results[0], certificate, (levels, exists), query.dtype)


def _finish(
    cache: PlaneCache, out: Array, certificate: Certificate, read: tuple[Levels, Array], dtype: jnp.dtype
) -> tuple[Array, Certificate]:
    """Put results where queries lie, [batch, 1, heads, ...]."""
    error = certificate.out_error
    # A bound that is no number says that something that was kept is none.
    out = jnp.where(jnp.isnan(error)[..., None], jnp.nan, out).astype(dtype)
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    total = jnp.broadcast_to(_bytes_read(cache, *read)[..., None], error.shape)
    certificate = certificate._replace(out_error=error, bytes_read=total)
    return jax.tree.map(lambda each: each.reshape(each.shape[0], 1, -1, *each.shape[3:]), (out, certificate))


def _ask(cache: PlaneCache, query: Array, scale: float | Array | None) -> _Asked:
    batch, _, heads, width = query.shape
    beta = jnp.asarray(1 / math.sqrt(max(width, 1)) if scale is None else scale, jnp.float32)
    rows = query[:, 0].astype(jnp.float32) * jnp.broadcast_to(beta, (batch, heads))[..., None]
    rows = rows.reshape(batch, cache.shape[2], -1, width)
    return _Asked(rows, _MARGIN * jnp.sqrt(jnp.sum(jnp.square(rows), axis=3)))


def _recent(cache: PlaneCache, asked: _Asked) -> tuple[State, Array, Array]:
    """Return the state of the rows that fill no tile, the error of their scores and the length of their values."""
    keys, values = (each.astype(jnp.float32) for each in (cache.recent_keys, cache.recent_values))
    exists = jnp.arange(cache.tile, dtype=jnp.int32)[None] < cache.recent[:, None]
    keys, values = (jnp.where(exists[:, None, :, None], each, 0) for each in (keys, values))
    scores = jnp.einsum("bhgw,bhjw->bhgj", asked.rows, keys, precision="highest")
    scores = jnp.where(exists[:, None, None], scores, -jnp.inf)
    peak = jnp.max(scores, axis=3)
    weights = jnp.exp(scores - jnp.where(peak == -jnp.inf, 0, peak)[..., None])
    total = jnp.einsum("bhgj,bhjc->bhgc", weights, values, precision="highest")
    longest, size = (_MARGIN * jnp.sqrt(jnp.max(jnp.sum(jnp.square(each), axis=3), axis=2)) for each in (keys, values))
    slack = (keys.shape[3] + 8) * _UNIT * asked.length * longest[..., None] + rounding_of_exp(jnp.dtype(jnp.float32))
    state = State(peak, jnp.sum(weights, axis=3), total)
    return state, slack, jnp.broadcast_to(size[..., None], slack.shape)


def _of_entries(cache: PlaneCache, each: Float[Array, "some key_heads any"], places: Array) -> Array:
    """Return what is known of tiles as entries have them, [batch, key_heads, tiles]."""
    return each if cache.table is None else jnp.moveaxis(jnp.take(each[0], places, axis=1), 0, 1)


def _measured(cache: PlaneCache, planes: Planes, places: Array) -> Planes:
    """Return planes with the measures of the tiles of each entry."""
    names = "error_high", "error_both", "size"
    return planes._replace(**{name: _of_entries(cache, getattr(planes, name), places) for name in names})


def _bound(
    planes: tuple[Planes, Planes], asked: _Asked, log_sums: Float[Array, "batch key_heads group tiles"]
) -> Bounds:
    """Bound what tiles may contribute; of recent rows nothing is known here."""
    length, (keys, values) = asked.length[..., None], planes
    # Two products, three sums of what lies in a word and of the centre, and the sum of the words.
    rounding = (keys.high.shape[4] + 8) * _UNIT * length * keys.size[:, :, None]
    rounding += rounding_of_exp(jnp.dtype(jnp.float32))
    coarse = length * keys.error_high[:, :, None] + rounding
    coarse += ROUNDED_LOG * jnp.where(jnp.isfinite(log_sums), jnp.abs(log_sums), 0)
    fine = length * keys.error_both[:, :, None] + 2 * rounding
    size, missing, missing_both = (each[:, :, None] for each in (values.size, values.error_high, values.error_both))
    nothing = jnp.zeros_like(asked.length)
    return Bounds(log_sums, coarse, fine, size, missing, missing_both, nothing, nothing, nothing)


def _value_scale(cache: PlaneCache, places: Array, exists: Array) -> Float[Array, "batch key_heads"]:
    """Return the root of the mean square of the lengths of values."""
    squares = jnp.where(exists[:, None], _of_entries(cache, cache.squares, places), 0)
    is_recent = jnp.arange(cache.tile, dtype=jnp.int32)[None] < cache.recent[:, None]
    recent = jnp.sum(jnp.square(cache.recent_values.astype(jnp.float32)), axis=3)
    total = jnp.sum(squares, axis=2) + jnp.sum(jnp.where(is_recent[:, None], recent, 0), axis=2)
    count = jnp.maximum(cache.full_tiles * cache.tile + cache.recent, 1).astype(jnp.float32)
    return jnp.sqrt(total / count[:, None])


def _join(parts: State) -> State:
    """Merge states along the axis of their parts, the third."""
    peak = jnp.max(parts.peak, axis=2)
    factors = jnp.exp(parts.peak - jnp.where(peak == -jnp.inf, 0, peak)[:, :, None])
    mass = jnp.sum(factors * parts.mass, axis=2)
    return State(peak, mass, jnp.sum(factors[..., None] * parts.total, axis=2))


def _bytes_read(cache: PlaneCache, levels: Levels, exists: Bool[Array, "batch tiles"]) -> Int[Array, "batch key_heads"]:
    """Count the bytes that are read of a cache: planes, grids, measures, and rows that are kept as they are."""
    of_keys, of_values = (cache.tile * WORD * each.high.shape[4] for each in (cache.keys, cache.values))
    grids = [2 * WORD * each.high.shape[4] for each in (cache.keys, cache.values)]
    least = of_keys + grids[0] + 4 * _MEASURES
    more = [0, of_values + grids[1], of_keys + of_values + grids[1], of_keys + 2 * of_values + grids[1]]
    read = sum(jnp.where(levels == level, least + more[level], 0) for level in (SKIP, HIGH, FINE, BOTH))
    read = jnp.sum(jnp.where(exists[:, None], read, 0), axis=2)
    row = cache.recent_keys.dtype.itemsize * (of_keys + of_values) // cache.tile
    return read + (row * cache.recent)[:, None]


def _check(cache: PlaneCache, query: Array, resolution: Any) -> None:
    if not isinstance(resolution, Certified) or not 0 < resolution.eps < 1:
        refuse(
            OptionError, "attend: a cache in planes is read within a promise.", got=f"resolution={resolution!r}",
            want="qga.tiling.Certified(eps) with 0 < eps < 1, of the root mean square length of values",
            fix="pass resolution=qga.tiling.Certified(1e-2).",
        )  # fmt: skip
    batch, _, heads = cache.shape
    width, is_real = cache.recent_keys.shape[3], jnp.issubdtype(query.dtype, jnp.floating)
    fits = query.ndim == 4 and query.shape[:2] == (batch, 1) and query.shape[3] == width and is_real
    if not fits or query.shape[2] % heads or jnp.finfo(query.dtype).bits > 32:
        refuse(
            ShapeError, "attend: the last row asks a cache in planes, in at most 32 bits.",
            got=f"query {describe(query)}", want=f"[{batch}, 1, a multiple of {heads}, {width}]",
            fix="ask row by row, or keep rows in an empty_cache.",
        )  # fmt: skip
