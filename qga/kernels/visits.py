"""Which tiles of keys a tile of queries visits, where not all of them: lists, the same pairs told from both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Visits(NamedTuple):
    """Pairs of a tile of queries and a tile of keys that are looked at, listed for each tile of either side.

    Tiles of both sides are as long as a program's own tile; a list names those in which nothing is hidden first, in
    the order of their places, then those in which something may be.

    Attributes:
        keys: tiles of keys that each tile of queries visits; what stands behind a list's end is not looked at.
        keys_open: how many of each list hide nothing.
        keys_count: how long each list is.
        queries: tiles of queries that visit each tile of keys, likewise.
        queries_open: how many of each list hide nothing.
        queries_count: how long each list is.
    """

    keys: Int[Array, "query_tiles key_tiles"]
    keys_open: Int[Array, " query_tiles"]
    keys_count: Int[Array, " query_tiles"]
    queries: Int[Array, "key_tiles query_tiles"]
    queries_open: Int[Array, " key_tiles"]
    queries_count: Int[Array, " key_tiles"]

    @property
    def by_query(self) -> Sequence[Any]:
        """The list of a tile of queries."""
        return self[:3]

    @property
    def by_key(self) -> Sequence[Any]:
        """The list of a tile of keys."""
        return self[3:]


def list_visits(visited: Bool[Array, "query_tiles key_tiles"], is_open: Bool[Array, "query_tiles key_tiles"]) -> Visits:
    """List the pairs of tiles that are visited.

    Args:
        visited: which pairs are looked at.
        is_open: in which of them nothing is hidden.
    """
    return Visits(*_list(visited, is_open), *_list(visited.T, is_open.T))


def _list(visited: Array, is_open: Array) -> tuple[Array, Array, Array]:
    """Write the columns of each row one after the other: a stable counting sort of three kinds."""
    kinds = visited & is_open, visited & ~is_open, ~visited
    counts = [jnp.sum(kind, axis=1, dtype=jnp.int32) for kind in kinds]
    starts = jnp.zeros_like(counts[0]), counts[0], counts[0] + counts[1]
    places = jnp.zeros(visited.shape, jnp.int32)
    for kind, start in zip(kinds, starts, strict=True):
        places = jnp.where(kind, start[:, None] + jnp.cumsum(kind, axis=1, dtype=jnp.int32) - 1, places)
    rows, columns = (jnp.arange(size, dtype=jnp.int32) for size in visited.shape)
    numbers = jnp.broadcast_to(columns[None], visited.shape)
    listed = jnp.zeros(visited.shape, jnp.int32).at[rows[:, None], places].set(numbers, unique_indices=True)
    return listed, counts[0], counts[0] + counts[1]
