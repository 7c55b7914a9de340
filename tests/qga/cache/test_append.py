"""Appending to a cache: pieces and wholes, room, memory, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, ShapeError
from qga.cache import KVCache, append, empty_cache, empty_paged_cache, is_overflowed
from qga.cache.storage import error_of, quantise
from tests.qga.cache.rows import CAPACITY, FIRST, SECOND, draw, fill, new_cache, rows_of


def test_pieces_of_ragged_entries_lie_as_one_whole(random: np.random.Generator) -> None:
    drawn = draw(random)
    cache = jax.jit(fill)(new_cache(), drawn)
    assert cache.lengths.tolist() == [first + SECOND for first in FIRST]
    for entry, length in enumerate(cache.lengths.tolist()):
        key, value = rows_of(drawn, entry)
        assert np.array_equal(cache.keys[entry, :length], key[0])
        assert np.array_equal(cache.values[entry, :length], value[0])
        assert not np.any(cache.keys[entry, length:])
        # The same rows in another order are noticed.
        assert not np.array_equal(cache.keys[entry, :length], key[0, ::-1])


def test_rows_without_room_are_dropped_and_counted(random: np.random.Generator) -> None:
    drawn = draw(random)
    full = jax.jit(fill)(new_cache(), drawn)
    longer = jax.jit(append)(full, drawn.key[:, :3], drawn.value[:, :3])
    assert is_overflowed(full).tolist() == [False, False, False]
    assert is_overflowed(longer).tolist() == [False, False, True]
    assert longer.lengths.tolist() == [first + SECOND + 3 for first in FIRST]
    assert np.array_equal(longer.keys[2], full.keys[2])
    assert not np.array_equal(longer.keys[1], full.keys[1])


def test_known_lengths_without_room_are_refused() -> None:
    cache, row = empty_cache(1, 2, 1, 3), jnp.ones((1, 3, 1, 3))
    with pytest.raises(
        OptionError, match=re.escape("append: rows need room.\n  got:  lengths [3], room for [2]\n  want: lengths up")
    ):
        _ = append(cache, row, row)
    assert append(cache, row, row, rows=jnp.array([2])).lengths.tolist() == [2]


@pytest.mark.parametrize("page_rows", [None, 8])
def test_a_donated_cache_is_written_in_place(page_rows: int | None) -> None:
    cache, row = new_cache(jnp.int8, page_rows=page_rows), jnp.ones((3, 1, 2, 6))
    values = row[..., :5]
    compiled = jax.jit(append, donate_argnums=0).lower(cache, row, values).compile()
    kept = sum(each.nbytes for each in jax.tree.leaves(cache))
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes == kept
    assert memory.temp_size_in_bytes < cache.keys.nbytes
    copied = jax.jit(append).lower(cache, row, values).compile().memory_analysis()
    assert copied.alias_size_in_bytes == 0
    place = cache.keys.unsafe_buffer_pointer()
    assert compiled(cache, row, values).keys.unsafe_buffer_pointer() == place


def test_a_donated_cache_is_written_in_place_on_vulkan(vulkan: jax.Device) -> None:
    cache, row = jax.device_put((new_cache(), jnp.ones((3, 1, 2, 6))), vulkan)
    places = [each.unsafe_buffer_pointer() for each in (cache.keys, cache.values)]
    again = jax.jit(append)(cache, row, row[..., :5])
    longer = jax.jit(append, donate_argnums=0)(cache, row, row[..., :5])
    assert [each.unsafe_buffer_pointer() for each in (longer.keys, longer.values)] == places
    assert again.keys.unsafe_buffer_pointer() != places[0]
    assert np.array_equal(longer.keys, again.keys)
    assert float(longer.keys[0, 0, 0, 0]) == 1


@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn"])
def test_stored_rows_are_within_half_a_step(name: str, random: np.random.Generator) -> None:
    dtype = jnp.dtype(name)
    sizes = np.float32([0, 1e-44, 1e-37, 1e-3, 1, 3e4, 3e38])[:, None]
    rows = (random.uniform(-1, 1, (7, 300)) * sizes).astype(np.float32)
    numbers, scales = quantise(jnp.asarray(rows), dtype)
    stored = np.asarray(numbers, float) * np.asarray(scales, float)[:, None]
    allowed = np.asarray(error_of(np.asarray(scales, float), dtype))[:, None]
    assert np.all(np.abs(stored - rows) <= allowed)
    assert not np.all(np.abs(stored - rows) <= allowed / 2)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"key": jnp.ones((1, 2, 3, 3))}, "key float32[1, 2, 3, 3]"),
    "entries": ({"key": jnp.ones((2, 2, 1, 3)), "value": jnp.ones((2, 2, 1, 3))}, "want: [1, rows, 1, 3]"),
    "dtype": ({"key": jnp.ones((1, 2, 1, 3), jnp.float16), "value": jnp.ones((1, 2, 1, 3), jnp.float16)}, "float32\n"),
    "counts": ({"rows": jnp.ones(1)}, "append: rows counts the rows of each batch entry.\n  got:  rows float32[1]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_do_not_fit_are_refused(name: str) -> None:
    given, text = REFUSED[name]
    arrays: dict[str, Any] = {"key": jnp.ones((1, 2, 1, 3)), "value": jnp.ones((1, 2, 1, 3))} | given
    with pytest.raises(ShapeError, match=re.escape(text)):
        _ = append(empty_cache(1, 4, 1, 3), **arrays)


def test_caches_of_no_dtype_or_size_are_refused() -> None:
    with pytest.raises(OptionError, match="empty_cache: keys and values are kept in a dtype"):
        _ = empty_cache(1, CAPACITY, 1, 3, dtype=jnp.int16)
    with pytest.raises(OptionError, match="empty_cache: sizes count something"):
        _ = empty_cache(1, -1, 1, 3)
    for sizes in ({"pages": 4, "page_rows": 0}, {"pages": 0}):
        with pytest.raises(OptionError, match="empty_paged_cache: sizes count something"):
            _ = empty_paged_cache(1, 2, 1, 3, **sizes)


def test_an_empty_cache_has_a_scale_for_each_row_of_few_bits_only() -> None:
    few, plain = empty_cache(2, 8, 2, 4, dtype=jnp.int8), empty_cache(2, 8, 2, 4)
    assert few.key_scales is not None
    assert few.key_scales.shape == (2, 2, 8)
    assert plain == KVCache(plain.keys, plain.values, plain.lengths)
