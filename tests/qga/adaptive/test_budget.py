"""A budget is spent on the heaviest tiles, never exceeded, and every bound holds for what is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, adaptive_attention, attention
from qga.adaptive import budget as module
from qga.adaptive import certify as certifier
from qga.adaptive.budget import keep_heaviest, tile_counts
from qga.adaptive.work import Price
from qga.tiling import Budget, Certified, Fixed
from tests.qga.adaptive.test_adaptive import HEADS, ROWS, SLOPES, draw, errors, exact

TILE, TILES = 64, ROWS // 64
ALIBI = {"alibi": SLOPES, "is_causal": True}
SEEN = TILES * (TILES + 1) // 2


def run(resolution: Any, arrays: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    return jax.jit(lambda *rows: adaptive_attention(*rows, resolution=resolution, **options))(*arrays)


def by_tile(counts: Any) -> np.ndarray:
    """One query of each tile of queries, [query_tiles, heads]."""
    return np.asarray(counts)[0, ::TILE]


@pytest.mark.parametrize(
    "options", [pytest.param(ALIBI, id="alibi"), pytest.param({}, id="plain", marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize(
    "budget", [Budget(3), pytest.param(Budget(tiles=0.4), marks=pytest.mark.exhaustive), Budget(flops=0.7)], ids=str
)
def test_every_query_is_closer_than_its_bound(budget: Budget, options: dict[str, Any]) -> None:
    arrays = draw()
    out, certificate = run(budget, arrays, options)
    distance = errors(out, exact(arrays, options))
    assert np.all(distance <= np.asarray(certificate.out_error))
    assert np.max(distance) > 1e-5 or options
    assert np.all(np.asarray(certificate.skipped) <= np.asarray(certificate.total_variation))
    assert np.any(np.asarray(certificate.tiles_skipped) > 0)


def test_a_bound_of_what_was_skipped_that_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    log_left = certifier._log_left
    monkeypatch.setattr(certifier, "_log_left", lambda *given: log_left(*given) - 25)
    arrays = draw()
    out, certificate = run(Budget(3), arrays, {})
    assert np.any(errors(out, exact(arrays, {})) > np.asarray(certificate.out_error))


def test_tiles_are_those_of_a_query_and_the_nearest_of_them() -> None:
    _, certificate = run(Budget(tiles=3), draw(), ALIBI)
    assert by_tile(certificate.tiles_exact).tolist() == [[min(3, seen)] * HEADS for seen in range(1, TILES + 1)]
    hidden = by_tile(certificate.tiles_hidden)[:, 0]
    assert hidden.tolist() == [TILES - seen for seen in range(1, TILES + 1)]
    assert by_tile(certificate.tiles_skipped)[:, 0].tolist() == [max(0, seen - 3) for seen in range(1, TILES + 1)]


@pytest.mark.parametrize("share", [0.6, *(pytest.param(each, marks=pytest.mark.exhaustive) for each in (0.75, 1.0))])
def test_shares_are_those_of_a_head(share: float) -> None:
    _, certificate = run(Budget(flops=share), draw(), ALIBI)
    kept = by_tile(certificate.tiles_exact).sum(axis=0)
    # Seeds: two or three of each tile of queries, more than the first ones may have.
    assert np.all(kept >= int(share * SEEN))
    assert np.all(kept <= int(share * SEEN) + TILES)
    assert (share == 1) == (not np.any(np.asarray(certificate.tiles_skipped)))


def test_bytes_and_flops_are_amounts_of_a_head() -> None:
    arrays, width, channels = draw(), 16, 5
    whole = TILES * TILES * TILE
    half = whole * (width + channels) * 4 // 2
    _, read = run(Budget(bytes=half), arrays, {})
    # Every query of a tile says what the tile reads.
    assert np.all(by_tile(read.bytes_read).sum(axis=0) == half)
    assert np.all(by_tile(read.bytes_exact).sum(axis=0) == 2 * half)
    operations = whole * TILE * 2 * (width + channels)
    _, done = run(Budget(flops=operations // 2), arrays, {})
    assert np.all(np.asarray(done.flops).sum(axis=(0, 1)) == operations // 2)
    for saved in (done.flops_saved, read.bytes_saved, read.saved):
        np.testing.assert_allclose(saved, 0.5)


def test_a_needle_whose_bound_is_large_is_bought_first() -> None:
    query, key, value = draw()
    key = key.copy()
    # Tile 1 is not next to the queries of the last tile.
    key[0, 70, 0] = 100 * query[0, -1, 0] / np.linalg.norm(query[0, -1, 0])
    out, certificate = run(Budget(4), (query, key, value), {})
    assert np.max(np.abs(np.asarray(out)[0, -1, 0] - value[0, 70, 0])) < 1e-3
    assert int(certificate.tiles_exact[0, -1, 0]) == 4


def test_all_of_it_is_attention() -> None:
    arrays = draw()
    out, certificate = run(Budget(tiles=1.0), arrays, ALIBI)
    other, _ = run(Fixed(), arrays, ALIBI)
    np.testing.assert_array_equal(out, other)
    assert not np.any(np.asarray(certificate.skipped))
    less, _ = run(Budget(tiles=2), arrays, ALIBI)
    assert np.any(np.asarray(less) != np.asarray(other))


def test_gradients_are_those_of_the_kept_tiles() -> None:
    arrays = draw()

    def slope(function: Callable[..., Any]) -> Any:
        return jax.jit(jax.grad(lambda *rows: jnp.sum(jnp.sin(3 * function(*rows))), (0, 1, 2)))(*arrays)

    found = slope(lambda *rows: adaptive_attention(*rows, resolution=Budget(2), **ALIBI)[0])

    def near(batch: Any, head: Any, query: Any, key: Any) -> Any:
        del batch, head
        return query // TILE - key // TILE < 2

    expected = slope(lambda *rows: attention(*rows, mask_mod=near, **ALIBI))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4 * np.max(np.abs(other)))
    whole = slope(lambda *rows: attention(*rows, **ALIBI))
    pairs = zip(whole, found, strict=True)
    assert any(np.max(np.abs(one - other)) > 2e-4 * np.max(np.abs(other)) for one, other in pairs)


@pytest.mark.exhaustive
def test_vmap_is_a_batch() -> None:
    query, key, value = (np.concatenate([rows, 2 * rows]) for rows in draw(128, 192))
    call = lambda *rows: adaptive_attention(*rows, resolution=Budget(tiles=0.7), alibi=SLOPES)  # noqa: E731
    batch, mapped = jax.jit(lambda *rows: (call(*rows), jax.vmap(call)(*rows)))(query, key, value)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), batch, mapped)


def test_vulkan_buys_the_same_tiles(vulkan: jax.Device) -> None:
    arrays = draw()
    call = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Budget(bytes=0.6), **ALIBI))
    devices = jax.devices("cpu")[0], vulkan
    cpu, other = (call(*(jax.device_put(each, device) for each in arrays)) for device in devices)
    assert other[0].devices() == {vulkan}
    for name in ("tiles_exact", "tiles_skipped", "tiles_hidden"):
        np.testing.assert_array_equal(getattr(cpu[1], name), getattr(other[1], name))
    np.testing.assert_allclose(other[0], cpu[0], rtol=2e-5, atol=2e-5)
    assert np.all(errors(other[0], exact(arrays, ALIBI)) <= np.asarray(other[1].out_error))


@pytest.mark.parametrize("few", [256, 0], ids=["by pairs", "by threshold"])
def test_the_heaviest_are_kept_whatever_their_number(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    random = np.random.default_rng(3)
    upper = random.normal(size=(2, 1, 5, 37)).astype(np.float32)
    upper[0, 0, 0, :30] = 1.5
    upper[0, 0, 1] = -np.inf
    upper[1, 0, 2, 4] = np.nan
    upper[1, 0, 3, ::2] = -np.inf
    seeds = np.zeros(upper.shape, bool)
    seeds[1, 0, 4, [3, 30, 31]] = True
    for count in (0, 1, 7, 36, 40):
        counts = jnp.full(upper.shape[:3], count, jnp.int32)
        kept = np.asarray(keep_heaviest(jnp.asarray(upper), jnp.asarray(seeds), counts))
        assert np.all(kept >= seeds)
        assert not np.any(kept & (upper == -np.inf))
        wanted = np.minimum(count, (upper != -np.inf).sum(axis=3))
        np.testing.assert_array_equal(kept.sum(axis=3), np.maximum(wanted, seeds.sum(axis=3)))
        weight = np.where(seeds | np.isnan(upper), np.inf, upper)
        lost = np.where(kept, -np.inf, weight).max(axis=3)
        assert np.all(np.where(kept, weight, np.inf).min(axis=3) >= lost)


@pytest.mark.parametrize("few", [256, 0], ids=["by pairs", "by threshold"])
@pytest.mark.parametrize("least", [-1e9, -2e38, np.finfo(np.float32).min])
def test_bounds_that_are_far_apart_are_ranked(few: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    upper = np.random.default_rng(4).normal(size=(1, 1, 3, 40)).astype(np.float32)
    upper[..., ::3] = least
    kept = keep_heaviest(jnp.asarray(upper), jnp.zeros(upper.shape, bool), jnp.full((1, 1, 3), 7, jnp.int32))
    ranks = np.argsort(np.argsort(-upper, axis=3), axis=3)
    np.testing.assert_array_equal(kept, ranks < 7)


@pytest.mark.parametrize(
    "name", ["tiles", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("bytes", "flops"))]
)
def test_amounts_without_end_buy_everything(name: str) -> None:
    seen = jnp.ones((1, 1, 4, 5), bool)
    for amount in (2**31, 2**70, 10**400):
        counts = tile_counts(Budget(**{name: amount}), seen, Price(3, 7), 64)
        assert np.asarray(counts).tolist() == [[[5] * 4]]


def test_shares_are_rounded_over_a_head_and_not_for_each_tile() -> None:
    seen = np.tril(np.ones((40, 40), bool))[None, None]
    counts = np.asarray(tile_counts(Budget(tiles=0.1), jnp.asarray(seen), Price(1, 1), 64))[0, 0]
    assert counts.sum() == 40 * 41 // 2 // 10
    assert np.all(np.abs(counts - 0.1 * np.arange(1, 41)) <= 1)


@pytest.mark.parametrize(
    "budget",
    [Budget(), Budget(tiles=2, flops=0.5), Budget(0), Budget(0.0), Budget(1.5), Budget(bytes=-4), Budget(True)],
    ids=str,
)
def test_impossible_budgets_are_refused(budget: Budget) -> None:
    with pytest.raises(OptionError) as failure:
        adaptive_attention(*draw(8, 8), resolution=budget)
    assert repr(budget) in str(failure.value)
    assert "a whole number >= 1 or a share 0 < share <= 1.0" in str(failure.value)


def test_fixed_tiles_are_those_that_work_is_counted_in() -> None:
    arrays = draw()
    out, certificate = run(Fixed(128), arrays, ALIBI)
    fine, _ = run(Fixed(64), arrays, ALIBI)
    assert np.asarray(certificate.tiles_exact)[0, :: 2 * TILE, 0].tolist() == [1, 2, 3]
    assert np.asarray(certificate.tiles_hidden)[0, :: 2 * TILE, 0].tolist() == [2, 1, 0]
    np.testing.assert_allclose(out, fine, atol=1e-6)
    assert np.all(errors(out, exact(arrays, ALIBI)) <= np.asarray(certificate.out_error))


@pytest.mark.parametrize("tile", [1, 63, 65, 100])
def test_a_fixed_tile_that_kernels_do_not_have_is_refused(tile: int) -> None:
    with pytest.raises(OptionError, match=rf"got:  tile={tile}\n  want: a multiple of 64") as failure:
        adaptive_attention(*draw(8, 8), resolution=Fixed(tile))
    assert f"Fixed({128 if tile > 64 else 64})" in str(failure.value)


def test_what_was_scored_for_a_plan_is_counted() -> None:
    # Under a cap no mean bounds a sum, and tiles are scored first.
    _, certificate = run(Certified(1e-3), draw(), {**ALIBI, "softcap": 1e3})
    extra, flops = by_tile(certificate.tiles_extra), by_tile(certificate.flops)
    # Its own tile, the one before, and the one that may weigh most, which is one of them under a steep slope; none
    # where bounds alone say that nothing can be left out.
    assert np.all(extra[:, 0] <= [1] + [2] * (TILES - 1))
    assert np.all(extra[2:, 0] == 2)
    given = by_tile(certificate.tiles_exact) * TILE * 2 * (16 + 5)
    # A plan may do without values.
    assert np.all(flops >= given + extra * TILE * 2 * 16)
    assert np.all(flops <= given + extra * TILE * 2 * (16 + 5))
    _, bought = run(Budget(3), draw(), ALIBI)
    assert not np.any(np.asarray(bought.tiles_extra))
    np.testing.assert_array_equal(by_tile(bought.flops), by_tile(bought.tiles_exact) * TILE * 2 * (16 + 5))
