"""Summaries of tiles as a kernel: a program for each tile."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .call import Block, Kernel, Place


def summary_kernel(
    keys: Float[Array, "tiles tile width"],
    values: Float[Array, "tiles tile channels"],
    exists: Bool[Array, "tiles tile"],
    dtype: jnp.dtype,
) -> Kernel:
    """Return the kernel of ``qga.tiling.summarize``; its results are the fields of ``Summary``, single numbers as [1].

    Args:
        keys: tiles of keys.
        values: their values.
        exists: True where a key exists.
        dtype: of the results.
    """
    (tiles, tile, width), channels = keys.shape, values.shape[2]
    columns = (1, width, 1, 1, width, width, 1, channels, 1)
    inputs = [Block((None, tile, size), lambda i: (i, 0, 0)) for size in (width, channels)]
    return Kernel(
        _summarize,
        (tiles,),
        [*inputs, Block((None, exists.shape[1]), lambda i: (i, 0))],
        [Block((None, size), lambda i: (i, 0)) for size in columns],
        [jax.ShapeDtypeStruct((tiles, size), dtype) for size in columns],
        "summary",
    )


def row_summary_kernel(
    keys: Float[Array, "keys width"], values: Float[Array, "keys channels"], tile: int, dtype: jnp.dtype
) -> Kernel:
    """Return the kernel of ``summary_kernel`` for rows that are not cut into tiles; those of the last may be fewer.

    Args:
        keys: one row for each place.
        values: their values.
        tile: rows of a tile.
        dtype: of the results.
    """
    (rows, width), channels = keys.shape, values.shape[1]
    tiles, columns = max(1, -(-rows // tile)), (1, width, 1, 1, width, width, 1, channels, 1)
    return Kernel(
        partial(_summarize_rows, rows=rows, tile=tile),
        (tiles,),
        [Block((tile, size), lambda i: (i, 0)) for size in (width, channels)],
        [Block((None, size), lambda i: (i, 0)) for size in columns],
        [jax.ShapeDtypeStruct((tiles, size), dtype) for size in columns],
        "row_summary",
    )


def _summarize(place: Place, *refs: Any) -> None:
    del place
    keys_ref, values_ref, exists_ref, *outputs = refs
    _write(keys_ref, values_ref, exists_ref[...][:, None], *outputs)


def _summarize_rows(place: Place, *refs: Any, rows: int, tile: int) -> None:
    keys_ref, values_ref, *outputs = refs
    exists = place[0] * tile + lax.broadcasted_iota(jnp.int32, (tile, 1), 0) < rows
    _write(keys_ref, values_ref, exists, *outputs)


def _write(keys_ref: Any, values_ref: Any, exists: Array, *outputs: Any) -> None:
    count_ref, *rest = outputs
    key_sum, square_sum, radius, low, high, longest, value_sum, value_radius = rest
    dtype = count_ref.dtype
    keys, values = (jnp.where(exists, ref[...].astype(dtype), 0) for ref in (keys_ref, values_ref))
    count = jnp.sum(exists.astype(dtype), axis=0)
    count_ref[...] = count
    squares = jnp.sum(jnp.square(keys), axis=1)
    square_sum[...] = jnp.sum(squares)[None]
    longest[...] = jnp.sqrt(jnp.max(squares))[None]
    low[...] = jnp.min(jnp.where(exists, keys, jnp.inf), axis=0)
    high[...] = jnp.max(jnp.where(exists, keys, -jnp.inf), axis=0)
    for rows, sum_ref, radius_ref in ((keys, key_sum, radius), (values, value_sum, value_radius)):
        total = jnp.sum(rows, axis=0)
        away = jnp.where(exists, rows - (total / jnp.maximum(count, 1))[None, :], 0)
        sum_ref[...] = total
        radius_ref[...] = jnp.sqrt(jnp.max(jnp.sum(jnp.square(away), axis=1)))[None]
