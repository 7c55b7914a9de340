"""Attention without the tiles that do not matter: every bound holds against float64, and pays where weights decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, adaptive_attention, attention
from qga.adaptive import attention as module
from qga.tiling import Certified, Fixed
from tests.qga.tolerances import assert_close

ROWS, HEADS, WIDTH = 384, 2, 16
Arrays = dict[str, np.ndarray]
Result = tuple[Any, Any]

SLOPES = np.float32([0.5, 0.05])


def forget(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
    """A gate that has forgotten more the longer ago a key was."""
    del batch, head
    table = -0.2 * jnp.arange(ROWS, dtype=score.dtype)
    return score + table[query] - table[key]


def buckets(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
    """A bias for each bucket of distances."""
    del batch
    table = -jnp.outer(jnp.array([4, 1], score.dtype), jnp.arange(12, dtype=score.dtype))
    return score + table[head, jnp.minimum(jnp.abs(query - key) // 32, 11)]


# what is asked for, whether anything can be left out
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "alibi": ({"alibi": SLOPES, "is_causal": True}, True),
    "alibi, both sides": ({"score_mod": lambda s, b, h, q, k: s - 0.2 * jnp.abs(q - k).astype(s.dtype)}, True),
    "forget gate": ({"score_mod": forget, "is_causal": True}, True),
    "distance buckets": ({"score_mod": buckets}, True),
    "soft cap under alibi": ({"alibi": SLOPES, "softcap": 3.0, "is_causal": True}, True),
    "fidelity under alibi": ({"alibi": SLOPES, "metric": "fidelity", "scale": 4.0, "is_causal": True}, True),
    "gauss": ({"metric": "gauss", "scale": 0.5}, False),
    "plain": ({}, False),
}


def draw(rows: int = ROWS, keys: int = ROWS) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(11)
    shapes = (1, rows, HEADS, WIDTH), (1, keys, 1, WIDTH), (1, keys, 1, 5)
    return tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)


def exact(arrays: tuple[Any, ...], options: dict[str, Any]) -> np.ndarray:
    """Attention over all keys in double precision, of these numbers."""
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(each), jnp.float64) for each in arrays]
        return np.asarray(attention(*wide, derivatives="all", **options))


def errors(out: Any, reference: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.asarray(out, np.float64) - reference, axis=-1)


def check(arrays: tuple[Any, ...], options: dict[str, Any], found: Result, eps: float) -> None:
    """Every query's error is below its bound, and what was left out below the promise."""
    out, certificate = found
    bounds = np.asarray(certificate.out_error)
    assert np.all(np.isfinite(bounds))
    assert np.all(errors(out, exact(arrays, options)) <= bounds)
    assert float(jnp.max(certificate.skipped)) <= eps
    assert bool(jnp.all(certificate.sound == (certificate.total_variation <= eps)))


FEW = "alibi", "forget gate", "distance buckets", "plain"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FEW else [pytest.mark.exhaustive]) for name in CASES]
)
def test_every_query_is_closer_than_its_bound(name: str) -> None:
    options, pays = CASES[name]
    arrays, eps = draw(), 1e-3
    found = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(eps), **options))(*arrays)
    check(arrays, options, found, eps)
    visible = ROWS // 64 * (ROWS // 64 + 1) // 2 if options.get("is_causal") else (ROWS // 64) ** 2
    visited = int(np.sum(np.asarray(found[1].tiles_exact)[0, ::64, 0]))
    assert (visited < visible) == pays


@pytest.mark.parametrize(
    "eps", [pytest.param(1e-1, marks=pytest.mark.exhaustive), 1e-2, pytest.param(1e-4, marks=pytest.mark.exhaustive)]
)
def test_products_of_fewer_bits_stay_below_their_bounds(eps: float) -> None:
    arrays, options = draw(200, 333), {"alibi": SLOPES}
    resolution = Certified(eps, products="half")
    found = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=resolution, **options))(*arrays)
    check(arrays, options, found, eps)
    assert int(jnp.max(found[1].tiles_half + found[1].tiles_split)) > 0


def test_a_bound_that_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, options = draw(), CASES["alibi"][0]
    bound_pairs = module.bound_pairs

    def too_small(*given: Any) -> Any:
        bounds = bound_pairs(*given)
        return bounds._replace(upper=bounds.upper - 12)

    monkeypatch.setattr(module, "bound_pairs", too_small)
    found = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(1e-3), **options))(*arrays)
    with pytest.raises(AssertionError):
        check(arrays, options, found, 1e-3)


def padded(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
    """Whole rows at a number that leaves no digits for scores."""
    del batch, head, key
    return score + jnp.where(query % 2 == 1, -1e9, 0).astype(score.dtype)


def forgotten(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
    """A gate whose numbers are far larger than what is left of them."""
    del batch, head
    table = 1e6 + jnp.arange(ROWS, dtype=score.dtype) / 8
    return score + table[query] - table[key]


ROUGH = {
    "padding": (padded, "given"), "gate": (forgotten, "given"),
    "jumps": (lambda score, *places: 3 * jnp.round(4 * score), "half"),
    "no tangent": (lambda score, *places: 40 * jax.lax.stop_gradient(score), "half"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUGH)
def test_weights_are_as_near_as_is_said(name: str) -> None:
    """Values that are all different directions show the weights themselves."""
    score_mod, products = ROUGH[name]
    query, key, _ = draw(128, 192)
    value = np.eye(192, dtype=np.float32)[None, :, None]
    resolution = Certified(5e-2, products=products)
    run = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=resolution, score_mod=score_mod))
    out, certificate = run(query, key, value)
    distance = np.sum(
        np.abs(np.asarray(out, np.float64) - exact((query, key, value), {"score_mod": score_mod})), axis=-1
    )
    assert np.all(distance / 2 <= np.asarray(certificate.total_variation) + 1e-6)
    assert np.all(np.asarray(certificate.out_error) >= distance / np.sqrt(192))


def test_what_is_not_a_number_is_not_left_out() -> None:
    query, key, value = draw(128, 192)
    key[0, 150:] = np.nan
    run = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(1e-2), key_lengths=jnp.array([150])))
    out, certificate = run(query, key, value)
    reference = exact((query, key[:, :150], value[:, :150]), {})
    np.testing.assert_allclose(out, reference, atol=1e-5)
    assert not np.any(np.asarray(certificate.tiles_skipped))
    assert not np.any(np.asarray(certificate.sound))


def test_equal_tiles_are_not_all_left_out() -> None:
    query, key, value = (np.zeros_like(rows) for rows in draw(192, 192))
    value[:] = 1
    nudge = lambda score, batch, head, query, key: score + 0.01 * (key // 64).astype(score.dtype)  # noqa: E731
    run = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(0.6), score_mod=nudge))
    out, certificate = run(query, key, value)
    np.testing.assert_allclose(out, 1, rtol=1e-6)
    assert np.max(np.asarray(certificate.skipped)) <= 0.6


def test_a_needle_in_a_tile_that_would_be_left_out_is_kept() -> None:
    query, key, value = draw()
    options = CASES["alibi"][0]
    run = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(1e-3), **options))
    without = run(query, key, value)
    # The last query of the first head looks 300 keys back, against a bias of -150; JAX may still read the old array.
    key = key.copy()
    key[0, 70, 0] = 740 * query[0, -1, 0] / np.sum(np.square(query[0, -1, 0]))
    found = run(query, key, value)
    check((query, key, value), options, found, 1e-3)
    tiles = [int(certificate.tiles_exact[0, -1, 0]) for _, certificate in (without, found)]
    assert tiles[0] < tiles[1]
    assert np.max(np.abs(np.asarray(found[0])[0, -1, 0] - value[0, 70, 0])) < 1e-3


def test_hidden_rows_and_no_keys_have_no_error() -> None:
    query, key, value = draw()
    options = {"query_lengths": jnp.array([70]), "key_lengths": jnp.array([100]), "alibi": SLOPES}
    out, certificate = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(1e-2), **options))(
        query, key, value
    )
    check((query, key, value), options, (out, certificate), 1e-2)
    assert not np.any(np.asarray(out)[:, 70:])
    assert not np.any(np.asarray(certificate.out_error)[:, 70:])
    assert bool(jnp.all(certificate.sound[:, 70:]))


def test_nothing_is_left_out_of_a_fixed_resolution() -> None:
    arrays, options = draw(130, 130), CASES["alibi"][0]
    out, certificate = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Fixed(64), **options))(*arrays)
    # Attention has other tiles on a CPU.
    assert_close(out, jax.jit(lambda *rows: attention(*rows, **options))(*arrays), depth=130, scale=4.0)
    assert not np.any(np.asarray(certificate.skipped))
    assert certificate.tiles_exact[0, :, 0].tolist() == [1] * 64 + [2] * 64 + [3] * 2


@pytest.mark.parametrize("products", [pytest.param("given", marks=pytest.mark.exhaustive), "half"])
def test_gradients_are_those_of_the_kept_tiles(products: Any) -> None:
    arrays, options = draw(), CASES["alibi"][0]

    def slope(function: Callable[..., Any]) -> Any:
        loss = lambda *rows: jnp.sum(jnp.sin(3 * function(*rows)))  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1, 2)))(*arrays)

    resolution = Certified(1e-4, products=products)
    found = slope(lambda *rows: adaptive_attention(*rows, resolution=resolution, **options)[0])
    expected = slope(lambda *rows: attention(*rows, **options))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4 * np.max(np.abs(other)))
    steeper = slope(lambda *rows: attention(*rows, **{**options, "alibi": 1.01 * SLOPES}))
    pairs = zip(steeper, expected, strict=True)
    assert any(np.max(np.abs(one - other)) > 2e-4 * np.max(np.abs(other)) for one, other in pairs)


def test_vmap_is_a_batch() -> None:
    query, key, value = (np.concatenate([rows, 2 * rows]) for rows in draw(128, 128))
    call = lambda *rows: adaptive_attention(*rows, resolution=Certified(1e-3), **CASES["alibi"][0])  # noqa: E731
    batch, mapped = jax.jit(lambda *rows: (call(*rows), jax.vmap(call)(*rows)))(query, key, value)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), batch, mapped)


# The compiler of the CPU's Vulkan driver takes half a minute for three products a tile.
@pytest.mark.parametrize("products", ["given", pytest.param("half", marks=pytest.mark.exhaustive)])
def test_vulkan_leaves_out_the_same_tiles(products: Any, vulkan: jax.Device) -> None:
    arrays, options = draw(), CASES["alibi"][0]
    run = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(1e-3, products=products), **options))
    cpu, other = (run(*(jax.device_put(each, device) for each in arrays)) for device in (jax.devices("cpu")[0], vulkan))
    assert other[0].devices() == {vulkan}
    np.testing.assert_array_equal(cpu[1].tiles_skipped, other[1].tiles_skipped)
    check(arrays, options, other, 1e-3)
    np.testing.assert_allclose(other[0], cpu[0], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["alibi", pytest.param("plain", marks=pytest.mark.exhaustive)])
def test_16_bit_sums_over_lists_are_led_by_the_own_tile(name: str, vulkan: jax.Device) -> None:
    """Weights are relative to a tile that is looked at: those of the farthest tile leave 16 bits."""
    options, pays = CASES[name]
    arrays = [jnp.asarray(rows, jnp.float16) for rows in draw(640, 640)]
    run = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Certified(2e-2), **options))
    found = run(*(jax.device_put(each, vulkan) for each in arrays))
    check(tuple(arrays), options, found, 2e-2)
    assert np.any(np.asarray(found[1].tiles_skipped)) == pays


def test_bounds_know_a_scale_that_queries_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No log weight of a tile is above its bound, and a single key that looks like the query reaches it."""
    kept, bound_pairs = [], module.bound_pairs
    monkeypatch.setattr(module, "bound_pairs", lambda *given: kept.append(bound_pairs(*given)) or kept[-1])
    rows = np.ones((1, 128, 1, 16), np.float16)
    _ = adaptive_attention(rows, rows, rows, resolution=Certified(1e-2), metric="fidelity", scale=40.0)
    upper = np.asarray(kept[0].upper)
    most = 40 + np.log(kept[0].tile)
    assert np.all(upper >= most)
    np.testing.assert_allclose(upper, most, rtol=0.1)


@pytest.mark.parametrize(
    ("resolution", "got"),
    [(Certified(0.0), "eps=0.0"), (Certified(1.0), "eps=1.0"), (0.5, "0.5"), (Fixed(0), "tile=0")],
)
def test_impossible_resolutions_are_refused(resolution: Any, got: str) -> None:
    with pytest.raises(OptionError) as failure:
        adaptive_attention(*draw(8, 8), resolution=resolution)
    assert got in str(failure.value)
    assert "pass resolution=qga.tiling.Certified(1e-3)" in str(failure.value)


def test_fewer_bits_than_16_are_refused() -> None:
    arrays = [each.astype(np.float16) for each in draw(8, 8)]
    with pytest.raises(OptionError, match="of float32"):
        adaptive_attention(*arrays, resolution=Certified(1e-2, products="half"))


def test_directions_of_rows_of_any_size_are_within_their_bounds() -> None:
    query, key, value = draw(130, 130)
    call = jax.jit(lambda *rows: adaptive_attention(*rows, metric="cosine", scale=4.0, resolution=Certified(1e-2)))
    for size in (1e-30, 1e30):
        arrays = np.float32(size) * query, np.float32(size) * key, value
        out, certificate = call(*arrays)
        want = exact(arrays, {"metric": "cosine", "scale": 4.0})
        assert np.all(np.linalg.norm(np.float64(out) - want, axis=-1) <= np.asarray(certificate.out_error))
        assert bool(jnp.all(certificate.sound))
