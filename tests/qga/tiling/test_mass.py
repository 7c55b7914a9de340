"""Tile masses lie within their bounds, sharply, in both precisions (theory T-9, T-10, T-20)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from qga.errors import ShapeError
from qga.tiling import (
    Summary,
    chord_excess,
    dual_bound,
    excess_from_variance,
    mass_bounds,
    mean_score,
    score_interval,
    split,
    summarize,
    summary_unit,
)
from qga.tiling.plan import log_gap
from tests.qga.tolerances import assert_close, assert_far, bound

WIDTH, TILE, TILES = 5, 8, 6
bounds_of = jax.jit(mass_bounds)
interval_of = jax.jit(score_interval)


def draw(random: np.random.Generator, spread: float, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    centers = np.repeat(random.normal(size=(TILES, WIDTH)), TILE, axis=0)
    return random.normal(size=(7, WIDTH)), centers + spread * random.normal(size=(TILES * TILE, WIDTH)) + shift


def summary_of(keys: np.ndarray, dtype: np.dtype) -> Summary:
    tiles, exists = split(jnp.asarray(keys, dtype), TILE)
    return summarize(tiles, tiles, exists)


def scores_of(queries: np.ndarray, keys: np.ndarray, scale: float, dtype: np.dtype) -> np.ndarray:
    """Score in double precision the numbers that were rounded to ``dtype``: [queries, tiles, tile]."""
    queries, keys = (array.astype(dtype).astype(float) for array in (queries, keys))
    return (scale * queries @ keys.T).reshape(len(queries), -1, TILE)


@pytest.mark.parametrize("scale", [1.0, -0.5, 8.0])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.1, 2.0])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_masses_lie_within_their_bounds(
    scale: float, spread: float, shift: float, random: np.random.Generator, dtype: np.dtype
) -> None:
    queries, keys = draw(random, spread, shift)
    scores = scores_of(queries, keys, scale, dtype)
    got = bounds_of(jnp.asarray(queries, dtype), summary_of(keys, dtype), scale=scale)
    log_mass, mean = logsumexp(scores, axis=2), np.log(TILE) + scores.mean(axis=2)
    assert np.all(np.asarray(got.lower, float) <= mean)
    assert np.all(log_mass <= np.asarray(got.upper, float))
    # The difference of two large numbers is the truth only to its rounding in double precision.
    doubt = 64 * np.finfo(float).eps * np.abs(scores).max()
    assert np.all(log_mass - mean <= np.asarray(got.excess, float) + doubt)
    lack = -np.expm1(mean - log_mass)
    assert np.all(lack <= np.exp(np.asarray(log_gap(got), float) - log_mass) + doubt)


def test_bounds_are_of_the_order_of_the_truth(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys = draw(random, 0.3)
    scores = scores_of(queries, keys, 1.0, dtype)
    got = bounds_of(jnp.asarray(queries, dtype), summary_of(keys, dtype), scale=1.0)
    excess = logsumexp(scores, axis=2) - np.log(TILE) - scores.mean(axis=2)
    assert np.mean(np.asarray(got.excess, float) / excess) < 10
    # A bound five times as small would be violated.
    assert np.max(excess / np.asarray(got.excess, float)) > 0.2


def test_two_keys_at_the_ends_reach_the_bound(dtype: np.dtype) -> None:
    # s = +-a with a along an axis: log cosh a exactly.
    reach = np.asarray([0.5, 1.0, 3.0])
    keys = jnp.asarray(np.stack([[[a, 0.0], [-a, 0.0]] for a in reach]), dtype)
    summary = summarize(keys, keys, jnp.ones((3, 2), bool))
    got = bounds_of(jnp.asarray([[1.0, 0.0]], dtype), summary, scale=1.0)
    want = np.log(np.cosh(reach))[None]
    # The certified rounding of a score is many times its true one.
    assert_close(got.excess, want, depth=400, scale=4.0)
    assert np.all(np.asarray(got.excess) >= want.astype(dtype))
    assert_far(got.excess, want * 1.05)
    assert_close(got.upper, np.log(2) + want, depth=1600, scale=4.0)


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12),
    st.floats(0, 3),
    st.floats(0, 3),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_chord_is_above_every_law_on_the_interval(scores: list[float], more_below: float, more_above: float) -> None:
    away = np.asarray(scores) - np.mean(scores)
    below, above = max(-away.min(), 0) + more_below, max(away.max(), 0) + more_above
    got = float(chord_excess(jnp.asarray(below, jnp.float32), jnp.asarray(above, jnp.float32)))
    want = float(logsumexp(away) - np.log(len(away)))
    assert got * (1 + 1e-6) >= want - 1e-12
    assert got <= np.log(np.cosh(max(below, above))) * (1 + 1e-5) + 8e-6 * (1 + above)


@pytest.mark.parametrize(("below", "above"), [(0.0, 0.0), (1e-8, 1e-8), (2.0, 0.1), (0.01, 60.0), (300.0, 200.0)])
def test_chord_is_its_formula(below: float, above: float, dtype: np.dtype) -> None:
    with mpmath.workdps(60):
        low, high = (mpmath.mpf(float(np.asarray(each, dtype))) for each in (below, above))
        mass = (high * mpmath.exp(-low) + low * mpmath.exp(high)) / (low + high) if low + high else mpmath.mpf(1)
        want = float(mpmath.log(mass))
    got = chord_excess(jnp.asarray(below, dtype), jnp.asarray(above, dtype))
    assert_close(got, want, scale=1 + above, depth=9)
    assert float(got) >= want * (1 - 1e-15)


def test_variance_gives_the_excess_to_third_order() -> None:
    random = np.random.default_rng(2)
    with jax.enable_x64(True), mpmath.workdps(40):
        for length in (0.01, 0.3, 2.0):
            scores = length * random.choice([0.0, 0.1, 0.9, 1.0], size=9, p=[0.3, 0.2, 0.1, 0.4])
            oscillation = scores.max() - scores.min()
            away = [mpmath.mpf(float(score)) for score in scores]
            mean = mpmath.fsum(away) / len(away)
            excess = mpmath.log(mpmath.fsum(mpmath.exp(each - mean) for each in away) / len(away))
            got = excess_from_variance(jnp.asarray(scores.var()), jnp.asarray(oscillation))
            assert float(got.low) <= float(excess) <= float(got.high)
    skewed = excess_from_variance(jnp.asarray(0.1664), jnp.asarray(1.0))
    assert float(skewed.high - skewed.low) == pytest.approx(2 / (36 * 3**0.5), rel=1e-5)


def test_third_order_bound_is_sharp() -> None:
    # The law of the extremal third cumulant has weights (1 +- 1 / sqrt 3) / 2.
    share, length = (1 - 3**-0.5) / 2, 0.05
    with mpmath.workdps(40):
        share, length = mpmath.mpf(share), mpmath.mpf(length)
        excess = mpmath.log(1 - share + share * mpmath.exp(length)) - share * length
        away = excess - share * (1 - share) * length**2 / 2
        allowed = length**3 / (36 * mpmath.sqrt(3))
        assert 0.9 < abs(away) / allowed <= 1


@pytest.mark.parametrize("scale", [1.0, -0.7])
def test_dual_bound_holds_for_all_pairs(scale: float, random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys = draw(random, 0.3, 2.0)
    queries = np.concatenate([queries, 0.2 * queries + 1])[:TILE]
    scores = scores_of(queries, keys, scale, dtype)
    got = jax.jit(dual_bound)(summary_of(queries, dtype), summary_of(keys, dtype), scale=scale)
    assert np.all(np.asarray(got.low, float)[0] <= scores.min(axis=(0, 2)))
    assert np.all(scores.max(axis=(0, 2)) <= np.asarray(got.high, float)[0])
    # It is a bound of these keys: keys twice as far break it.
    assert np.any((2 * scores).max(axis=(0, 2)) > np.asarray(got.high, float)[0])


def test_dual_bound_is_reached_by_parallel_tiles(dtype: np.dtype) -> None:
    # q = k = 1 +- 1 / 2 on a line: the largest product is 9 / 4.
    tile = jnp.asarray([[[0.5, 0.0], [1.5, 0.0]]], dtype)
    summary = summarize(tile, tile, jnp.ones((1, 2), bool))
    got = dual_bound(summary, summary, scale=1.0)
    assert float(got.high[0, 0]) >= 2.25
    assert_close(got.high, [[2.25]], depth=10000, scale=2.0)


def test_the_box_is_tighter_where_keys_lie_along_an_axis(dtype: np.dtype) -> None:
    keys = jnp.asarray([[[0.0, -3.0], [0.0, 3.0]]], dtype)
    summary = summarize(keys, keys, jnp.ones((1, 2), bool))
    got = interval_of(jnp.asarray([[1.0, 0.1]], dtype), summary, scale=1.0)
    assert_close(got.high, [[0.3]], depth=10000)
    assert float(got.high[0, 0]) >= 0.3 * (1 - np.finfo(dtype).eps)


def test_mean_score_is_the_mean_of_scores(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys = draw(random, 1.0)
    got = mean_score(jnp.asarray(queries, dtype), summary_of(keys, dtype), scale=0.4)
    assert_close(got, scores_of(queries, keys, 0.4, dtype).mean(axis=2), depth=TILE * WIDTH, scale=4.0)


def test_no_keys_have_no_mass() -> None:
    empty = jax.tree.map(lambda field: field[None], summary_unit(2, 1))
    got = bounds_of(jnp.ones((1, 2)), empty, scale=1.0)
    assert np.all(np.isneginf(got.lower))
    assert np.all(np.isneginf(got.upper))
    assert np.all(np.asarray(got.excess) == 0)
    interval = interval_of(jnp.ones((1, 2)), empty, scale=1.0)
    assert interval.low > interval.high


def test_slack_shrinks_with_the_precision(random: np.random.Generator) -> None:
    queries, keys = draw(random, 0.5)
    slack = {}
    for name in ("float32", "float64"):
        with jax.enable_x64(name == "float64"):
            got = bounds_of(jnp.asarray(queries, name), summary_of(keys, np.dtype(name)), scale=1.0)
            slack[name] = float(np.max(got.slack))
    assert slack["float32"] < 1e-3
    assert slack["float64"] < 1e-7 * slack["float32"]
    assert slack["float64"] > bound(np.float64)


def test_mass_bounds_refuse_another_width() -> None:
    empty = jax.tree.map(lambda field: field[None], summary_unit(2, 1))
    with pytest.raises(
        ShapeError, match=r"^mass_bounds: queries must have the width .*\n  got:  queries float32\[1, 3\]"
    ):
        mass_bounds(jnp.ones((1, 3)), empty, scale=1.0)
