"""Attention to a cache in two planes: what is read of a tile is chosen by bounds, and every query is certified.

scores of all tiles -> levels -> sums over the tiles that count -> joined and certified: four kernels
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..tiling.certificate import Certificate
from ..tiling.plan import Certified
from .planes import PlaneCache, Planes
from .planes_bounds import Measures
from .planes_bytes import WORD
from .planes_heads import Found, Kept, choose_all, finish_all
from .planes_kernel import Asking, score_tiles, sum_tiles


def attend_planes(
    cache: PlaneCache,
    query: Float[Array, "batch one heads width"],
    *,
    resolution: Certified,
    scale: float | Float[Array, "*#batch #heads"] | None = None,
) -> tuple[Float[Array, "batch one heads channels"], Certificate]:
    """Attend to a cache in two planes and certify each query; ``qga.cache.attend`` says what it is given."""
    _check(cache, query, resolution)
    batch, _, heads, width = query.shape
    if scale is None or isinstance(scale, int | float):
        beta, asked = 1 / math.sqrt(max(width, 1)) if scale is None else float(scale), query
    else:
        # Numbers that are known at run time only are multiplied now.
        factors = jnp.broadcast_to(scale, (batch, heads))[:, None, :, None]
        beta, asked = 1.0, query.astype(jnp.float32) * factors.astype(jnp.float32)
    return _attend(cache, asked, scale=beta, eps=resolution.eps, dtype=query.dtype)


@partial(jax.jit, static_argnames=("scale", "eps", "dtype"))
def _attend(
    cache: PlaneCache, query: Float[Array, "batch one heads width"], *, scale: float, eps: float, dtype: jnp.dtype
) -> tuple[Array, Certificate]:
    asking = _ask(cache, query, scale)
    scores, log_sums = score_tiles(asking, cache.keys, cache.tiles)
    kept = _kept(cache, asking.table)
    levels, unit = choose_all(asking, log_sums, kept, eps=eps, dtype=dtype)
    parts = sum_tiles(asking, levels, scores, (cache.keys, cache.values))
    out, certificate = finish_all(asking, log_sums, kept, Found(levels, unit, *parts), eps=eps, dtype=dtype)
    batch, channels = query.shape[0], cache.recent_values.shape[3]
    return out.reshape(batch, 1, -1, channels), jax.tree.map(lambda each: each.reshape(batch, 1, -1), certificate)


def _ask(cache: PlaneCache, query: Array, scale: float) -> Asking:
    batch, _, _, width = query.shape
    words = query.reshape(batch, cache.shape[2], -1, width // WORD, WORD)
    if cache.table is None:
        return Asking(words, cache.lengths, None, scale)
    # An entry that has lost rows has whole tiles only.
    rows = jnp.where(cache.lengths <= cache.room, cache.lengths, cache.places * cache.tile)
    return Asking(words, rows, jnp.maximum(cache.table, 0), scale)


def _kept(cache: PlaneCache, table: Array | None) -> Kept:
    def of_entries(each: Float[Array, "some key_heads any"]) -> Array:
        return each if table is None else jnp.moveaxis(jnp.take(each[0], table, axis=1), 0, 1)

    def measures(planes: Planes) -> Measures:
        return of_entries(planes.error_high), of_entries(planes.error_both), of_entries(planes.size)

    measured = measures(cache.keys), measures(cache.values), of_entries(cache.squares)
    return Kept(*measured, cache.recent_keys, cache.recent_values)


def _check(cache: PlaneCache, query: Array, resolution: Any) -> None:
    if not isinstance(resolution, Certified) or not 0 < resolution.eps < 1:
        refuse(
            OptionError, "attend: a cache in planes is read within a promise.", got=f"resolution={resolution!r}",
            want="qga.tiling.Certified(eps) with 0 < eps < 1, of the root mean square length of values",
            fix="pass resolution=qga.tiling.Certified(1e-2).",
        )  # fmt: skip
    batch, _, heads = cache.shape
    width, is_real = cache.recent_keys.shape[3], jnp.issubdtype(query.dtype, jnp.floating)
    fits = query.ndim == 4 and query.shape[:2] == (batch, 1) and query.shape[3] == width and is_real
    if not fits or query.shape[2] % heads or jnp.finfo(query.dtype).bits > 32:
        refuse(
            ShapeError, "attend: the last row asks a cache in planes, in at most 32 bits.",
            got=f"query {describe(query)}", want=f"[{batch}, 1, a multiple of {heads}, {width}]",
            fix="ask row by row, or keep rows in an empty_cache.",
        )  # fmt: skip
