"""New rows of a cache: each batch entry gets them behind those that it has."""

from __future__ import annotations

from typing import TypeVar

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse
from .cache import Counts, KVCache
from .paged import NO_PAGE, PagedKVCache, claim_pages
from .planes import PlaneCache, append_planes, check_planes, claim_tiles
from .storage import has_scales, quantise

# Where rows go that have no place: beyond every array.
_NOWHERE = 2**30

Rows = Float[Array, "batch rows key_heads width"]
ValueRows = Float[Array, "batch rows key_heads channels"]
Cache = TypeVar("Cache", KVCache, PagedKVCache, PlaneCache)
Places = tuple[Int[Array, "batch rows"], Int[Array, "batch rows"]]


def append(cache: Cache, key: Rows, value: ValueRows, *, rows: Counts | None = None) -> Cache:
    """Append rows to each batch entry, behind those that it has.

    A pure function: donate the cache under ``jax.jit`` (``donate_argnums=0``) and its memory is written in place. Rows
    for which there is no room are dropped and nothing that is there is touched; ``lengths`` count them all the same, so
    that ``is_overflowed`` tells. Where lengths are known, outside of traces, such a call is refused.

    In pages, an entry takes free ones as it needs them, the lowest first; one that has lost rows takes no more. In
    planes, a tile is written once, when it is full.

    Args:
        cache: what to append to.
        key: as many rows for each entry; where entries differ, the first ``rows`` of each.
        value: likewise.
        rows: how many of the rows exist, of each entry; all by default.

    Returns:
        The longer cache.

    Raises:
        ShapeError: shapes or dtypes do not fit the cache.
        OptionError: there is no room (where lengths are known).

    Error: none where rows are kept as they are, else at most half a step of the scale for each element
    (``cache_bounds``).
    Cost: a pass over the new rows, the tables and a number for each page; without donation a copy of the cache.

    Example:
        >>> from qga.cache import empty_cache
        >>> cache = empty_cache(1, 128, 2, 4)
        >>> append(cache, jnp.ones((1, 3, 2, 4)), jnp.ones((1, 3, 2, 4))).lengths
        Array([3], dtype=int32)
    """
    if isinstance(cache, PlaneCache):
        check_planes(cache, key, value)
        counts = check_counts("append", rows, cache.lengths, key.shape[1])
        longer = claim_tiles(cache, counts)
        _refuse_overflow("append", longer)
        return append_planes(cache, longer, key, value)
    _check_rows("append", cache, key, value)
    counts = check_counts("append", rows, cache.lengths, key.shape[1])
    longer = cache._replace(lengths=cache.lengths + counts)
    if isinstance(longer, PagedKVCache):
        longer = claim_pages(longer, cache.lengths)
    _refuse_overflow("append", longer)
    numbers = jnp.arange(key.shape[1], dtype=jnp.int32)[None]
    places = _find(longer, cache.lengths[:, None] + numbers, numbers < counts[:, None])
    is_paged = isinstance(longer, PagedKVCache)
    keys, key_scales = _store(cache.keys, cache.key_scales, key, places, is_paged=is_paged)
    values, value_scales = _store(cache.values, cache.value_scales, value, places, is_paged=is_paged)
    return longer._replace(keys=keys, values=values, key_scales=key_scales, value_scales=value_scales)


def is_overflowed(cache: KVCache | PagedKVCache | PlaneCache) -> Bool[Array, " batch"]:
    """Tell which entries were appended more rows than they have room for; the last ones were dropped.

    Example:
        >>> import jax
        >>> from qga.cache import empty_cache
        >>> cache = empty_cache(1, 2, 1, 1)
        >>> is_overflowed(jax.jit(append)(cache, jnp.ones((1, 3, 1, 1)), jnp.ones((1, 3, 1, 1))))
        Array([ True], dtype=bool)
    """
    return cache.lengths > cache.room


def _find(cache: KVCache | PagedKVCache, places: Int[Array, "batch rows"], exists: Bool[Array, "batch rows"]) -> Places:
    """Return where in the arrays of a cache places of its entries are; no two rows go to one place."""
    batch, count = places.shape
    first = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32)[:, None], places.shape)
    nowhere = _NOWHERE + first * count + jnp.arange(count, dtype=jnp.int32)[None]
    if isinstance(cache, KVCache):
        return first, jnp.where(exists, places, nowhere)
    page = jnp.take_along_axis(cache.table, places // cache.page_rows, axis=1, mode="fill", fill_value=NO_PAGE)
    return jnp.where(exists & (page != NO_PAGE), page, nowhere), places % cache.page_rows


def _store(
    kept: Array, scales: Array | None, new: Array, places: Places, *, is_paged: bool
) -> tuple[Array, Array | None]:
    """Write rows, and their scales where they have some, to places of pages or of entries."""
    if scales is None:
        return kept.at[places].set(new, mode="drop", unique_indices=True), None
    numbers, steps = quantise(new, kept.dtype)
    first, row = places
    at = scales.at[:, first, row] if is_paged else scales.at[first, :, row]
    written = at.set(jnp.moveaxis(steps, 2, 0) if is_paged else steps, mode="drop", unique_indices=True)
    return kept.at[places].set(numbers, mode="drop", unique_indices=True), written


def _check_rows(name: str, cache: KVCache | PagedKVCache, key: Array, value: Array) -> None:
    """Refuse rows that do not fit kept ones."""
    keys, values, (batch, *_) = cache.keys, cache.values, cache.shape
    fits = key.ndim == value.ndim == 4 and key.shape[:3] == value.shape[:3] and key.shape[0] == batch
    fits = fits and key.shape[2:] == keys.shape[2:] and value.shape[2:] == values.shape[2:]
    is_real = jnp.issubdtype(key.dtype, jnp.floating) and key.dtype == value.dtype
    is_real = is_real and (has_scales(keys.dtype) or key.dtype == keys.dtype)
    if not (fits and is_real):
        heads, width, channels = *keys.shape[2:], values.shape[-1]
        want = "real floating numbers" if has_scales(keys.dtype) else keys.dtype.name
        refuse(
            ShapeError, f"{name}: new rows must fit those that are kept.",
            got=f"key {describe(key)}, value {describe(value)}",
            want=f"[{batch}, rows, {heads}, {width}] and [{batch}, rows, {heads}, {channels}], {want}",
            fix="append what the cache was made for, or make it of another dtype.",
        )  # fmt: skip


def check_counts(name: str, rows: Counts | None, lengths: Counts, count: int) -> Counts:
    """Return how many of the rows of each entry exist."""
    if rows is None:
        return jnp.full_like(lengths, count)
    rows = jnp.asarray(rows)
    if rows.shape != lengths.shape or not jnp.issubdtype(rows.dtype, jnp.integer):
        refuse(
            ShapeError, f"{name}: rows counts the rows of each batch entry.", got=f"rows {describe(rows)}",
            want=f"integers [{lengths.shape[0]}]", fix="leave it out where all rows exist.",
        )  # fmt: skip
    return jnp.clip(rows.astype(lengths.dtype), 0, count)


def _refuse_overflow(name: str, cache: KVCache | PagedKVCache | PlaneCache) -> None:
    lengths, room = cache.lengths, cache.room
    if isinstance(lengths, Tracer) or isinstance(room, Tracer) or not bool(jnp.any(lengths > room)):
        return
    refuse(
        OptionError, f"{name}: rows need room.", got=f"lengths {lengths.tolist()}, room for {room.tolist()}",
        want="lengths up to the room", fix="make a larger cache, or release entries of one in pages.",
    )  # fmt: skip
