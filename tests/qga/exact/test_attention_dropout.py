"""Dropout: a function of a key and of places, the same forwards and backwards, on every platform."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import attention
from tests.qga.exact.compare import of_dtype, require_equal, tiled, truth
from tests.qga.exact.options import Row, Shape
from tests.qga.tolerances import assert_close, assert_far

BATCH, QUERIES, KEYS, HEADS = 2, 70, 40, 4
# Of 22,400 choices; six standard deviations hold all but 2e-9 of them.
CHOICES, DEVIATIONS = BATCH * QUERIES * KEYS * HEADS, 6


def factors_of(rate: float, key: Any, shape: Shape, tile: int = 16) -> jax.Array:
    """Return the factors that attention itself has: weights are equal, and each value shows its own."""
    query = jnp.zeros((shape.batch, shape.queries, shape.heads, 2))
    rows, eye = jnp.zeros((shape.batch, shape.keys, 1, 2)), jnp.eye(shape.keys)[None, :, None]
    values = jnp.broadcast_to(eye, (shape.batch, shape.keys, 1, shape.keys))
    mixed = attention(query, rows, values, dropout_rate=rate, dropout_key=key, tile=tile)
    return shape.keys * jnp.swapaxes(mixed, 1, 2)


@partial(jax.jit, static_argnames=("rate", "tile"))
def pattern(key: Any, rate: float, tile: int = 16) -> jax.Array:
    return factors_of(rate, key, Shape(BATCH, QUERIES, KEYS, HEADS), tile)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_as_many_weights_are_left_out_as_the_rate_says(rate: float) -> None:
    found = np.asarray(pattern(jax.random.key(1), rate))
    kept = np.abs(found - 1 / (1 - rate)) < 1e-4
    assert (kept | (found == 0)).all()
    error = DEVIATIONS * (rate * (1 - rate) / CHOICES) ** 0.5
    assert abs(kept.mean() - (1 - rate)) < error
    assert abs(kept.mean() - (1 - rate / 2)) > error
    # Neither rows, columns nor heads are alike.
    for axis in range(4):
        assert abs(float((kept != np.roll(kept, 1, axis)).mean()) - 2 * rate * (1 - rate)) < 2 * error


def test_the_choice_depends_on_key_and_places_alone() -> None:
    one, again, tiles, other = (
        np.asarray(pattern(jax.random.key(seed), 0.3, tile)) for seed, tile in ((1, 16), (1, 16), (1, 7), (2, 16))
    )
    assert np.array_equal(one, again)
    assert np.array_equal(one > 0, tiles > 0)
    assert 0.3 < (one != other).mean() < 0.55


def test_old_keys_are_keys_too() -> None:
    assert np.array_equal(pattern(jax.random.PRNGKey(1), 0.3), pattern(jax.random.key(1), 0.3))


def test_a_rate_of_zero_is_no_dropout(random: np.random.Generator) -> None:
    rows = jnp.asarray(random.normal(size=(1, 9, 2, 4)), jnp.float32)
    plain, none = (jax.jit(partial(attention, **options))(rows, rows, rows)
                   for options in ({}, {"dropout_rate": 0.0, "dropout_key": jax.random.key(0)}))  # fmt: skip
    assert np.array_equal(plain, none)


@pytest.mark.parametrize("queries", [67, 1])
def test_the_way_back_makes_the_same_choice(queries: int, random: np.random.Generator) -> None:
    row, key = Row("", lambda _: {"is_causal": queries > 1}, shape=Shape(queries=queries)), jax.random.key(3)
    arrays = of_dtype(row.arrays(random), jnp.float32)
    got = tiled(row, arrays, dropout_rate=0.3, dropout_key=key)
    # Sums of equal weights round; a factor is one of two numbers.
    want, other = (
        truth(row, arrays, factors=np.where(np.asarray(factors_of(0.3, each, row.shape)) > 0.5, 1 / 0.7, 0.0))
        for each in (key, jax.random.key(4))
    )
    require_equal(got, want, row)
    assert_far(got[2]["query"], other[2]["query"])


def test_log_sums_know_nothing_of_dropout(random: np.random.Generator) -> None:
    rows = jnp.asarray(random.normal(size=(1, 9, 2, 4)), jnp.float32)
    (_, plain), (_, dropped) = (
        jax.jit(partial(attention, return_lse=True, **options))(rows, rows, rows)
        for options in ({}, {"dropout_rate": 0.5, "dropout_key": jax.random.key(0)})
    )
    assert_close(dropped, plain, depth=9)
