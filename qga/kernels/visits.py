"""Which pairs of tiles are looked at, where not all are: a table of them, and lists for the tiles of one side."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

# Lists up to this length are sorted by comparing all pairs of their elements, in two reductions; longer ones by sums.
_FEW = 256


class Visits(NamedTuple):
    """Pairs of a tile of queries and a tile of keys; tiles of both sides are as long as a program's own tile.

    Attributes:
        visited: which pairs are looked at.
        is_open: in which of them no key is hidden from any query, for sure.
    """

    visited: Bool[Array, "query_tiles key_tiles"]
    is_open: Bool[Array, "query_tiles key_tiles"]


class Listed(NamedTuple):
    """For each tile of one side, the tiles of the other side that it looks at.

    A list names those first in which nothing is hidden, then the others, each in the order of their places.

    Attributes:
        tiles: the lists; what stands behind a list's end is not looked at.
        opened: how many of each list hide nothing.
        stop: how long each list is.
    """

    tiles: Int[Array, "tiles others"]
    opened: Int[Array, " tiles"]
    stop: Int[Array, " tiles"]


def list_visits(visits: Visits, *, by_key: bool = False) -> Listed:
    """List what each tile of queries looks at, or by what each tile of keys is looked at."""
    visited, is_open = (each.T for each in visits) if by_key else visits
    # 0 for open, 1 for what may hide, 2 for what is left out: a stable sort by kind.
    kind = jnp.where(visited, 1 - is_open.astype(jnp.int32), 2)
    opened, stop = (jnp.sum(kind <= last, axis=1, dtype=jnp.int32) for last in (0, 1))
    sort = _sort_few if kind.shape[1] <= _FEW else _sort_many
    return Listed(sort(kind), opened, stop)


def _sort_few(kind: Int[Array, "tiles others"]) -> Int[Array, "tiles others"]:
    numbers = jnp.arange(kind.shape[1], dtype=jnp.int32)
    # One number for each, all different: by kind, then by place.
    order = kind * kind.shape[1] + numbers[None]
    places = jnp.sum(order[:, None, :] < order[:, :, None], axis=2, dtype=jnp.int32)
    is_here = places[:, None, :] == numbers[None, :, None]
    return jnp.sum(jnp.where(is_here, numbers[None, None], 0), axis=2, dtype=jnp.int32)


def _sort_many(kind: Int[Array, "tiles others"]) -> Int[Array, "tiles others"]:
    places, before = jnp.zeros_like(kind), jnp.zeros_like(kind[:, :1])
    for number in range(3):
        is_here = kind == number
        reached = jnp.cumsum(is_here, axis=1, dtype=jnp.int32)
        places = jnp.where(is_here, before + reached - 1, places)
        before += reached[:, -1:]
    rows, columns = (jnp.arange(size, dtype=jnp.int32) for size in kind.shape)
    numbers = jnp.broadcast_to(columns[None], kind.shape)
    return jnp.zeros_like(kind).at[rows[:, None], places].set(numbers, unique_indices=True)
