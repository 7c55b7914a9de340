"""A cache whose rows lie in pages that all batch entries share out: each entry has a table of its pages.

Which pages are free is what no table names, so that nothing is counted: entries whose tables name the same page share
it, and it is free again when the last of them is released.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, refuse
from .cache import Counts, KVCache
from .storage import SCALE_DTYPE, check_dtype, has_scales

if TYPE_CHECKING:
    from .planes import PlaneCache

# In a table: no page.
NO_PAGE = -1


class PagedKVCache(NamedTuple):
    """Keys and values in pages, and where those of each batch entry are: a pytree.

    Attributes:
        keys: rows as they are kept.
        values: likewise.
        table: the pages of each entry, in the order of its rows; -1 where there is none yet.
        lengths: how many rows were appended to each entry.
        key_scales: what each stored key is multiplied by, heads in front, as kernels read them; None where keys are
            kept as they are.
        value_scales: likewise.
    """

    keys: Float[Array, "pages page_rows key_heads width"]
    values: Float[Array, "pages page_rows key_heads channels"]
    table: Int[Array, "batch entry_pages"]
    lengths: Counts
    key_scales: Float[Array, "key_heads pages page_rows"] | None = None
    value_scales: Float[Array, "key_heads pages page_rows"] | None = None

    @property
    def room(self) -> Counts:
        """Rows that each entry has room for in the pages that it has."""
        return jnp.sum(self.table != NO_PAGE, axis=1, dtype=jnp.int32) * self.page_rows

    @property
    def page_rows(self) -> int:
        """Rows of a page."""
        return self.keys.shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch entries, keys that each may have, and heads."""
        batch, entry_pages = self.table.shape
        return batch, entry_pages * self.page_rows, self.keys.shape[2]


Paged = TypeVar("Paged", PagedKVCache, "PlaneCache")


def empty_paged_cache(
    batch: int,
    entry_pages: int,
    key_heads: int,
    width: int,
    channels: int | None = None,
    *,
    pages: int,
    page_rows: int = 128,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> PagedKVCache:
    """Make a cache of pages that nobody has yet.

    Args:
        batch: entries.
        entry_pages: pages that one entry may have at most.
        key_heads: heads of keys and values.
        width: of a key.
        channels: of a value; ``width`` by default.
        pages: that all entries share out.
        page_rows: rows of a page. A tile of keys lies in one page, so pages of fewer than 128 rows make tiles smaller.
        dtype: that rows are kept in, as in ``empty_cache``.

    Raises:
        OptionError: the dtype is none that rows are kept in, or a size is out of range.

    Cost: pages page_rows key_heads (width + channels) numbers of the dtype, whatever the entries may have.

    Example:
        >>> empty_paged_cache(8, 64, 4, 64, pages=100, dtype=jnp.bfloat16).shape
        (8, 8192, 4)
    """
    kept = check_dtype("empty_paged_cache", dtype)
    sizes = pages, page_rows, key_heads, width, width if channels is None else channels
    if min(*sizes, batch) < 0 or min(pages, page_rows, entry_pages) < 1:
        refuse(
            OptionError, "empty_paged_cache: sizes count something.",
            got=f"pages={pages}, page_rows={page_rows}, entry_pages={entry_pages}, others {(batch, *sizes[2:])}",
            want="at least one page, of at least one row, for all and for each; other numbers from 0 on",
            fix="raise pages, page_rows or entry_pages.",
        )  # fmt: skip
    keys, values = (jnp.zeros((*sizes[:3], last), kept) for last in sizes[3:])
    shape = key_heads, pages, page_rows
    scales = [jnp.zeros(shape, SCALE_DTYPE) if has_scales(kept) else None for _ in range(2)]
    table = jnp.full((batch, entry_pages), NO_PAGE, jnp.int32)
    return PagedKVCache(keys, values, table, jnp.zeros((batch,), jnp.int32), *scales)


def release(cache: Paged, entries: Bool[Array, " batch"]) -> Paged:
    """Empty some entries; pages that no other entry has are free again.

    Args:
        cache: of all entries.
        entries: True for those that are emptied.

    Example:
        >>> from qga.cache import append
        >>> cache = empty_paged_cache(1, 4, 2, 4, pages=6, page_rows=2)
        >>> cache = append(cache, jnp.ones((1, 3, 2, 4)), jnp.ones((1, 3, 2, 4)))
        >>> release(cache, jnp.array([True])).table
        Array([[-1, -1, -1, -1]], dtype=int32)
    """
    table = jnp.where(entries[:, None], NO_PAGE, _table_of("release", cache))
    return cache._replace(table=table, lengths=jnp.where(entries, 0, cache.lengths))


def share_prefix(cache: Paged, source: int, target: int, rows: int) -> Paged:
    """Let an empty entry begin with the first rows of another one: their tables name the same pages.

    Whole pages are shared, and nobody writes into them again, since rows are appended behind them.

    Args:
        cache: of all entries.
        source: number of the entry that has the rows.
        target: number of the entry that begins with them.
        rows: how many; a multiple of the rows of a page.

    Returns:
        The cache in which ``target`` has ``rows`` rows, or as many whole pages as ``source`` has.

    Raises:
        OptionError: rows are no whole pages; or, where lengths are known, the source has fewer or the target some.

    Example:
        >>> from qga.cache import append
        >>> cache = empty_paged_cache(2, 4, 2, 4, pages=6, page_rows=2)
        >>> ones = jnp.ones((2, 3, 2, 4))
        >>> cache = append(cache, ones, ones, rows=jnp.array([3, 0]))
        >>> share_prefix(cache, 0, 1, 2).table
        Array([[ 0,  1, -1, -1],
               [ 0, -1, -1, -1]], dtype=int32)
    """
    lengths = cache.lengths
    known = None if isinstance(lengths, Tracer) else (int(lengths[source]), int(lengths[target]))
    if rows % cache.page_rows or rows < 0 or (known and (known[0] < rows or known[1])):
        refuse(
            OptionError, "share_prefix: an empty entry shares whole pages that another one has.",
            got=f"{rows} rows in pages of {cache.page_rows}, lengths {known or 'not known'}",
            want="a multiple of the rows of a page, up to the length of the source; a target without rows",
            fix="append the rest; release the target first.",
        )  # fmt: skip
    pages = jnp.minimum(rows, lengths[source]) // cache.page_rows
    table = _table_of("share_prefix", cache)
    shared = jnp.where(jnp.arange(table.shape[1], dtype=jnp.int32) < pages, table[source], NO_PAGE)
    return cache._replace(table=table.at[target].set(shared), lengths=lengths.at[target].set(pages * cache.page_rows))


def _table_of(name: str, cache: PagedKVCache | PlaneCache) -> Int[Array, "batch entry_pages"]:
    if cache.table is None:
        refuse(
            OptionError, f"{name}: entries share out the pages of a cache.", got="a cache whose tiles lie in order",
            want="a cache in pages", fix="make it with empty_plane_cache(..., pages=n).",
        )  # fmt: skip
    return cache.table


def in_order(cache: PagedKVCache) -> KVCache:
    """Copy the rows of each entry out of its pages, in order."""
    pages, batch = jnp.maximum(cache.table, 0), cache.shape[0]
    keys, values = (each[pages].reshape(batch, -1, *each.shape[2:]) for each in (cache.keys, cache.values))
    key_scales, value_scales = (
        each if each is None else jnp.moveaxis(each[:, pages], 0, 1).reshape(batch, each.shape[0], -1)
        for each in (cache.key_scales, cache.value_scales)
    )
    return KVCache(keys, values, jnp.minimum(cache.lengths, cache.room), key_scales, value_scales)


def claim_pages(cache: PagedKVCache, before: Counts) -> PagedKVCache:
    """Give entries free pages for their lengths, the lowest first, in the order of entries.

    Args:
        cache: with the lengths that are wanted.
        before: the lengths up to which rows were appended; an entry that has lost some of them gets no page.
    """
    has = jnp.sum(cache.table != NO_PAGE, axis=1, dtype=jnp.int32)
    wanted = -(-cache.lengths // cache.page_rows)
    wanted = jnp.where(before > has * cache.page_rows, has, wanted)
    return cache._replace(table=claim(cache.table, cache.keys.shape[0], wanted))


def claim(table: Int[Array, "batch entry_pages"], pages: int, wanted: Counts) -> Int[Array, "batch entry_pages"]:
    """Fill tables with free pages, the lowest first, in the order of entries.

    Args:
        table: of all entries.
        pages: how many there are.
        wanted: pages that each entry shall have, as far as its table is long; never fewer than it has.
    """
    entry_pages, has = table.shape[1], jnp.sum(table != NO_PAGE, axis=1, dtype=jnp.int32)
    wanted = jnp.clip(wanted, has, entry_pages)
    named = jnp.where(table == NO_PAGE, pages, table)
    is_free = jnp.ones((pages,), bool).at[named.reshape(-1)].set(False, mode="drop")
    rank = jnp.cumsum(is_free, dtype=jnp.int32)
    free = (
        jnp.full((pages,), NO_PAGE, jnp.int32)
        .at[jnp.where(is_free, rank - 1, pages)]
        .set(jnp.arange(pages, dtype=jnp.int32), mode="drop")
    )
    others = jnp.cumsum(wanted - has, dtype=jnp.int32) - (wanted - has)
    numbers = jnp.arange(entry_pages, dtype=jnp.int32)[None]
    order = others[:, None] + numbers - has[:, None]
    is_new = (numbers >= has[:, None]) & (numbers < wanted[:, None])
    taken = free.at[jnp.where(is_new, order, pages)].get(mode="fill", fill_value=NO_PAGE)
    return jnp.where(is_new, taken, table)
