"""Put points in an order in which neighbours stand together: along a Hilbert curve, without a sort."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# Bits of a place on the curve, shared out among the axes, and how many of them a pass of the sort looks at.
_CURVE_BITS, _PASS_BITS = 28, 4
# Numbers whose places are counted together.
_BLOCK = 64
# More axes than these have too few bits each.
_MOST_AXES = 3


def curve_order(points: Float[Array, "rows width"]) -> Int[Array, " rows"]:
    """Return the rows in their order along a Hilbert curve through their first three axes.

    Any piece of the curve is connected, so that consecutive rows are tiles of small radius. Points that share a cell of
    the grid keep their order.

    Args:
        points: one a row; what is no number counts as the origin of the grid.

    Source: Skilling 2004 for the curve; the sort is the textbook one by digits, of sums and scatters.
    """
    axes = min(points.shape[1], _MOST_AXES)
    bits = min(_CURVE_BITS // axes, 24)
    return sort_lines(_places(_grid(points[:, :axes].T, bits), bits)[None], axes * bits)[0]


def _grid(points: Float[Array, "axes rows"], bits: int) -> Int[Array, "axes rows"]:
    """Round points to the cells of a grid over the box that they lie in."""
    low, high = (jnp.min(points, axis=1, keepdims=True), jnp.max(points, axis=1, keepdims=True))
    side = jnp.max(high - low)
    unit = (points - low) / jnp.where(side > 0, side, 1)
    unit = jnp.where(jnp.isfinite(unit), jnp.clip(unit, 0, 1), 0)
    return jnp.minimum((unit * 2**bits).astype(jnp.int32), 2**bits - 1)


def _places(cells: Int[Array, "axes rows"], bits: int) -> Int[Array, " rows"]:
    """Return the place of each cell on the curve."""
    axes = cells.shape[0]

    def undo(step: Array, cells: Array) -> Array:
        bit = lax.shift_left(1, bits - 1 - step)
        below, rows = bit - 1, list(cells)
        for axis in range(axes):
            is_set = (rows[axis] & bit) != 0
            swap = jnp.where(is_set, 0, (rows[0] ^ rows[axis]) & below)
            rows[axis] ^= swap
            rows[0] ^= jnp.where(is_set, below, swap)
        return jnp.stack(rows)

    rows = list(lax.fori_loop(0, bits - 1, undo, cells))
    for axis in range(1, axes):
        rows[axis] ^= rows[axis - 1]
    # Below each set bit of the last axis all bits turn over: the parity of the bits above.
    turned = lax.shift_right_logical(rows[-1], 1)
    for shift in (1, 2, 4, 8, 16):
        turned ^= lax.shift_right_logical(turned, shift)
    rows = [row ^ turned for row in rows]

    def weave(step: Array, place: Array) -> Array:
        for row in rows:
            place = 2 * place + (lax.shift_right_logical(row, jnp.broadcast_to(bits - 1 - step, row.shape)) & 1)
        return place

    return lax.fori_loop(0, bits, weave, jnp.zeros_like(rows[0]))


def sort_lines(numbers: Int[Array, "lines rows"], bits: int) -> Int[Array, "lines rows"]:
    """Return the order of numbers of each line from 0 to below 2^bits, equal ones in the order in which they stand.

    Places are counted in blocks, and blocks by their sums, so that no core counts along a whole line.
    """
    lines, rows = numbers.shape
    blocks = -(-rows // _BLOCK)
    digits = jnp.arange(2**_PASS_BITS, dtype=jnp.int32)[None, :, None, None]
    line, block = jnp.arange(lines, dtype=jnp.int32)[:, None], jnp.arange(blocks, dtype=jnp.int32)[None, :, None]
    is_before = jnp.tri(_BLOCK, k=-1, dtype=bool)[None, None]

    def pass_of(step: int, held: Array) -> Array:
        shifted = lax.shift_right_logical(held[..., 0], jnp.full_like(held[..., 0], _PASS_BITS * step))
        digit = (shifted & (2**_PASS_BITS - 1)).reshape(lines, blocks, _BLOCK)
        is_same = digit[..., None] == digit[..., None, :]
        within = jnp.sum(is_same & is_before, axis=3, dtype=jnp.int32)
        counts = jnp.sum(digit[:, None] == digits, axis=3, dtype=jnp.int32).reshape(lines, -1)
        before = jnp.cumsum(counts, axis=1, dtype=jnp.int32) - counts
        places = within + before[line[..., None], digit * blocks + block]
        return jnp.zeros_like(held).at[line, places.reshape(lines, -1)].set(held, unique_indices=True)

    padded = jnp.pad(numbers, ((0, 0), (0, blocks * _BLOCK - rows)), constant_values=2**bits - 1)
    held = jnp.stack([padded, jnp.broadcast_to(jnp.arange(padded.shape[1], dtype=jnp.int32), padded.shape)], axis=2)
    for step in range(-(-bits // _PASS_BITS)):
        held = pass_of(step, held)
    return held[:, :rows, 1]


def inverse(order: Int[Array, " rows"]) -> Int[Array, " rows"]:
    """Return where each row stands in an order."""
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=jnp.int32), unique_indices=True)
