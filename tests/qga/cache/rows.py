"""Rows of a model for caches of ragged lengths, and what attention to them must be, entry by entry."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from qga.cache import KVCache, PagedKVCache, append, empty_cache, empty_paged_cache

HEADS, KEY_HEADS, WIDTH, CHANNELS = 4, 2, 6, 5
CAPACITY, PAGE_ROWS = 24, 8
# What each entry begins with, and how many rows all of them are given after that: an empty, a ragged and a full one.
FIRST, SECOND = (0, 7, 19), 5


class Drawn(NamedTuple):
    """Queries, keys and values of a few steps, with room for every entry."""

    query: Any
    key: Any
    value: Any


def draw(random: np.random.Generator, dtype: Any = np.float32, batch: int = 3) -> Drawn:
    """Draw rows for ``fill``: keys and values of the longest entry, and queries of the last rows."""
    rows = max(FIRST) + SECOND
    shapes = (batch, SECOND, HEADS, WIDTH), (batch, rows, KEY_HEADS, WIDTH), (batch, rows, KEY_HEADS, CHANNELS)
    return Drawn(*(random.normal(size=shape).astype(dtype) for shape in shapes))


def new_cache(dtype: Any = jnp.float32, *, batch: int = 3, page_rows: int | None = None) -> KVCache | PagedKVCache:
    """Make an empty cache, in pages where they have rows."""
    if page_rows is None:
        return empty_cache(batch, CAPACITY, KEY_HEADS, WIDTH, CHANNELS, dtype=dtype)
    entry_pages = CAPACITY // page_rows
    return empty_paged_cache(
        batch, entry_pages, KEY_HEADS, WIDTH, CHANNELS, pages=batch * entry_pages + 1, page_rows=page_rows, dtype=dtype
    )


def fill(cache: Any, drawn: Drawn) -> Any:
    """Append the first rows of each entry, then those that all entries get."""
    most = max(FIRST)
    counts = jnp.asarray(FIRST, jnp.int32)
    cache = append(cache, drawn.key[:, :most], drawn.value[:, :most], rows=counts)
    return append(cache, drawn.key[:, most:], drawn.value[:, most:])


def rows_of(drawn: Drawn, entry: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys and values that an entry has after ``fill``."""
    most = max(FIRST)
    key, value = (
        np.concatenate([each[entry, : FIRST[entry]], each[entry, most:]])[None] for each in (drawn.key, drawn.value)
    )
    return key, value


def truth(
    drawn: Drawn, entry: int, last: int = SECOND, *, scale: float = WIDTH**-0.5, window: Any = None,
    alibi: Any = None, sinks: Any = None, softcap: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return averages and log sums of an entry's last queries by the textbook, in float64."""
    key, value = (np.repeat(each[0].astype(float), HEADS // KEY_HEADS, axis=1) for each in rows_of(drawn, entry))
    query = drawn.query[entry, SECOND - last :].astype(float)
    here, there = np.arange(len(key) - last, len(key))[None, :, None], np.arange(len(key))[None, None]
    scores = scale * np.einsum("qhw,khw->hqk", query, key)
    scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
    scores = scores if alibi is None else scores - np.asarray(alibi, float)[:, None, None] * (here - there)
    visible = there <= here if window is None else (there <= here) & (there >= here - window[0])
    weights = np.where(visible, np.exp(scores), 0)
    mass = weights.sum(axis=2) + (0 if sinks is None else np.exp(np.asarray(sinks, float))[:, None])
    return np.einsum("hqk,khc->qhc", weights / mass[..., None], value), np.log(mass).T
