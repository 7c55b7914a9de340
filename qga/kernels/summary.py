"""Summaries of tiles as a kernel: a program for each tile."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .call import Block, Kernel, Place, Promise

# Subgroups of a program: a row that few invocations share is summed in few exchanges.
_SUBGROUPS = 4
# Bytes that one load brings.
_LINES = 16, 8


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


def ball_kernel(rows: Float[Array, "rows width"], tile: int, dtype: jnp.dtype) -> Kernel:
    """Return the kernel of ``qga.tiling.summary.surround``; its results are the fields of ``Ball``.

    Args:
        rows: vectors; those of the last tile may be fewer.
        tile: rows of a tile.
        dtype: of the results.
    """
    count, width = rows.shape
    columns = (1, width, 1, 1, 1)
    tiles = max(1, -(-count // tile))
    return Kernel(
        partial(_surround, rows=count, tile=tile),
        (tiles,),
        [Block((tile, width), lambda i: (i, 0))],
        [Block((None, size), lambda i: (i, 0)) for size in columns],
        [jax.ShapeDtypeStruct((tiles, size), dtype) for size in columns],
        "ball",
    )


def line_of(rows: Float[Array, "*batch width"]) -> int:
    """Return into how many elements at a time the width is cut, so that one load brings them; all where none fit."""
    width, size = rows.shape[-1], rows.dtype.itemsize
    return next((each // size for each in _LINES if width * size % each == 0), max(1, width))


def around_kernel(
    rows: Float[Array, "batch rows heads lines line"], tile: int, dtype: jnp.dtype, blocks: int = 0
) -> Kernel:
    """Return the kernel that finds where the rows of the tiles of all heads lie, of an operand ``in_blocks``.

    Its results have axes [batch, heads, tiles]: centres, their lengths, sums of squares, radii, the largest lengths;
    where blocks are asked for also the sums of the rows of each block of a tile.

    Args:
        rows: vectors, in lines that a load can bring; those of the last tile may be fewer.
        tile: rows of a tile.
        dtype: of the results.
        blocks: of neighbours in a tile, equally long; none for 0.
    """
    batch, count, heads, *width = rows.shape
    tiles = max(1, -(-count // tile))
    columns = (tuple(width), (1,), (1,), (1,), (1,), *([(blocks, *width)] if blocks else []))
    # Blocks are an axis from the beginning: rows that lie in registers would be cut through shared memory.
    inner = (blocks, tile // blocks) if blocks else (tile,)

    def at(entry: int | Array, i: int | Array, head: int | Array) -> tuple[int | Array, ...]:
        return (entry, i, *(0,) * (len(inner) - 1), head, 0, 0)

    return Kernel(
        partial(_go_around, rows=count, tile=tile),
        # Rows of all heads lie side by side: who reads them together finds memory open.
        (batch, tiles, heads),
        [Block((None, *inner, None, *width), at)],
        [Block((None, None, None, *sizes), partial(_at_tile, len(sizes))) for sizes in columns],
        [jax.ShapeDtypeStruct((batch, heads, tiles, *sizes), dtype) for sizes in columns],
        "around",
        Promise(subgroups=_SUBGROUPS // 2 if blocks else _SUBGROUPS),
    )


def in_blocks(rows: Float[Array, "batch rows heads lines line"], tile: int, blocks: int) -> Array:
    """Return rows as ``around_kernel`` reads them: with an axis of the rows of a block, where there are blocks."""
    if not blocks:
        return rows
    size = tile // blocks
    rows = jnp.pad(rows, ((0, 0), (0, -rows.shape[1] % size), (0, 0), (0, 0), (0, 0)))
    return rows.reshape(rows.shape[0], -1, size, *rows.shape[2:])


def _at_tile(axes: int, entry: int | Array, i: int | Array, head: int | Array) -> tuple[int | Array, ...]:
    return (entry, head, i, *(0,) * axes)


def _summarize(place: Place, *refs: Any) -> None:
    del place
    keys_ref, values_ref, exists_ref, count_ref, *rest = refs
    key_sum, square_sum, radius, low, high, longest, value_sum, value_radius = rest
    exists, dtype = exists_ref[...][:, None], count_ref.dtype
    keys, values = (jnp.where(exists, ref[...].astype(dtype), 0) for ref in (keys_ref, values_ref))
    count = jnp.sum(exists.astype(dtype), axis=0)
    count_ref[...] = count
    squares = jnp.sum(jnp.square(keys), axis=1)
    square_sum[...] = jnp.sum(squares)[None]
    longest[...] = jnp.sqrt(jnp.max(squares))[None]
    low[...] = jnp.min(jnp.where(exists, keys, jnp.inf), axis=0)
    high[...] = jnp.max(jnp.where(exists, keys, -jnp.inf), axis=0)
    for rows, sum_ref, radius_ref in ((keys, key_sum, radius), (values, value_sum, value_radius)):
        sum_ref[...], radius_ref[...] = _center(rows, exists, count)


def _surround(place: Place, *refs: Any, rows: int, tile: int) -> None:
    rows_ref, count_ref, sum_ref, square_sum, radius_ref, longest = refs
    exists = place[0] * tile + lax.broadcasted_iota(jnp.int32, (tile, 1), 0) < rows
    held = jnp.where(exists, rows_ref[...].astype(count_ref.dtype), 0)
    count = jnp.sum(exists.astype(count_ref.dtype), axis=0)
    squares = jnp.sum(jnp.square(held), axis=1)
    count_ref[...], square_sum[...], longest[...] = count, jnp.sum(squares)[None], jnp.sqrt(jnp.max(squares))[None]
    sum_ref[...], radius_ref[...] = _center(held, exists, count)


def _go_around(place: Place, *refs: Any, rows: int, tile: int) -> None:
    rows_ref, center_ref, norm_ref, square_sum, radius_ref, longest, *sums = refs
    dtype = center_ref.dtype
    held, count, exists = rows_ref[...].astype(dtype), jnp.asarray(tile, dtype), None
    inner, axes = held.shape[:-2], (held.ndim - 2, held.ndim - 1)
    if rows % tile:
        numbers = lax.broadcasted_iota(jnp.int32, (*inner, 1, 1), len(inner) - 1)
        if sums:
            numbers += inner[1] * lax.broadcasted_iota(jnp.int32, (*inner, 1, 1), 0)
        exists = place[1] * tile + numbers < rows
        held = jnp.where(exists, held, 0)
        count = jnp.clip(rows - place[1] * tile, 1, tile).astype(dtype)
    squares, center = jnp.sum(jnp.square(held), axis=axes), held
    for ref in sums:
        ref[...] = center = jnp.sum(held, axis=1)
    center = jnp.sum(center, axis=0) / count
    away = held - center.reshape(*(1,) * len(inner), *center.shape)
    away = jnp.sum(jnp.square(away if exists is None else jnp.where(exists, away, 0)), axis=axes)
    center_ref[...] = center
    for ref, found in (
        (norm_ref, jnp.sqrt(jnp.sum(jnp.square(center)))), (square_sum, jnp.sum(squares)),
        (radius_ref, jnp.sqrt(jnp.max(away))), (longest, jnp.sqrt(jnp.max(squares))),
    ):  # fmt: skip
        ref[...] = found[None]


def _center(rows: Array, exists: Array, count: Array) -> tuple[Array, Array]:
    """Return the sum of rows, and the largest distance of one from the mean."""
    total = jnp.sum(rows, axis=0)
    away = jnp.where(exists, rows - (total / jnp.maximum(count, 1))[None, :], 0)
    return total, jnp.sqrt(jnp.max(jnp.sum(jnp.square(away), axis=1)))[None]
