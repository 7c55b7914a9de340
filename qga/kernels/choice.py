"""The choice of tiles as a kernel: a program for each tile of queries leaves out the lightest and lists the others."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .call import Block, Kernel, Place
from .visits import line_of, list_blocks, list_results, write_list

Line = Float[Array, " query_tiles"]


def choice_kernel(
    upper: Float[Array, "query_tiles key_tiles"],
    is_open: Bool[Array, "query_tiles key_tiles"],
    seeds: Bool[Array, "query_tiles key_tiles"],
    room: Line,
    log_sums: Float[Array, " queries"],
    tile: int,
) -> Kernel:
    """Return the kernel of ``qga.adaptive.choose.keep_within``; its results are a table and the fields of ``Listed``.

    Args:
        upper: at least the log weight of each tile; minus infinity where everything is hidden.
        is_open: whether nothing is.
        seeds: tiles that are kept in any case.
        room: what the log sums of a tile of queries are raised by: as much may be left out.
        log_sums: of the seeds, of each query.
        tile: rows of a tile of queries.
    """
    del is_open, seeds, room, log_sums
    rows, others = upper.shape
    return Kernel(
        _choose,
        (rows,),
        [line_of(others), line_of(others), line_of(others), line_of(1), Block((tile,), lambda i: (i,), repeats=True)],
        [line_of(others), *list_blocks(others)],
        [jax.ShapeDtypeStruct((rows, others), jnp.bool_), *list_results(rows, others)],
        "choice",
    )


def _choose(place: Place, *refs: Any) -> None:
    upper_ref, open_ref, seeds_ref, room_ref, sums_ref, visited_ref, *lists = refs
    upper, seeds = upper_ref[...], seeds_ref[...]
    room = jnp.min(sums_ref[...]) + room_ref[...]
    is_hidden = upper == -jnp.inf
    relative = jnp.where(is_hidden, -jnp.inf, upper - room)
    weights = jnp.exp(relative)
    is_lighter = relative[:, None] <= relative[None, :]
    mass = jnp.sum(jnp.where(is_lighter, weights[:, None], 0), axis=0)
    # Nothing is lighter than what is no number.
    is_kept = seeds | ~(mass <= 1) | (relative != relative)
    kept = is_kept & ~is_hidden
    visited_ref[...] = kept
    write_list(place[0], kept, kept & open_ref[...], lists)
