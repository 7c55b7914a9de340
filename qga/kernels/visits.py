"""Which pairs of tiles are looked at, where not all are: a table of them, and lists for the tiles of one side.

A list is a run and the rest: the longest run of neighbours in which nothing is hidden is walked like a range, without
looking anything up; a program reads the rest by name and looks for what is hidden there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .call import Block, Kernel, Place, Promise, launch

FEW = 256
"""Lists of up to so many tiles are made by programs that hold them in registers; sums make longer ones."""

# Lists that one program makes: a program takes as many rounds as the longest of them.
_LINES = 2

ALONE = Promise(subgroups=1)
"""Programs of lists are one subgroup: its invocations exchange what they found without a barrier."""


class Listed(NamedTuple):
    """For each tile of one side, the tiles of the other side that it looks at.

    Attributes:
        tiles: the rest of each list, in the order of places; what stands behind its end is not looked at.
        start: the first tile of each run.
        opened: one after its last tile; the same number where there is no run.
        stop: ``opened`` and how many the rest are: rounds from start to opened are tiles, those up to stop are named.
        lead: a tile of the list, if there is any: the one at the tile's own place, if it is one; below zero where the
            reference of every query of a tile of queries is known.
        reference: log weights that weights of the queries of each tile may be taken relative to, one for each query or
            one for all, minus infinity where none is known; None for lists that have none.
    """

    tiles: Int[Array, "tiles others"]
    start: Int[Array, " tiles"]
    opened: Int[Array, " tiles"]
    stop: Int[Array, " tiles"]
    lead: Int[Array, " tiles"]
    reference: Float[Array, "tiles tile_or_one"] | None = None


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
    blocks = [lines_of(rows, size) for size in (others, others, 1)]
    kernel = Kernel(
        _list_lines, (programs_of(rows),), blocks, list_blocks(rows, others), list_results(rows, others), "list", ALONE
    )
    return unpack(launch(kernel, visited, is_open, looks[:, None]))


def programs_of(rows: int) -> int:
    """Return how many programs have so many lines, some each."""
    return -(-rows // _lines_each(rows))


def lines_of(rows: int, length: int) -> Block:
    """Cut the lines of a program; what a program lacks is padded."""
    return Block((_lines_each(rows), length), lambda i: (i, 0))


def list_blocks(rows: int, others: int) -> list[Block]:
    """Return how the fields of ``Listed`` are cut."""
    return [lines_of(rows, size) for size in (others, 1, 1, 1, 1)]


def list_results(rows: int, others: int) -> list[jax.ShapeDtypeStruct]:
    """Return what a kernel makes of the fields of ``Listed``."""
    return [jax.ShapeDtypeStruct((rows, size), jnp.int32) for size in (others, 1, 1, 1, 1)]


def unpack(results: list[Array]) -> Listed:
    """Return lists from what a kernel wrote, references among it or not."""
    return Listed(results[0], *(each[:, 0] for each in results[1:5]), *results[5:])


def _lines_each(rows: int) -> int:
    return max(1, min(_LINES, rows))


def _list_lines(place: Place, *refs: Any) -> None:
    visited, is_open, looks, *results = refs
    kept = visited[...] & looks[...]
    write_lists(place[0], kept, kept & is_open[...], jnp.ones((len(kept),), bool), results)


def write_lists(
    program: int | Array,
    kept: Bool[Array, "lines others"],
    opened: Bool[Array, "lines others"],
    is_led: Bool[Array, " lines"],
    refs: Any,
) -> None:
    """Write the lists of some tiles, inside of a kernel: looks along lines only, which few invocations share.

    Args:
        program: number of these tiles among others that are as many.
        kept: which tiles each looks at.
        opened: in which of them nothing is hidden.
        is_led: which of them name a tile that leads.
        refs: of the fields of ``Listed``.
    """
    (lines, count), columns = kept.shape, lax.broadcasted_iota(jnp.int32, kept.shape, 1)
    own = program * lines + lax.broadcasted_iota(jnp.int32, (lines,), 0)
    start, stop = _longest_run(opened, columns)
    rest = kept & ((columns < start[:, None]) | (columns >= stop[:, None]))
    how_many = jnp.sum(jnp.where(rest, 1, 0), axis=1, dtype=jnp.int32)

    def name(number: Array, held: tuple[Array, Array]) -> tuple[Array, Array]:
        last, named = held
        found = jnp.min(jnp.where(rest & (columns > last[:, None]), columns, count), axis=1)
        return found, jnp.where(columns == number, found[:, None], named)

    nothing = jnp.full((lines,), -1, jnp.int32), jnp.zeros((lines, count), jnp.int32)
    _, named = lax.fori_loop(0, jnp.max(how_many), name, nothing)
    is_own = jnp.max(jnp.where(kept & (columns == own[:, None]), 1, 0), axis=1)
    any_kept = jnp.where(stop > start, start, jnp.min(jnp.where(rest, columns, count), axis=1))
    lead = jnp.where(is_own > 0, own, jnp.where(stop - start + how_many > 0, any_kept, 0))
    lead = jnp.where(is_led, lead, -1)
    refs[0][...] = named
    for ref, found in zip(refs[1:5], (start, stop, stop + how_many, lead), strict=True):
        ref[...] = found[:, None]


def _longest_run(opened: Bool[Array, "lines others"], columns: Array) -> tuple[Array, Array]:
    """Return where the longest run of each line starts and stops, the last of equal ones; zeros where there is none."""
    lines, count = opened.shape

    def next_run(seen: Array) -> tuple[Array, Array]:
        first = jnp.min(jnp.where(opened & (columns >= seen[:, None]), columns, count), axis=1)
        return first, jnp.min(first)

    def look(held: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        first, start, stop, _ = held
        end = jnp.min(jnp.where(~opened & (columns >= first[:, None]), columns, count), axis=1)
        is_longer = (end > first) & (end - first >= stop - start)
        first_next, least = next_run(end)
        return first_next, jnp.where(is_longer, first, start), jnp.where(is_longer, end, stop), least

    nothing = jnp.zeros((lines,), jnp.int32)
    first, least = next_run(nothing)
    _, start, stop, _ = lax.while_loop(lambda held: held[3] < count, look, (first, nothing, nothing, least))
    return start, stop


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
