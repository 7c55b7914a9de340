"""Pages: the same numbers as rows in order, pages that are shared, released and used up."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError
from qga.cache import append, attend, empty_paged_cache, in_order, is_overflowed, release, share_prefix
from tests.qga.cache.rows import Drawn, draw, fill, new_cache
from tests.qga.tolerances import assert_close, assert_far


@pytest.mark.parametrize("dtype", [jnp.int8, pytest.param(jnp.float32, marks=pytest.mark.exhaustive)])
def test_pages_hold_what_rows_in_order_hold(dtype: Any, random: np.random.Generator) -> None:
    drawn = draw(random)

    @jax.jit
    def run(drawn: Drawn) -> Any:
        plain, paged = (fill(new_cache(dtype, page_rows=rows), drawn) for rows in (None, 8))
        shifted = paged._replace(table=jnp.roll(paged.table, 1, axis=1))
        # Two tiles of keys in a page.
        results = [attend(each, drawn.query, tile=4) for each in (plain, paged, shifted)]
        return plain, paged, in_order(paged), results

    kept, paged, copied, (plain, in_pages, shifted) = run(drawn)
    assert paged.table.tolist() == [[4, -1, -1], [0, 5, -1], [1, 2, 3]]
    for entry, length in enumerate(kept.lengths.tolist()):
        assert np.array_equal(copied.values[entry, :length], kept.values[entry, :length])
    assert_close(in_pages, plain, depth=24, scale=4.0)
    assert_far(shifted[2], plain[2], depth=24, scale=1.0)


def test_entries_share_the_pages_of_a_prefix(random: np.random.Generator) -> None:
    drawn = draw(random)
    step = jax.jit(append)
    cache = step(new_cache(page_rows=8), drawn.key, drawn.value, rows=jnp.array([16, 0, 0]))
    cache = share_prefix(share_prefix(cache, 0, 1, 16), 0, 2, 8)
    assert cache.table.tolist() == [[0, 1, -1], [0, 1, -1], [0, -1, -1]]
    cache = step(cache, drawn.key[:, :3], drawn.value[:, :3])
    assert cache.table.tolist() == [[0, 1, 2], [0, 1, 3], [0, 4, -1]]
    assert cache.lengths.tolist() == [19, 19, 11]
    asked = jnp.broadcast_to(drawn.query[:1], drawn.query.shape)
    apart = step(
        step(new_cache(page_rows=8), *(jnp.stack([each[0]] * 3) for each in drawn[1:]), rows=jnp.array([16, 16, 8])),
        drawn.key[:, :3], drawn.value[:, :3],
    )  # fmt: skip
    run = jax.jit(attend)
    want = run(apart, asked)
    assert_close(run(cache, asked), want, depth=24, scale=4.0)
    # What an entry appends is its own, what it has of the prefix is everybody's.
    spoiled = cache._replace(values=cache.values.at[0].add(1), keys=cache.keys)
    assert np.all(np.max(np.abs(run(spoiled, asked) - want), axis=(1, 2, 3)) > 1e-3)


def test_released_pages_are_free_when_nobody_names_them(random: np.random.Generator) -> None:
    drawn = draw(random)
    step = jax.jit(append)
    cache = step(new_cache(page_rows=8), drawn.key, drawn.value, rows=jnp.array([16, 0, 9]))
    cache = share_prefix(cache, 0, 1, 8)
    run = jax.jit(attend)
    before = run(cache, drawn.query)
    cache = release(cache, jnp.array([True, False, False]))
    assert cache.table.tolist() == [[-1, -1, -1], [0, -1, -1], [2, 3, -1]]
    assert cache.lengths.tolist() == [0, 8, 9]
    # Page 1 is free, page 0 is not: the second entry still has it.
    cache = step(cache, drawn.key[:, ::-1], drawn.value[:, ::-1], rows=jnp.array([20, 0, 0]))
    assert cache.table.tolist() == [[1, 4, 5], [0, -1, -1], [2, 3, -1]]
    after = run(cache, drawn.query)
    assert np.array_equal(after[1:], before[1:])
    assert not np.array_equal(after[0], before[0])


def test_an_entry_without_pages_loses_rows_and_says_so(random: np.random.Generator) -> None:
    drawn = draw(random, batch=2)
    step = jax.jit(append)
    cache = empty_paged_cache(2, 3, 2, 6, 5, pages=3, page_rows=8)
    cache = step(cache, drawn.key, drawn.value, rows=jnp.array([8, 12]))
    assert is_overflowed(cache).tolist() == [False, False]
    lost = step(cache, drawn.key, drawn.value, rows=jnp.array([1, 4]))
    assert lost.table.tolist() == [[0, -1, -1], [1, 2, -1]]
    assert is_overflowed(lost).tolist() == [True, False]
    assert np.array_equal(in_order(lost).keys[0, :8], in_order(cache).keys[0, :8])
    # A free page does not bring back what was dropped.
    later = step(release(lost, jnp.array([False, True])), drawn.key, drawn.value, rows=jnp.array([1, 0]))
    assert is_overflowed(later).tolist() == [True, False]
    run = jax.jit(partial(attend, is_causal=False))
    got, want = (run(each, drawn.query) for each in (later, cache))
    assert_close(got[0], want[0], depth=8, scale=4.0)
    with pytest.raises(
        OptionError, match=re.escape("append: rows need room.\n  got:  lengths [9, 16], room for [8, 16]")
    ):
        _ = append(cache, drawn.key, drawn.value, rows=jnp.array([1, 4]))


def test_prefixes_that_cannot_be_shared_are_refused() -> None:
    table = jnp.array([[0, 1, -1], [2, -1, -1], [-1, -1, -1]])
    cache = new_cache(page_rows=8)._replace(table=table, lengths=jnp.array([12, 1, 0]))
    for source, target, rows in ((0, 2, 12), (0, 2, 16), (0, 1, 8)):
        with pytest.raises(OptionError, match="share_prefix: an empty entry shares whole pages that another one has"):
            _ = share_prefix(cache, source, target, rows)
    assert share_prefix(cache, 0, 2, 8).lengths.tolist() == [12, 1, 8]
