"""The sketch of a pattern bounds its entanglement entropy, whatever the sketch (theory Q-5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from qga import OptionError
from qga.operators import attention_operator, entanglement_bounds, orthonormalise, sketch_amplitudes
from tests.qga.operators.dense import KEYS, QUERIES, draw_pair, draw_weights
from tests.qga.tolerances import assert_close, assert_far, bound

# Squares of singular values of a matrix of unit norm are good to a few eps; -x log x is steep near zero.
EIGEN_SCALE = 50.0


def spectrum(weights: np.ndarray, chances: np.ndarray) -> np.ndarray:
    return np.linalg.svd(np.sqrt(chances[:, None] * weights), compute_uv=False) ** 2


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rank", [1, 4, KEYS])
def test_bounds_hold(rank: int, random: np.random.Generator) -> None:
    pair, chances = draw_pair(random, scale=2.0), draw_weights(random)
    gram = sketch_amplitudes(pair.operator, jax.random.key(0), query_weights=jnp.asarray(chances), rank=rank)
    got = entanglement_bounds(gram, KEYS)
    want = entropy(spectrum(pair.weights, chances))
    slack = bound(np.float64, KEYS, EIGEN_SCALE)
    assert got.lower - slack <= want <= got.upper + slack
    assert (np.asarray(got.schmidt) <= spectrum(pair.weights, chances)[:rank] + slack).all()
    # Not vacuous: with every direction the interval is a point, with one it is wide.
    assert (float(got.upper - got.lower) < 1e-9) == (rank == KEYS)


@pytest.mark.usefixtures("x64")
def test_bounds_of_a_pattern_of_low_rank_meet(random: np.random.Generator) -> None:
    rows = jnp.asarray(random.normal(size=(3, 4)).repeat(9, axis=0))
    operator = attention_operator(rows, jnp.asarray(random.normal(size=(20, 4))), scale=2.0, block=8)
    got = entanglement_bounds(sketch_amplitudes(operator, jax.random.key(1), rank=5), 20)
    assert_close(got.captured, 1.0, depth=20, scale=8.0)
    assert float(got.upper - got.lower) < 1e-9
    assert 0.1 < float(got.upper) < np.log(3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), rank=st.integers(1, 7), sharpness=st.floats(0.1, 20.0))
def test_bounds_hold_for_any_projection(seed: int, rank: int, sharpness: float) -> None:
    random = np.random.default_rng(seed)
    values = random.dirichlet(np.full(8, 1 / sharpness)) + 1e-12
    turn = np.linalg.qr(random.normal(size=(8, 8)))[0]
    rho = (turn * (values / values.sum())) @ turn.T
    basis = np.linalg.qr(random.normal(size=(8, rank)))[0]
    with jax.enable_x64(True):
        got = entanglement_bounds(jnp.asarray(basis.T @ rho @ basis), 8)
        assert got.lower - 1e-12 <= entropy(values) <= got.upper + 1e-12


def test_power_iterations_capture_more(random: np.random.Generator) -> None:
    pair = draw_pair(random, np.float32, scale=1.0)
    traces = [
        float(jnp.trace(sketch_amplitudes(pair.operator, jax.random.key(2), rank=4, iterations=count)))
        for count in (0, 1, 4)
    ]
    assert traces[0] < traces[1] <= traces[2] + 1e-6
    best = spectrum(pair.weights, np.full(QUERIES, 1 / QUERIES))[:4].sum()
    assert traces[2] == pytest.approx(best, rel=1e-3)


def columns_of_condition(random: np.random.Generator, condition: float, rows: int = 500, rank: int = 32) -> np.ndarray:
    left, right = (np.linalg.qr(random.normal(size=(size, rank)))[0] for size in (rows, rank))
    return left * np.geomspace(1, 1 / condition, rank) @ right.T


def test_columns_become_orthonormal(random: np.random.Generator, dtype: np.dtype) -> None:
    # Columns of very different lengths, nearly parallel.
    columns = random.normal(size=(40, 1)) + 1e-3 * random.normal(size=(40, 6))
    basis = np.asarray(orthonormalise(jnp.asarray(columns * 10.0 ** np.arange(6), dtype)))
    assert_close(basis.T @ basis, np.eye(6), depth=40)


def test_ill_conditioned_columns_become_orthonormal_and_keep_their_span(
    random: np.random.Generator, dtype: np.dtype
) -> None:
    columns = columns_of_condition(random, 1e6 if dtype == np.float32 else 1e14).astype(dtype)
    basis = np.asarray(orthonormalise(jnp.asarray(columns)))
    assert_close(basis.T @ basis, np.eye(32), depth=500)
    assert_close(basis @ (basis.T @ columns), columns, depth=500)
    # Twins: one round does not take them all, and Gram-Schmidt once loses the right angles.
    once = np.asarray(orthonormalise(jnp.asarray(columns), rounds=1))
    assert not once.any(axis=0).all()
    assert_close(once.T @ once, np.diag(once.any(axis=0).astype(float)), depth=500)
    classical = np.zeros_like(columns)
    for index, column in enumerate(columns.T):
        left = column - classical @ (classical.T @ column)
        classical[:, index] = left / np.linalg.norm(left)
    assert_far(classical.T @ classical, np.eye(32), depth=500)


def test_columns_of_a_hilbert_matrix_stay_orthonormal(dtype: np.dtype) -> None:
    # Worse than any dtype resolves: each column is nearer to the earlier ones than the one before.
    columns = 1 / (1 + np.arange(300.0)[:, None] + np.arange(20.0))
    basis = np.asarray(orthonormalise(jnp.asarray(columns, dtype)))
    taken = basis.any(axis=0)
    assert 5 < taken.sum() <= 20
    assert_close(basis.T @ basis, np.diag(taken.astype(float)), depth=300)


def test_a_dependent_column_becomes_zero(dtype: np.dtype) -> None:
    columns = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    basis = np.asarray(orthonormalise(jnp.asarray(columns, dtype)))
    assert not basis[:, 1].any()
    assert_close(basis.T @ basis, np.diag([1.0, 0.0, 1.0]), depth=3)


@pytest.mark.parametrize("rows", [31, 500])
def test_combinations_of_earlier_columns_become_zero(rows: int, random: np.random.Generator, dtype: np.dtype) -> None:
    columns = random.normal(size=(rows, 9))
    columns[:, 4:7] = columns[:, :3] @ random.normal(size=(3, 3))
    basis = np.asarray(orthonormalise(jnp.asarray(columns, dtype)))
    want = np.diag([1.0, 1, 1, 1, 0, 0, 0, 1, 1])
    assert_close(basis.T @ basis, want, depth=rows)


def test_columns_of_zeros_and_columns_beyond_the_rows_become_zero(random: np.random.Generator, dtype: np.dtype) -> None:
    columns = random.normal(size=(4, 7))
    columns[:, 1] = 0
    basis = np.asarray(orthonormalise(jnp.asarray(columns, dtype)))
    taken = basis.any(axis=0)
    assert taken.sum() == 4
    assert not taken[1]
    assert_close(basis.T @ basis, np.diag(taken.astype(float)), depth=4)
    assert not np.asarray(orthonormalise(jnp.zeros((4, 3), dtype))).any()


def test_sketch_refuses_more_directions_than_there_are() -> None:
    operator = attention_operator(jnp.zeros((3, 2)), jnp.zeros((5, 2)))
    with pytest.raises(OptionError, match="got:  rank=4, iterations=1, operator 3 x 5\n  want: 1 <= rank <= 3"):
        sketch_amplitudes(operator, jax.random.key(0), rank=4)
