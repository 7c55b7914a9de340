"""Keys that are merged when they are written: the bound holds for every query, the worst ones among them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, ShapeError, attention
from qga.adaptive import attend_merged, merge, merge_keys
from qga.tiling import Certified

KEYS, WIDTH, CLUSTERS, EPS = 2000, 8, 8, 1e-2
NOISE = {"fidelity": 1e-3, "cosine": 1e-3}
SCALE = {"fidelity": 4.0, "cosine": 2.0}


def draw(metric: str, noise: float | None = None, heads: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Keys in clusters, in no order, and of any phase where they are rays; values that tell them apart."""
    random = np.random.default_rng(4)
    centers = random.normal(size=(CLUSTERS, WIDTH))
    key = centers[random.integers(CLUSTERS, size=(1, KEYS, heads))]
    key = key + (NOISE[metric] if noise is None else noise) * random.normal(size=key.shape)
    if metric == "fidelity":
        states = (key[..., : WIDTH // 2] + 1j * key[..., WIDTH // 2 :]) * np.exp(
            2j * random.uniform(size=key.shape[:3])
        )[..., None]
        key = np.concatenate([states.real, states.imag], axis=-1)
    return key.astype(np.float32), random.normal(size=(1, KEYS, heads, 3)).astype(np.float32)


def ask(key: np.ndarray) -> np.ndarray:
    """Queries of every kind: random, keys themselves, halfway between a key and a random direction."""
    random = np.random.default_rng(5)
    query = random.normal(size=(1, 60, 4, WIDTH))
    query[0, 20:40] = np.repeat(key[0, :20], 2, axis=1)
    query[0, 40:] = np.repeat(key[0, 20:40], 2, axis=1)
    query[0, 40:] /= np.linalg.norm(query[0, 40:], axis=-1, keepdims=True)
    query[0, 40:] += query[0, :20] / np.linalg.norm(query[0, :20], axis=-1, keepdims=True)
    return query.astype(np.float32)


def run(metric: str, key: Any, value: Any, query: Any) -> Any:
    merged = merge_keys(key, value, resolution=Certified(EPS), scale=SCALE[metric], metric=metric)
    return merged, attend_merged(query, merged, metric=metric)


def check(metric: str, key: np.ndarray, value: np.ndarray, query: np.ndarray, found: Any) -> None:
    out, certificate = found
    with jax.enable_x64(True):
        wide = [jnp.asarray(each, jnp.float64) for each in (query, key, value)]
        exact = attention(*wide, metric=metric, scale=SCALE[metric], derivatives="all")
    errors = np.linalg.norm(np.float64(out) - np.asarray(exact), axis=-1)
    assert np.all(errors <= np.asarray(certificate.out_error))
    assert float(jnp.max(certificate.total_variation)) <= EPS
    assert bool(jnp.all(certificate.sound))


@pytest.mark.parametrize("metric", ["fidelity", pytest.param("cosine", marks=pytest.mark.exhaustive)])
def test_clusters_are_merged_and_every_query_is_within_the_bound(metric: str) -> None:
    key, value = draw(metric)
    query = ask(key)
    merged, found = jax.jit(lambda *rows: run(metric, *rows))(key, value, query)
    check(metric, key, value, query, found)
    kept = np.asarray(merged.tiles)[..., 0]
    assert np.all(kept <= 0.15 * np.sum(np.asarray(merged.tiles), axis=-1))
    members = np.sum(np.asarray(merged.members), axis=-1) + np.asarray(merged.kept)
    np.testing.assert_array_equal(members, KEYS)
    assert 1 - float(jnp.min(found[1].saved)) <= 0.15


def test_a_merge_of_unlike_keys_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = draw("fidelity", noise=0.5)
    bound = merge.query_free_oscillation
    monkeypatch.setattr(merge, "query_free_oscillation", lambda *given, **options: bound(*given, **options) / 400)
    # Each query prefers what its value shows.
    query = np.eye(WIDTH, dtype=np.float32)[None, :, None].repeat(4, axis=2)
    value = np.square(key[..., :4]) + np.square(key[..., 4:])
    value /= np.sum(value, axis=-1, keepdims=True)
    _, found = jax.jit(lambda *rows: run("fidelity", *rows))(key, value, query)
    with pytest.raises(AssertionError):
        check("fidelity", key, value, query, found)


def test_unlike_keys_are_kept() -> None:
    key, value = draw("fidelity", noise=0.5)
    query = ask(key)
    merged, found = jax.jit(lambda *rows: run("fidelity", *rows))(key, value, query)
    check("fidelity", key, value, query, found)
    assert not np.any(np.asarray(merged.tiles)[..., 1])


def needle() -> tuple[np.ndarray, np.ndarray]:
    """One key among equal ones, and the only value."""
    key = np.tile(np.float32([1, 0, 0, 0]), (64, 1))
    key[20] = [0, 1, 0, 0]
    return key[:, None], np.float32(np.arange(64) == 20)[:, None, None]


def test_one_key_among_equal_ones_is_kept_with_its_tile(vulkan: jax.Device) -> None:
    key, value = needle()
    function = jax.jit(lambda *rows: run("fidelity", *rows))
    exact = np.exp(4) / (np.exp(4) + 63)
    for device in (jax.devices("cpu")[0], vulkan):
        merged, (out, certificate) = function(*(jax.device_put(each, device) for each in (key, value, key[20:21])))
        assert out.devices() == {device}
        assert merged.tiles.tolist() == [[[1, 3]]]
        assert abs(float(out[0, 0, 0]) - exact) <= float(certificate.out_error[0, 0]) < 1e-2


@pytest.mark.exhaustive
def test_vulkan_merges_the_same_tiles(vulkan: jax.Device) -> None:
    key, value = draw("fidelity")
    query = ask(key)
    function = jax.jit(lambda *rows: run("fidelity", *rows))
    merged, found = function(*(jax.device_put(each, vulkan) for each in (key, value, query)))
    check("fidelity", key, value, query, found)
    assert np.all(np.asarray(merged.tiles)[..., 0] <= 0.15 * np.sum(np.asarray(merged.tiles), axis=-1))


def test_what_cannot_be_is_refused() -> None:
    key, value = draw("fidelity")
    with pytest.raises(OptionError, match="a bound for every query"):
        merge_keys(key, value, resolution=Certified(EPS), scale=1.0, metric="dot")  # pyright: ignore[reportArgumentType]
    merged = jax.jit(lambda *rows: merge_keys(*rows, resolution=Certified(EPS), scale=1.0))(key[:, :32], value[:, :32])
    with pytest.raises(ShapeError, match="heads a multiple of 2"):
        attend_merged(key[:, :4, :1], merged)
