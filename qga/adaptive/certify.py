"""What attention over some tiles may be off by: what was left out, what products were made of, what was rounded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..tiling.audit import Audited
from ..tiling.certificate import Certificate, perturbation_bounds, rounding_of_exp, skipped_weight
from .bounds import PairBounds, QueryTiles, Tiles, Visited
from .levels import Level, Spread
from .work import Work, count_work

ByQuery = Float[Array, "batch queries heads"]


def score_slack(bounds: PairBounds, visited: Visited) -> QueryTiles:
    """Bound the rounding of the exponent of any weight."""
    error = bounds.slack[..., None] * bounds.slope + bounds.rounding
    return jnp.max(jnp.where(visited, error, 0), axis=3) + rounding_of_exp(bounds.upper.dtype)


def sum_slack(bounds: PairBounds, visited: Visited, rounds: int = 1) -> QueryTiles:
    """Bound the relative rounding of sums over visited tiles, each in rounds: of the terms of one, then of all."""
    terms = bounds.tile + 8 + 3 * rounds * jnp.sum(visited, axis=3, dtype=bounds.upper.dtype)
    return jnp.finfo(bounds.upper.dtype).eps * terms


def certify(
    bounds: PairBounds,
    parts: Sequence[tuple[Level, Visited, ByQuery]],
    *,
    promise: float,
    rounds: int = 1,
    extra: Sequence[tuple[Level, Visited]] = (),
    audited: tuple[int, Audited | None] = (0, None),
) -> Certificate:
    """Bound the errors of attention, for each query.

    skipped <= S / (S + Z'),  lost <= (S + C) / (S + C + Z')
    S = sum_skipped e^U,  C = sum_coarse Z'_T (e^(a^2 / 2) - 1)
    TV <= lost + sum_coarse P_T tanh(a / 2) + sum_levels P_level (e^(largest score error of the level) - 1)
        + tanh(D / 4) + w
    KL <= -log(1 - lost) + (largest score error + rounding + w)^2 / 2 + largest a (the same, without the square)

    with D twice the rounding of an exponent, and w that of weights held in few bits, in TV of sums too. The change of
    a softmax p whose scores move by eta is at most E_p |e^eta - 1|. Scores in a coarse tile move by 2 a at most, by
    nothing in the mean: it weighs too little, as what is left out does, and its weights are those for another query.

    Args:
        bounds: of all pairs of tiles.
        parts: each level with the tiles that were visited in it and the logs of their partition sums, as computed.
        promise: largest total variation that was promised.
        rounds: tiles of a kernel in one of these.
        extra: levels and tiles that were scored besides.
        audited: queries of a head that were computed again, and what that found.
    """
    visited = jnp.any(jnp.stack([each for _, each, _ in parts]), axis=0)
    channels, keys = bounds.values.center.shape[-1], parts[-1][0].values.shape[1]
    log_sums = logsumexp(jnp.stack([each for *_, each in parts]), axis=0)
    by_query = partial(_by_query, bounds, queries=log_sums.shape[1])
    exponent, summed = by_query(score_slack(bounds, visited)), by_query(sum_slack(bounds, visited, rounds))
    change = _change(bounds, parts, log_sums, exponent, summed)
    log_left = by_query(_log_left(bounds, visited))
    rounded = perturbation_bounds(2 * exponent).total_variation + change.stored + 2 * summed
    away, longest, rms = (jnp.repeat(each, bounds.group, axis=1)[:, None] for each in _values(bounds, keys))
    within = _within(bounds, parts, log_sums, change.worst + summed, away)
    missing = partial(_missing, log_sums - change.worst - summed)
    skipped, lost = missing(log_left), missing(jnp.logaddexp(log_left, within.log_lack))
    moved = jnp.minimum(lost + change.weights + rounded, 1)
    total_variation = jnp.minimum(moved + within.weights, 1)
    # Weights that are held in fewer bits are off by a factor, but for the smallest.
    changed = change.worst + change.stored
    kl = -jnp.log1p(-lost) + perturbation_bounds(2 * changed).kl + within.reach * changed
    error = moved * 2 * away + within.values + change.values + (change.stored + 4 * summed) * longest
    # Results below the normal numbers of their dtype are off by a part of the smallest one.
    error += channels**0.5 * float(jnp.finfo(parts[-1][0].values.dtype).smallest_subnormal)
    is_empty = (log_sums == -jnp.inf) & (skipped == 0)
    kl, total_variation, skipped, error = (
        jnp.where(is_empty, 0, jnp.where(jnp.isnan(each), most, each))
        # What cannot be bounded is bounded by what is always true.
        for each, most in ((kl, jnp.inf), (total_variation, 1), (skipped, 1), (error, jnp.inf))
    )
    is_sound = is_empty | (jnp.isfinite(error) & (total_variation <= promise))
    work = Work(*map(by_query, count_work(bounds, [part[:2] for part in parts], extra, audited[0])))
    return _join((kl, total_variation, skipped, error, jnp.broadcast_to(rms, kl.shape)), work, is_sound)._replace(
        audit=audited[1]
    )


def _missing(log_kept: ByQuery, log_left: ByQuery) -> ByQuery:
    return jnp.where(log_left == -jnp.inf, 0, skipped_weight(log_kept, log_left))


def _join(errors: tuple[ByQuery, ByQuery, ByQuery, ByQuery, ByQuery], work: Work, is_sound: Array) -> Certificate:
    return Certificate(
        *errors, work.exact, work.half, work.coarse, work.left, is_sound, bytes_read=work.bytes,
        tiles_split=work.split, tiles_hidden=work.hidden, tiles_extra=work.extra, bytes_exact=work.bytes_exact,
        flops=work.flops, flops_exact=work.flops_exact,
    )  # fmt: skip


class _Change(NamedTuple):
    """What products of fewer bits change.

    Attributes:
        worst: the largest error of an exponent, rounding included.
        weights: total variation, without rounding.
        values: length of the change of an average by that of its values.
        stored: of an average by that of its weights, relative to the longest value.
    """

    worst: ByQuery
    weights: ByQuery
    values: ByQuery
    stored: ByQuery


def _change(
    bounds: PairBounds,
    parts: Sequence[tuple[Level, Visited, ByQuery]],
    log_sums: ByQuery,
    exponent: ByQuery,
    summed: ByQuery,
) -> _Change:
    by_query = partial(_by_query, bounds, queries=log_sums.shape[1])
    errors = [by_query(jnp.max(jnp.where(visited, level.score_error, 0), axis=3)) for level, visited, _ in parts]
    worst = jnp.max(jnp.stack(errors), axis=0) + exponent
    weights, values, stored = (jnp.zeros_like(log_sums) for _ in range(3))
    for (level, visited, sums), error in zip(parts, errors, strict=True):
        # A level's share of the exact weight, from that of the computed one.
        share = jnp.minimum(
            jnp.exp(jnp.where(sums == -jnp.inf, -jnp.inf, sums - log_sums) + error + worst + 2 * summed), 1
        )
        weights += share * jnp.expm1(error)
        values += share * level.value_error[:, None]
        # Weights below the normal numbers are off by a part of the smallest one.
        keys = bounds.tile * by_query(jnp.sum(visited, axis=3, dtype=stored.dtype))
        stored += share * 2 * level.weight_rounding + keys * level.smallest_weight
    return _Change(worst, weights, values, stored)


class _Within(NamedTuple):
    """What coarse tiles change.

    Attributes:
        log_lack: at least the log of what they weigh too little.
        weights: total variation within them.
        values: length of the change of an average by that.
        reach: half of what scores of one of them change by at most.
    """

    log_lack: ByQuery
    weights: ByQuery
    values: ByQuery
    reach: ByQuery


def _within(
    bounds: PairBounds,
    parts: Sequence[tuple[Level, Visited, ByQuery]],
    log_sums: ByQuery,
    error: ByQuery,
    away: Float[Array, "batch one heads"],
) -> _Within:
    """Bound what coarse tiles change: those of a small spread by their sums, the others by their bounds."""
    by_query, nothing = partial(_by_query, bounds, queries=log_sums.shape[1]), jnp.zeros_like(log_sums)
    coarse = [part for part in parts if part[0].spread is not None]
    if not coarse:
        return _Within(nothing - jnp.inf, nothing, nothing, nothing)
    ((level, visited, sums),) = coarse
    spread = cast(Spread, level.spread)
    near, change, lack = visited & spread.is_small, jnp.tanh(spread.reach / 2), jnp.expm1(jnp.square(spread.reach) / 2)
    largest = lambda table, each: by_query(jnp.max(jnp.where(table, each, 0), axis=3))  # noqa: E731
    total = lambda each: by_query(_log_left(bounds, near | ~visited, jnp.log(each)))  # noqa: E731
    # A level's share of the exact weight, from that of the computed one.
    log_share = jnp.where(sums == -jnp.inf, -jnp.inf, sums - log_sums + 2 * error)
    share, light = jnp.minimum(jnp.exp(log_share), 1), jnp.exp(total(change) - log_sums + error)
    return _Within(
        jnp.logaddexp(sums + error + jnp.log(largest(near, lack)), total(lack)),
        share * largest(near, change) + light,
        share * largest(near, 2 * change * spread.values) + light * 2 * away,
        largest(visited, spread.reach),
    )


def _by_query(bounds: PairBounds, tiles: Array, *, queries: int) -> Array:
    """Give every query what its tile has, [batch, queries, heads]."""
    return jnp.moveaxis(jnp.repeat(tiles, bounds.tile, axis=2)[:, :, :queries], 1, 2)


def _log_left(bounds: PairBounds, visited: Visited, log_part: Tiles | float = 0.0) -> QueryTiles:
    """Return at least the log of what the other tiles weigh, or of parts of that."""
    left = jnp.where(visited, -jnp.inf, bounds.upper + log_part)
    log = logsumexp(left, axis=3)
    rounding = 4 * jnp.finfo(log.dtype).eps * (left.shape[3] + jnp.where(jnp.isfinite(log), jnp.abs(log), 0))
    return jnp.where(log == -jnp.inf, log, log + rounding)


def _values(bounds: PairBounds, keys: int) -> tuple[Array, ...]:
    """Return how far values of so many keys lie from one point and from the origin, and their scale; by key head."""
    held = bounds.values
    # Any point does. The mean of the first tile is there already.
    distance = jnp.sqrt(jnp.sum(jnp.square(held.center - held.center[:, :, :1]), axis=3))
    # Both at once.
    away, longest = jnp.max(jnp.stack([distance + held.radius, held.longest]), axis=3)
    rounding = jnp.finfo(longest.dtype).eps * (held.center.shape[3] + 8) * longest
    return away + rounding, longest, jnp.sqrt(jnp.sum(held.square_sum, axis=2) / max(keys, 1))
