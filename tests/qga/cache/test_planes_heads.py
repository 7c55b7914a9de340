"""Attention to planes as kernels of heads: few launches, the same however large a head is, nothing stale."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lowering
from qga.cache import PlaneCache, append, attend, empty_plane_cache
from qga.cache import planes_attend as planes
from qga.cache import planes_heads as heads
from qga.cache.planes_bounds import Bounds, Recent, choose_levels
from qga.cache.planes_kernel import BOTH, SKIP
from qga.tiling import Certified

BATCH, KEY_HEADS, GROUP, WIDTH, TILE, CAPACITY = 2, 2, 2, 8, 8, 80
LENGTHS = jnp.int32([77, 40])
EPS = 5e-2


write = jax.jit(append)


def draw(random: np.random.Generator) -> tuple[PlaneCache, Any]:
    key, value = (random.normal(size=(BATCH, CAPACITY, KEY_HEADS, WIDTH)).astype(np.float16) for _ in range(2))
    query = (4 * random.normal(size=(BATCH, 1, KEY_HEADS * GROUP, WIDTH))).astype(np.float16)
    cache = empty_plane_cache(BATCH, CAPACITY, KEY_HEADS, WIDTH, tile=TILE)
    return write(cache, key, value, rows=LENGTHS), query


def step() -> Any:
    """Return a step that is compiled anew: what JAX has compiled once, it keeps."""
    body: Any = planes._attend.__wrapped__
    return jax.jit(partial(body, scale=WIDTH**-0.5, eps=EPS, dtype=jnp.dtype(jnp.float16)))


usual = step()


def test_a_step_is_four_launches(random: np.random.Generator) -> None:
    function = jax.jit(lambda cache, query: attend(cache, query, resolution=Certified(EPS)))
    assert lowering.lower(function)(*draw(random)).cost()["dispatches"] == 4


@pytest.mark.parametrize(("name", "least"), [("_MOST_TILES", 1), ("_MOST_QUERIES", 1)])
def test_heads_that_no_workgroup_holds_say_the_same(
    name: str, least: int, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = draw(random)
    want = usual(*given)
    calls = list[str]()
    monkeypatch.setattr(heads, name, least)
    monkeypatch.setattr(heads, "launch", lambda kernel, *_: calls.append(kernel.name))
    got = step()(*given)
    assert not calls
    assert min(np.sum(want[1].tiles_half), np.sum(want[1].tiles_mixed)) > 0
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_lies_behind_the_rows_means_nothing(random: np.random.Generator) -> None:
    cache, query = draw(random)
    want = usual(cache, query)

    def spoil(each: Any, tile: int) -> Any:
        return each.at[1, :, tile:].set(jnp.nan if each.dtype == jnp.float32 else 0x7F7F7F7F)

    for tile, is_same in ((5, True), (4, False)):
        stale = [jax.tree.map(lambda each, tile=tile: spoil(each, tile), each) for each in cache[:2]]
        got = usual(cache._replace(keys=stale[0], values=stale[1], squares=spoil(cache.squares, tile)), query)
        same = all(np.array_equal(*pair) for pair in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True))
        assert same is is_same


def test_scales_that_come_at_run_time_say_the_same(random: np.random.Generator) -> None:
    cache, query = draw(random)
    function = jax.jit(lambda scale: attend(cache, query, resolution=Certified(EPS), scale=scale))
    scales = jnp.full((BATCH, KEY_HEADS * GROUP), WIDTH**-0.5).at[1, 2].set(1.0)
    fixed, traced = usual(cache, query), function(scales)
    is_same = np.isclose(traced[0], fixed[0], atol=1e-3).all(axis=3)[:, 0]
    assert np.array_equal(is_same, scales < 1)
    assert np.array_equal(traced[1].bytes_read[0], fixed[1].bytes_read[0])


def bounds_of(random: np.random.Generator, tiles: int) -> Bounds:
    log_sums, one = random.normal(size=tiles) * 3, np.full(tiles, 0.01)
    arrays = (jnp.asarray(each, jnp.float32) for each in (log_sums, 2 * one, one / 99, 100 * one, one, one / 99))
    nothing = Recent(jnp.full((4,), -jnp.inf), jnp.float32(-jnp.inf), jnp.float32(0), jnp.float32(0))
    return Bounds(*arrays, nothing)


def test_smaller_budgets_read_more(random: np.random.Generator) -> None:
    bounds = [bounds_of(random, 37) for _ in range(2)]
    budgets = [0.0, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 1e6]
    choose = jax.jit(lambda budget: choose_levels(bounds, budget, grid=0.1, dtype=jnp.dtype(jnp.float32)))
    levels = [np.asarray(choose(jnp.float32(budget))) for budget in budgets]
    assert np.all(levels[0] == BOTH)
    assert np.all(levels[-1] == SKIP)
    read = [np.sum(each) for each in levels]
    assert sorted(read, reverse=True) == read
    assert len(set(read)) > 4
    # A query with one tile that counts wants more of it than others need.
    loud = bounds[0]._replace(log_sums=bounds[0].log_sums.at[7].set(20.0))
    shared = choose_levels([*bounds, loud], jnp.float32(0.1), grid=0.1, dtype=jnp.dtype(jnp.float32))
    assert shared[7] > levels[5][7]
