"""How far attention to rows of few bits can be from attention to the rows that were appended."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from ..tiling.certificate import perturbation_bounds
from ..tiling.state import accumulator_dtype
from .attend import Queries
from .cache import KVCache
from .paged import PagedKVCache, in_order
from .storage import error_of, has_scales


class CacheBounds(NamedTuple):
    """Upper bounds of the errors of attention to a cache, true whatever rows were appended.

    Attributes:
        score: of |score - score of the appended key|, for every key.
        total_variation: of half the sum of |weight - weight of the appended key| over the keys.
        out_error: of each element of the averages, in the unit of the values.
    """

    score: Float[Array, "batch rows heads"]
    total_variation: Float[Array, "batch rows heads"]
    out_error: Float[Array, "batch rows heads channels"]


def cache_bounds(
    cache: KVCache | PagedKVCache, query: Queries, *, scale: float | Float[Array, "*#batch #heads"] | None = None
) -> CacheBounds:
    """Bound what keeping rows in few bits does to ``attend``.

    |ds_j| <= e = beta |q|_1 max_j d_j,   TV <= tanh(e / 2),   |dout_c| <= TV (max_j v_jc - min_j v_jc) + max_j d'_j

    with d and d' the errors of each element of a stored key and value: half a step of its scale (``scale / 2`` of
    int8, ``16 scale`` of float8_e4m3fn), and with the values as they are stored. It holds for every query that sees
    some of the keys, with any mask, bias, ALiBi or soft cap.

    Args:
        cache: after ``append``.
        query: as in ``attend``.
        scale: inverse temperature beta, as in ``attend``.

    Returns:
        The bounds, in exact arithmetic: roundings of ``attend`` come on top. Zeros where rows are kept as they are.

    Raises:
        ShapeError: the queries do not fit the cache.

    Cost: a pass over the cache.
    Source: Theorem 2 of docs/theory/certificates.md: Birkhoff 1957, Cohen and Fausti 2023.

    Example:
        >>> from qga.cache import append, empty_cache
        >>> rows = jnp.sin(jnp.arange(48.0)).reshape(1, 6, 2, 4)
        >>> cache = append(empty_cache(1, 128, 2, 4, dtype=jnp.int8), rows, rows)
        >>> bool(cache_bounds(cache, rows[:, -1:]).out_error.max() < 0.03)
        True
    """
    cache = in_order(cache) if isinstance(cache, PagedKVCache) else cache
    heads, width = cache.keys.shape[2:]
    if query.ndim != 4 or query.shape[0] != cache.keys.shape[0] or query.shape[3] != width or query.shape[2] % heads:
        refuse(
            ShapeError, "cache_bounds: queries must fit the cache.", got=f"query {describe(query)}",
            want=f"[{cache.keys.shape[0]}, rows, a multiple of {heads}, {width}]", fix="pass what attend is given.",
        )  # fmt: skip
    dtype, group = accumulator_dtype(query), query.shape[2] // heads
    beta = jnp.abs(jnp.asarray(1 / math.sqrt(max(width, 1)) if scale is None else scale, dtype))
    beta = jnp.broadcast_to(beta, (query.shape[0], query.shape[2]))[:, None]
    of_keys, of_values, spread = (jnp.repeat(each, group, axis=2) for each in _kept_errors(cache, dtype))
    score = beta * jnp.sum(jnp.abs(query.astype(dtype)), axis=-1) * of_keys
    distance = perturbation_bounds(2 * score).total_variation
    return CacheBounds(score, distance, distance[..., None] * spread + of_values[..., None])


def _kept_errors(cache: KVCache, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
    """Return the largest errors of keys and of values of each entry and head, and how far stored values lie apart."""
    exists = jnp.arange(cache.capacity, dtype=jnp.int32)[None, :, None] < cache.lengths[:, None, None]
    kept = cache.keys.dtype
    if cache.key_scales is None or cache.value_scales is None or not has_scales(kept):
        nothing = jnp.zeros((cache.shape[0], 1, cache.shape[2]), dtype)
        return nothing, nothing, jnp.zeros((*nothing.shape, cache.values.shape[-1]), dtype)
    scales = [jnp.swapaxes(each.astype(dtype), 1, 2) for each in (cache.key_scales, cache.value_scales)]
    of_keys, of_values = (
        jnp.max(jnp.where(exists, error_of(each, kept), 0), axis=1, initial=0, keepdims=True) for each in scales
    )
    values = cache.values.astype(dtype) * scales[1][..., None]
    high, low = (
        jnp.max(jnp.where(exists[..., None], sign * values, -jnp.inf), axis=1, initial=-jnp.inf, keepdims=True)
        for sign in (1, -1)
    )
    return of_keys, of_values, jnp.where(high == -jnp.inf, 0, high + low)
