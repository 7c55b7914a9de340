"""Which tiles are kept where an amount of work is given: the heaviest by their bounds, until it is spent."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..tiling.plan import Budget
from .bounds import Tiles, Visited
from .work import Price, TileCounts

# Up to this many tiles of keys are ranked by comparing all pairs; with more a threshold is found by bisection.
_FEW = 256
# Tiles of a head at most: a larger amount buys all of them, too.
_MOST = 2**31 - 1
# A product of a share and a whole number that rounds to just below a whole number is that number.
_ROUNDED_UP = 1 + 1e-6


def is_possible(budget: Budget) -> bool:
    """Tell whether exactly one amount is given: a whole number of at least 1, or a share above 0 and up to 1."""
    amounts: list[Any] = list(budget.amounts.values())
    return len(amounts) == 1 and _is_amount(amounts[0])


def _is_amount(amount: Any) -> bool:
    if isinstance(amount, int):
        return not isinstance(amount, bool) and amount >= 1
    return isinstance(amount, float) and 0 < amount <= 1


def tile_counts(budget: Budget, seen: Visited, cost: Price, tile: int) -> TileCounts:
    """Say how many tiles each tile of queries may keep.

    A number of tiles is every query's own. Bytes, operations and shares are a head's: a tile of queries gets the part
    of them that it has in exact attention, rounded so that the sum over the head is right to less than a tile.

    Args:
        budget: what is given.
        seen: tiles in which something may be seen.
        cost: of a tile of keys for a tile of queries in exact attention.
        tile: rows of a tile of queries.
    """
    ((name, amount),) = budget.amounts.items()
    visible = jnp.sum(seen, axis=3, dtype=jnp.int32)
    if name == "tiles" and isinstance(amount, int):
        return jnp.minimum(visible, min(amount, _MOST))
    reached = jnp.cumsum(visible, axis=2, dtype=jnp.int32)
    if isinstance(amount, float):
        share = jnp.asarray(amount, jnp.float32)
    else:
        # In float32, for a head may read more than 2^31 bytes.
        of_tile = cost.bytes if name == "bytes" else cost.flops * tile
        bought = min(amount, of_tile * _MOST) / of_tile
        share = jnp.minimum(bought / jnp.maximum(reached[..., -1:], 1).astype(jnp.float32), 1)
    spent = jnp.floor(share * reached.astype(jnp.float32) * _ROUNDED_UP).astype(jnp.int32)
    spent = jnp.minimum(spent, reached)
    return jnp.diff(spent, axis=2, prepend=0)


def keep_heaviest(upper: Tiles, seeds: Visited, counts: TileCounts) -> Visited:
    """Keep the seeds, and of the other tiles the heaviest by their bounds, this many in all.

    Args:
        upper: of the log weights of tiles; minus infinity where everything is hidden, which is never kept. What is no
            number may weigh anything, and comes first.
        seeds: tiles that are kept whatever the counts say.
        counts: of tiles of each tile of queries. Of equal tiles the first are kept.
    """
    order = jnp.where(seeds | jnp.isnan(upper), jnp.inf, upper)
    rank = _rank_few if upper.shape[3] <= _FEW else _rank_many
    return seeds | ((upper != -jnp.inf) & rank(order, counts))


def _rank_few(order: Tiles, counts: TileCounts) -> Visited:
    one, other = order[..., :, None], order[..., None, :]
    shape = (*order.shape, order.shape[3])
    is_first = lax.broadcasted_iota(jnp.int32, shape, 4) < lax.broadcasted_iota(jnp.int32, shape, 3)
    is_before = (other > one) | ((other == one) & is_first)
    return jnp.sum(is_before, axis=4, dtype=jnp.int32) < counts[..., None]


def _rank_many(order: Tiles, counts: TileCounts) -> Visited:
    # Whole numbers in the same order: halvings end at one number, however far apart the floats are.
    placed = _as_integers(order)
    info = jnp.iinfo(placed.dtype)
    # Everything lies above the lower end, and nothing above the upper one.
    ends = (jnp.full(counts.shape, end, placed.dtype) for end in (info.min, info.max))

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)
        fits = jnp.sum(placed > middle[..., None], axis=3, dtype=jnp.int32) <= counts
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    limit = lax.fori_loop(0, info.bits, halve, tuple(ends))[1][..., None]
    above, tied = placed > limit, placed == limit
    room = counts - jnp.sum(above, axis=3, dtype=jnp.int32)
    return above | (tied & (jnp.cumsum(tied, axis=3, dtype=jnp.int32) <= room[..., None]))


def _as_integers(numbers: Tiles) -> Array:
    """Return integers that are in the order of floats, infinities among them, and equal where these are."""
    info = jnp.iinfo(f"int{8 * numbers.dtype.itemsize}")
    bits = lax.bitcast_convert_type(jnp.where(numbers == 0, 0, numbers), info.dtype)
    return jnp.where(bits < 0, bits ^ info.max, bits)
