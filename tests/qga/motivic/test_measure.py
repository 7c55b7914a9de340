"""The measure of scores is a ring homomorphism (theory M-1), in its docstring's limits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from qga import ShapeError, motivic, tiling
from tests.qga.tolerances import assert_close, assert_far

# One length for all draws: each new shape is compiled anew.
SCORES = st.lists(st.floats(-8, 8, width=32), min_size=4, max_size=4)


def draw(random: np.random.Generator, dtype: np.dtype, members: int = 11) -> jax.Array:
    return jnp.asarray(3 * random.normal(size=(2, members)), dtype)


@pytest.mark.parametrize("beta", [-1.5, 0.3, 2.0])
def test_measure_is_the_log_sum_of_scipy(beta: float, random: np.random.Generator, dtype: np.dtype) -> None:
    scores = draw(random, dtype)
    want = logsumexp(beta * np.asarray(scores, float), axis=-1)
    assert_close(motivic.measure(scores, beta), want, depth=11, scale=20.0)
    assert_far(motivic.measure(scores, beta + 0.1), want, depth=11, scale=20.0)


def test_measure_adds_on_disjoint_unions(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = draw(random, dtype, 5), draw(random, dtype, 8)
    union = motivic.measure(jnp.concatenate([first, second], axis=-1), 0.7)
    merged = motivic.measure_merge(motivic.measure(first, 0.7), motivic.measure(second, 0.7))
    assert_close(merged, union, depth=13, scale=8.0)
    # A member that both have is counted twice in the union of multisets, so leaving it out must show.
    assert_far(motivic.measure(jnp.concatenate([first, second[:, 1:]], axis=-1), 0.7), merged, depth=13)


def test_measure_multiplies_on_products(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = draw(random, dtype, 5), draw(random, dtype, 7)
    product = motivic.multiset_product(first, second)
    assert product.shape == (2, 35)
    want = motivic.measure_product(motivic.measure(first, 0.7), motivic.measure(second, 0.7))
    assert_close(motivic.measure(product, 0.7), want, depth=35, scale=16.0)
    assert_far(motivic.measure(product.at[:, 0].add(1.0), 0.7), want, depth=35)


def test_measure_of_the_one_point_set_is_one(dtype: np.dtype) -> None:
    assert motivic.measure(jnp.zeros(1, dtype), 3.0) == 0


def test_measure_counts_at_infinite_temperature(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = draw(random, dtype).at[:, 3].set(-jnp.inf)
    assert_close(jnp.exp(motivic.measure(scores, 0.0)), np.full(2, 10.0), depth=11, scale=40.0)


def test_measure_of_other_single_scores_is_not_one(dtype: np.dtype) -> None:
    # The negative twin of mu({0}) = 1, and of counting: at any other temperature a score is weighed.
    assert_close(motivic.measure(jnp.full(1, 0.5, dtype), 3.0), 1.5, scale=2.0)
    assert_far(jnp.exp(motivic.measure(jnp.ones(4, dtype), 0.1)), 4.0)


def test_measure_of_shared_members_is_not_the_sum(random: np.random.Generator, dtype: np.dtype) -> None:
    # The negative twin of additivity: a union of sets that share a member is no disjoint one.
    scores = draw(random, dtype, 6)
    first, second = scores[:, :4], scores[:, 3:]
    merged = motivic.measure_merge(motivic.measure(first), motivic.measure(second))
    assert_far(merged, motivic.measure(scores), depth=6)
    shared = jnp.log(jnp.exp(merged) - jnp.exp(scores[:, 3]))
    assert_close(shared, motivic.measure(scores), depth=6, scale=100.0)


def test_measure_of_pairs_side_by_side_is_not_the_product(random: np.random.Generator, dtype: np.dtype) -> None:
    # The negative twin: sums of partners are a diagonal of all pairwise sums.
    first, second = draw(random, dtype, 5), draw(random, dtype, 5)
    want = motivic.measure_product(motivic.measure(first), motivic.measure(second))
    assert_far(motivic.measure(first + second), want, depth=5)


def test_measure_is_the_exponential_generating_function_of_counts(dtype: np.dtype) -> None:
    # Binomial: the n-th power of {0, 1} has C(n, k) members k, so that mu = (1 + e^beta)^n.
    power = jnp.zeros(1, dtype)
    for _ in range(6):
        power = motivic.multiset_product(power, jnp.asarray([0.0, 1.0], dtype))
    assert np.bincount(np.asarray(power, int)).tolist() == [1, 6, 15, 20, 15, 6, 1]
    assert_close(motivic.measure(power, 0.7), 6 * np.log1p(np.exp(0.7)), depth=64, scale=8.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SCORES, SCORES, SCORES)
def test_measure_is_distributive(first: list[float], second: list[float], third: list[float]) -> None:
    a, b, c = (jnp.asarray(scores, jnp.float32) for scores in (first, second, third))
    left = motivic.multiset_product(a, jnp.concatenate([b, c]))
    right = jnp.concatenate([motivic.multiset_product(a, b), motivic.multiset_product(a, c)])
    assert sorted(left.tolist()) == sorted(right.tolist())
    by_ring = motivic.measure_product(motivic.measure(a), motivic.measure_merge(motivic.measure(b), motivic.measure(c)))
    assert_close(motivic.measure(left), by_ring, depth=72, scale=32.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SCORES, st.integers(0, 15))
def test_measure_of_a_mask_is_that_of_the_members(scores: list[float], bits: int) -> None:
    exists = [bool(bits >> index & 1) for index in range(len(scores))]
    kept = [score for score, there in zip(scores, exists, strict=True) if there]
    got = motivic.measure(jnp.asarray(scores, jnp.float32), 0.5, exists=jnp.asarray(exists))
    want = logsumexp(0.5 * np.asarray(kept, float)) if kept else -np.inf
    assert_close(got, want, depth=4, scale=8.0)


def test_empty_sets_are_the_unit_of_merging(dtype: np.dtype) -> None:
    empty = motivic.measure(jnp.zeros(0, dtype))
    assert empty == -jnp.inf
    assert motivic.measure_merge(empty, empty) == -jnp.inf
    assert_close(motivic.measure_merge(empty, jnp.asarray(2.5, dtype)), 2.5, scale=3.0)
    assert motivic.measure_product(empty, jnp.asarray(2.5, dtype)) == -jnp.inf


def test_derivatives_are_finite_where_nothing_exists() -> None:
    scores = jnp.array([[-jnp.inf, -jnp.inf], [0.0, -jnp.inf]])
    by_score, by_scale = jax.grad(lambda s, b: jnp.exp(motivic.measure(s, b)).sum(), (0, 1))(scores, 0.0)
    assert np.array_equal(by_score, [[0, 0], [0, 0]])
    assert by_scale == 0
    merged = jax.grad(lambda x: jnp.where(x == -jnp.inf, 0, motivic.measure_merge(x, x)))(-jnp.inf)
    assert merged == 0


def test_huge_scores_do_not_overflow(dtype: np.dtype) -> None:
    got = motivic.measure(jnp.asarray([1e4, 1e4, -1e4], dtype))
    assert_close(got, 1e4 + np.log(2), scale=1e4)


def test_nan_is_not_taken_for_a_missing_member() -> None:
    assert jnp.isnan(motivic.measure(jnp.array([0.0, jnp.nan])))
    assert motivic.measure(jnp.array([0.0, jnp.nan]), exists=jnp.array([True, False])) == 0


def test_states_of_tiles_have_the_measure_of_their_scores(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, values = draw(random, dtype, 12)[0], jnp.asarray(random.normal(size=(12, 2)), dtype)
    states = jax.vmap(tiling.state_leaf)(scores.reshape(3, 4), values.reshape(3, 4, 2))
    tiles = motivic.state_measure(states)
    assert_close(tiles, motivic.measure(scores.reshape(3, 4)), depth=4, scale=10.0)
    assert_close(motivic.measure(tiles), logsumexp(np.asarray(scores, float)), depth=12, scale=10.0)


def test_products_of_other_batches_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        motivic.multiset_product(jnp.zeros((2, 3)), jnp.zeros((3, 3)))
    assert str(error.value) == (
        "multiset_product: two multisets lie along the last axes.\n"
        "  got:  first float32[2, 3], second float32[3, 3]\n"
        "  want: [..., members] each, with the same leading axes\n"
        "  fix:  broadcast the leading axes first; a single score is an array of one."
    )
    with pytest.raises(ShapeError, match=r"got:  first float32\[\], second float32\[2\]"):
        motivic.multiset_product(jnp.float32(1), jnp.zeros(2))


def test_exists_for_other_members_is_refused() -> None:
    with pytest.raises(ShapeError) as error:
        motivic.measure(jnp.zeros((2, 3)), exists=jnp.ones(2, bool))
    assert str(error.value) == (
        "measure: a multiset lies along the last axis.\n"
        "  got:  scores float32[2, 3], exists bool[2]\n"
        "  want: scores [..., members], exists [..., members]\n"
        "  fix:  write a single score as an array of one, and mark each member once."
    )
