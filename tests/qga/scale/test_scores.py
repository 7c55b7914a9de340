"""Scores of merged keys: masses are kept, centroids lose by Jensen, and the gap says how much (theory S-1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, rel_entr

from qga import OptionError, ShapeError, scale
from tests.qga.dense import softmax
from tests.qga.tolerances import assert_close, assert_far, bound

KEYS = 16
SCORES = st.lists(st.floats(-30, 30, width=32), min_size=8, max_size=8)


def draw(random: np.random.Generator, dtype: np.dtype, spread: float = 2.0) -> jax.Array:
    return jnp.asarray(spread * random.normal(size=(3, KEYS)), dtype)


def centroids(scores: np.ndarray, levels: int) -> np.ndarray:
    """Replace each score by the mean of its block."""
    blocks = scores.reshape(*scores.shape[:-1], -1, 2**levels)
    return np.broadcast_to(blocks.mean(axis=-1, keepdims=True), blocks.shape).reshape(scores.shape)


def true_gaps(scores: np.ndarray) -> np.ndarray:
    """Compute KL(q_l || p) for each level with SciPy, q_l the softmax of the centroid scores."""
    levels = range(scores.shape[-1].bit_length())
    weights = [softmax(centroids(scores, level)) for level in levels]
    return np.stack([rel_entr(each, softmax(scores)).sum(axis=-1) for each in weights], axis=-1)


@pytest.mark.parametrize("levels", [0, 1, 3, 4])
def test_coarsen_scores_keeps_the_partition_sum(levels: int, random: np.random.Generator, dtype: np.dtype) -> None:
    scores = draw(random, dtype)
    coarse = scale.coarsen_scores(scores, levels=levels)
    assert coarse.shape == (3, KEYS >> levels)
    want = logsumexp(np.asarray(scores, float), axis=-1)
    assert_close(jax.nn.logsumexp(coarse, axis=-1), want, depth=KEYS, scale=8.0)
    assert_far(jax.nn.logsumexp(scores.at[:, 0].add(1.0), axis=-1), want, depth=KEYS)


def test_coarsen_scores_keeps_the_mass_of_every_block(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = draw(random, dtype)
    want = logsumexp(np.asarray(scores, float).reshape(3, 4, 4), axis=-1)
    assert_close(scale.coarsen_scores(scores, levels=2), want, depth=4, scale=8.0)


def test_coarsen_scores_is_a_semigroup_to_the_bit(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = draw(random, dtype)
    twice = scale.coarsen_scores(scale.coarsen_scores(scores, levels=2), levels=1)
    assert np.array_equal(scale.coarsen_scores(scores, levels=3), twice)


def test_coarsen_scores_leaves_out_missing_keys() -> None:
    scores = jnp.array([0.0, -jnp.inf, -jnp.inf, -jnp.inf])
    assert scale.coarsen_scores(scores).tolist() == [0, -np.inf]
    slope = jax.grad(lambda s: scale.coarsen_scores(s)[0])(scores)
    assert slope.tolist() == [1, 0, 0, 0]


def test_centroid_scores_are_block_means_counted(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = draw(random, dtype)
    want = np.asarray(scores, float).reshape(3, 4, 4).mean(axis=-1) + np.log(4)
    assert_close(scale.centroid_scores(scores, levels=2), want, depth=4, scale=8.0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SCORES)
def test_centroid_scores_never_have_more_mass(scores: list[float]) -> None:
    array = jnp.asarray(scores, jnp.float32)
    exact, mean = scale.coarsen_scores(array), scale.centroid_scores(array)
    assert (mean <= exact + bound(np.float32, scale=30.0)).all()


def test_scores_above_the_centroid_have_more_mass() -> None:
    # The negative twin of Jensen: two keys at the larger score instead of the mean one.
    scores = jnp.array([0.0, 2.0])
    exact = float(scale.coarsen_scores(scores)[0])
    assert float(scale.centroid_scores(scores)[0]) < exact < 2.0 + np.log(2)
    # And without counting both, nothing is kept even where the two agree.
    assert float(scale.coarsen_scores(jnp.zeros(2))[0]) != float(jnp.mean(jnp.zeros(2)))


def test_adding_scores_is_no_decimation(random: np.random.Generator, dtype: np.dtype) -> None:
    # The negative twin of the kept partition sum: summed scores are a product of masses.
    scores = draw(random, dtype)
    summed = scores[:, 0::2] + scores[:, 1::2]
    assert_far(jax.nn.logsumexp(summed, axis=-1), jax.nn.logsumexp(scores, axis=-1), depth=KEYS)


@pytest.mark.usefixtures("x64")
def test_decimation_of_a_geometric_row_has_its_closed_form() -> None:
    # Scores -r j: every pair has the mass e^(-2 r i) (1 + e^-r), so that decimation doubles the rate and shifts.
    rate, places = 0.3, jnp.arange(16.0)
    assert_close(scale.coarsen_scores(-rate * places), -2 * rate * places[:8] + np.log1p(np.exp(-rate)), scale=8.0)
    gap = scale.jensen_gap(-rate * places)[1]
    assert_close(gap, np.log(np.cosh(rate / 2)), scale=4.0)
    assert_far(gap, rate**2 / 8)


def test_no_smaller_bound_of_a_step_holds() -> None:
    # The negative twin of d^2 / 8: a pair with a small difference comes close to it.
    step = float(scale.jensen_gap(jnp.array([0.0, 0.5]))[1])
    assert 0.5**2 / 8.2 < step <= 0.5**2 / 8


def test_centroid_scores_are_exact_where_pairs_agree(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = jnp.repeat(draw(random, dtype), 2, axis=-1)
    assert_close(scale.centroid_scores(scores), np.asarray(scale.coarsen_scores(scores), float), scale=8.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spread", [1e-3, 1.0, 8.0, 30.0])
def test_gap_is_the_relative_entropy_of_the_centroids(spread: float, random: np.random.Generator) -> None:
    scores = draw(random, np.dtype(np.float64), spread)
    got, want = scale.jensen_gap(scores), true_gaps(np.asarray(scores))
    assert got.shape == (3, 5)
    assert_close(got, want, depth=KEYS, scale=max(1.0, 4 * spread))
    assert_far(got[:, 1:], want[:, :-1], scale=1e-3)


@pytest.mark.usefixtures("x64")
def test_gap_is_what_the_partition_sums_differ_by(random: np.random.Generator) -> None:
    scores = draw(random, np.dtype(np.float64))
    got = scale.jensen_gap(scores)
    for level in range(5):
        lost = logsumexp(scores, axis=-1) - logsumexp(scale.centroid_scores(scores, levels=level), axis=-1)
        assert_close(got[:, level], lost, depth=KEYS, scale=8.0)


def test_small_gaps_are_found_to_relative_precision(random: np.random.Generator, dtype: np.dtype) -> None:
    # Differences of 1e-3 on scores of 100: two logarithms near 100 would lose the gap of 1e-7 entirely.
    with jax.enable_x64(True):
        scores = np.asarray(100 + 1e-3 * random.normal(size=KEYS), np.float32)
        want = np.asarray(scale.jensen_gap(jnp.asarray(scores, jnp.float64)))
        variance = [np.var(scores.astype(float)) - np.var(centroids(scores.astype(float), k)) for k in range(5)]
        # To second order the gap is half of the variance within the blocks.
        assert np.allclose(want[1:], np.maximum(variance[1:], 0) / 2, rtol=0.01)
    got = np.asarray(scale.jensen_gap(jnp.asarray(scores, dtype)), float)
    # Means of scores near 100 are rounded to 4e-6 in single precision; halves of 1e-3 keep three digits.
    rounding = 100 * float(np.finfo(dtype).eps) / 1e-3
    assert np.abs(got[1:] / want[1:] - 1).max() <= 4 * rounding + bound(dtype, KEYS)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SCORES)
def test_gap_never_falls_and_obeys_its_bound(scores: list[float]) -> None:
    array = jnp.asarray(scores, jnp.float32)
    gap = np.asarray(scale.jensen_gap(array), float)
    assert gap[0] == 0
    slack = bound(np.float32, depth=8, scale=30.0)
    for level in range(3):
        pairs = np.asarray(scale.centroid_scores(array, levels=level), float).reshape(-1, 2)
        step = gap[level + 1] - gap[level]
        assert -slack <= step <= np.max((pairs[:, 0] - pairs[:, 1]) ** 2) / 8 + slack


def test_gap_of_a_pair_is_the_log_of_a_hyperbolic_cosine(dtype: np.dtype) -> None:
    for difference in (0.0, 0.5, 15.0, 17.0, 300.0):
        got = scale.jensen_gap(jnp.asarray([difference, 0.0], dtype))[1]
        want = np.logaddexp(difference / 2, -difference / 2) - np.log(2)
        assert_close(got, want, scale=max(1.0, difference))


def test_gap_takes_fewer_levels_and_odd_numbers(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = jnp.asarray(random.normal(size=12), dtype)
    assert scale.jensen_gap(scores).shape == (3,)
    assert np.array_equal(scale.jensen_gap(scores, levels=1), scale.jensen_gap(scores)[:2])
    assert scale.jensen_gap(scores[:7]).tolist() == [0]


def test_keys_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        scale.coarsen_scores(jnp.zeros((2, 6)), levels=2)
    assert str(error.value) == (
        "coarsen_scores: each level merges rows in pairs.\n"
        "  got:  float32[2, 6], levels=2\n"
        "  want: an axis whose length is a positive multiple of 4\n"
        "  fix:  pad to a multiple, or take fewer levels."
    )


@pytest.mark.parametrize("function", [scale.coarsen_scores, scale.centroid_scores, scale.jensen_gap])
def test_a_single_score_and_negative_levels_are_refused(function: object) -> None:
    with pytest.raises(ShapeError, match=r"keys lie along the last axis.\n  got:  float32\[\]"):
        function(jnp.float32(1))
    with pytest.raises(OptionError, match="got:  levels=-1"):
        function(jnp.zeros(4), levels=-1)
