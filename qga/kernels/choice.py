"""The choice of tiles as a kernel: it leaves out the lightest for each tile of queries and lists the others."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .call import Kernel, Place
from .visits import ALONE, lines_of, list_blocks, list_results, programs_of, write_lists

# Halvings of the interval in which a threshold lies: it is log tiles long, and a thousandth of a nat is near enough.
_HALVINGS = 12
# How far the bound of a tile may lie above the least log sum of a query where weights are relative to that: numbers of
# 16 bits have room for 11 nats, and scores of independent rows reach less than half of what their lengths allow.
_REACH = 28.0

Lead = Literal["tile", "each", "least"]
"""What weights are relative to: scores of a "tile", log sums of "each" query, or the "least" of a tile of queries."""


def choice_kernel(
    upper: Float[Array, "query_tiles key_tiles"],
    is_open: Bool[Array, "query_tiles key_tiles"],
    seeds: Bool[Array, "query_tiles key_tiles"],
    room: Float[Array, "query_tiles one"],
    log_sums: Float[Array, "query_tiles parts"],
    *,
    lead: Lead,
) -> Kernel:
    """Return the kernel of ``qga.adaptive.choose.keep_within``; its results are a table and the fields of ``Listed``.

    Args:
        upper: at least the log weight of each tile; minus infinity where everything is hidden.
        is_open: whether nothing is.
        seeds: tiles that are kept in any case.
        room: what the log sums of a tile of queries are raised by: as much may be left out.
        log_sums: of parts of the queries; infinity where there is none.
        lead: what kept tiles are taken relative to; no tile leads where log sums are known. The least ones are one more
            result.
    """
    del is_open, seeds, room
    rows, others = upper.shape
    sizes = others, others, others, 1, log_sums.shape[1]
    least = [(rows, 1)] if lead == "least" else []
    return Kernel(
        partial(_choose, lead=lead),
        (programs_of(rows),),
        [lines_of(rows, size) for size in sizes],
        [lines_of(rows, others), *list_blocks(rows, others), *(lines_of(*size) for size in least)],
        [
            jax.ShapeDtypeStruct((rows, others), jnp.bool_),
            *list_results(rows, others),
            *(jax.ShapeDtypeStruct(size, log_sums.dtype) for size in least),
        ],
        "choice",
        ALONE,
    )


def leads_by_tile(
    lead: Lead, upper: Float[Array, "lines others"], least: Float[Array, " lines"]
) -> Bool[Array, " lines"]:
    """Tell for which tiles of queries weights are relative to scores of a tile."""
    if lead == "tile":
        return jnp.ones(least.shape, bool)
    is_known = jnp.abs(least) < jnp.inf
    if lead == "each":
        return ~is_known
    return ~(is_known & (jnp.max(upper, axis=1) - least <= _REACH))


def _choose(place: Place, *refs: Any, lead: Lead) -> None:
    upper_ref, open_ref, seeds_ref, room_ref, sums_ref, visited_ref, *lists = refs
    upper, seeds = upper_ref[...], seeds_ref[...]
    least = jnp.min(sums_ref[...], axis=1)
    room = room_of(least, room_ref[...][:, 0])
    is_hidden = upper == -jnp.inf
    relative = jnp.where(is_hidden, -jnp.inf, upper - room[:, None])
    # What is no number is never lighter than a threshold, and is kept.
    kept = (seeds | ~(relative <= _threshold(relative)[:, None])) & ~is_hidden
    visited_ref[...] = kept
    write_lists(place[0], kept, kept & open_ref[...], leads_by_tile(lead, upper, least), lists)
    for ref in lists[5:]:
        ref[...] = least[:, None]


def room_of(log_sum: Float[Array, " lines"], log_share: Float[Array, " lines"]) -> Float[Array, " lines"]:
    """Return at most the log of what a share of a sum is: their sum, less what it may round by."""
    room = log_sum + log_share
    return room - float(jnp.finfo(room.dtype).eps) * jnp.abs(jnp.where(room == jnp.inf, 0, room))


def _threshold(relative: Float[Array, "lines others"]) -> Float[Array, " lines"]:
    """Return a threshold such that what is not above it weighs at most 1 in all, nearly the largest one."""
    lines, count = relative.shape
    weights = jnp.exp(relative)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        fits = jnp.sum(jnp.where(relative <= middle[:, None], weights, 0), axis=1) <= 1
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    # So little may weigh all of them, with what exponentials and their sum are rounded by; none may weigh more than 1.
    lowest = -math.log(count) - 4 * (count + 2) * float(jnp.finfo(relative.dtype).eps)
    ends = jnp.full((lines,), lowest, relative.dtype), jnp.zeros((lines,), relative.dtype)
    return lax.fori_loop(0, _HALVINGS, halve, ends)[0]
