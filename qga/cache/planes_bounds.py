"""What a tile in two planes may contribute, which of its planes are read for that, and how wrong the result is then.

With L the log of what a tile weighs by the high plane of its keys, D and d bounds of the errors of a score by one plane
and by both, R the longest value, e and e' the lengths that values lack in one plane and in both, and |o| the length of
the average, reading the tile at a level changes the average by at most 1 / Z times

    nothing      e^L (e^D R + (e^D - 1) |o|)         its weight is kept, at a value of zero
    high planes  e^L ((e^D - 1) (R + |o|) + e)
    keys in both Z_T ((e^d - 1) (R + |o|) + e)       Z_T <= e^(L + D + d)
    both planes  Z_T ((e^d - 1) (R + |o|) + e')

All functions are of one head: kernels call them with what they have read.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..tiling.certificate import Certificate, rounding_of_exp
from .planes_kernel import BOTH, FINE, GROUPED, HIGH, SKIP, SUMMED

# Bound of the rounding of a log of a sum, relative to the log.
_ROUNDED_LOG = 2.0**-21
# A unit in the last place of 1 in float32: rounding of sums and products, to whichever side a device rounds.
_UNIT = 2.0**-23
# Room for the rounding of lengths.
_MARGIN = 1 + 2.0**-16
# Prices of an error that are tried, each the root of 2 times the one before, in planes of bytes for the whole promise:
# 2^5 - 1 of them, so that five questions find one.
_QUESTIONS = 5
# Weights relative to a partition sum are cut off here: what is more says nothing.
_LARGEST_LOG = 80.0

OfTile = Float[Array, " tiles"]
Number = Float[Array, ""]
Levels = Int[Array, " tiles"]
Measures = tuple[OfTile, OfTile, OfTile]
"""Of keys or values: ``error_high``, ``error_both`` and ``size`` of ``Planes``."""


class Recent(NamedTuple):
    """What a query finds in the rows that fill no tile.

    Attributes:
        scores: of these rows; minus infinity where there is none.
        log_sum: log of what they weigh.
        error: at least the error of their scores.
        size: at least the length of their values.
    """

    scores: Float[Array, " tile"]
    log_sum: Number
    error: Number
    size: Number


class Bounds(NamedTuple):
    """What a query knows of tiles before their values are read.

    Attributes:
        log_sums: log of what a tile weighs by the high plane of its keys; minus infinity where there is none.
        coarse: at least the error of such a score, rounding included.
        fine: at least the error of a score by both planes.
        size: at least the length of a value of the tile.
        missing: at least what a value lacks in its high plane.
        missing_both: at least what it lacks in both.
        recent: the rows that fill no tile.
    """

    log_sums: OfTile
    coarse: OfTile
    fine: OfTile
    size: OfTile
    missing: OfTile
    missing_both: OfTile
    recent: Recent


def look_at_recent(
    query: Float[Array, " width"],
    keys: Float[Array, "tile width"],
    values: Float[Array, "tile channels"],
    count: Int[Array, ""],
) -> Recent:
    """Score the rows that fill no tile, of which ``count`` exist, as they were appended."""
    exists = jnp.arange(keys.shape[0], dtype=jnp.int32) < count
    scores = jnp.where(exists, jnp.sum(query[None] * keys.astype(jnp.float32), axis=1), -jnp.inf)
    longest, size = (
        _MARGIN * jnp.sqrt(jnp.max(jnp.where(exists, jnp.sum(jnp.square(each.astype(jnp.float32)), axis=1), 0)))
        for each in (keys, values)
    )
    error = (query.size + 8) * _UNIT * _length(query) * longest + rounding_of_exp(jnp.dtype(jnp.float32))
    return Recent(scores, log_sum(scores), error, size)


def bound(query: Float[Array, " width"], log_sums: OfTile, keys: Measures, values: Measures, recent: Recent) -> Bounds:
    """Bound what tiles may contribute; of one that does not exist, the log sum is minus infinity."""
    length, exists = _length(query), ~(log_sums == -jnp.inf)
    # What is kept where no tile lies may be anything.
    measures = [jnp.where(exists, each, 0) for each in (*keys, *values)]
    one, both, largest, missing, missing_both, size = measures
    # Three products, the sum of 16 channels, that of the centres, and the sum over invocations.
    rounding = (query.size // GROUPED + GROUPED + 4) * _UNIT * length * largest + rounding_of_exp(
        jnp.dtype(jnp.float32)
    )
    coarse = length * one + rounding + _ROUNDED_LOG * jnp.where(jnp.isfinite(log_sums), jnp.abs(log_sums), 0)
    fine = length * both + 2 * rounding
    return Bounds(log_sums, coarse, fine, size, missing, missing_both, recent)


def _length(query: Float[Array, " width"]) -> Number:
    return _MARGIN * jnp.sqrt(jnp.sum(jnp.square(query)))


def log_sum(logs: Float[Array, " some"]) -> Number:
    """Return the log of the sum of what logs are given of."""
    peak = jnp.max(logs)
    base = jnp.where(peak == -jnp.inf, 0, peak)
    return base + jnp.log(jnp.sum(jnp.exp(logs - base)))


def _add_logs(first: Number, second: Number) -> Number:
    peak = jnp.maximum(first, second)
    base = jnp.where(peak == -jnp.inf, 0, peak)
    return base + jnp.log(jnp.exp(first - base) + jnp.exp(second - base))


def choose_levels(bounds: list[Bounds], budget: Number, *, grid: float, dtype: jnp.dtype) -> Levels:
    """Choose what is read of each tile: the fewest bytes, to a price of errors, that keep within a budget.

    All queries that share a tile share its level. Tiles are judged alone, by bytes + price error. The price is halved
    in on: one at which the errors of every query add up to no more than its budget, where half a step less is too much
    for one of them. Without any, all is read.

    Args:
        bounds: of the tiles, for each query.
        budget: for the length of the error of an average.
        grid: bytes of the grid of values, in those of a plane.
        dtype: that averages are rounded to.
    """
    errors = [_errors(each, budget, float(jnp.finfo(dtype).eps) / 2) for each in bounds]
    worst = [_largest([each[level] for each in errors]) for level in range(3)]

    def ask(number: Array, first: Array) -> Array:
        step = jnp.int32(1) << (_QUESTIONS - 1 - number)
        levels = _cheapest(worst, _price(first + step - 1), grid)
        spent = _largest([_spend(each, levels) for each in errors])
        return jnp.where(spent <= 1, first, first + step)

    found = lax.fori_loop(0, _QUESTIONS, ask, jnp.int32(0))
    return jnp.where(found < 2**_QUESTIONS - 1, _cheapest(worst, _price(found), grid), BOTH)


def _price(number: Array) -> Number:
    return jnp.exp2(number.astype(jnp.float32) / 2)


def _spend(errors: tuple[OfTile, ...], levels: Levels) -> Number:
    skip, high, fine = errors
    return jnp.sum(jnp.where(levels == SKIP, skip, jnp.where(levels == HIGH, high, jnp.where(levels == FINE, fine, 0))))


def _largest(numbers: list[Array]) -> Array:
    first, *rest = numbers
    for each in rest:
        first = jnp.maximum(first, each)
    return first


def _errors(bounds: Bounds, budget: Number, narrow: float) -> tuple[OfTile, OfTile, OfTile]:
    """Bound the errors of the first three levels, in parts of what both planes leave of a budget."""
    recent = bounds.recent
    known = _add_logs(log_sum(bounds.log_sums - bounds.coarse), recent.log_sum - recent.error)
    weight = jnp.exp(jnp.minimum(bounds.log_sums - known, _LARGEST_LOG))
    most = jnp.minimum(weight * jnp.exp(bounds.coarse + bounds.fine), 1)
    longest = jnp.maximum(jnp.max(bounds.size), recent.size)
    average = jnp.minimum(jnp.sum(most * bounds.size) + recent.size, longest)
    # What is no number exists.
    reach, exists = bounds.size + average, ~(bounds.log_sums == -jnp.inf)
    finest = jnp.expm1(bounds.fine) * reach + bounds.missing_both
    floor = jnp.minimum(jnp.max(jnp.where(exists, finest, 0)), jnp.sum(most * finest))
    floor += jnp.expm1(recent.error) * (recent.size + average)
    left = jnp.maximum(budget - floor - narrow * average, 0)
    coarse = jnp.expm1(bounds.coarse)
    skip = weight * ((coarse + 1) * bounds.size + coarse * average)
    high = weight * (coarse * reach + bounds.missing)
    fine = most * (bounds.missing - bounds.missing_both)
    return jnp.where(exists, skip / left, 0), jnp.where(exists, high / left, 0), jnp.where(exists, fine / left, 0)


def _cheapest(errors: list[OfTile], price: Number, grid: float) -> Levels:
    """Return the level of each tile that costs least; of what is no number, all is read."""
    costs = 0, HIGH + grid, FINE + grid
    skip, high, fine = (price * each + cost for each, cost in zip(errors, costs, strict=True))
    least = jnp.minimum(jnp.minimum(skip, high), jnp.minimum(fine, BOTH + grid))
    level = jnp.where(fine <= least, FINE, BOTH)
    return jnp.where(skip <= least, SKIP, jnp.where(high <= least, HIGH, level))


def certify(
    bounds: Bounds,
    levels: Levels,
    found: tuple[Number, Number],
    scale: Number,
    *,
    eps: float,
    channels: int,
    dtype: jnp.dtype,
) -> Certificate:
    """Bound the errors of an average that was computed.

    Args:
        bounds: of the tiles.
        levels: what was read of each.
        found: the length of the average and the log of its partition sum, what was left out among it.
        scale: of the values.
        eps: what was promised, in units of ``scale``.
        channels: of a value.
        dtype: that averages are rounded to.
    """
    (length, total_log), recent = found, bounds.recent
    exists = ~(bounds.log_sums == -jnp.inf)
    skip, high, fine, both = (exists & (levels == each) for each in (SKIP, HIGH, FINE, BOTH))
    rounding = _rounding_of_sums(levels.shape[0], recent.scores.shape[0])
    weight = jnp.exp(bounds.log_sums - (total_log - rounding - _ROUNDED_LOG * jnp.abs(total_log)))
    change = weight * jnp.expm1(bounds.coarse)
    finest = jnp.maximum(jnp.max(jnp.where(fine | both, bounds.fine, 0)), recent.error)
    # Z / Z' with the exact and the computed partition sum, at least.
    least = jnp.exp(-finest - rounding) + _add(skip | high, weight * jnp.expm1(-bounds.coarse))
    left, changed = _add(skip, weight + change), _add(skip | high, change) + jnp.expm1(finest) + 2 * rounding
    error = _change_of_averages(bounds, (skip, high, fine, both), weight, length, rounding)
    error = jnp.where(least <= 0, jnp.inf, error / least)
    narrow = jnp.finfo(dtype)
    error += float(narrow.eps) / 2 * length + channels**0.5 * float(narrow.smallest_subnormal)
    skipped, total = (jnp.where(least > 0, jnp.minimum(each / least, 1), 1) for each in (left, left + changed))
    kept = jnp.maximum(1 - left, 0)
    moved = _add(high, weight * bounds.coarse) / kept + finest + rounding
    kl = jnp.where(kept > 0, jnp.log1p(changed) - jnp.log(kept) + moved, jnp.inf)
    unread, halves, mixed, exactly = (jnp.sum(each, dtype=jnp.int32) for each in (skip, high, fine, both))
    sound = error <= eps * scale
    return Certificate(kl, total, skipped, error, scale, exactly, halves, jnp.int32(0), unread, sound, mixed)


def _change_of_averages(
    bounds: Bounds, read: tuple[Array, ...], weight: OfTile, length: Number, rounding: float
) -> Number:
    """Bound Z / Z' times the length of the error of an average, from weights relative to Z'."""
    skip, high, fine, both = read
    change, reach = jnp.expm1(bounds.coarse), bounds.size + length
    left = weight * ((change + 1) * bounds.size + change * length)
    coarse = weight * (change * reach + bounds.missing)
    finer = jnp.expm1(bounds.fine) * reach + jnp.where(fine, bounds.missing, bounds.missing_both)
    share = weight * jnp.exp(jnp.minimum(bounds.coarse + bounds.fine, _LARGEST_LOG))
    scored = jnp.where(fine | both, finer, 0)
    # Shares add up to at most 1.
    scored = jnp.minimum(jnp.max(scored), jnp.sum(share * scored))
    sizes = jnp.where(skip | high | fine | both, bounds.size + bounds.missing, 0)
    longest = jnp.maximum(jnp.max(sizes), bounds.recent.size)
    rounded = jnp.expm1(bounds.recent.error) * (bounds.recent.size + length) + 4 * rounding * longest
    return jnp.sum(jnp.where(skip, left, jnp.where(high, coarse, 0))) + scored + rounded


def _add(where: Bool[Array, " tiles"], each: OfTile) -> Number:
    return jnp.sum(jnp.where(where, each, 0))


def _rounding_of_sums(tiles: int, tile: int) -> float:
    """Bound the relative rounding of a sum: a factor and a product for each tile, then parts, a step and rows."""
    steps = 5 * SUMMED + tiles / SUMMED + tile + 65
    return rounding_of_exp(jnp.dtype(jnp.float32)) + steps * 2.0**-23
