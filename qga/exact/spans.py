"""Between which keys a query can see anything, and which queries can see a key: intervals that kernels stay in."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..kernels.problem import Span


def span_of(
    queries: int,
    keys: int,
    *,
    offset: Int[Array, ""] | None = None,
    back: int | None = None,
    ahead: int | None = None,
    query_length: Int[Array, ""] | None = None,
    key_length: Int[Array, ""] | None = None,
    segments: tuple[Int[Array, " queries"], Int[Array, " keys"]] | None = None,
) -> Span:
    """Return the intervals of one batch entry.

    Args:
        queries: how many.
        keys: how many.
        offset: place of the first query among the keys.
        back: how many keys before its place a query sees.
        ahead: how many after it.
        query_length: queries from this on see nothing.
        key_length: keys from this on are seen by nobody.
        segments: of queries and of keys; a query sees keys of its own.

    Returns:
        Intervals that contain everything that is seen, and rise, at the price of being larger than they must be where
        what is seen does not.
    """
    here = jnp.arange(queries, dtype=jnp.int32) + (0 if offset is None else offset)
    first, stop = jnp.zeros((queries,), jnp.int32), jnp.full((queries,), keys, jnp.int32)
    if back is not None:
        first = here - back
    if ahead is not None:
        stop = here + ahead + 1
    if key_length is not None:
        stop = jnp.minimum(stop, key_length)
    if segments is not None:
        begin, end = _segment_bounds(*segments)
        first, stop = jnp.maximum(first, begin), jnp.minimum(stop, end)
    if query_length is not None:
        first = jnp.where(jnp.arange(queries, dtype=jnp.int32) < query_length, first, keys)
    first, stop = (jnp.clip(each, 0, keys).astype(jnp.int32) for each in (first, stop))
    first, stop = lax.cummin(first, reverse=True), lax.cummax(stop)
    places = jnp.arange(keys, dtype=jnp.int32)
    before = jnp.searchsorted(stop, places, side="right").astype(jnp.int32)
    reached = jnp.searchsorted(first, places, side="right").astype(jnp.int32)
    return Span(first, keys - stop, before, queries - reached)


@jax.jit  # As one reduction: the pairs of rows are compared and never kept.
def _segment_bounds(queries: Array, keys: Array) -> tuple[Array, Array]:
    """Return the first key of each query's segment and the one after the last; an empty interval where it has none."""
    count = keys.shape[0]
    is_same, places = queries[:, None] == keys[None], jnp.arange(count, dtype=jnp.int32)
    first = jnp.min(jnp.where(is_same, places, count), axis=1, initial=count)
    return first, jnp.max(jnp.where(is_same, places + 1, 0), axis=1, initial=0)
