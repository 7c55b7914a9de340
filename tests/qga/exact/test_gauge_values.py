"""Values turn with their keys, outputs with their queries, and nothing else changes (theory T-15)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qga import fidelity_attention
from qga.errors import OptionError, ShapeError
from qga.exact.gauge_values import gauge_attention
from tests.qga.dense import as_rows, fidelity_weights
from tests.qga.tolerances import assert_close, assert_far

KEYS, BETA, EPS = 29, 3.0, 1e-6
attend = jax.jit(gauge_attention, static_argnames=("eps", "tile"))


def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = (5, 3), (KEYS, 3), (KEYS, 2)
    return tuple(random.normal(size=size) + 1j * random.normal(size=size) for size in sizes)


def phases(random: np.random.Generator, rows: int) -> np.ndarray:
    return np.exp(2j * np.pi * random.random((rows, 1)))


def run(dtype: np.dtype, *arrays: np.ndarray, tile: int = 6, eps: float = EPS) -> np.ndarray:
    complex_dtype = np.result_type(dtype, np.complex64)
    return np.asarray(attend(*(jnp.asarray(each, complex_dtype) for each in arrays), beta=BETA, eps=eps, tile=tile))


def pair(array: np.ndarray) -> np.ndarray:
    return np.stack([array.real, array.imag])


def dense(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, eps: float = EPS) -> np.ndarray:
    units = [states / np.linalg.norm(states, axis=1, keepdims=True) for states in (queries, keys)]
    overlaps = units[0] @ units[1].conj().T
    weights = fidelity_weights(as_rows(queries), as_rows(keys), BETA)
    return (weights * overlaps / np.sqrt(np.abs(overlaps) ** 2 + eps**2)) @ values


@pytest.mark.parametrize("tile", [1, 7, 28, 29, 30])
def test_every_tile_gives_the_dense_result(tile: int, random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = draw(random)
    assert_close(pair(run(dtype, *arrays, tile=tile)), pair(dense(*arrays)), depth=KEYS, scale=4.0)


@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_outputs_turn_with_queries_alone(eps: float, random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    of_queries, of_keys = phases(random, len(queries)), phases(random, KEYS)
    before = run(dtype, queries, keys, values, eps=eps)
    after = run(dtype, of_queries * queries, of_keys * keys, of_keys * values, eps=eps)
    assert_close(pair(after), pair(of_queries * before), depth=KEYS, scale=8.0)


def test_values_that_do_not_turn_with_their_keys_are_noticed(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = draw(random)
    before = run(dtype, queries, keys, values)
    assert_far(pair(run(dtype, queries, phases(random, KEYS) * keys, values)), pair(before), depth=KEYS)


def test_states_without_phases_give_fidelity_attention(random: np.random.Generator, dtype: np.dtype) -> None:
    # Real and positive components: every overlap is positive, so every phase is one, but for eps^2.
    queries, keys, values = (np.abs(each) for each in draw(random))
    rows = [jnp.asarray(as_rows(each + 0j), dtype) for each in (queries, keys)]
    want = fidelity_attention(*rows, jnp.asarray(values, dtype), beta=BETA)
    got = run(dtype, queries, keys, values + 0j, eps=1e-12)
    assert_close(got.real, want, depth=KEYS, scale=4.0)
    assert_close(got.imag, np.zeros_like(want), depth=KEYS, scale=4.0)


def test_a_state_that_is_its_own_value_comes_back(random: np.random.Generator, dtype: np.dtype) -> None:
    # One key, v = k: the output is the key in the phase of the query, the state after the measurement.
    query, key = (each[:1] for each in draw(random)[:2])
    got = run(dtype, query, key, key, eps=1e-12)
    overlap = (query @ key.conj().T).item()
    assert_close(pair(got), pair(key * overlap / abs(overlap)), scale=4.0)


@pytest.mark.usefixtures("x64")
def test_derivatives_are_those_of_the_function(random: np.random.Generator) -> None:
    queries, keys, values = (jnp.asarray(each) for each in draw(random))

    def loss(queries: jax.Array, keys: jax.Array, values: jax.Array, beta: jax.Array) -> jax.Array:
        out = gauge_attention(queries, keys, values, beta=beta, eps=1e-3, tile=10)
        return jnp.sum(jnp.square(jnp.real(out))) + jnp.sum(jnp.imag(out))

    check_grads(jax.jit(loss), (queries, keys, values, jnp.asarray(BETA)), order=1, modes=("fwd", "rev"), rtol=1e-6)


def test_orthogonal_states_and_zeros_have_finite_derivatives() -> None:
    keys = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], jnp.complex64)

    def loss(queries: jax.Array) -> jax.Array:
        out = gauge_attention(queries, keys, keys, beta=1.0, eps=1e-3)
        return jnp.sum(jnp.square(jnp.real(out)) + jnp.square(jnp.imag(out)))

    assert np.all(np.isfinite(jax.grad(loss)(keys)))


def test_gauge_attention_refuses_real_states_and_no_eps() -> None:
    state = jnp.ones((2, 2), jnp.complex64)
    with pytest.raises(
        ShapeError, match=r"^gauge_attention: states and values are complex rows.*\n  got: .*float32\[2, 2\]"
    ):
        gauge_attention(jnp.ones((2, 2)), state, state, beta=1.0, eps=1e-6)
    with pytest.raises(OptionError, match=r"(?s)^gauge_attention: a phase needs an overlap.*got:  eps=0\.0, tile=2048"):
        gauge_attention(state, state, state, beta=1.0, eps=0.0)
