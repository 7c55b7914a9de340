"""Summaries of tiles: what a bound on a tile's scores and values needs to know, and how two summaries merge."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import ShapeError, describe, refuse
from ..kernels.call import call_pallas, launch
from ..kernels.summary import around_kernel, ball_kernel, in_blocks, line_of, summary_kernel
from .state import accumulator_dtype


class Summary(NamedTuple):
    """A tile of keys k and values v, without its keys and values. A NamedTuple because it is a pytree as it stands.

    Attributes:
        members: keys in the tile, as a number of the dtype of the sums; zero for a tile without keys.
        key_sum: sum of k; the centre is ``summary_center``.
        square_sum: sum of |k|^2.
        radius: an upper bound of |k - centre|; exact in what ``summarize`` makes. Carries no derivative.
        low: smallest k along each axis; infinity for a tile without keys. Carries no derivative.
        high: largest k along each axis; minus infinity for a tile without keys. Carries no derivative.
        longest: largest |k|. Carries no derivative.
        value_sum: sum of v; the mean is ``summary_mean``.
        value_radius: an upper bound of |v - mean|. Carries no derivative.
    """

    members: Float[Array, "*tiles"]
    key_sum: Float[Array, "*tiles width"]
    square_sum: Float[Array, "*tiles"]
    radius: Float[Array, "*tiles"]
    low: Float[Array, "*tiles width"]
    high: Float[Array, "*tiles width"]
    longest: Float[Array, "*tiles"]
    value_sum: Float[Array, "*tiles channels"]
    value_radius: Float[Array, "*tiles"]


class Ball(NamedTuple):
    """What is known of where the vectors of a tile lie: the part of a ``Summary`` that needs no boxes and no values.

    Attributes:
        members: vectors in the tile.
        key_sum: their sum.
        square_sum: sum of their squared lengths.
        radius: an upper bound of their distance from their mean.
        longest: the largest length.
    """

    members: Float[Array, "*tiles"]
    key_sum: Float[Array, "*tiles width"]
    square_sum: Float[Array, "*tiles"]
    radius: Float[Array, "*tiles"]
    longest: Float[Array, "*tiles"]


class Around(NamedTuple):
    """Where the vectors of tiles lie, with any axes in front; without derivatives.

    Attributes:
        members: vectors in the tile.
        center: a point.
        norm: its length.
        square_sum: sum of the squared lengths of the vectors.
        radius: an upper bound of their distance from the point.
        longest: the largest length.
    """

    members: Float[Array, "*batch tiles"]
    center: Float[Array, "*batch tiles width"]
    norm: Float[Array, "*batch tiles"]
    square_sum: Float[Array, "*batch tiles"]
    radius: Float[Array, "*batch tiles"]
    longest: Float[Array, "*batch tiles"]


def summary_unit(width: int, channels: int, dtype: jax.typing.DTypeLike = jnp.float32) -> Summary:
    """Make the summary of a tile without keys, the unit of ``summary_merge``.

    Args:
        width: of a key.
        channels: of a value.
        dtype: of the sums.
    """
    zero, far = jnp.zeros((), dtype), jnp.full((width,), jnp.inf, dtype)
    return Summary(zero, jnp.zeros_like(far), zero, zero, far, -far, zero, jnp.zeros((channels,), dtype), zero)


def summarize(
    keys: Float[Array, "tiles tile width"],
    values: Float[Array, "tiles tile channels"],
    exists: Bool[Array, "tiles tile"],
) -> Summary:
    """Summarise each tile of keys and values.

    c = sum k / members,  r = max |k - c|,  low <= k <= high,  v likewise with its own mean and radius

    Args:
        keys: tiles from ``split``.
        values: tiles from ``split``, as many as there are keys.
        exists: True where a key exists; what stands elsewhere is not looked at.

    Returns:
        One summary for each tile, in float32 or wider. Its size is 2 width + channels + 5 numbers.

    Raises:
        ShapeError: shapes do not fit together.

    Error: sums round like sums of tile terms; a radius is off by a few eps sqrt(width) of the largest |k|.
    Source: sums and boxes are textbook; their use for attention is theory of this project.

    Example:
        >>> summarize(jnp.ones((1, 4, 2)), jnp.ones((1, 4, 3)), jnp.arange(4)[None] < 3).key_sum.tolist()
        [[3.0, 3.0]]
    """
    if keys.ndim != 3 or values.ndim != 3 or not keys.shape[:2] == values.shape[:2] == exists.shape:
        refuse(
            ShapeError,
            "summarize: keys, values and exists must have the same tiles.",
            got=f"keys {describe(keys)}, values {describe(values)}, exists {describe(exists)}",
            want="keys [tiles, tile, width], values [tiles, tile, channels], exists [tiles, tile]",
            fix="cut keys and values with qga.tiling.split; map further axes with jax.vmap.",
        )
    return _summarize(keys, values, exists)


def surround(rows: Float[Array, "rows width"], tile: int) -> Ball:
    """Find the balls that tiles of rows lie in, as ``summarize`` does; without derivatives.

    Args:
        rows: vectors.
        tile: rows of a tile.
    """
    return _surround(tile, lax.stop_gradient(rows))


def around(summary: Summary | Ball) -> Around:
    """Return where the vectors of summarised tiles lie: around their mean."""
    center = summary_center(summary)
    norm = jnp.sqrt(jnp.sum(jnp.square(center), axis=-1))
    return Around(summary.members, center, norm, summary.square_sum, summary.radius, summary.longest)


def surround_heads(rows: Float[Array, "batch rows heads width"], tile: int) -> Around:
    """Find where the tiles of each head lie, [batch, heads, tiles]; rows are read where they are.

    It has no derivative.
    """
    return _go_around(rows, tile, 0)[0]


def surround_blocks(
    rows: Float[Array, "batch rows heads width"], tile: int, blocks: int
) -> tuple[Around, Float[Array, "batch heads blocks width"]]:
    """Find where the tiles of each head lie, and the sum of the rows of each block, so many in a tile.

    It has no derivative.
    """
    found, sums = _go_around(rows, tile, blocks)
    return found, sums.reshape(*sums.shape[:2], sums.shape[2] * sums.shape[3], sums.shape[4])


@partial(jax.jit, static_argnums=(1, 2))
def _go_around(rows: Array, tile: int, blocks: int) -> tuple[Around, Float[Array, "batch heads tiles blocks width"]]:
    batch, count, heads, width = rows.shape
    # A program reads something of each row.
    rows = lax.stop_gradient(rows) if width else jnp.zeros((batch, count, heads, 1), rows.dtype)
    dtype, tiles = accumulator_dtype(rows), max(1, -(-count // tile))
    members = jnp.clip(count - jnp.arange(tiles) * tile, 0, tile).astype(dtype)

    def compiled(rows: Array) -> tuple[Array, ...]:
        line = line_of(rows)
        lines = rows.reshape(*rows.shape[:3], rows.shape[3] // line, line)
        center, *found = call_pallas(around_kernel(lines, tile, dtype, blocks), in_blocks(lines, tile, blocks))
        numbers, sums = (each[..., 0] for each in found[:4]), found[4] if blocks else center[:, :, :, None][:, :, :, :0]
        center, sums = (each.reshape(*each.shape[:-2], rows.shape[3]) for each in (center, sums))
        return center, *numbers, sums

    def executed(rows: Array) -> tuple[Array, ...]:
        found = around(jax.vmap(jax.vmap(partial(surround, tile=tile), 1))(rows))[1:]
        held = jnp.pad(rows.astype(dtype), ((0, 0), (0, tiles * tile - count), (0, 0), (0, 0)))
        held = held.reshape(batch, tiles, max(1, blocks), tile // max(1, blocks), heads, rows.shape[3])[:, :, :blocks]
        return *found, jnp.moveaxis(jnp.sum(held, axis=3), 3, 1)

    center, *numbers, sums = lax.platform_dependent(rows, vulkan=compiled, default=executed)
    members = jnp.broadcast_to(members, (batch, heads, tiles))
    return Around(members, center[..., :width], *numbers), sums[..., :width]


@partial(jax.jit, static_argnums=0)
def _surround(tile: int, rows: Array) -> Ball:
    found = Ball(*launch(ball_kernel(rows, tile, accumulator_dtype(rows)), rows))
    return Ball(*(each if name == "key_sum" else each[:, 0] for name, each in found._asdict().items()))


@jax.custom_jvp
@jax.jit
def _summarize(keys: Array, values: Array, exists: Array) -> Summary:
    kernel = summary_kernel(keys, values, exists, accumulator_dtype(keys, values))
    fields = Summary(*launch(kernel, keys, values, exists))
    single = ("members", "square_sum", "radius", "longest", "value_radius")
    return fields._replace(**{name: getattr(fields, name)[:, 0] for name in single})


@_summarize.defjvp
def _summarize_jvp(primals: tuple, tangents: tuple) -> tuple[Summary, Summary]:
    (keys, values, exists), (d_keys, d_values, _) = primals, tangents
    summary = _summarize(keys, values, exists)
    dtype, there = summary.members.dtype, exists[..., None]
    rows, d_rows, d_mixed = (jnp.where(there, each.astype(dtype), 0) for each in (keys, d_keys, d_values))
    moved = jax.tree.map(jnp.zeros_like, summary)._replace(
        key_sum=jnp.sum(d_rows, axis=1),
        square_sum=2 * jnp.sum(rows * d_rows, axis=(1, 2)),
        value_sum=jnp.sum(d_mixed, axis=1),
    )
    return summary, moved


def summary_merge(first: Summary, second: Summary) -> Summary:
    """Merge the summaries of two disjoint sets of keys into a summary of their union.

    Sums add up, boxes join, r = max_i(|c - c_i| + r_i)

    Commutative, with unit ``summary_unit``; associative in all but the radii, which may only grow: they bound the true
    radius and are exact again when a tile is summarised from its keys. Leading axes must agree or broadcast.

    Args:
        first: summaries of some tiles.
        second: summaries of others.
    """
    merged = Summary(
        members=first.members + second.members,
        key_sum=first.key_sum + second.key_sum,
        square_sum=first.square_sum + second.square_sum,
        radius=first.radius,
        low=jnp.minimum(first.low, second.low),
        high=jnp.maximum(first.high, second.high),
        longest=jnp.maximum(first.longest, second.longest),
        value_sum=first.value_sum + second.value_sum,
        value_radius=first.value_radius,
    )
    reach = partial(_reach, parts=(first, second), whole=merged)
    return merged._replace(radius=reach("key_sum", "radius"), value_radius=reach("value_sum", "value_radius"))


def summary_center(summary: Summary | Ball) -> Float[Array, "*tiles width"]:
    """Return the mean key of each tile; zero where there is none."""
    return _mean(summary, "key_sum")


def summary_mean(summary: Summary) -> Float[Array, "*tiles channels"]:
    """Return the mean value of each tile; zero where there is none."""
    return _mean(summary, "value_sum")


def summary_scatter(summary: Summary) -> Float[Array, "*tiles"]:
    """Return W = sum |k - c|^2 = sum |k|^2 - |sum k|^2 / members of each tile.

    Ward: W(1 and 2) = W(1) + W(2) + n1 n2 / (n1 + n2) |c1 - c2|^2

    Error: a few eps of ``square_sum``, which is large where the keys are far from the origin.
    Source: Ward 1963.
    """
    return summary.square_sum - jnp.sum(summary.key_sum * summary_center(summary), axis=-1)


def _reach(total: str, radius: str, *, parts: tuple[Summary, Summary], whole: Summary) -> Array:
    """Bound how far the members of a union are from its mean."""
    center = _mean(whole, total)
    reaches = []
    for part in parts:
        away = jnp.sqrt(jnp.sum(jnp.square(center - _mean(part, total)), axis=-1))
        reaches.append(jnp.where(part.members == 0, 0, away + getattr(part, radius)))
    return lax.stop_gradient(jnp.maximum(*reaches))


def _mean(summary: Summary | Ball, total: str) -> Array:
    return getattr(summary, total) / jnp.maximum(summary.members, 1)[..., None]
