"""Rows of few bits: how far attention to them is from the rows that were appended, and what is said of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga.cache import attend, cache_bounds
from tests.qga.cache.rows import FIRST, SECOND, Drawn, draw, fill, new_cache, rows_of, truth
from tests.qga.dense import dot_weights
from tests.qga.tolerances import bound

SCALE = 0.9


def weights_of(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Return the weights of the last queries of one head, in float64."""
    rows, keys = len(query), len(key)
    visible = np.tri(rows, keys, keys - rows, dtype=bool)
    return dot_weights(query.astype(float) * SCALE, key.astype(float), scale=1.0, visible=visible)


def holds(cache: Any, drawn: Drawn, results: tuple[Any, Any]) -> bool:
    """Tell whether averages and weights of every entry and head are within the bounds of the float64 truth."""
    out, bounds = results
    for entry, length in enumerate(first + SECOND for first in FIRST):
        want = truth(drawn, entry, scale=SCALE)[0]
        slack = bound(np.float32, 24, 4.0)
        if np.any(np.abs(np.asarray(out[entry], float) - want) > np.asarray(bounds.out_error[entry]) + slack):
            return False
        key, _ = rows_of(drawn, entry)
        kept = (
            np.asarray(cache.keys[entry, :length], float) * np.asarray(cache.key_scales[entry, :, :length]).T[..., None]
        )
        for head in range(4):
            asked = drawn.query[entry, :, head]
            moved = [weights_of(asked, each[:, head // 2]) for each in (key[0], kept)]
            distance = np.abs(moved[0] - moved[1]).sum(axis=1) / 2
            if np.any(distance > np.asarray(bounds.total_variation[entry, :, head]) + 1e-6):
                return False
    return True


@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn"])
def test_attention_to_few_bits_is_within_its_bounds(name: str, random: np.random.Generator) -> None:
    drawn = draw(random)

    @jax.jit
    def run(cache: Any, query: Any) -> Any:
        return attend(cache, query, scale=SCALE), cache_bounds(cache, query, scale=SCALE)

    cache = jax.jit(fill)(new_cache(jnp.dtype(name)), drawn)
    results = run(cache, drawn.query)
    assert holds(cache, drawn, results)
    assert 0 < np.max(results[1].out_error) < (0.3 if name == "int8" else 3)
    # A scale that is off by half is no rounding.
    broken = cache._replace(key_scales=cache.key_scales.at[1, :, 3].mul(1.5 if name == "int8" else 4))
    assert not holds(broken, drawn, (run(broken, drawn.query)[0], results[1]))


def test_rows_as_they_are_and_in_pages_have_the_bounds_of_their_rows(random: np.random.Generator) -> None:
    drawn = draw(random)

    @jax.jit
    def run(drawn: Drawn) -> Any:
        caches = new_cache(), new_cache(jnp.int8), new_cache(jnp.int8, page_rows=8)
        return [cache_bounds(fill(cache, drawn), drawn.query) for cache in caches]

    plain, in_order, paged = run(drawn)
    assert not np.any(plain.score)
    assert not np.any(plain.out_error)
    assert all(np.array_equal(one, other) for one, other in zip(in_order, paged, strict=True))
    assert np.any(in_order.score)


def test_small_values_of_few_bits_keep_them_in_16(random: np.random.Generator) -> None:
    """Weights times scales of values of 1e-4 are no normal numbers of float16."""
    drawn = draw(random)
    drawn = drawn._replace(value=drawn.value * np.float32(2.0**-13))
    cache = jax.jit(fill)(new_cache(jnp.int8), drawn)
    asked = drawn.query.astype(np.float16)
    narrow, wide = (np.asarray(jax.jit(attend)(cache, each), float) for each in (asked, asked.astype(np.float32)))
    size = np.abs(wide[2]).max()
    assert np.abs(narrow[2] - wide[2]).max() < 4e-3 * size
    # Scales that are rounded to float16 as they are lose more than that.
    rounded = np.float16(np.asarray(cache.value_scales)).astype(np.float32)
    lost = jax.jit(attend)(cache._replace(value_scales=rounded), asked.astype(np.float32))
    assert np.abs(np.asarray(lost, float)[2] - wide[2]).max() > 4e-3 * size


@pytest.mark.usefixtures("x64")
def test_rows_of_64_bits_are_kept_whole_and_few_bits_are_read_in_64(random: np.random.Generator) -> None:
    drawn = draw(random, np.float64)

    @jax.jit
    def run(drawn: Drawn) -> Any:
        whole, few = fill(new_cache(jnp.float64, page_rows=12), drawn), fill(new_cache(jnp.int8), drawn)
        return [attend(each, drawn.query, scale=SCALE) for each in (whole, few)], cache_bounds(
            few, drawn.query, scale=SCALE
        )

    (whole, few), bounds = run(drawn)
    assert (whole.dtype, few.dtype, bounds.out_error.dtype) == (np.float64,) * 3
    for entry in range(3):
        want = truth(drawn, entry, scale=SCALE)[0]
        assert np.abs(whole[entry] - want).max() < bound(np.float64, 24, 4.0)
        assert np.all(np.abs(few[entry] - want) <= bounds.out_error[entry])
        assert np.abs(few[entry] - want).max() > bound(np.float64, 24, 4.0)
