"""Points in slabs: sorted along one axis and cut, each slab along the next axis, down to tiles that are boxes."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .curve import inverse, sort_lines

Points = Float[Array, "heads rows width"]

# Bits of a coordinate that slabs are sorted by; the largest number stands for rows that do not exist.
_BITS = 12


@dataclass(frozen=True)
class Cut:
    """How rows are cut: slabs along each axis, the last ones of which are tiles.

    Attributes:
        slabs: how many there are of each axis in a slab of the axis before.
        rows: of a tile.
        count: rows that exist; they stand before all others.
    """

    slabs: tuple[int, ...]
    rows: int
    count: int

    @property
    def tiles(self) -> int:
        """Tiles in all."""
        return prod(self.slabs)

    @property
    def total(self) -> int:
        """Rows of all tiles."""
        return self.tiles * self.rows

    @property
    def middle(self) -> int:
        """The place of a row in the middle of a slab in the middle, of each axis."""
        place, size = 0, self.total
        for slabs in self.slabs:
            size //= slabs
            place += slabs // 2 * size
        return min(place + self.rows // 2, self.count - 1)


def cut_rows(count: int, rows: int, axes: int) -> Cut:
    """Cut so many rows into tiles that are about as wide along each axis."""
    left, slabs = -(-count // rows), ()
    for axis in range(axes, 0, -1):
        some = ceil(round(left ** (1 / axis), 6))
        left = -(-left // some)
        slabs = (*slabs, some)
    return Cut(slabs, rows, count)


class Arranged(NamedTuple):
    """Points in order, padded to whole tiles.

    Attributes:
        queries: minus a point that is near all of them.
        keys: minus the same one.
        columns: 1 and the values of each key; zeros where there is none.
        places: of each query in the order.
        cuts: of queries and of keys.
    """

    queries: Points
    keys: Float[Array, "key_heads keys width"]
    columns: Float[Array, "key_heads keys columns"]
    places: Int[Array, "heads queries"]
    cuts: tuple[Cut, Cut]

    @property
    def group(self) -> int:
        """Query heads that share keys."""
        return len(self.queries) // len(self.keys)

    @property
    def there(self) -> tuple[Points, Points]:
        """Queries and keys that exist."""
        return self.queries[:, : self.cuts[0].count], self.keys[:, : self.cuts[1].count]

    @property
    def values(self) -> Float[Array, "key_heads keys channels"]:
        """Values of the keys that exist."""
        return self.columns[:, : self.cuts[1].count, 1:]


def arrange(
    query: Points, key: Float[Array, "key_heads keys width"], value: Float[Array, "key_heads keys channels"], rows: int
) -> Arranged:
    """Put points in order, and pad them to tiles.

    Args:
        query: of each head.
        key: of heads that divide those of the queries.
        value: of each key.
        rows: of a tile.
    """
    cuts = [cut_rows(each.shape[1], rows, each.shape[2]) for each in (query, key)]
    orders = [_order(lax.stop_gradient(each), cut) for each, cut in zip((query, key), cuts, strict=True)]
    # Rows that do not exist stand where the last one does.
    taken = [jnp.minimum(order, cut.count - 1) for order, cut in zip(orders, cuts, strict=True)]
    # Squares keep their digits near the origin; a key in the middle of a slab is never far from all of them.
    middle = lax.stop_gradient(take(key, taken[1][:, cuts[1].middle][:, None]))
    queries = take(query, taken[0]) - jnp.repeat(middle, len(query) // len(key), axis=0)
    keys = take(key, taken[1]) - middle
    columns = jnp.concatenate([jnp.ones((*key.shape[:2], 1), value.dtype), value], axis=2)
    columns = jnp.where(exist(cuts[1])[None, :, None], take(columns, taken[1]), 0)
    return Arranged(queries, keys, columns, jax.vmap(inverse)(orders[0])[:, : cuts[0].count], (cuts[0], cuts[1]))


def exist(cut: Cut) -> Bool[Array, " rows"]:
    """Return which rows exist."""
    return jnp.arange(cut.total) < cut.count


def take(rows: Float[Array, "heads rows width"], order: Int[Array, "heads taken"]) -> Array:
    """Take rows of each head."""
    return jax.vmap(lambda each, places: each[places])(rows, order)


def _order(points: Points, cut: Cut) -> Int[Array, "heads rows"]:
    """Sort along the first axis, and what lies in each slab along the next one."""
    heads = len(points)
    cells = jnp.pad(_cells(points), ((0, 0), (0, cut.total - cut.count), (0, 0)), constant_values=2**_BITS - 1)
    order = jnp.broadcast_to(jnp.arange(cut.total, dtype=jnp.int32), (heads, cut.total))
    for axis in range(len(cut.slabs)):
        lines = heads * prod(cut.slabs[:axis])
        numbers = take(cells[..., axis, None], order).reshape(lines, -1)
        places = sort_lines(numbers, _BITS)
        order = take(order.reshape(lines, -1, 1), places).reshape(heads, -1)
    return order


def _cells(points: Points) -> Int[Array, "heads rows width"]:
    """Round coordinates to integers below 2^_BITS - 1; what is no number counts as the least."""
    plain = jnp.where(jnp.isfinite(points), points, jnp.nan)
    low, high = jnp.nanmin(plain, axis=1, keepdims=True), jnp.nanmax(plain, axis=1, keepdims=True)
    unit = (points - low) / jnp.where(high > low, high - low, 1)
    unit = jnp.where(jnp.isfinite(unit), jnp.clip(unit, 0, 1), 0)
    return jnp.minimum((unit * (2**_BITS - 1)).astype(jnp.int32), 2**_BITS - 2)
