"""An operator and its passes are the dense pattern (theory T-1, T-2), for every block and score."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from qga import OptionError, ShapeError, attention_weights
from qga.operators import amplify, amplify_transposed, attention_operator, operate, operate_transposed
from tests.qga.operators.dense import KEYS, QUERIES, draw_pair, draw_weights
from tests.qga.tolerances import assert_close, assert_far

SHAPES = pytest.mark.parametrize(
    ("metric", "is_causal", "block"),
    [("dot", False, 8), ("dot", True, 8), ("dot", False, 1024), ("fidelity", True, 5), ("fidelity", False, 37)],
)


@SHAPES
def test_rows_are_measured(
    metric: str, is_causal: bool, block: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    pair = draw_pair(random, dtype, metric=metric, is_causal=is_causal, block=block)
    assert_close(pair.operator.rows.entropy, entropy(pair.weights, axis=1), depth=KEYS, scale=4.0)
    with np.errstate(divide="ignore"):
        logs = np.where(pair.weights > 0, np.log(np.maximum(pair.weights, 1e-300)), 0)
    mean = (pair.weights * logs).sum(1, keepdims=True)
    variance = (pair.weights * (logs - mean) ** 2).sum(1)
    assert_close(pair.operator.rows.score_variance, variance, depth=KEYS, scale=16.0)
    assert_far(pair.operator.rows.score_variance, np.roll(variance, 1))


@SHAPES
def test_operate_is_the_product_with_the_pattern(
    metric: str, is_causal: bool, block: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    pair = draw_pair(random, dtype, metric=metric, is_causal=is_causal, block=block)
    field = random.normal(size=(KEYS, 3)).astype(dtype)
    assert_close(operate(pair.operator, jnp.asarray(field)), pair.weights @ field, depth=KEYS, scale=4.0)
    assert_far(operate(pair.operator, jnp.asarray(field)), np.roll(pair.weights, 1, axis=1) @ field)


@SHAPES
def test_operate_transposed_is_the_product_with_the_transpose(
    metric: str, is_causal: bool, block: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    pair = draw_pair(random, dtype, metric=metric, is_causal=is_causal, block=block)
    field = random.normal(size=(QUERIES, 3)).astype(dtype)
    assert_close(
        operate_transposed(pair.operator, jnp.asarray(field)), pair.weights.T @ field, depth=QUERIES, scale=8.0
    )
    assert_far(operate_transposed(pair.operator, jnp.asarray(field)), pair.weights.T @ np.roll(field, 1, axis=0))


@SHAPES
def test_amplitudes_are_square_roots(
    metric: str, is_causal: bool, block: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    pair = draw_pair(random, dtype, metric=metric, is_causal=is_causal, block=block)
    chances = draw_weights(random).astype(dtype)
    dense = np.sqrt(chances[:, None] * pair.weights)
    right, left = random.normal(size=(KEYS, 2)).astype(dtype), random.normal(size=(QUERIES, 2)).astype(dtype)
    ours = jnp.asarray(chances)
    assert_close(amplify(pair.operator, jnp.asarray(right), ours), dense @ right, depth=KEYS, scale=4.0)
    assert_close(amplify_transposed(pair.operator, jnp.asarray(left), ours), dense.T @ left, depth=QUERIES, scale=4.0)
    assert_far(amplify(pair.operator, jnp.asarray(right), ours), dense**2 @ right)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(queries=st.integers(1, 9), keys=st.integers(1, 9), block=st.integers(1, 11), is_causal=st.booleans())
def test_the_block_changes_rounding_alone(queries: int, keys: int, block: int, is_causal: bool) -> None:
    random = np.random.default_rng(queries * 100 + keys)
    left, right = (jnp.asarray(random.normal(size=(rows, 3)), jnp.float32) for rows in (queries, keys))
    operator = attention_operator(left, right, is_causal=is_causal, block=block)
    want = attention_weights(left, right, is_causal=is_causal)
    assert_close(operate(operator, jnp.eye(keys)), want, depth=keys, scale=2.0)


def test_a_row_that_sees_no_key_is_zero(random: np.random.Generator) -> None:
    # A key of minus infinity in one place hides every key from a query that has weight there.
    keys = jnp.full((3, 2), -jnp.inf).at[:, 1].set(0.0)
    operator = attention_operator(jnp.array([[1.0, 0.0]]), keys, scale=1.0)
    assert operator.rows.log_sums.tolist() == [-np.inf]
    assert operator.rows.entropy.tolist() == [0.0]
    assert operate(operator, jnp.ones((3, 1))).tolist() == [[0.0]]


@pytest.mark.usefixtures("x64")
def test_large_scores_do_not_overflow() -> None:
    queries, keys = jnp.array([[1000.0], [-1000.0]]), jnp.array([[1.0], [0.0], [-1.0]])
    rows = attention_operator(queries, keys, scale=1.0).rows
    assert_close(rows.log_sums, [1000.0, 1000.0], scale=1000.0)
    assert_close(rows.entropy, [0.0, 0.0])


@pytest.mark.usefixtures("x64")
def test_score_variance_is_the_derivative_of_the_mean_score(random: np.random.Generator) -> None:
    pair = draw_pair(random)

    def mean_score(scale: jax.Array) -> jax.Array:
        rows = attention_operator(jnp.asarray(pair.queries), jnp.asarray(pair.keys), scale=scale, block=8).rows
        return rows.log_sums - rows.entropy

    # With s = scale x: d<s>/d log scale = <s> + Var s.
    value, slope = jax.jvp(mean_score, (jnp.asarray(0.7),), (jnp.asarray(0.7),))
    assert_close(slope - value, pair.operator.rows.score_variance, depth=KEYS, scale=16.0)


def test_operator_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"same width, and there must be a key.\n  got:  queries float32\[2, 3\]"):
        attention_operator(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ShapeError, match="there must be a key"):
        attention_operator(jnp.zeros((2, 3)), jnp.zeros((0, 3)))
    with pytest.raises(OptionError, match=r"no such metric.\n  got:  metric='cosine'"):
        attention_operator(jnp.zeros((2, 2)), jnp.zeros((2, 2)), metric="cosine")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no natural scale"):
        attention_operator(jnp.zeros((2, 2)), jnp.zeros((2, 2)), metric="fidelity")
    with pytest.raises(OptionError, match="block has at least one row"):
        attention_operator(jnp.zeros((2, 2)), jnp.zeros((2, 2)), block=0)


def test_passes_refuse_fields_of_another_length() -> None:
    operator = attention_operator(jnp.zeros((2, 3)), jnp.zeros((5, 3)))
    with pytest.raises(
        ShapeError, match=r"operate: the field must have one row for each key.\n  got:  field float32\[2, 1\]"
    ):
        operate(operator, jnp.zeros((2, 1)))
    with pytest.raises(ShapeError, match="operate_transposed: the field must have one row for each query"):
        operate_transposed(operator, jnp.zeros((5, 1)))
    with pytest.raises(ShapeError, match="amplify: "):
        amplify(operator, jnp.zeros((5,)), jnp.ones(2) / 2)
    with pytest.raises(ShapeError, match="amplify_transposed: "):
        amplify_transposed(operator, jnp.zeros((5, 1)), jnp.ones(2) / 2)
