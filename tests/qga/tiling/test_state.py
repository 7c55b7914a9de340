"""The softmax state is a commutative monoid whose read-out is the softmax (theory T-1, T-2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from qga.errors import ShapeError
from qga.tiling import State, state_leaf, state_merge, state_read, state_unit
from tests.qga.dense import softmax
from tests.qga.tolerances import assert_close, assert_far


def draw(random: np.random.Generator, keys: int, dtype: np.dtype, channels: int = 3) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(4 * random.normal(size=keys), dtype), jnp.asarray(random.normal(size=(keys, channels)), dtype)


def leaf_of(scores: jax.Array, values: jax.Array, keys: slice) -> State:
    return state_leaf(scores[keys], values[keys])


def assert_same_state(got: State, want: State, depth: int) -> None:
    for high, low in zip(state_read(got), state_read(want), strict=True):
        assert_close(high, low, depth=depth, scale=float(jnp.max(jnp.abs(low), initial=1.0)))


def test_read_of_a_leaf_is_the_softmax_average(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, values = draw(random, 37, dtype)
    out, log_sum = state_read(state_leaf(scores, values))
    want = softmax(np.asarray(scores, float)) @ np.asarray(values, float)
    assert_close(out, want, depth=37, scale=3.0)
    assert_close(log_sum, np.log(np.exp(np.asarray(scores, float)).sum()), depth=37, scale=10.0)
    assert_far(out, want + 1e-2)


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(0, 13), seed=st.integers(0, 99))
def test_merge_of_two_parts_is_the_whole(cut: int, seed: int) -> None:
    scores, values = draw(np.random.default_rng(seed), 13, np.dtype("float32"))
    parts = leaf_of(scores, values, slice(0, cut)), leaf_of(scores, values, slice(cut, 13))
    assert_same_state(state_merge(*parts), state_leaf(scores, values), 13)


def test_merge_is_commutative_to_the_bit(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, values = draw(random, 11, dtype)
    first, second = leaf_of(scores, values, slice(0, 4)), leaf_of(scores, values, slice(4, 11))
    for one, other in zip(state_merge(first, second), state_merge(second, first), strict=True):
        assert np.array_equal(one, other)


def test_merge_is_associative(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, values = draw(random, 17, dtype)
    a, b, c = (leaf_of(scores, values, keys) for keys in (slice(0, 5), slice(5, 6), slice(6, 17)))
    assert_same_state(state_merge(state_merge(a, b), c), state_merge(a, state_merge(b, c)), 17)


def test_merge_with_the_unit_changes_no_bit(random: np.random.Generator, dtype: np.dtype) -> None:
    state = state_leaf(*draw(random, 7, dtype))
    for merged in (state_merge(state, state_unit(3, dtype)), state_merge(state_unit(3, dtype), state)):
        assert all(np.array_equal(got, want) for got, want in zip(merged, state, strict=True))


def test_merge_loses_what_is_not_merged(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, values = draw(random, 9, dtype)
    part = leaf_of(scores, values, slice(0, 8))
    assert_far(state_read(part)[1], state_read(state_leaf(scores, values))[1])


def test_read_moves_with_a_constant_added_to_all_scores(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, values = draw(random, 9, dtype)
    (out, log_sum), (moved, moved_sum) = (state_read(state_leaf(scores + shift, values)) for shift in (0.0, 64.0))
    assert_close(moved, out, depth=9, scale=64.0)
    assert_close(moved_sum, log_sum + 64, depth=9, scale=64.0)


def test_read_survives_scores_that_overflow_the_exponential(dtype: np.dtype) -> None:
    out, log_sum = state_read(state_leaf(jnp.array([5000.0, 4990.0], dtype), jnp.eye(2, dtype=dtype)))
    assert_close(out.sum(), 1.0)
    assert_close(log_sum, 5000 + np.log1p(np.exp(-10)), scale=5000.0)


def test_empty_set_reads_zero_and_says_so(dtype: np.dtype) -> None:
    for state in (state_unit(2, dtype), state_leaf(jnp.zeros(0, dtype), jnp.zeros((0, 2), dtype))):
        out, log_sum = state_read(state)
        assert np.array_equal(out, [0, 0])
        assert log_sum == -np.inf


def test_merge_of_empty_sets_is_empty(dtype: np.dtype) -> None:
    hidden = state_leaf(jnp.full(3, -jnp.inf, dtype), jnp.ones((3, 2), dtype))
    out, log_sum = state_read(state_merge(hidden, state_unit(2, dtype)))
    assert np.array_equal(out, [0, 0])
    assert log_sum == -np.inf


def test_gradient_of_an_empty_set_is_zero(dtype: np.dtype) -> None:
    hidden = jnp.full(3, -jnp.inf, dtype)
    gradient = jax.grad(lambda values: state_read(state_leaf(hidden, values))[0].sum())(jnp.ones((3, 2), dtype))
    assert np.array_equal(gradient, np.zeros((3, 2)))


def test_not_a_number_stays_not_a_number() -> None:
    scores = jnp.array([0.0, jnp.nan])
    merged = state_merge(state_leaf(scores, jnp.ones((2, 1))), state_unit(1))
    assert all(np.isnan(part).all() for part in state_read(merged))


@pytest.mark.usefixtures("x64")
def test_derivatives_of_a_merged_state_are_right_to_second_order(random: np.random.Generator) -> None:
    scores, values = draw(random, 6, np.dtype("float64"))

    def read(scores: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts = leaf_of(scores, values, slice(0, 2)), leaf_of(scores, values, slice(2, 6))
        return state_read(state_merge(*parts))

    check_grads(read, (scores, values), order=2, modes=["fwd", "rev"])


def test_leaf_maps_over_queries_like_a_loop(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, values = jnp.asarray(random.normal(size=(4, 5)), dtype), jnp.asarray(random.normal(size=(5, 2)), dtype)
    mapped = jax.vmap(state_leaf, in_axes=(0, None))(scores, values)
    looped = [state_leaf(row, values) for row in scores]
    assert_close(mapped.total, np.stack([state.total for state in looped]), depth=5)


def test_small_floats_are_summed_in_float32() -> None:
    state = state_leaf(jnp.zeros(300, jnp.bfloat16), jnp.ones((300, 1), jnp.bfloat16))
    assert state.mass.dtype == jnp.float32
    assert state.mass == 300


def test_leaf_refuses_values_that_do_not_match() -> None:
    with pytest.raises(ShapeError) as error:
        state_leaf(jnp.zeros(3), jnp.zeros((4, 2)))
    assert str(error.value) == (
        "state_leaf: scores and values must have the same number of keys.\n"
        "  got:  scores float32[3], values float32[4, 2]\n"
        "  want: scores [keys], values [keys, channels]\n"
        "  fix:  pass one value row for each score; map further axes with jax.vmap."
    )
