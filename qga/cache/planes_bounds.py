"""What a tile in two planes may contribute, which of its planes are read for that, and how wrong the result is then.

With L the log of what a tile weighs by the high plane of its keys, D and d bounds of the errors of a score by one plane
and by both, R the longest value, e and e' the lengths that values lack in one plane and in both, and |o| the length of
the average, reading the tile at a level changes the average by at most 1 / Z times

    nothing      e^L (e^D R + (e^D - 1) |o|)         its weight is kept, at a value of zero
    high planes  e^L ((e^D - 1) (R + |o|) + e)
    keys in both Z_T ((e^d - 1) (R + |o|) + e)       Z_T <= e^(L + D + d)
    both planes  Z_T ((e^d - 1) (R + |o|) + e')
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from ..tiling.certificate import Certificate, rounding_of_exp
from .planes_kernel import BOTH, FINE, HIGH, SKIP, SUMMED

ROUNDED_LOG = 2.0**-21
"""Bound of the rounding of a log of a sum, relative to the log."""

# Prices of an error that are tried, each the root of 2 times the one before, in planes of bytes for the whole promise.
_PRICES = 32
# Weights relative to a partition sum are cut off here: what is more says nothing.
_LARGEST_LOG = 80.0

OfTile = Float[Array, "batch key_heads group tiles"]
OfQuery = Float[Array, "batch key_heads group"]
Levels = Int[Array, "batch key_heads tiles"]


class Bounds(NamedTuple):
    """What is known of tiles before their values are read.

    Attributes:
        log_sums: log of what a tile weighs by the high plane of its keys; minus infinity where there is none.
        coarse: at least the error of such a score, rounding included.
        fine: at least the error of a score by both planes.
        size: at least the length of a value of the tile.
        missing: at least what a value lacks in its high plane.
        missing_both: at least what it lacks in both.
        recent: log of what the rows weigh that are kept as they are.
        recent_error: at least the error of their scores.
        recent_size: at least the length of their values.
    """

    log_sums: OfTile
    coarse: OfTile
    fine: OfTile
    size: OfTile
    missing: OfTile
    missing_both: OfTile
    recent: OfQuery
    recent_error: OfQuery
    recent_size: OfQuery


def choose_levels(bounds: Bounds, budget: Float[Array, "batch key_heads"], *, grid: float, dtype: jnp.dtype) -> Levels:
    """Choose what is read of each tile: the fewest bytes, to a price of errors, that keep within a budget.

    All queries that share a tile share its level. Tiles are judged alone, by bytes + price error, and the lowest price
    is taken at which the errors of every query add up to no more than its budget; without one, all is read.

    Args:
        bounds: of the tiles.
        budget: for the length of the error of an average.
        grid: bytes of the grid of values, in those of a plane.
        dtype: that averages are rounded to.
    """
    errors = _errors(bounds, budget, float(jnp.finfo(dtype).eps) / 2)
    worst = [jnp.max(each, axis=2)[..., None, :] for each in errors]
    prices = jnp.exp2(jnp.arange(_PRICES, dtype=jnp.float32) / 2)
    tried = _cheapest(worst, prices[None, None, :, None], grid)[:, :, None]
    spent = sum(
        jnp.sum(jnp.where(tried == level, each[..., None, :], 0), axis=4)
        for level, each in zip((SKIP, HIGH, FINE), errors, strict=True)
    )
    fits = jnp.all(spent <= 1, axis=2)
    price = jnp.min(jnp.where(fits, prices[None, None], jnp.inf), axis=2)
    levels = _cheapest([each[..., 0, :] for each in worst], price[..., None], grid)
    return jnp.where(jnp.isfinite(price)[..., None], levels, BOTH)


def _errors(bounds: Bounds, budget: Float[Array, "batch key_heads"], narrow: float) -> list[OfTile]:
    """Bound the errors of the first three levels, in parts of what both planes leave of a budget."""
    known = jnp.logaddexp(logsumexp(bounds.log_sums - bounds.coarse, axis=3), bounds.recent - bounds.recent_error)
    weight = jnp.exp(jnp.minimum(bounds.log_sums - known[..., None], _LARGEST_LOG))
    most = jnp.minimum(weight * jnp.exp(bounds.coarse + bounds.fine), 1)
    longest = jnp.maximum(jnp.max(bounds.size, axis=3), bounds.recent_size)
    average = jnp.minimum(jnp.sum(most * bounds.size, axis=3) + bounds.recent_size, longest)[..., None]
    # What is no number exists.
    reach, exists = bounds.size + average, ~(bounds.log_sums == -jnp.inf)
    finest = jnp.expm1(bounds.fine) * reach + bounds.missing_both
    floor = jnp.minimum(jnp.max(jnp.where(exists, finest, 0), axis=3), jnp.sum(most * finest, axis=3))
    floor += jnp.expm1(bounds.recent_error) * (bounds.recent_size + average[..., 0])
    left = jnp.maximum(budget[..., None] - floor - narrow * average[..., 0], 0)[..., None]
    coarse = jnp.expm1(bounds.coarse)
    errors = (
        weight * ((coarse + 1) * bounds.size + coarse * average),
        weight * (coarse * reach + bounds.missing),
        most * (bounds.missing - bounds.missing_both),
    )
    return [jnp.where(exists, each / left, 0) for each in errors]


def _cheapest(errors: list[Array], price: Array, grid: float) -> Int[Array, "*batch"]:
    """Return the level of each tile that costs least; of what is no number, all is read."""
    costs = 0, HIGH + grid, FINE + grid
    skip, high, fine = (price * each + cost for each, cost in zip(errors, costs, strict=True))
    least = jnp.minimum(jnp.minimum(skip, high), jnp.minimum(fine, BOTH + grid))
    level = jnp.where(fine <= least, FINE, BOTH)
    return jnp.where(skip <= least, SKIP, jnp.where(high <= least, HIGH, level))


def certify(
    bounds: Bounds,
    levels: Levels,
    found: tuple[Float[Array, "batch key_heads group channels"], OfQuery],
    scale: Float[Array, "batch key_heads"],
    *,
    eps: float,
    dtype: jnp.dtype,
) -> Certificate:
    """Bound the errors of an average that was computed.

    Args:
        bounds: of the tiles.
        levels: what was read of each.
        found: the averages and the logs of their partition sums, what was left out among them.
        scale: of the values.
        eps: what was promised, in units of ``scale``.
        dtype: that averages are rounded to.
    """
    out, log_sums = found
    exists, level = ~(bounds.log_sums == -jnp.inf), levels[:, :, None]
    skip, high, fine, both = (exists & (level == each) for each in (SKIP, HIGH, FINE, BOTH))
    rounding, length = _rounding_of_sums(levels.shape[2]), jnp.sqrt(jnp.sum(jnp.square(out), axis=3))
    weight = jnp.exp(bounds.log_sums - (log_sums - rounding - ROUNDED_LOG * jnp.abs(log_sums))[..., None])
    change = weight * jnp.expm1(bounds.coarse)
    finest = jnp.maximum(jnp.max(jnp.where(fine | both, bounds.fine, 0), axis=3), bounds.recent_error)
    # Z / Z' with the exact and the computed partition sum, at least.
    least = jnp.exp(-finest - rounding) + _add(skip | high, weight * jnp.expm1(-bounds.coarse))
    left, changed = _add(skip, weight + change), _add(skip | high, change) + jnp.expm1(finest) + 2 * rounding
    error = _change_of_averages(bounds, (skip, high, fine, both), weight, length, rounding)
    error = jnp.where(least <= 0, jnp.inf, error / least)
    narrow = jnp.finfo(dtype)
    error += float(narrow.eps) / 2 * length + out.shape[3] ** 0.5 * float(narrow.smallest_subnormal)
    skipped, total = (jnp.where(least > 0, jnp.minimum(each / least, 1), 1) for each in (left, left + changed))
    kept = jnp.maximum(1 - left, 0)
    moved = _add(high, weight * bounds.coarse) / kept + finest + rounding
    kl = jnp.where(kept > 0, jnp.log1p(changed) - jnp.log(kept) + moved, jnp.inf)
    unread, halves, mixed, exactly = (jnp.sum(each, axis=3, dtype=jnp.int32) for each in (skip, high, fine, both))
    unit = jnp.broadcast_to(scale[..., None], error.shape)
    return Certificate(
        kl, total, skipped, error, unit, exactly, halves, jnp.zeros_like(unread), unread, error <= eps * unit, mixed
    )


def _change_of_averages(
    bounds: Bounds, read: tuple[Array, ...], weight: OfTile, length: OfQuery, rounding: float
) -> OfQuery:
    """Bound Z / Z' times the length of the error of an average, from weights relative to Z'."""
    skip, high, fine, both = read
    change, reach = jnp.expm1(bounds.coarse), bounds.size + length[..., None]
    left = weight * ((change + 1) * bounds.size + change * length[..., None])
    coarse = weight * (change * reach + bounds.missing)
    finer = jnp.expm1(bounds.fine) * reach + jnp.where(fine, bounds.missing, bounds.missing_both)
    share = weight * jnp.exp(jnp.minimum(bounds.coarse + bounds.fine, _LARGEST_LOG))
    scored = jnp.where(fine | both, finer, 0)
    # Shares add up to at most 1.
    scored = jnp.minimum(jnp.max(scored, axis=3), jnp.sum(share * scored, axis=3))
    sizes = jnp.where(skip | high | fine | both, bounds.size + bounds.missing, 0)
    longest = jnp.maximum(jnp.max(sizes, axis=3), bounds.recent_size)
    rounded = jnp.expm1(bounds.recent_error) * (bounds.recent_size + length) + 4 * rounding * longest
    return _add(skip, left) + _add(high, coarse) + scored + rounded


def _add(where: Bool[Array, "*batch tiles"], each: OfTile) -> OfQuery:
    return jnp.sum(jnp.where(where, each, 0), axis=3)


def _rounding_of_sums(tiles: int) -> float:
    """Bound the relative rounding of a sum over tiles: a factor and a product for each step, then of parts and rows."""
    steps = 5 * SUMMED + tiles / SUMMED + 64
    return rounding_of_exp(jnp.dtype(jnp.float32)) + steps * 2.0**-23
