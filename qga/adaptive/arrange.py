"""Points in an order in which neighbours stand together, in tiles of every level."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..kernels.problem import program_rows
from .curve import curve_order, inverse
from .point_plan import BRANCHES, Balls, Points, level_count, surround_points


class Arranged(NamedTuple):
    """Points in order, padded to whole tiles of every level.

    Attributes:
        queries: minus a point that is near all of them.
        keys: minus the same one.
        columns: 1 and the values of each key; zeros where there is none.
        places: of each query in the order.
        query_balls: of each level, from coarse to fine.
        key_balls: likewise, of key heads.
        counts: queries and keys that exist.
        tile: rows of a tile of the finest level.
    """

    queries: Points
    keys: Float[Array, "key_heads keys width"]
    columns: Float[Array, "key_heads keys columns"]
    places: Int[Array, "heads queries"]
    query_balls: list[Balls]
    key_balls: list[Balls]
    counts: tuple[int, int]
    tile: int

    @property
    def group(self) -> int:
        """Query heads that share keys."""
        return len(self.queries) // len(self.keys)

    @property
    def values(self) -> Float[Array, "key_heads keys channels"]:
        """Values of the keys that exist."""
        return self.columns[:, : self.counts[1], 1:]

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles of the finest level that have queries and keys."""
        queries, keys = (-(-count // self.tile) for count in self.counts)
        return queries, keys

    @property
    def sizes(self) -> list[int]:
        """Rows of a tile of each level, from coarse to fine."""
        return [self.tile * BRANCHES**step for step in reversed(range(len(self.key_balls)))]


def arrange(
    query: Points, key: Float[Array, "key_heads keys width"], value: Float[Array, "key_heads keys channels"]
) -> Arranged:
    """Put points in order, pad them, and find the balls of their tiles.

    Args:
        query: of each head.
        key: of heads that divide those of the queries.
        value: of each key.
    """
    tile = program_rows(query.dtype.itemsize, key.shape[2], value.shape[2])
    counts = query.shape[1], key.shape[1]
    levels = level_count(-(-min(counts) // tile))
    unit = tile * BRANCHES**levels
    orders = [jax.vmap(curve_order)(lax.stop_gradient(each)) for each in (query, key)]
    # Rows that do not exist stand where the last one does.
    padded = [jnp.pad(each, ((0, 0), (0, -each.shape[1] % unit)), mode="edge") for each in orders]
    # Squares keep their digits near the origin; a key in the middle of the order is never far from all of them.
    middle = lax.stop_gradient(_take(key, orders[1][:, counts[1] // 2][:, None]))
    queries = _take(query, padded[0]) - jnp.repeat(middle, len(query) // len(key), axis=0)
    keys = _take(key, padded[1]) - middle
    exist = [jnp.arange(each.shape[1]) < count for each, count in zip(padded, counts, strict=True)]
    columns = jnp.concatenate([jnp.ones((*key.shape[:2], 1), value.dtype), value], axis=2)
    columns = jnp.where(exist[1][None, :, None], _take(columns, padded[1]), 0)
    sizes = [tile * BRANCHES**step for step in reversed(range(levels + 1))]
    still = [lax.stop_gradient(points) for points in (queries, keys)]
    by_query, by_key = ([surround_points(still[side], exist[side], size) for size in sizes] for side in (0, 1))
    return Arranged(queries, keys, columns, jax.vmap(inverse)(orders[0]), by_query, by_key, counts, tile)


def _take(rows: Float[Array, "heads rows width"], order: Int[Array, "heads taken"]) -> Array:
    return jax.vmap(lambda each, places: each[places])(rows, order)
