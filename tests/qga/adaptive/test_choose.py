"""The choice of tiles: a kernel and loops over thresholds agree, sums are kept, and nothing is scored in vain."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import adaptive_attention
from qga.adaptive import choose
from qga.adaptive.bounds import PairBounds
from qga.adaptive.choose import keep_above, keep_within, log_odds, may_leave, seed_reference, seed_visits
from qga.kernels.visits import Visits
from qga.tiling import Certified

TILES, TILE, QUERIES = 40, 8, 317
EPS = np.float32(1e-2)


def bounds_of(upper: np.ndarray) -> PairBounds:
    """Bounds of which only these and the open tiles are looked at."""
    filler: Any = jnp.zeros(())
    is_open = jnp.asarray(np.random.default_rng(2).random(upper.shape) < 0.8)
    return PairBounds(jnp.asarray(upper), is_open, *[filler] * 7, tile=TILE)


def draw_upper() -> np.ndarray:
    """Bounds that fall with the distance, with ties, hidden tiles and numbers that are none."""
    random = np.random.default_rng(1)
    queries, keys = np.indices((TILES, TILES))
    upper = np.round(8 - np.abs(queries - keys) * 0.7 + random.normal(size=(1, 2, TILES, TILES)))
    upper[:, :, :, 30:33] = -np.inf
    upper[0, 1, 5, 6] = np.nan
    return upper.astype(np.float32)


@pytest.mark.parametrize("few", [1, TILES])
def test_the_least_sum_of_a_tile_leads_where_no_bound_is_far_above_it(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "FEW", few)
    jax.clear_caches()
    upper = draw_upper()
    upper[0, 1, 5, 6] = 0
    upper[0, 0, 3, 2] = 60
    sums = np.random.default_rng(3).normal(8, 1, size=(1, 2, TILES, 4)).astype(np.float32)
    sums[0, 0, 7, 1], sums[0, 0, 9, 2], sums[0, 0, 11] = -np.inf, np.inf, np.inf
    room = jnp.full((1, 2, TILES), np.log(EPS))
    keep = jax.jit(lambda sums: keep_above(bounds_of(upper), jnp.zeros(upper.shape, bool), sums, room, lead="least"))
    listed = keep(sums).listed
    assert listed is not None
    least = sums.min(axis=3)
    np.testing.assert_array_equal(np.asarray(listed.reference)[..., 0], least)
    lead = np.asarray(listed.lead)
    assert np.all(lead[0, 0, [3, 7, 11]] >= 0)
    assert np.sum(lead >= 0) == 3


def chosen(upper: np.ndarray, log_sums: np.ndarray, *, is_reference: bool = False) -> tuple[np.ndarray, Visits]:
    bounds = bounds_of(upper)
    places = jnp.arange(TILES, dtype=jnp.int32)[None] * TILE
    seeds = seed_visits(bounds.upper, places, TILE)
    room = jnp.broadcast_to(log_odds(jnp.asarray(EPS), bounds), upper.shape[:3])
    keep = jax.jit(lambda sums: keep_within(bounds, seeds, sums, room, lead="each" if is_reference else "tile"))
    return np.asarray(seeds), keep(jnp.asarray(log_sums))


def left_weight(upper: np.ndarray, visits: Visits) -> np.ndarray:
    left = ~np.asarray(visits.visited) & ~np.isnan(upper)
    return np.sum(np.where(left, np.exp(upper.astype(np.float64)), 0), axis=3)


def test_what_is_left_out_weighs_at_most_its_share_and_one_more_tile_would_not() -> None:
    upper = draw_upper()
    log_sums = np.random.default_rng(3).normal(8, 1, size=(1, QUERIES, 2)).astype(np.float32)
    seeds, visits = chosen(upper, log_sums)
    least = np.full((1, 2, TILES * TILE), np.inf)
    least[:, :, :QUERIES] = np.moveaxis(log_sums, 1, 2)
    room = EPS / (1 - EPS) * np.exp(least.reshape(1, 2, TILES, TILE).min(axis=3))
    visited, weight = np.asarray(visits.visited), left_weight(upper, visits)
    assert np.all(weight <= room)
    assert np.any(weight > 0)
    assert np.all(visited[seeds])
    assert not np.any(visited[upper == -np.inf])
    assert np.all(visited[np.isnan(upper)])
    # All tiles of the next bound together would be too much.
    kept = np.where(visited & ~seeds & ~np.isnan(upper), upper, np.inf)
    tied = kept == kept.min(axis=3, keepdims=True)
    lighter = np.where(np.nan_to_num(upper, nan=np.inf) < kept.min(axis=3, keepdims=True), np.exp(upper), 0)
    more = np.sum(lighter, axis=3) + np.sum(np.where(tied & np.isfinite(kept), np.exp(upper), 0), axis=3)
    assert np.all((more > room * (1 - 1e-3)) | ~np.isfinite(kept.min(axis=3)))


def test_many_tiles_are_chosen_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    upper = draw_upper()
    log_sums = np.full((1, QUERIES, 2), 8.3, np.float32)
    _, few = chosen(upper, log_sums)
    monkeypatch.setattr(choose, "FEW", 8)
    jax.clear_caches()
    _, many = chosen(upper, log_sums)
    np.testing.assert_array_equal(few.visited, many.visited)
    _, other = chosen(upper, log_sums + 2)
    assert np.sum(other.visited) < np.sum(many.visited)


@pytest.mark.parametrize("known", [-np.inf, np.nan])
def test_nothing_is_left_out_where_no_sum_is_known(known: float) -> None:
    upper = draw_upper()
    log_sums = np.full((1, QUERIES, 2), 8.3, np.float32)
    log_sums[0, 3] = known
    _, visits = chosen(upper, log_sums)
    left = ~np.asarray(visits.visited) & (upper != -np.inf)
    assert not np.any(left[:, :, 0])
    assert np.any(left[:, :, 1:])


@pytest.mark.parametrize("few", [1, TILES])
def test_a_tile_leads_only_where_a_sum_is_not_known(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FEW", few)
    jax.clear_caches()
    log_sums = np.full((1, QUERIES, 2), 8.3, np.float32)
    log_sums[0, 3] = -np.inf
    plain, listed = (chosen(draw_upper(), log_sums, is_reference=each)[1].listed for each in (False, True))
    assert plain is None or (plain.reference is None and np.all(np.asarray(plain.lead) >= 0))
    assert listed is not None
    assert listed.reference is not None
    assert np.all(np.asarray(listed.lead)[:, :, 0] == 0)
    assert np.all(np.asarray(listed.lead)[:, :, 1:] == -1)
    references = np.asarray(listed.reference).reshape(1, 2, TILES * TILE)[:, :, :QUERIES]
    np.testing.assert_array_equal(references, np.moveaxis(log_sums, 1, 2))


def test_references_are_finite_and_no_more_than_bounds() -> None:
    upper = np.full((1, 1, 4, 5), -np.inf, np.float32)
    upper[0, 0, :3, 2] = 40, -90, np.inf
    assert seed_reference(bounds_of(upper)).tolist() == [[[0, -90, 0, 0]]]


def test_seeds_are_scored_only_where_something_may_be_left_out() -> None:
    room = jnp.full((1, 1, 2), np.log(EPS))
    flat, steep = np.zeros((1, 1, 2, 9), np.float32), np.zeros((1, 1, 2, 9), np.float32)
    steep[..., 1] = -20
    assert not np.any(may_leave(jnp.asarray(flat), room))
    assert np.all(may_leave(jnp.asarray(steep), room))
    steep[..., 1] = np.nan
    assert np.all(may_leave(jnp.asarray(steep), room))
    random = np.random.default_rng(0)
    query, key, value = (random.normal(size=(1, 512, 1, 16)).astype(np.float32) for _ in range(3))
    slopes = jnp.array([0.5])
    # Scores that are capped have no mean that would bound sums.
    capped = {"resolution": Certified(1e-2), "softcap": 50.0}
    run = jax.jit(lambda *rows, **options: adaptive_attention(*rows, **capped, **options)[1])
    plain, biased = run(query, key, value), run(query, key, value, alibi=slopes)
    assert not np.any(np.asarray(plain.tiles_extra))
    assert not np.any(np.asarray(plain.tiles_skipped))
    assert np.all(np.asarray(biased.tiles_extra) > 0)
    assert np.any(np.asarray(biased.tiles_skipped))


@pytest.mark.parametrize(("count", "size"), [(2, 60.0), pytest.param(1, 3.0, marks=pytest.mark.exhaustive)])
def test_rounding_leaves_out_no_more_than_was_promised(count: int, size: float) -> None:
    """Tiles that weigh what may be left out, to the last digit, beside sums of any size."""
    random, rows = np.random.default_rng(7), 4000
    log_sums = (size * random.normal(size=(1, rows * TILE, 1))).astype(np.float32)
    least = log_sums.reshape(1, 1, rows, TILE).min(axis=3).astype(np.float64)
    for eps in np.float32([1e-2, 0.9]):
        odds = np.log(np.float64(eps)) - np.log1p(-np.float64(eps))
        parts = np.log(random.dirichlet(np.ones(count), size=(1, 1, rows)))
        steps = 1e-7 * random.integers(-200, 40, size=(1, 1, rows, 1))
        upper = np.float32((least + odds)[..., None] + parts + steps)
        bounds = bounds_of(upper)
        room = jnp.broadcast_to(log_odds(jnp.asarray(eps), bounds), upper.shape[:3])
        visits = keep_within(bounds, jnp.zeros(upper.shape, bool), jnp.asarray(log_sums), room)
        left = left_weight(upper - least[..., None], visits)
        assert np.any(left > 0.99 * eps / (1 - np.float64(eps)))
        assert np.all(left / (1 + left) <= np.float64(eps))
