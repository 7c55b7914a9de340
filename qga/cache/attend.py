"""Attention to a cache: the last rows that were appended ask."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..exact.family import Member
from ..exact.grouped import attend_grouped
from ..exact.multi_head import add_sinks
from ..exact.prepare import prepare
from ..kernels.problem import DEFAULT_TILE
from ..kernels.storage import Storage
from ..tiling.state import accumulator_dtype
from .append import Cache, Rows, ValueRows, append, check_counts
from .cache import Counts, KVCache
from .paged import PagedKVCache
from .planes import PlaneCache
from .planes_attend import attend_planes
from .storage import has_scales

Queries = Float[Array, "batch rows heads width"]


def attend(
    cache: KVCache | PagedKVCache | PlaneCache, query: Queries, *, rows: Counts | None = None, **options: Any
) -> Any:
    """Mix the values of a cache by the softmax of scores: ``qga.attention`` of the rows that are there.

    The queries are those of the last rows that were appended: query i of r has place length - r + i, from which the
    causal rule, the window and ALiBi count, and sees the keys up to its own. Rows of few bits are read as they lie; a
    key's scale multiplies its scores and a value's scale its weight. Of a cache in pages, tiles are found by the table.
    Of a cache in planes, as much is read as a promise asks for, and the one query of each entry is certified.

    Args:
        cache: after ``append``.
        query: one row for each of the last rows; where entries differ, the first ``rows`` of each.
        rows: how many of the queries exist, of each entry; the others get zeros.
        options: of ``qga.attention``, with the capacity for ``keys``; ``is_causal`` is True by default. Lengths and
            offsets are the cache's own. Of a cache in planes: ``resolution``, a ``qga.tiling.Certified(eps)`` whose eps
            is in root mean square lengths of values, and ``scale``.

    Returns:
        [batch, rows, heads, channels] in the dtype of ``query``; with ``return_lse`` also log sums, as
        ``qga.attention``. Of a cache in planes also a ``qga.tiling.Certificate``, [batch, 1, heads]: bounds against
        the exact softmax of the rows that were appended, and what was read.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range; rows of few bits or in pages are asked for another metric than "dot",
            or for a derivative.

    Error: that of ``qga.attention``, and of rows of few bits what ``cache_bounds`` says, of planes the certificate.
    Cost: a pass over the rows that are there, and 2 rows lengths (width + channels) operations for each head.

    Example:
        >>> from qga.cache import empty_cache
        >>> rows = jnp.sin(jnp.arange(48.0)).reshape(1, 6, 2, 4)
        >>> cache = append(empty_cache(1, 128, 2, 4), rows, rows)
        >>> query = jnp.cos(jnp.arange(32.0)).reshape(1, 2, 4, 4)
        >>> attend(cache, query, window=(3, 0)).shape
        (1, 2, 4, 4)
    """
    if isinstance(cache, PlaneCache):
        return attend_planes(cache, query, **options)
    _check_dtypes(cache, query)
    counts = check_counts("attend", rows, cache.lengths, query.shape[1] if query.ndim == 4 else 0)
    storage = Storage(cache.key_scales, cache.value_scales, cache.table if isinstance(cache, PagedKVCache) else None)
    sinks, return_lse = options.pop("sinks", None), options.pop("return_lse", False)
    given = {"is_causal": True, "tile": DEFAULT_TILE, "derivatives": "reverse", "metric": "dot", **options}
    key, value = _stand_for(cache, query, storage, given["metric"])
    call, member, _, settled = prepare(
        "attend", query, key, value, sinks=sinks, key_lengths=jnp.minimum(cache.lengths, cache.room),
        query_offset=cache.lengths - counts, query_lengths=None if rows is None else counts, **given,
    )  # fmt: skip
    if key is not cache.keys:
        member = _as_kept(member, cache.keys, storage)
    out, log_sums = attend_grouped(member, cache.values, settled)
    if sinks is not None:
        out, log_sums = add_sinks(out, log_sums, call.by_head("sinks", sinks))
    return (out, log_sums) if return_lse else out


def decode(
    cache: Cache, query: Queries, key: Rows, value: ValueRows, *, rows: Counts | None = None, **options: Any
) -> tuple[Any, Cache]:
    """Append rows to a cache and attend to it: ``append``, then ``attend``.

    Args:
        cache: as in ``append``.
        query: as in ``attend``.
        key: as in ``append``.
        value: as in ``append``.
        rows: how many of the rows exist, of each entry; all by default.
        options: as in ``attend``.

    Returns:
        What ``attend`` returns, and the longer cache.

    Raises:
        ShapeError: as the two.
        OptionError: as the two.

    Example:
        >>> from qga.cache import empty_cache
        >>> step = jnp.sin(jnp.arange(16.0)).reshape(1, 1, 4, 4)
        >>> out, cache = decode(empty_cache(1, 128, 2, 4), step, step[:, :, :2], step[:, :, 2:])
        >>> out.shape, cache.lengths
        ((1, 1, 4, 4), Array([1], dtype=int32))
    """
    cache = append(cache, key, value, rows=rows)
    return attend(cache, query, rows=rows, **options), cache


def _stand_for(cache: KVCache | PagedKVCache, query: Queries, storage: Storage, metric: str) -> tuple[Any, Any]:
    """Return keys and values as ``qga.attention`` knows them: the kept ones, or only their shapes and dtype."""
    if cache.keys.dtype == query.dtype and not (storage.scales or storage.tables):
        return cache.keys, cache.values
    if metric != "dot":
        refuse(
            OptionError, "attend: rows of few bits or in pages are scored by inner products.", got=f"metric={metric!r}",
            want="metric='dot'", fix="keep rows in the dtype of the queries, in order.",
        )  # fmt: skip
    batch, keys, heads = cache.shape
    widths = (each.shape[-1] for each in (cache.keys, cache.values))
    key, value = (jax.ShapeDtypeStruct((batch, keys, heads, width), query.dtype) for width in widths)
    return key, value


def _as_kept(member: Member, keys: Array, storage: Storage) -> Member:
    wide = accumulator_dtype(member.queries)
    key_scales, value_scales = (each if each is None else each.astype(wide) for each in storage[:2])
    return member._replace(keys=keys, storage=Storage(key_scales, value_scales, storage.pages))


def _check_dtypes(cache: KVCache | PagedKVCache, query: Queries) -> None:
    kept = cache.keys.dtype
    fits = jnp.issubdtype(query.dtype, jnp.floating) and (
        kept == query.dtype or has_scales(kept) or jnp.finfo(kept).bits < jnp.finfo(query.dtype).bits
    )
    if not fits:
        refuse(
            ShapeError, "attend: rows are read in the dtype of the queries.",
            got=f"query {describe(query)}, keys {describe(cache.keys)}",
            want=f"real floating queries that hold every {kept.name}", fix="convert the queries with .astype.",
        )  # fmt: skip
