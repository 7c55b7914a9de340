"""Which tiles a program walks over: the range of what can be seen, or a list of what is visited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .problem import Problem, Sizes, TilePlan, sizes_of

# Bytes of keys and values that programs read which are started together: a part of what a large GPU keeps near.
_NEAR = 1 << 25


class Steps(NamedTuple):
    """Which tiles a program looks at: rounds from ``start`` to ``stop``, of which those on one side hide nothing.

    Attributes:
        start: the first round.
        opened: where rounds that hide nothing meet those that may.
        stop: one after the last round.
        is_open_first: whether nothing is hidden before ``opened``, or from it on.
        at: round from ``opened`` on -> number of its tile; None where they are the same, as they are before.
        lead: the first round of a tile that is looked at, if there is any, where a list says so.
    """

    start: int | Array
    opened: int | Array
    stop: int | Array
    is_open_first: bool = True
    at: Callable[[Array], Array] | None = None
    lead: int | Array | None = None


def key_steps(plan: TilePlan, sizes: Sizes, first_query: int | Array, given: Problem) -> Steps:
    """Return which tiles of keys a tile of queries looks at."""
    if given.visits is not None:
        return _visit_steps(given.visits, sizes.query_tile // sizes.key_tile)
    tile, last, span = sizes.key_tile, first_query + sizes.query_tile, given.span
    start, stop = 0, sizes.key_tiles
    opened = 0 if sizes.is_masked else sizes.keys // tile
    if plan.ahead is not None:
        stop = jnp.minimum((last + plan.ahead + tile - 1) // tile, stop)
        opened = opened and jnp.minimum((first_query + plan.ahead + 1) // tile, opened)
    if plan.back is not None:
        start = jnp.maximum(first_query - plan.back, 0) // tile
        opened = start
    if span is not None:
        start = jnp.maximum(span.first_key[0] // tile, start)
        stop = jnp.minimum((sizes.keys - span.keys_after[sizes.query_tile - 1] + tile - 1) // tile, stop)
        opened = start
    return Steps(start, opened, stop)


def query_steps(plan: TilePlan, sizes: Sizes, first_key: int | Array, given: Problem) -> Steps:
    """Return which tiles of queries a tile of keys looks at."""
    if given.visits is not None:
        return _visit_steps(given.visits, sizes.key_tile // sizes.query_tile)
    tile, last, span = sizes.query_tile, first_key + sizes.key_tile, given.span
    start, opened, stop = 0, 0, sizes.query_tiles
    if plan.ahead is not None:
        # No query before a tile's first key sees any of its keys, and every query from its last key on sees all.
        start = jnp.maximum(first_key - plan.ahead, 0) // tile
        opened = jnp.minimum(-(-jnp.maximum(last - 1 - plan.ahead, 0) // tile), stop)
    if plan.back is not None:
        stop = jnp.minimum((last + plan.back + tile - 1) // tile, stop)
        opened = stop
    if span is not None:
        start = jnp.maximum(span.first_query[0] // tile, start)
        stop = jnp.minimum((sizes.queries - span.queries_after[sizes.key_tile - 1] + tile - 1) // tile, stop)
        opened = stop
    return Steps(start, stop if sizes.is_masked else opened, stop, is_open_first=False)


def _visit_steps(listed: Sequence[Any], rounds: int) -> Steps:
    """Return the rounds of a list whose every tile takes ``rounds`` of them."""
    tiles = listed[0]
    start, opened, stop, lead = (ref[0] * rounds for ref in listed[1:5])

    def at(number: Array) -> Array:
        number -= opened
        return tiles[0, number] if rounds == 1 else tiles[0, number // rounds] * rounds + number % rounds

    return Steps(start, opened, stop, at=at, lead=lead)


def lead_steps(plan: TilePlan, sizes: Sizes, number: int | Array, steps: Steps) -> Steps:
    """Return the steps that lead: the first tile of keys, or as many as a tile of queries has places.

    Biases fall with the distance or rise along the keys more often than not: where scores are modified by what depends
    on places, these are the tiles at the queries' own places and the last one. A window or a segment shows a query its
    own place, too. They may hide keys where any may.
    """
    is_placed = plan.modifier is not None and plan.modifier.is_placed
    looks_near = is_placed or plan.back is not None or sizes.has_span
    if steps.lead is not None:
        rounds = sizes.query_tile // sizes.key_tile if looks_near else 1
        # Nobody leads where references are known. A loop from a constant on would read its first tile all the same.
        first = jnp.where(steps.lead < 0, rounds, 0) if sizes.has_reference else 0
        return Steps(first, first, rounds, at=lambda each: steps.lead + each)
    if not looks_near:
        is_open = isinstance(steps.opened, int) and steps.opened == steps.stop
        return steps._replace(opened=int(is_open), stop=1)
    own = number * sizes.query_tile + (plan.ahead or 0)
    first, last = own // sizes.key_tile, jnp.maximum(steps.stop - 1, steps.start)
    count = -(-sizes.query_tile // sizes.key_tile) + ((plan.ahead or 0) % sizes.key_tile > 0)
    looks_last = is_placed and plan.ahead is None

    def at(round_: Array) -> Array:
        return jnp.where(round_ < count, jnp.clip(first + round_, steps.start, last), last)

    # Asked whether they hide keys although none does: without that an H100 took 985 microseconds instead of 953.
    return Steps(0, 0, count + looks_last, at=at)


def over_tiles(steps: Steps, step: Callable[..., Any], start: Any) -> Any:
    """Fold ``step`` (number, carry, is_open) over the tiles of rounds."""
    for low, high, is_open, at in (
        (steps.start, steps.opened, steps.is_open_first, None),
        (steps.opened, steps.stop, not steps.is_open_first, steps.at),
    ):
        is_empty = low is high or (isinstance(low, int) and isinstance(high, int) and low >= high)
        if not is_empty:
            start = lax.fori_loop(low, high, partial(_step_at, at, step, is_open=is_open), start)
    return start


def _step_at(
    at: Callable[[Array], Array] | None, step: Callable[..., Any], number: Array, carry: Any, **kind: Any
) -> Any:
    return step(number if at is None else at(number), carry, **kind)


def together_of(plan: TilePlan, problem: Problem) -> int:
    """Return of how many heads programs are started together, the last first; 0 where all take as long, as in a window.

    Their keys and values stay near each other, of listed tiles those of one place.
    """
    if plan.ahead is None or plan.back is not None:
        return 0
    read = sum(each.size * each.dtype.itemsize for each in (problem.keys, problem.values))
    read //= 1 if problem.visits is None else sizes_of(plan, problem).key_tiles
    return 1 << max(0, (_NEAR // max(1, read)).bit_length() - 1)
