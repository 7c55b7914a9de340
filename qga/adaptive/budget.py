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
# Halvings of the interval in which a threshold lies; what is left of it is a tie.
_HALVINGS = 32
# A product of a share and a whole number that rounds to just below a whole number is that number.
_ROUNDED_UP = 1 + 1e-6


def is_possible(budget: Budget) -> bool:
    """Tell whether exactly one amount is given: a whole number of at least 1, or a share above 0 and up to 1."""
    amounts: list[Any] = list(budget.amounts.values())
    return len(amounts) == 1 and _is_amount(amounts[0])


def _is_amount(amount: Any) -> bool:
    if isinstance(amount, int):
        return amount >= 1
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
        return jnp.minimum(visible, amount)
    reached = jnp.cumsum(visible, axis=2, dtype=jnp.int32)
    share = jnp.asarray(amount, jnp.float32)
    if isinstance(amount, int):
        # In float32, for a head may read more than 2^31 bytes.
        of_tile = cost.bytes if name == "bytes" else cost.flops * tile
        share = jnp.minimum(amount / of_tile / jnp.maximum(reached[..., -1:], 1).astype(jnp.float32), 1)
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
    is_finite = jnp.isfinite(order)
    is_there = jnp.any(is_finite, axis=3)
    low = jnp.where(is_there, jnp.min(jnp.where(is_finite, order, jnp.inf), axis=3), 0)
    high = jnp.where(is_there, jnp.max(jnp.where(is_finite, order, -jnp.inf), axis=3), 0)
    # Everything lies above the lower end, and nothing finite above the upper one.
    low = low - 1 - jnp.abs(low) / 2

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) / 2
        fits = jnp.sum(order > middle[..., None], axis=3, dtype=jnp.int32) <= counts
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    low, high = lax.fori_loop(0, _HALVINGS, halve, (low, high))
    above = order > high[..., None]
    tied = (order > low[..., None]) & ~above
    # Where what is infinite alone is too many, it is the tie.
    is_full = jnp.sum(above, axis=3, dtype=jnp.int32) > counts
    above, tied = above & ~is_full[..., None], jnp.where(is_full[..., None], above, tied)
    room = counts - jnp.sum(above, axis=3, dtype=jnp.int32)
    return above | (tied & (jnp.cumsum(tied, axis=3, dtype=jnp.int32) <= room[..., None]))
