"""Put points in an order in which neighbours stand together: along a Hilbert curve, without a sort."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# Bits of a place on the curve, shared out among the axes, and how many of them a pass of the sort looks at.
_CURVE_BITS, _PASS_BITS = 28, 4
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
    return _sort(_places(_grid(points[:, :axes].T, bits), bits), axes * bits)


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


def _sort(numbers: Int[Array, " rows"], bits: int) -> Int[Array, " rows"]:
    """Return the order of numbers below 2^bits, equal ones in the order in which they stand."""
    digits = jnp.arange(2**_PASS_BITS, dtype=jnp.int32)[:, None]

    def pass_of(step: Array, held: Array) -> Array:
        digit = lax.shift_right_logical(held[:, 0], jnp.broadcast_to(_PASS_BITS * step, held[:, 0].shape))
        is_here = (digit & (2**_PASS_BITS - 1))[None] == digits
        reached = jnp.cumsum(is_here.reshape(-1), dtype=jnp.int32).reshape(is_here.shape)
        places = jnp.sum(jnp.where(is_here, reached, 0), axis=0, dtype=jnp.int32) - 1
        return jnp.zeros_like(held).at[places].set(held, unique_indices=True)

    held = jnp.stack([numbers, jnp.arange(len(numbers), dtype=jnp.int32)], axis=1)
    return lax.fori_loop(0, -(-bits // _PASS_BITS), pass_of, held)[:, 1]


def inverse(order: Int[Array, " rows"]) -> Int[Array, " rows"]:
    """Return where each row stands in an order."""
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=jnp.int32), unique_indices=True)
