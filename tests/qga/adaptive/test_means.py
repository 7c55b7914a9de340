"""Bounds of partition sums from means of blocks lie below them, and leave out nearly what scored tiles do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from qga.adaptive.bounds import bound_pairs
from qga.adaptive.means import blocks_of, mean_sums
from qga.exact.prepare import Prepared, prepare
from qga.tiling import Budget, Certified
from qga.tiling.summary import surround_blocks, surround_heads

SLOPES = np.array([0.5, 0.01, -0.03, 0.0], np.float32)


def draw(queries: int, keys: int, dtype: type, width: int = 16, groups: int = 2) -> list[np.ndarray]:
    """Rows around a point that is not the origin, four heads that share keys of ``groups``."""
    random = np.random.default_rng(queries + keys)
    shapes = (2, queries, 4, width), (2, keys, groups, width), (2, keys, groups, 3)
    return [(0.3 + random.normal(size=shape)).astype(dtype) for shape in shapes]


def ready(rows: list[Any], **options: Any) -> Prepared:
    return prepare("test", *map(jnp.asarray, rows), tile=64, derivatives="reverse", **options)


def bound(rows: list[Any], tile: int, *, is_reach_kept: bool = True, **options: Any) -> jax.Array:
    """Bound log sums, [batch, heads, query_tiles]."""

    def compute(*rows: jax.Array) -> jax.Array:
        prepared = ready(list(rows), **options)
        blocks, sums = blocks_of(prepared, Certified(1e-2), tile), None
        keys = surround_heads(prepared.member.keys, tile)
        if blocks > 1:
            keys, sums = surround_blocks(prepared.member.keys, tile, blocks)
        places = surround_heads(prepared.member.queries, tile), keys, surround_heads(prepared.values, tile)
        bounds = bound_pairs(prepared.member, places, prepared.options, tile)
        if not is_reach_kept:
            bounds = bounds._replace(queries=bounds.queries._replace(radius=jnp.zeros_like(bounds.queries.radius)))
        return mean_sums(prepared, bounds, sums)

    return jax.jit(compute)(*rows)


def true_sums(rows: list[Any], scale: float, slopes: Any, *, causal: bool, back: int | None) -> np.ndarray:
    """Return log partition sums in float64, [batch, heads, queries]."""
    query, key = (each.astype(np.float64) for each in rows[:2])
    key = np.repeat(key, query.shape[2] // key.shape[2], axis=2)
    scores = scale * np.einsum("bqhw,bkhw->bhqk", query, key)
    asking, looked_at = np.arange(query.shape[1])[:, None], np.arange(key.shape[1])[None]
    if slopes is not None:
        scores += np.asarray(slopes, np.float64)[None, :, None, None] * (looked_at - asking)
    seen = np.ones(scores.shape[2:], bool)
    seen &= (looked_at <= asking) if causal else True
    seen &= (looked_at >= asking - back) if back is not None else True
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.where(seen, np.exp(scores), 0), axis=3))


@pytest.mark.parametrize(
    ("queries", "keys", "dtype", "options"),
    [
        (256, 256, np.float16, {"is_causal": True, "alibi": SLOPES}),
        (200, 333, np.float32, {"alibi": SLOPES, "scale": -0.7}),
        (300, 290, np.float32, {"is_causal": True, "window": (170, None)}),
        (130, 257, np.float16, {}),
    ],
)
def test_bounds_lie_below_the_sums_of_all_queries(queries: int, keys: int, dtype: type, options: dict) -> None:
    rows, tile = draw(queries, keys, dtype), 128 if dtype is np.float16 else 64
    found = bound(rows, tile, **options)
    window = options.get("window", (None, None))
    truth = true_sums(
        rows, options.get("scale", 0.25), options.get("alibi"), causal=bool(options.get("is_causal")), back=window[0]
    )
    by_query = np.repeat(np.asarray(found, np.float64), tile, axis=2)[:, :, :queries]
    assert np.all(by_query <= truth)
    # They say something, but where a query sees no whole block, and less the steeper a bias is.
    known = np.isfinite(by_query)
    assert np.mean(known) > 0.4
    assert np.all((truth - np.where(known, by_query, -100)).min(axis=2)[:, 1:] < 7)


def test_a_mean_without_its_reach_would_be_no_bound() -> None:
    rows = draw(256, 256, np.float32)
    truth = true_sums(rows, 0.25, None, causal=False, back=None).reshape(2, 4, 4, 64).min(axis=3)
    found, bare = (np.asarray(bound(rows, 64, is_reach_kept=each)) for each in (True, False))
    assert np.all(found <= truth)
    assert np.any(bare > truth)


def test_what_is_not_linear_is_scored() -> None:
    rows = draw(64, 64, np.float32)
    refused: list[dict[str, Any]] = [
        {"softcap": 5.0}, {"score_mod": lambda s, *places: s}, {"mask_mod": lambda b, h, q, k: k <= q},
        {"key_lengths": jnp.array([3, 64])}, {"bias": jnp.zeros((1, 1, 64, 64))}, {"metric": "gauss"},
    ]  # fmt: skip
    for options in refused:
        assert blocks_of(ready(rows, **options), Certified(1e-2), 64) == 0, options
    prepared = ready(rows, is_causal=True)
    assert blocks_of(prepared, Certified(1e-2), 64) == 1
    assert blocks_of(ready(rows, alibi=jnp.asarray(SLOPES)), Certified(1e-2), 64) == 2
    assert blocks_of(prepared, Certified(1e-2, coarse=True), 64) == blocks_of(prepared, Budget(tiles=2), 64) == 0


def test_far_keys_are_left_out_though_no_pair_is_scored_for_it() -> None:
    random = np.random.default_rng(0)
    rows = [random.normal(size=(1, 1024, 2, 16)).astype(np.float32) for _ in range(3)]
    options = {"is_causal": True, "alibi": jnp.array([0.25, 0.0625])}
    out, found = jax.jit(lambda *rows: qga.adaptive_attention(*rows, resolution=Certified(1e-2), **options))(*rows)
    assert not np.any(np.asarray(found.tiles_extra))
    assert np.all(np.asarray(found.skipped) <= 1e-2)
    # Tiles of 64 keys: a steep head sees three of 8.5 in the mean.
    assert np.mean(np.asarray(found.tiles_skipped)) > 4
    truth = qga.attention(*rows, **options)
    off = np.linalg.norm(np.asarray(out) - np.asarray(truth), axis=-1)
    assert np.all(off <= np.asarray(found.out_error))
    assert np.max(off) > 0
