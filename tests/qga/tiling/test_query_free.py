"""Bounds that hold for every query: random queries and the worst ones stay within them (theorem 5 of the theory)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from qga.errors import OptionError, ShapeError
from qga.exact.metrics import scores
from qga.geometry.constant_curvature import exponential, logarithm, project
from qga.tiling import query_free_oscillation, split, static_merge
from tests.qga.dense import as_rows, random_unitary, rays
from tests.qga.tolerances import assert_close

METRICS = ("cosine", "fidelity", "born_hyperbolic")
WIDTH, TILE, TILES = 6, 8, 5


def draw(random: np.random.Generator, spread: float) -> np.ndarray:
    centers = np.repeat(random.normal(size=(TILES, WIDTH)), TILE, axis=0)
    return centers + spread * random.normal(size=centers.shape)


def tiles_of(keys: np.ndarray, dtype: np.typing.DTypeLike) -> tuple[jax.Array, jax.Array]:
    return split(jnp.asarray(keys, dtype), TILE)


def scores_of(queries: np.ndarray, keys: np.ndarray, metric: str, scale: float) -> np.ndarray:
    """Score in double precision: [queries, tiles, tile]."""
    with jax.enable_x64(True):
        dense = scores(jnp.asarray(queries, float), jnp.asarray(keys, float), metric=metric, scale=scale)
        return np.asarray(dense).reshape(len(queries), -1, TILE)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.05, 1.0])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_no_query_leaves_the_bounds(
    metric: str, spread: float, scale: float, random: np.random.Generator, dtype: np.dtype
) -> None:
    keys = draw(random, spread).astype(dtype).astype(float)
    # Queries of every length, on the keys themselves, and between them.
    queries = np.concatenate([random.normal(size=(300, WIDTH)) * random.exponential(4, size=(300, 1)), keys])
    dense = scores_of(queries, keys, metric, scale)
    got = static_merge(*tiles_of(keys, dtype), metric=metric, scale=scale)
    oscillation = (dense.max(axis=2) - dense.min(axis=2)).max(axis=0)
    excess = (logsumexp(dense, axis=2) - np.log(TILE) - dense.mean(axis=2)).max(axis=0)
    doubt = 100 * np.finfo(float).eps * np.abs(dense).max()
    assert np.all(oscillation <= np.asarray(got.oscillation, float) + doubt)
    assert np.all(excess <= np.asarray(got.excess, float) + doubt)


@pytest.mark.parametrize("metric", METRICS)
def test_the_worst_query_comes_near_the_bound(metric: str) -> None:
    # Two keys, and a query sought to tell them apart, or far out on the geodesic through both.
    random = np.random.default_rng(3)
    keys = np.repeat(random.normal(size=(1, WIDTH)) + 0.1 * random.normal(size=(2, WIDTH)), TILE // 2, axis=0)
    with jax.enable_x64(True):
        tiles = tiles_of(keys, float)
        got = float(query_free_oscillation(*tiles, metric=metric, scale=1.0)[0])
        ends = tiles[0][0][jnp.asarray([0, TILE - 1])]

        @jax.jit
        @jax.value_and_grad
        def apart(query: jax.Array) -> jax.Array:
            low, high = scores(query[None], ends, metric=metric, scale=1.0)[0]
            return low - high

        if metric == "born_hyperbolic":
            first, second = project(ends, curvature=-1.0)
            way = logarithm(first, second, curvature=-1.0)
            far = exponential(first, 8 * way / jnp.linalg.norm(way), curvature=-1.0)
            found = float(apart(far[1:])[0])
        else:
            found = min(minimize(apart, random.normal(size=WIDTH), jac=True, method="BFGS").fun for _ in range(4))
    assert -found <= got
    assert -found > 0.9 * got


def test_dot_scores_have_no_such_bound() -> None:
    random = np.random.default_rng(3)
    keys = draw(random, 0.1)
    query = keys[:1] - keys[1:2]
    dense = [scores_of(length * query, keys, "dot", 1.0)[0, 0] for length in (1, 1000)]
    assert np.ptp(dense[1]) == pytest.approx(1000 * np.ptp(dense[0]))
    with pytest.raises(OptionError, match=r"(?s)^query_free_oscillation: .*got:  metric='dot'"):
        query_free_oscillation(*tiles_of(keys, np.float32), metric="dot", scale=1.0)


def test_phases_and_unitaries_of_keys_change_no_bound(random: np.random.Generator) -> None:
    keys = draw(random, 0.2)
    turned = rays(keys) * np.exp(2j * np.pi * random.random((len(keys), 1)))
    moved = as_rows(turned @ random_unitary(random, WIDTH // 2).T)
    got = [query_free_oscillation(*tiles_of(each, np.float32), metric="fidelity", scale=2.0) for each in (keys, moved)]
    # The centre depends on the first key of a tile, not on its phase.
    assert_close(got[0], got[1], depth=100, scale=4.0)


def test_purity_beats_the_range_where_few_keys_are_far() -> None:
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        keys = np.repeat(random.normal(size=(1, WIDTH)), 64, axis=0)
        keys[0] = random.normal(size=WIDTH)
        got = static_merge(*split(jnp.asarray(keys), 64), metric="fidelity", scale=1.0)
    assert float(got.excess[0]) < float(got.oscillation[0]) ** 2 / 8 / 2


def test_merging_within_a_price_is_certified_for_every_query(random: np.random.Generator) -> None:
    keys = draw(random, 0.05)
    merged = static_merge(*tiles_of(keys, np.float32), metric="fidelity", scale=3.0)
    dense = scores_of(random.normal(size=(200, WIDTH)), keys, "fidelity", 3.0)
    kl = logsumexp(dense, axis=(1, 2)) - logsumexp(np.log(TILE) + dense.mean(axis=2), axis=1)
    price = float(np.max(merged.excess))
    assert np.all(kl <= price)
    assert price < 0.1
    assert np.max(kl) > price / 100


def test_a_tile_without_keys_costs_nothing_and_a_key_of_zeros_has_no_ray() -> None:
    keys = jnp.ones((2, 2, 4)).at[0, 1].set(0)
    got = query_free_oscillation(keys, jnp.asarray([[True, True], [False, False]]), metric="fidelity", scale=1.0)
    assert float(got[0]) >= 2
    assert float(got[1]) == 0


def test_query_free_oscillation_refuses_keys_without_tiles() -> None:
    with pytest.raises(
        ShapeError, match=r"^query_free_oscillation: keys come in tiles\.\n  got:  keys float32\[3, 4\]"
    ):
        query_free_oscillation(jnp.ones((3, 4)), jnp.ones(3, bool), metric="cosine", scale=1.0)
