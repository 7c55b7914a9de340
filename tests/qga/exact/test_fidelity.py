"""Fidelity attention: dense truth, invariances, and the entropy floor (theory T-2, T-15, T-16, T-17)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

from qga import attention_weights, fidelity_attention
from qga.exact import fidelity_scores, lift_to_rays
from tests.qga.dense import as_rows, fidelity_weights, random_unitary, rays
from tests.qga.tolerances import assert_close, assert_far

KEYS = 29
BETA = 6.0


def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return random.normal(size=(11, 8)), random.normal(size=(KEYS, 8)), random.normal(size=(KEYS, 3))


def attend(dtype: np.dtype, *arrays: np.ndarray, **options: object) -> jax.Array:
    return fidelity_attention(*(jnp.asarray(array, dtype) for array in arrays), beta=BETA, tile=6, **options)


@pytest.mark.parametrize("tile", [1, 7, 28, 29, 30])
def test_every_tile_gives_the_dense_result(tile: int, random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = draw(random)
    want = fidelity_weights(*arrays[:2], BETA) @ arrays[2]
    got = fidelity_attention(*(jnp.asarray(array, dtype) for array in arrays), beta=BETA, tile=tile)
    assert_close(got, want, depth=KEYS, scale=float(np.abs(arrays[2]).max()))


def test_phases_of_keys_and_queries_change_nothing(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    turned = [as_rows(rays(rows) * np.exp(2j * np.pi * random.random((len(rows), 1)))) for rows in (queries, keys)]
    assert_close(attend(dtype, *turned, values), attend(dtype, queries, keys, values), depth=KEYS, scale=3.0)


def test_lengths_of_keys_and_queries_change_nothing(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    assert_close(
        attend(dtype, 7 * queries, keys / 3, values), attend(dtype, queries, keys, values), depth=KEYS, scale=3
    )


def test_a_unitary_of_all_states_changes_nothing(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    unitary = random_unitary(random, 4)
    turned = [as_rows(rays(rows) @ unitary.T) for rows in (queries, keys)]
    assert_close(attend(dtype, *turned, values), attend(dtype, queries, keys, values), depth=KEYS, scale=3.0)


def test_a_unitary_of_the_keys_alone_is_noticed(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    turned = as_rows(rays(keys) @ random_unitary(random, 4).T)
    assert_far(attend(dtype, queries, turned, values), attend(dtype, queries, keys, values), depth=KEYS)


def test_complex_conjugation_of_the_keys_alone_is_noticed(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    conjugated = as_rows(rays(keys).conj())
    assert_far(attend(dtype, queries, conjugated, values), attend(dtype, queries, keys, values), depth=KEYS)


def test_scores_lie_between_zero_and_beta(random: np.random.Generator, dtype: np.dtype) -> None:
    states = lift_to_rays(jnp.asarray(draw(random)[1], dtype))
    scores = np.asarray(fidelity_scores(states, states, jnp.asarray(BETA, dtype)))
    assert scores.min() >= 0
    assert_close(np.diag(scores), np.full(KEYS, BETA), depth=8, scale=BETA)
    assert scores.max() <= BETA * (1 + 1e-5)


@pytest.mark.parametrize("beta", [0.5, 2.0, 4.0])
def test_rows_keep_the_entropy_that_beta_promises(beta: float, random: np.random.Generator) -> None:
    queries, keys, _ = draw(random)
    weights = attention_weights(jnp.asarray(queries), jnp.asarray(keys), metric="fidelity", scale=beta)
    assert (entropy(np.asarray(weights, float), axis=1) >= np.log(KEYS) - beta**2 / 8 - 1e-5).all()


def test_zero_vectors_have_fidelity_zero(dtype: np.dtype) -> None:
    weights = attention_weights(jnp.zeros((1, 4), dtype), jnp.ones((3, 4), dtype), metric="fidelity", scale=BETA)
    assert_close(weights, np.full((1, 3), 1 / 3))


def test_scale_and_causal_mask_apply(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    want = fidelity_weights(queries, keys, BETA, np.tri(11, KEYS, dtype=bool)) @ values
    assert_close(attend(dtype, queries, keys, values, is_causal=True), want, depth=KEYS, scale=3.0)


def test_weights_are_the_attention_of_the_identity(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, _ = draw(random)
    arrays = jnp.asarray(queries, dtype), jnp.asarray(keys, dtype)
    weights = attention_weights(*arrays, metric="fidelity", scale=BETA, is_causal=True)
    assert_close(attend(dtype, queries, keys, np.eye(KEYS), is_causal=True), weights, depth=KEYS)
