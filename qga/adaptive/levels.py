"""Rows of wide numbers as 16-bit ones: one for each, or two that add up to it, and what that may change."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..exact.family import Member
from ..exact.scores import DOT_NARROW
from ..kernels.problem import Products, rounds_of
from .bounds import PairBounds, QueryTiles, Tiles, Visited, tiles_of

# Rounding of the norms of residuals, with room.
_MARGIN = 1.01


Word = Literal["coarse", "half", "split", "exact"]


class Spread(NamedTuple):
    """What a tile loses that is one row.

    Attributes:
        reach: half of what its scores change by at most, beside those for the pilot.
        is_small: where that alone keeps a promise, whatever the tile weighs.
        values: largest distance of a value of a tile from their mean.
    """

    reach: Tiles
    is_small: Visited
    values: Float[Array, "batch heads one key_tiles"]


class Level(NamedTuple):
    """A problem in other numbers, or of one row for each tile.

    Attributes:
        word: what it is called in a map.
        products: what its products are made of.
        member: how its scores are computed.
        values: likewise.
        value_unit: what its results are counted in, [batch, 1, heads, 1].
        score_error: at least the distance of its scores from the exact ones.
        value_error: at least the distance of its values from the exact ones, [batch, heads].
        weight_rounding: relative rounding of a weight in its products.
        smallest_weight: the least number that it is held in, relative to the largest.
        spread: of the scores of tiles, where a tile is one row.
    """

    word: Word
    products: Products
    member: Member
    values: Array
    value_unit: Float[Array, "batch one heads one"] | None
    score_error: Tiles
    value_error: Float[Array, "batch heads"]
    weight_rounding: float
    smallest_weight: float
    spread: Spread | None = None


class _Parts(NamedTuple):
    """Rows as unit (high + low), and the largest lengths of what is missing then and without low, in each tile."""

    high: Array
    low: Array
    unit: Float[Array, "batch one heads one"]
    coarse: Float[Array, "batch heads tiles"]
    fine: Float[Array, "batch heads tiles"]


def narrow_levels(member: Member, values: Array, bounds: PairBounds) -> tuple[Level, Level]:
    """Return a problem of 32-bit numbers as the levels "half" and "split".

    x = u (h + l) + r,  h and l of 16 bits, u a power of two;   |s' - s| <= |scale| (|r_q| |k| + |q'| |r_k|) slope

    Args:
        member: whose scores are inner products.
        values: of the keys.
        bounds: of the pairs of tiles.
    """
    asking, keys, held = (
        _parts(lax.stop_gradient(rows), bounds.tile) for rows in (member.queries, member.keys, values)
    )
    unit = asking.unit * jnp.repeat(keys.unit, bounds.group, axis=2)
    scale, value_unit = bounds.scale * unit[:, 0, :, 0], jnp.repeat(held.unit, bounds.group, axis=2)

    def level(
        products: Literal["half", "split"], queries: list[Array], others: list[Array], values: list[Array]
    ) -> Level:
        join = lambda parts: jnp.concatenate(parts, axis=3)  # noqa: E731
        is_half = products == "half"
        away = [each.coarse if is_half else each.fine for each in (asking, keys, held)]
        narrow = member._replace(queries=join(queries), keys=join(others), score=DOT_NARROW, scale=scale)
        missing = jnp.repeat(jnp.max(away[2], axis=2), bounds.group, axis=1)
        error = _score_error(bounds, away[0], jnp.repeat(away[1], bounds.group, axis=1))
        # Weights have a low part too where rows have one, but some drivers lose it: they leave out a conversion of
        # matrices there and back.
        return Level(products, products, narrow, join(values), value_unit, error, missing, 2.0**-11, 2.0**-38)

    return (
        level("half", [asking.high], [keys.high], [held.high]),
        level("split", [asking.high, asking.high, asking.low], [keys.high, keys.low, keys.high], [held.high, held.low]),
    )


def given_level(member: Member, values: Array, bounds: PairBounds) -> Level:
    """Return a problem in its own numbers."""
    error, info = jnp.zeros_like(bounds.upper), jnp.finfo(values.dtype)
    is_narrow = values.dtype.itemsize == 2
    rounding = float(info.eps), float(info.smallest_subnormal)
    return Level(
        "exact", "given", member, values, None, error, error[:, :, 0, 0], *(rounding if is_narrow else (0.0, 0.0))
    )


def largest_error(bounds: PairBounds, level: Level) -> QueryTiles:
    """Return the largest error of a score at a level in any tile that may be looked at."""
    return jnp.max(jnp.where(bounds.upper == -jnp.inf, 0, level.score_error), axis=3)


def level_rounds(level: Level, tile: int) -> int:
    """Return in how many rounds a program sums a tile of keys at a level, at most."""
    rows, values = level.member.queries, level.values
    return rounds_of(level.products, values.dtype.itemsize, max(1, rows.shape[-1]), max(1, values.shape[-1]), tile)


def _score_error(bounds: PairBounds, missing_query: Array, missing_key: Array) -> Tiles:
    longest = jnp.repeat(bounds.keys.longest, bounds.group, axis=1)[:, :, None]
    of_queries = missing_query[..., None] * longest
    of_keys = (bounds.queries.longest + missing_query)[..., None] * missing_key[:, :, None]
    return jnp.abs(bounds.scale)[..., None, None] * bounds.slope * (of_queries + of_keys)


def _parts(rows: Float[Array, "batch rows heads width"], tile: int) -> _Parts:
    largest = jnp.max(jnp.abs(rows), axis=(1, 3), keepdims=True)
    is_plain = jnp.isfinite(largest) & (largest > 0)
    power = jnp.ceil(jnp.log2(jnp.where(is_plain, largest, 1))).astype(jnp.int32)
    # Exactly a power of two, none beyond the numbers; the largest number of a head is near the largest of 16 bits, so
    # that low parts are normal numbers, which devices keep.
    unit = jnp.where(is_plain, jnp.ldexp(jnp.ones_like(largest), jnp.clip(power - 15, -120, 120)), 1)
    plain = rows / unit
    high = plain.astype(jnp.float16)
    rest = plain - high.astype(rows.dtype)
    low = rest.astype(jnp.float16)

    def longest(missing: Array) -> Array:
        tiles, _ = tiles_of(missing, tile)
        return _MARGIN * unit[:, 0] * jnp.sqrt(jnp.max(jnp.sum(jnp.square(tiles), axis=4), axis=3))

    return _Parts(high, low, unit, longest(rest), longest(rest - low.astype(rows.dtype)))
