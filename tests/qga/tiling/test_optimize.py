"""Pruning a tile tree is optimal and nested in the price of distortion (theory T-6)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga.errors import ShapeError
from qga.tiling import TileTree, optimize, tree
from tests.qga.tolerances import assert_close

EIGHTHS = tree(keys=8, tile=1)
choose = jax.jit(lambda distortion, cost, price: optimize(EIGHTHS, distortion, cost, price))


def prunings(tiles: TileTree, node: int = 0) -> list[tuple[int, ...]]:
    """List the tilings that a tree contains, each as its nodes."""
    if tiles.left[node] < 0:
        return [(node,)]
    parts = [prunings(tiles, int(child)) for child in (tiles.left[node], tiles.right[node])]
    return [(node,), *(first + second for first, second in itertools.product(*parts))]


def draw(random: np.random.Generator, tiles: TileTree = EIGHTHS) -> tuple[np.ndarray, np.ndarray]:
    """Draw costs, and distortions of which a parent has more than its children together."""
    nodes = len(tiles.start)
    distortion = random.exponential(size=nodes)
    for node in reversed(range(nodes)):
        if tiles.left[node] >= 0:
            distortion[node] += distortion[tiles.left[node]] + distortion[tiles.right[node]]
    return distortion, random.random(nodes) + 0.5


def price_of(nodes: np.ndarray | tuple[int, ...], distortion: np.ndarray, cost: np.ndarray, price: float) -> float:
    nodes = np.asarray(nodes)
    return float(cost[nodes].sum() + price * distortion[nodes].sum())


def test_a_tree_of_depth_three_has_26_prunings() -> None:
    assert len(prunings(EIGHTHS)) == 26


@pytest.mark.parametrize("price", [0.0, 0.1, 0.4, 1.0, 5.0])
def test_the_choice_is_the_best_of_all_prunings(price: float, dtype: np.dtype) -> None:
    for seed in range(20):
        distortion, cost = draw(np.random.default_rng(seed))
        keep = np.flatnonzero(choose(jnp.asarray(distortion, dtype), jnp.asarray(cost, dtype), price))
        assert tuple(keep) in [tuple(sorted(each)) for each in prunings(EIGHTHS)]
        best = min(price_of(each, distortion, cost, price) for each in prunings(EIGHTHS))
        assert_close(np.asarray(price_of(keep, distortion, cost, price), dtype), best, depth=8, scale=10.0)


def test_other_prunings_are_dearer() -> None:
    distortion, cost = draw(np.random.default_rng(0))
    prices = sorted(price_of(each, distortion, cost, 0.4) for each in prunings(EIGHTHS))
    assert prices[1] > prices[0] + 1e-3


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_tiles_cover_each_key_once_and_are_nested(keys: int, tile: int, seed: int) -> None:
    tiles = tree(keys, tile)
    distortion, cost = (jnp.asarray(each) for each in draw(np.random.default_rng(seed), tiles))
    chosen = jax.jit(lambda *arrays: optimize(tiles, *arrays))
    ends: list[set[int]] = []
    for price in (0.0, 0.3, 3.0, 1e4):
        keep = np.flatnonzero(chosen(distortion, cost, price))
        covered = [key for node in keep for key in range(tiles.start[node], tiles.start[node] + tiles.count[node])]
        assert sorted(covered) == list(range(keys))
        ends.append({int(tiles.start[node]) for node in keep})
    assert all(coarse <= fine for coarse, fine in itertools.pairwise(ends))


def test_nothing_is_paid_for_free_distortion_and_anything_for_dear() -> None:
    distortion, cost = (jnp.asarray(each) for each in draw(np.random.default_rng(1)))
    assert np.flatnonzero(choose(distortion, cost, 0.0)).tolist() == [0]
    assert np.array_equal(choose(distortion, cost, 1e6), EIGHTHS.left < 0)


def test_equal_prices_keep_the_coarse_tile() -> None:
    halves = tree(2, 1)
    assert optimize(halves, jnp.zeros(3), jnp.asarray([2.0, 1.0, 1.0]), 1.0).tolist() == [True, False, False]


def test_optimize_refuses_another_tree() -> None:
    with pytest.raises(ShapeError, match=r"^optimize: every node has one distortion and one cost\.\n  got: .*15 nodes"):
        optimize(EIGHTHS, jnp.ones(3), jnp.ones(3), 1.0)
