"""Masses of keys and tiles, and mutual information, against the dense pattern (theory F-2, R-3)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

from qga import OptionError, ShapeError
from qga.operators import attention_operator, key_masses, mutual_information, tile_operator
from tests.qga.operators.dense import KEYS, QUERIES, draw_pair, draw_weights
from tests.qga.tolerances import assert_close, assert_far


def lump(weights: np.ndarray, chances: np.ndarray, tile: int) -> np.ndarray:
    """Lump a dense pattern by indicator matrices."""
    rows, columns = (np.eye(-(-size // tile)).repeat(tile, axis=0)[:size] for size in weights.shape)
    return (rows.T @ (chances[:, None] * weights) @ columns) / (rows.T @ chances)[:, None]


@pytest.mark.parametrize("is_causal", [False, True])
def test_key_masses_are_the_mean_row(is_causal: bool, random: np.random.Generator, dtype: np.dtype) -> None:
    pair, chances = draw_pair(random, dtype, is_causal=is_causal), draw_weights(random)
    assert_close(key_masses(pair.operator), pair.weights.mean(axis=0), depth=QUERIES)
    assert_close(key_masses(pair.operator, jnp.asarray(chances, dtype)), chances @ pair.weights, depth=QUERIES)
    assert_far(key_masses(pair.operator), chances @ pair.weights)


def test_mutual_information_is_the_mean_relative_entropy(random: np.random.Generator, dtype: np.dtype) -> None:
    pair, chances = draw_pair(random, dtype, scale=2.0), draw_weights(random)
    mean = chances @ pair.weights
    want = sum(chance * entropy(row, mean) for chance, row in zip(chances, pair.weights, strict=True))
    got = mutual_information(pair.operator, jnp.asarray(chances, dtype))
    assert_close(got, want, depth=QUERIES, scale=8.0)
    assert_far(mutual_information(pair.operator), want)


@pytest.mark.usefixtures("x64")
def test_mutual_information_of_equal_rows_is_zero() -> None:
    operator = attention_operator(jnp.ones((5, 2)), jnp.asarray(np.random.default_rng(0).normal(size=(7, 2))))
    assert_close(mutual_information(operator), 0.0, depth=7, scale=2.0)


@pytest.mark.parametrize("tile", [1, 3, 8, 64])
@pytest.mark.parametrize("block", [8, 10, 1024])
def test_tile_operator_is_the_lumped_pattern(
    tile: int, block: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    pair, chances = draw_pair(random, dtype, block=block), draw_weights(random)
    got = tile_operator(pair.operator, tile, jnp.asarray(chances, dtype))
    assert_close(got.weights, lump(pair.weights, chances, tile), depth=QUERIES)
    assert_close(got.weights.sum(axis=1), np.ones(-(-QUERIES // tile)), depth=QUERIES)
    assert_close(got.query_masses, np.add.reduceat(chances, np.arange(0, QUERIES, tile)), depth=tile)


@pytest.mark.usefixtures("x64")
def test_defect_is_the_largest_difference_within_a_tile(random: np.random.Generator) -> None:
    pair, tile = draw_pair(random), 4
    sent = pair.weights @ np.eye(-(-KEYS // tile)).repeat(tile, axis=0)[:KEYS]
    groups = [sent[first : first + tile] for first in range(0, QUERIES, tile)]
    want = max((group.max(axis=0) - group.min(axis=0)).max() for group in groups)
    assert_close(tile_operator(pair.operator, tile).defect, want, depth=KEYS)


@pytest.mark.usefixtures("x64")
def test_a_lumpable_pattern_has_no_defect_and_steps_exactly() -> None:
    # Queries and keys are equal within tiles of three.
    random = np.random.default_rng(3)
    rows = jnp.asarray(random.normal(size=(4, 2)).repeat(3, axis=0))
    operator = attention_operator(rows, rows, block=6)
    lumped = tile_operator(operator, 3)
    assert_close(lumped.defect, 0.0, depth=12)
    start = random.dirichlet(np.ones(12))
    tiles = start.reshape(4, 3).sum(1)
    assert_close(key_masses(operator, jnp.asarray(start)).reshape(4, 3).sum(1), tiles @ lumped.weights, depth=12)
    assert float(tile_operator(operator, 4).defect) > 1e-3


@pytest.mark.usefixtures("x64")
def test_stationary_law_of_tiles_is_that_of_places(random: np.random.Generator) -> None:
    rows = jnp.asarray(random.normal(size=(12, 3)))
    operator = attention_operator(rows, jnp.asarray(random.normal(size=(12, 3))), block=4)
    law = jnp.full(12, 1 / 12)
    for _ in range(200):
        law = key_masses(operator, law)
    lumped = tile_operator(operator, 4, law)
    assert_close(lumped.query_masses @ lumped.weights, lumped.query_masses, depth=200)
    # A law that is not stationary on places is not on tiles either, nor is the stationary one for another pattern.
    even = tile_operator(operator, 4)
    assert_far(even.query_masses @ even.weights, even.query_masses)
    other = tile_operator(attention_operator(rows[::-1], rows, block=4), 4, law)
    assert_far(other.query_masses @ other.weights, other.query_masses)


def test_masses_refuse_a_law_of_another_length() -> None:
    operator = attention_operator(jnp.zeros((3, 2)), jnp.zeros((4, 2)))
    for function in (key_masses, mutual_information):
        with pytest.raises(ShapeError, match=r"one row for each query.\n  got:  field float32\[4, 1\]"):
            function(operator, jnp.full(4, 0.25))


def test_tile_operator_refuses_a_tile_without_rows() -> None:
    with pytest.raises(OptionError, match=r"a tile has at least one row.\n  got:  tile=0"):
        tile_operator(attention_operator(jnp.zeros((2, 2)), jnp.zeros((2, 2))), 0)
