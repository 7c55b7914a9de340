"""Which pairs of tiles are looked at, where not all are: a table of them, and lists for the tiles of one side.

A list is a run and the rest: the longest run of neighbours in which nothing is hidden is walked like a range, without
looking anything up; a program reads the rest by name and looks for what is hidden there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from .call import Block, Kernel, Place, launch

FEW = 256
"""A list of up to so many tiles is made by one program, which compares all pairs of its elements; sums make others."""


class Listed(NamedTuple):
    """For each tile of one side, the tiles of the other side that it looks at.

    Attributes:
        tiles: the rest of each list, in the order of places; what stands behind its end is not looked at.
        start: the first tile of each run.
        opened: one after its last tile; the same number where there is no run.
        stop: ``opened`` and how many the rest are: rounds from start to opened are tiles, those up to stop are named.
        lead: a tile of the list, if there is any: the one at the tile's own place, if it is one.
    """

    tiles: Int[Array, "tiles others"]
    start: Int[Array, " tiles"]
    opened: Int[Array, " tiles"]
    stop: Int[Array, " tiles"]
    lead: Int[Array, " tiles"]


class Visits(NamedTuple):
    """Pairs of a tile of queries and a tile of keys; tiles of both sides are as long as a program's own tile.

    Attributes:
        visited: which pairs are looked at.
        is_open: in which of them no key is hidden from any query, for sure.
        listed: the lists of the tiles of queries, where they are made already.
    """

    visited: Bool[Array, "query_tiles key_tiles"]
    is_open: Bool[Array, "query_tiles key_tiles"]
    listed: Listed | None = None


def list_visits(visits: Visits, *, by_key: bool = False) -> Listed:
    """List what each tile of queries looks at, or by what each tile of keys is looked at."""
    if visits.listed is not None and not by_key:
        return visits.listed
    visited, is_open = (each.T for each in visits[:2]) if by_key else visits[:2]
    return list_some(visited, is_open, jnp.ones((len(visited),), bool))


@jax.jit
def list_some(
    visited: Bool[Array, "tiles others"], is_open: Bool[Array, "tiles others"], looks: Bool[Array, " tiles"]
) -> Listed:
    """List what tiles of one side look at, where they look at anything."""
    if visited.shape[1] > FEW:
        return _list_by_sums(visited & looks[:, None], is_open)
    rows, others = visited.shape
    blocks = [line_of(others), line_of(others), line_of(1)]
    kernel = Kernel(_list_one, (rows,), blocks, list_blocks(others), list_results(rows, others), "list")
    return unpack(launch(kernel, visited, is_open, looks[:, None]))


def line_of(length: int) -> Block:
    """Cut one line for each program."""
    return Block((None, length), lambda i: (i, 0))


def list_blocks(others: int) -> list[Block]:
    """Return how the fields of ``Listed`` are cut."""
    return [line_of(size) for size in (others, 1, 1, 1, 1)]


def list_results(rows: int, others: int) -> list[jax.ShapeDtypeStruct]:
    """Return what a kernel makes of the fields of ``Listed``."""
    return [jax.ShapeDtypeStruct((rows, size), jnp.int32) for size in (others, 1, 1, 1, 1)]


def unpack(results: list[Array]) -> Listed:
    """Return lists from what a kernel wrote."""
    return Listed(results[0], *(each[:, 0] for each in results[1:5]))


def _list_one(place: Place, *refs: Any) -> None:
    visited, is_open, looks, *results = refs
    kept = visited[...] & looks[...]
    write_list(place[0], kept, kept & is_open[...], results)


def write_list(own: int | Array, kept: Bool[Array, " others"], opened: Bool[Array, " others"], refs: Any) -> None:
    """Write the list of one tile, inside of a kernel.

    Args:
        own: number of the tile.
        kept: which tiles it looks at.
        opened: in which of them nothing is hidden.
        refs: of the fields of ``Listed``.
    """
    count = kept.shape[0]
    # Element i of what has one axis lies along rows, element j along columns.
    rows, columns = (lax.broadcasted_iota(jnp.int32, (count, count), axis) for axis in (0, 1))
    numbers = lax.broadcasted_iota(jnp.int32, (count,), 0)
    ends = jnp.where(opened, 0, numbers + 1)
    first = jnp.max(jnp.where(rows <= columns, ends[:, None], 0), axis=0)
    length = numbers + 1 - first
    longest = jnp.max(length)
    stop = jnp.max(jnp.where(length == longest, numbers + 1, 0))
    start = jnp.where(longest > 0, stop - longest, 0)
    stop = jnp.where(longest > 0, stop, 0)
    rest = kept & ((numbers < start) | (numbers >= stop))
    order = jnp.sum(jnp.where((rows < columns) & rest[:, None], 1, 0), axis=0)
    order = jnp.where(rest, order, count)
    named = jnp.sum(jnp.where(order[:, None] == columns, numbers[:, None], 0), axis=0)
    how_many = jnp.sum(jnp.where(rest, 1, 0))
    is_own = jnp.max(jnp.where(kept & (numbers == own), 1, 0))
    any_kept = jnp.where(longest > 0, start, jnp.sum(jnp.where(order == 0, numbers, 0)))
    lead = jnp.where(is_own > 0, own, any_kept)
    for ref, found in zip(refs, (named, start, stop, stop + how_many, lead), strict=True):
        ref[...] = found if found.ndim else found[None]


def _list_by_sums(visited: Array, is_open: Array) -> Listed:
    numbers = jnp.arange(visited.shape[1], dtype=jnp.int32)[None]
    first = lax.cummax(jnp.where(visited & is_open, 0, numbers + 1), axis=1)
    length = numbers + 1 - first
    longest = jnp.max(length, axis=1, keepdims=True)
    stop = jnp.max(jnp.where((length == longest) & (longest > 0), numbers + 1, 0), axis=1, keepdims=True)
    start = stop - longest
    rest = visited & ((numbers < start) | (numbers >= stop))
    reached = jnp.cumsum(rest, axis=1, dtype=jnp.int32)
    # What is not in a list goes beyond its end, and so nowhere.
    places = jnp.where(rest, reached - 1, visited.shape[1])
    lines = jnp.arange(visited.shape[0], dtype=jnp.int32)[:, None]
    named = jnp.zeros(visited.shape, jnp.int32)
    named = named.at[lines, places].set(jnp.broadcast_to(numbers, visited.shape), mode="drop")
    stop, start = stop[:, 0], start[:, 0]
    is_own = jnp.any(visited & (numbers == lines), axis=1)
    lead = jnp.where(is_own, lines[:, 0], jnp.where(stop > start, start, named[:, 0]))
    return Listed(named, start, stop, stop + reached[:, -1], lead)
