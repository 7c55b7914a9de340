"""Kernels of a head: one chooses what is read of its tiles, the other joins what was found and certifies it.

What a kernel does is a function of a head. Where a head has more tiles than a workgroup has registers for, or more
queries, the same functions are mapped over all heads by JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from ..kernels.call import Block, Kernel, Place, Promise, launch
from ..tiling.certificate import Certificate
from .planes_bounds import Bounds, Measures, Recent, bound, certify, choose_levels, log_sum, look_at_recent
from .planes_kernel import SKIP, Asking, OfTiles

# Tiles of a head, times queries, that a workgroup holds in registers; queries that are written out one by one.
_MOST_TILES, _MOST_QUERIES = 8192, 8
# Tiles for each subgroup, as far as there may be subgroups.
_OF_SUBGROUP, _MOST_SUBGROUPS = 64, 16
# Numbers of 32 bits that are read of each tile for its bounds: three of keys and four of values.
_MEASURES = 7
# What a certificate says of each query.
_NUMBERS = {
    **dict.fromkeys(("kl", "total_variation", "skipped", "out_error", "value_scale"), jnp.float32),
    **dict.fromkeys(("tiles_exact", "tiles_half", "tiles_coarse", "tiles_skipped", "tiles_mixed"), jnp.int32),
    "bytes_read": jnp.int32,
    "sound": jnp.bool_,
}


class Kept(NamedTuple):
    """What is known of the tiles of all heads, and the rows that fill none.

    Attributes:
        keys: measures of the keys of each tile, [batch, key_heads, tiles] each.
        values: likewise.
        squares: sums of the squares of values, likewise.
        recent_keys: rows that fill no tile.
        recent_values: likewise.
    """

    keys: Measures
    values: Measures
    squares: Float[Array, "batch key_heads tiles"]
    recent_keys: Shaped[Array, "batch key_heads tile width"]
    recent_values: Shaped[Array, "batch key_heads tile channels"]


class Found(NamedTuple):
    """What was read: levels, the scale of the values, and the states of parts."""

    levels: Int[Array, "batch key_heads tiles"]
    scale: Float[Array, "batch key_heads one"]
    peak: Float[Array, "batch key_heads parts group"]
    mass: Float[Array, "batch key_heads parts group"]
    total: Float[Array, "batch key_heads parts group channels"]


def choose_all(
    asking: Asking, log_sums: OfTiles, kept: Kept, *, eps: float, dtype: jnp.dtype
) -> tuple[Int[Array, "batch key_heads tiles"], Float[Array, "batch key_heads one"]]:
    """Choose what is read of each tile of each head; return also the root mean square length of its values."""
    batch, heads, tiles, group = log_sums.shape
    function = partial(_choose, scale=asking.scale, eps=eps, dtype=dtype)
    if not _fits(log_sums):
        of_queries = [log_sums[..., number] for number in range(group)]
        over_heads = jax.vmap(function, in_axes=(None, 0, 0, 0))
        return jax.vmap(over_heads)(asking.rows, _by_channel(asking), of_queries, kept)
    # Each query's log sums are an operand of their own.
    leaves, tree = jax.tree.flatten((asking.rows, _by_channel(asking), [log_sums] * group, kept))
    numbers = [None, *range(group), *[None] * len(jax.tree.leaves(kept))]
    results = [
        jax.ShapeDtypeStruct((batch, heads, tiles), jnp.int32),
        jax.ShapeDtypeStruct((batch, heads, 1), jnp.float32),
    ]
    kernel = Kernel(
        partial(_call, function=function, tree=tree, results=len(results)),
        (batch, heads),
        [
            Block((batch,), lambda entry, head: (0,)),
            *[_of_head(each.shape, number) for each, number in zip(leaves[1:], numbers, strict=True)],
        ],
        [_of_head(each.shape) for each in results],
        results,
        "plane_levels",
        # A choice of levels promises nothing: certificates are of what was chosen, with exponentials of their own, and
        # find what is no number whatever was read.
        replace(_promise(tiles), driver_exp=True, nan_in_extrema=False),
    )
    levels, scales = launch(kernel, *leaves)
    return levels, scales


def finish_all(
    asking: Asking, log_sums: OfTiles, kept: Kept, found: Found, *, eps: float, dtype: jnp.dtype
) -> tuple[Float[Array, "batch key_heads group channels"], Certificate]:
    """Join the states of all parts and certify the average of each query."""
    batch, heads, tiles, group = log_sums.shape
    function = partial(_finish, scale=asking.scale, eps=eps, dtype=dtype)
    given = (asking.rows, _by_channel(asking), log_sums, kept, found)
    # Along which axis of what is of a head queries lie.
    nowhere = jax.tree.map(lambda _: -1, (kept, found))
    axes = (-1, 0, 1, nowhere[0], nowhere[1]._replace(peak=1, mass=1, total=1))
    if not _fits(log_sums):
        over_queries = jax.vmap(function, in_axes=jax.tree.map(lambda axis: None if axis < 0 else axis, axes))
        over_heads = jax.vmap(over_queries, in_axes=(None, 0, 0, 0, 0))
        out, *numbers = jax.vmap(over_heads)(*given)
        return out, _named(numbers)
    results = [
        jax.ShapeDtypeStruct((batch, heads, group, kept.recent_values.shape[3]), dtype),
        *[jax.ShapeDtypeStruct((batch, heads, group, 1), kind) for kind in _NUMBERS.values()],
    ]
    leaves, tree = jax.tree.flatten(given)
    kernel = Kernel(
        partial(_call, function=function, tree=tree, results=len(results)),
        (batch, heads, group),
        [
            Block((batch,), lambda entry, head, query: (0,)),
            *[_of_query(each.shape, axis) for each, axis in zip(leaves[1:], jax.tree.leaves(axes)[1:], strict=True)],
        ],
        [_of_query(each.shape, 0) for each in results],
        results,
        "plane_certificate",
        _promise(tiles),
    )
    out, *numbers = launch(kernel, *leaves)
    return out, _named([each[..., 0] for each in numbers])


def _by_channel(asking: Asking) -> Shaped[Array, "batch key_heads group width"]:
    return asking.queries.reshape(*asking.queries.shape[:3], -1)


def _named(numbers: Sequence[Array]) -> Certificate:
    named: dict[str, Any] = dict(zip(_NUMBERS, numbers, strict=True))
    return Certificate(**named)


def _fits(log_sums: OfTiles) -> bool:
    tiles, group = log_sums.shape[2:]
    return tiles * group <= _MOST_TILES and group <= _MOST_QUERIES


def _promise(tiles: int) -> Promise:
    wanted = 1
    while wanted < _MOST_SUBGROUPS and wanted * _OF_SUBGROUP < tiles:
        wanted *= 2
    return Promise(subgroups=wanted)


def _of_head(shape: tuple[int, ...], number: int | None = None) -> Block:
    """Cut an array for a head, or for a query of it, that lies along the last axis."""
    if number is None:
        return Block((None, None, *shape[2:]), lambda entry, head: (entry, head, *(0,) * (len(shape) - 2)))
    return Block((None, None, *shape[2:-1], None), lambda entry, head: (entry, head, *(0,) * (len(shape) - 3), number))


def _of_query(shape: tuple[int, ...], axis: int) -> Block:
    """Cut an array for a head, or for a query that lies along an axis after the first two."""
    sizes = [None if place == axis else size for place, size in enumerate(shape[2:])]
    return Block(
        (None, None, *sizes),
        lambda entry, head, query: (entry, head, *[query if place == axis else 0 for place in range(len(sizes))]),
    )


def _call(place: Place, rows: Any, *refs: Any, function: Callable[..., Any], tree: Any, results: int) -> None:
    """Call a function of a head, or of one of its queries, with what lies in blocks."""
    given = [rows[place[0]], *[ref[...] for ref in refs[:-results]]]
    found = jax.tree.leaves(function(*jax.tree.unflatten(tree, given)))
    for ref, value in zip(refs[-results:], found, strict=True):
        ref[...] = value.astype(ref.dtype).reshape(ref.shape)


def _choose(
    rows: Array, queries: Array, log_sums: list[Array], kept: Kept, *, scale: float, eps: float, dtype: jnp.dtype
) -> tuple[Array, Array]:
    rows, tile = _that_fit(rows, kept), kept.recent_keys.shape[0]
    bounds = [_bound(rows, queries[number], each, kept, scale) for number, each in enumerate(log_sums)]
    unit = _value_scale(rows, kept)
    levels = choose_levels(bounds, eps * unit, grid=2 / tile, dtype=dtype)
    return jnp.where(_exists(rows, kept), levels, SKIP), unit[None]


def _that_fit(rows: Array, kept: Kept) -> Array:
    """Return how many rows an entry has that it has room for: those that came last were dropped."""
    return jnp.minimum(rows, kept.squares.shape[0] * kept.recent_keys.shape[0])


def _exists(rows: Array, kept: Kept) -> Bool[Array, " tiles"]:
    return jnp.arange(kept.squares.shape[0], dtype=jnp.int32) < rows // kept.recent_keys.shape[0]


def _bound(rows: Array, query: Array, log_sums: Array, kept: Kept, scale: float) -> Bounds:
    """Bound what tiles may contribute to one query."""
    asked, tile = query.astype(jnp.float32) * scale, kept.recent_keys.shape[0]
    recent = look_at_recent(asked, kept.recent_keys, kept.recent_values, rows % tile)
    return bound(asked, jnp.where(_exists(rows, kept), log_sums, -jnp.inf), kept.keys, kept.values, recent)


def _value_scale(rows: Array, kept: Kept) -> Float[Array, ""]:
    """Return the root of the mean square of the lengths of values."""
    of_tiles, tile = jnp.where(_exists(rows, kept), kept.squares, 0), kept.recent_keys.shape[0]
    of_rows = jnp.sum(jnp.square(kept.recent_values.astype(jnp.float32)), axis=1)
    is_recent = jnp.arange(tile, dtype=jnp.int32) < rows % tile
    total = jnp.sum(of_tiles) + jnp.sum(jnp.where(is_recent, of_rows, 0))
    return jnp.sqrt(total / jnp.maximum(rows, 1).astype(jnp.float32))


def _finish(
    rows: Array, query: Array, log_sums: Array, kept: Kept, found: Found, *, scale: float, eps: float, dtype: jnp.dtype
) -> tuple[Array, ...]:
    """Return the average of a query and the numbers of its certificate."""
    rows, unit = _that_fit(rows, kept), found.scale[0]
    bounds = _bound(rows, query, log_sums, kept, scale)
    is_skipped = found.levels == SKIP
    # What is left out keeps its weight, at a value of zero, so that the others keep theirs.
    left = log_sum(jnp.where(is_skipped, bounds.log_sums, -jnp.inf))
    average, total_log = _join(bounds.recent, kept.recent_values, found, left)
    length, channels = jnp.sqrt(jnp.sum(jnp.square(average))), average.shape[0]
    certificate = certify(bounds, found.levels, (length, total_log), unit, eps=eps, channels=channels, dtype=dtype)
    error = certificate.out_error
    # A bound that is no number says that something that was kept is none.
    out = jnp.where(jnp.isnan(error), jnp.nan, average).astype(dtype)
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    read = _bytes_read(rows, certificate, kept)
    numbers = certificate._replace(out_error=error, bytes_read=read)._asdict()
    return out, *[numbers[name] for name in _NUMBERS]


def _join(
    recent: Recent, recent_values: Array, found: Found, left: Array
) -> tuple[Float[Array, " channels"], Float[Array, ""]]:
    """Join the states of parts, of recent rows and of what was left out; return the average and the log sum."""
    peak = jnp.maximum(jnp.maximum(jnp.max(found.peak), jnp.max(recent.scores)), left)
    base = jnp.where(peak == -jnp.inf, 0, peak)
    factors, weights = jnp.exp(found.peak - base), jnp.exp(recent.scores - base)
    mass = jnp.sum(factors * found.mass) + jnp.sum(weights) + jnp.exp(left - base)
    values = jnp.where((recent.scores == -jnp.inf)[:, None], 0, recent_values.astype(jnp.float32))
    total = jnp.sum(factors[:, None] * found.total, axis=0) + jnp.sum(weights[:, None] * values, axis=0)
    # A sum of nothing is zero, and so is its average.
    return total / jnp.where(mass == 0, 1, mass), jnp.where(mass == 0, -jnp.inf, base + jnp.log(mass))


def _bytes_read(rows: Array, certificate: Certificate, kept: Kept) -> Int[Array, ""]:
    """Count the bytes that are read of a cache: planes, grids, measures, and rows that are kept as they are."""
    (tile, width), channels = kept.recent_keys.shape, kept.recent_values.shape[1]
    of_keys, of_values, grids = tile * width, tile * channels, [2 * width, 2 * channels]
    least = of_keys + grids[0] + 4 * _MEASURES
    halves, mixed, both = certificate.tiles_half, certificate.tiles_mixed, certificate.tiles_exact
    assert mixed is not None
    read = rows // tile * least + (halves + mixed + both) * (of_values + grids[1])
    row = kept.recent_keys.dtype.itemsize * (width + channels)
    return read + (mixed + both) * of_keys + both * of_values + row * (rows % tile)
