"""The choice of tiles as a kernel: it leaves out the lightest for each tile of queries and lists the others."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .call import Kernel, Place
from .visits import ALONE, lines_of, list_blocks, list_results, programs_of, write_lists

# Halvings of the interval in which a threshold lies: it is log tiles long, and a thousandth of a nat is near enough.
_HALVINGS = 12


def choice_kernel(
    upper: Float[Array, "query_tiles key_tiles"],
    is_open: Bool[Array, "query_tiles key_tiles"],
    seeds: Bool[Array, "query_tiles key_tiles"],
    room: Float[Array, "query_tiles one"],
    log_sums: Float[Array, "query_tiles tile"],
    *,
    is_reference: bool,
) -> Kernel:
    """Return the kernel of ``qga.adaptive.choose.keep_within``; its results are a table and the fields of ``Listed``.

    Args:
        upper: at least the log weight of each tile; minus infinity where everything is hidden.
        is_open: whether nothing is.
        seeds: tiles that are kept in any case.
        room: what the log sums of a tile of queries are raised by: as much may be left out.
        log_sums: of the seeds, of each query; infinity where there is none.
        is_reference: whether kept tiles are taken relative to log sums, so that no tile leads where all are known.
    """
    del is_open, seeds, room
    rows, others = upper.shape
    sizes = others, others, others, 1, log_sums.shape[1]
    return Kernel(
        partial(_choose, is_reference=is_reference),
        (programs_of(rows),),
        [lines_of(rows, size) for size in sizes],
        [lines_of(rows, others), *list_blocks(rows, others)],
        [jax.ShapeDtypeStruct((rows, others), jnp.bool_), *list_results(rows, others)],
        "choice",
        ALONE,
    )


def _choose(place: Place, *refs: Any, is_reference: bool) -> None:
    upper_ref, open_ref, seeds_ref, room_ref, sums_ref, visited_ref, *lists = refs
    upper, seeds = upper_ref[...], seeds_ref[...]
    least = jnp.min(sums_ref[...], axis=1)
    room = least + room_ref[...][:, 0]
    is_hidden = upper == -jnp.inf
    relative = jnp.where(is_hidden, -jnp.inf, upper - room[:, None])
    # What is no number is never lighter than a threshold, and is kept.
    kept = (seeds | ~(relative <= _threshold(relative)[:, None])) & ~is_hidden
    visited_ref[...] = kept
    is_led = ~(least > -jnp.inf) if is_reference else jnp.ones(least.shape, bool)
    write_lists(place[0], kept, kept & open_ref[...], is_led, lists)


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
