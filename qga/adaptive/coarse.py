"""Tiles of keys as one row each: what a tile answers to the mean of a tile of queries, for all queries near it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..exact.grouped import Results, attend_grouped
from ..exact.pairs import ScoreMod
from ..exact.prepare import Prepared
from ..tiling.certificate import rounding_of_exp
from ..tiling.summary import Around
from .bounds import PairBounds, QueryTiles, Tiles, Visited
from .levels import Level, Spread, level_rounds

# What a row that stands for a tile goes through: nothing but what was found for it.
_PLAIN = {
    "is_causal": False, "window": (None, None), "offsets": None, "query_lengths": None, "key_lengths": None,
    "segments": None, "mask": None, "alibi": None, "mask_mod": None,
}  # fmt: skip


class Choice(NamedTuple):
    """Which tiles may be coarse.

    Attributes:
        weight: at least the log of what a tile may do to a softmax that weighs 1, by being coarse or left out, whatever
            does less; minus infinity where it is coarse in any case.
        is_less: being coarse does less than being left out.
    """

    weight: Tiles
    is_less: Visited


def coarse_level(prepared: Prepared, given: Level, bounds: PairBounds) -> Level:
    """Return a problem in which a tile is one row, asked by a pilot, the mean of the tile of queries.

    log Z_T(q) ~ log Z_T(pilot) + scale (q - pilot) mean k,   means by the weights for the pilot
    a = |scale| times the largest product of q - pilot and k - middle

    The scores of a tile change by 2 a at most, beside those for the pilot, and by nothing in the mean.

    Args:
        prepared: the call.
        given: the problem in its own numbers.
        bounds: of all pairs.
    """
    queries, keys, eps = bounds.queries, bounds.keys, float(jnp.finfo(bounds.upper.dtype).eps)
    by_head = partial(jnp.repeat, repeats=bounds.group, axis=1)
    width = keys.center.shape[-1]
    # Lengths, radii and means are sums over a row or a tile, and rounded so; a pilot is a row, too.
    units, row_eps = eps * (3 * width + bounds.tile + 16), float(jnp.finfo(prepared.member.queries.dtype).eps)
    ends = (
        _through(prepared.member.queries, queries, bounds.tile, units + row_eps),
        jax.tree.map(by_head, _through(prepared.member.keys, keys, bounds.tile, units)),
    )
    size = jnp.abs(bounds.scale)[..., None, None]
    reach, scaled = size * _largest_product(*ends), size * ends[0].radius[..., None]
    # Averages over a tile, as certificates of exact attention say.
    rounds = level_rounds(given, bounds.tile)
    averaged = 2 * given.weight_rounding + bounds.tile * given.smallest_weight
    averaged += row_eps + 4 * eps * (bounds.tile + 8 + 3 * rounds)
    # Mean keys; products for the pilot and what is taken off for it, and 32 units of numbers as large as scores and of
    # logs of sums.
    error = scaled * by_head(averaged * keys.longest)[:, :, None]
    error += (2 + 32 / (width + 8)) * bounds.slack[..., None]
    error += 3 * bounds.rounding + eps * (bounds.tile + 3 * rounds + 64)
    error += rounding_of_exp(bounds.upper.dtype)
    radius = bounds.values.radius + units * bounds.values.longest
    value_error = by_head(averaged * jnp.max(bounds.values.longest, axis=2))
    spread = Spread(reach, jnp.zeros(reach.shape, bool), by_head(radius)[:, :, None])
    return given._replace(word="coarse", score_error=error, value_error=value_error, spread=spread)


class _Segment(NamedTuple):
    """How far the rows of tiles lie from their middles, along one direction and beside it; without derivatives.

    Attributes:
        direction: of length 1, or 0 where there is none; any would do.
        along: largest distance along it.
        beside: from the line.
        radius: in all.
    """

    direction: Float[Array, "batch heads tiles width"]
    along: Float[Array, "batch heads tiles"]
    beside: Float[Array, "batch heads tiles"]
    radius: Float[Array, "batch heads tiles"]


def _through(rows: Array, found: Around, tile: int, units: float) -> _Segment:
    """Lay a line through each tile, from its first row towards its last one.

    Args:
        rows: [batch, rows, heads, width].
        found: where they lie.
        tile: rows of a tile.
        units: of lengths, radii and means, in largest lengths: what they are rounded by.
    """
    wide = lax.stop_gradient(_tiles_of(rows, found.members.shape[2], tile)).astype(found.radius.dtype)
    radius = found.radius + units * found.longest
    chord = jnp.swapaxes(wide[:, :, -1] - wide[:, :, 0], 1, 2)
    # Lengths whose squares are no numbers have no direction.
    length = jnp.sqrt(jnp.sum(jnp.square(chord), axis=3, keepdims=True))
    direction = jnp.where((length > 0) & (length < jnp.inf), chord / jnp.where(length > 0, length, 1), 0)
    away = wide - jnp.swapaxes(found.center, 1, 2)[:, :, None]
    along = jnp.sum(away * jnp.swapaxes(direction, 1, 2)[:, :, None], axis=4)
    beside = jnp.sum(jnp.square(away), axis=4) - jnp.square(along)
    along, beside = (jnp.swapaxes(jnp.max(each, axis=2), 1, 2) for each in (jnp.abs(along), beside))
    # Sums over a row: of products with the direction, and of squares whose difference may be small.
    slack = 8 * (rows.shape[3] + 8) * float(jnp.finfo(radius.dtype).eps)
    along, beside = along + slack * radius, jnp.sqrt(jnp.maximum(beside, 0) + slack * jnp.square(radius))
    return _Segment(direction, along + units * found.longest, beside + units * found.longest, radius)


def _largest_product(queries: _Segment, keys: _Segment) -> Tiles:
    """Bound the products of what lies around two middles: as two balls, or around two lines, whichever is less."""
    cross = lambda one, other: one[..., None] * other[:, :, None]  # noqa: E731
    cosine = jnp.matmul(queries.direction, jnp.swapaxes(keys.direction, 2, 3), precision=lax.Precision.HIGHEST)
    cosine = jnp.abs(cosine) + 4 * (keys.direction.shape[3] + 8) * float(jnp.finfo(cosine.dtype).eps)
    lines = cosine * cross(queries.along, keys.along)
    lines += cross(queries.along, keys.beside) + cross(queries.beside, keys.radius)
    return jnp.fmin(lines, cross(queries.radius, keys.radius))


def spread_cost(reach: Tiles) -> Tiles:
    """Bound the change of a softmax by a coarse tile that weighs 1.

    tanh(a / 2) + e^(a^2 / 2) - 1:   keys weigh what they weigh for the pilot, and the tile is too light
    """
    return jnp.tanh(reach / 2) + jnp.expm1(jnp.square(reach) / 2)


def choose_coarse(level: Level, bounds: PairBounds, seeds: Visited, share: QueryTiles) -> tuple[Level, Choice]:
    """Tell which tiles may be coarse, and which of them whatever they weigh.

    Args:
        level: from ``coarse_level``.
        bounds: of all pairs.
        seeds: tiles that are not.
        share: of a promise, that coarse tiles of any weight may use.
    """
    assert level.spread is not None
    cost, may = spread_cost(level.spread.reach), bounds.is_open & ~seeds
    room = share - 1.1 * jnp.max(jnp.where(may, jnp.expm1(level.score_error), 0), axis=3)
    room -= 2 * level.weight_rounding + level.values.shape[1] * level.smallest_weight
    is_small, is_less = may & (cost <= room[..., None]), may & (cost < 1)
    weight = jnp.where(is_small, -jnp.inf, bounds.upper + jnp.where(is_less, jnp.log(cost), 0))
    return level._replace(spread=level.spread._replace(is_small=is_small)), Choice(weight, is_less)


def attend_coarse(prepared: Prepared, bounds: PairBounds, visited: Visited) -> Results:
    """Attend to the rows that stand for some tiles.

    Two passes of attention: of the pilots over each tile by itself, whose values are the keys and the values, and of
    each tile of queries over what its pilot found.

    Args:
        prepared: the call.
        bounds: of all pairs.
        visited: the tiles.
    """
    (batch, queries, heads, width), tile = prepared.member.queries.shape, bounds.tile
    count = visited.shape[2]
    rows, values, log_weights = _ask_pilots(prepared, bounds)
    # What is not looked at may be no number.
    seen = jnp.transpose(visited, (0, 2, 3, 1))
    rows, values = (jnp.where(seen[..., None], each, 0) for each in (rows, values))
    by_entry = lambda each: each.reshape(batch * count, *each.shape[2:])  # noqa: E731
    table = by_entry(jnp.transpose(jnp.where(seen, log_weights, 0), (0, 1, 3, 2)))[:, :, None]
    mask = by_entry(jnp.swapaxes(visited, 1, 2))[:, :, None]
    asking = _tiles_of(prepared.member.queries, count, tile).reshape(batch * count, tile, heads, width)
    member = prepared.member._replace(queries=asking, keys=by_entry(rows), scale=_scale_of(prepared, count))
    options = dataclasses.replace(prepared.options, **(_PLAIN | {"mask": mask, "bias": table, "score_mod": None}))
    out, log_sums = attend_grouped(member, by_entry(values), options)
    slopes = prepared.options.alibi
    if slopes is not None:
        # The bias falls from the first query of a tile on.
        places = jnp.arange(tile, dtype=log_sums.dtype)
        log_sums -= jnp.outer(places, slopes.astype(log_sums.dtype))[None]
    return tuple(each.reshape(batch, count * tile, *each.shape[2:])[:, :queries] for each in (out, log_sums))  # type: ignore[return-value]


def _ask_pilots(prepared: Prepared, bounds: PairBounds) -> tuple[Array, Array, Float[Array, "b tiles tiles heads"]]:
    """Return mean keys and mean values of tiles by the weights for each pilot, and the logs of the sums of these.

    The logs are less by the score of the mean key. All are [batch, query_tiles, key_tiles, heads, ...].
    """
    member, tile, slopes = prepared.member, bounds.tile, prepared.options.alibi
    batch, heads, count, others = bounds.upper.shape
    pilots = jnp.swapaxes(bounds.queries.center, 1, 2).astype(member.queries.dtype)
    asking = jnp.repeat(pilots, others, axis=0)
    keys, values = (
        _tiles_of(rows, others, tile).reshape(batch * others, tile, *rows.shape[2:])
        for rows in (member.keys, prepared.values)
    )
    # Places in a tile; where it and the query lie is added afterwards.
    mod: ScoreMod | None = None if slopes is None else lambda s, b, h, q, k: s + slopes[h] * k.astype(s.dtype)
    options = dataclasses.replace(prepared.options, **(_PLAIN | {"bias": None, "score_mod": mod}))
    member = member._replace(queries=asking, keys=keys, scale=_scale_of(prepared, others))
    by_tile = lambda each: jnp.swapaxes(each.reshape(batch, others, *each.shape[1:]), 1, 2)  # noqa: E731
    (rows, log_sums), (means, _) = (attend_grouped(member, held, options) for held in (keys, values))
    rows, means, log_sums = by_tile(rows), by_tile(means), by_tile(log_sums)
    scale = jnp.broadcast_to(jnp.asarray(member.scale, log_sums.dtype), (batch * others, heads))
    scale = scale.reshape(batch, others, heads)[:, None]
    wide = pilots.astype(log_sums.dtype)[:, :, None] * rows.astype(log_sums.dtype)
    log_weights = log_sums - scale * jnp.sum(wide, axis=4)
    if slopes is not None:
        offsets = prepared.options.offsets
        first = tile * jnp.arange(others)[None, None] - tile * jnp.arange(count)[None, :, None]
        first = first if offsets is None else first - offsets[:, None, None]
        log_weights += first[..., None].astype(log_sums.dtype) * slopes.astype(log_sums.dtype)[None, None, None]
    return rows, means, log_weights


def _scale_of(prepared: Prepared, times: int) -> float | Array:
    scale = prepared.member.scale
    return scale if isinstance(scale, float) else jnp.repeat(scale, times, axis=0)


def _tiles_of(rows: Array, tiles: int, tile: int) -> Array:
    """Cut rows into tiles where they lie, [batch, tiles, tile, heads, ...]; what is missing is zero."""
    missing = tiles * tile - rows.shape[1]
    rows = jnp.pad(rows, ((0, 0), (0, missing), (0, 0), (0, 0))) if missing else rows
    return rows.reshape(len(rows), tiles, tile, *rows.shape[2:])
