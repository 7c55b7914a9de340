"""Sums over tiles of points by expansions: a few moments of each tile of keys for each tile of queries."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .expansion import Expansion, coefficients, monomials, truncation_error
from .point_plan import Balls, Chosen, Points

# Rows whose products are added up at a time, so that sums of many do not round like sums of many.
BLOCK = 256

PerQuery = Float[Array, "heads queries"]


class Sums(NamedTuple):
    """Softmax states of queries, and what expansions may have changed.

    Attributes:
        peak: log of the unit of the sums.
        total: sum of weights times (1, value).
        error: at least the sum of the errors of the weights.
    """

    peak: PerQuery
    total: Float[Array, "heads queries columns"]
    error: PerQuery


def no_sums(queries: Points, columns: int) -> Sums:
    """Return the sums over no keys."""
    zero = jnp.zeros(queries.shape[:2], queries.dtype)
    return Sums(jnp.full_like(zero, -jnp.inf), jnp.zeros((*zero.shape, columns), zero.dtype), zero)


def add_expanded(
    sums: Sums, points: tuple[Points, Points], balls: tuple[Balls, Balls], columns: Float[Array, "heads keys columns"],
    expanded: Chosen, scale: Float[Array, " heads"], known: Expansion,
) -> Sums:  # fmt: skip
    """Add what tiles of keys weigh for tiles of queries, by expansions.

    q = a + e,  k = c + d:   -scale / 2 |q - k|^2 = -scale / 2 |a - k|^2 - scale / 2 (|e|^2 + 2 e.(a - c)) + scale e.d

    The first part weighs the moments of d, the second one is the query's own, and the third is expanded.

    Args:
        sums: so far.
        points: queries and keys, in tiles of equal numbers of rows.
        balls: of their tiles, of keys for each key head.
        columns: 1 and the values of each key; zeros where there is none.
        expanded: which pairs of tiles are added.
        scale: inverse temperature.
        known: the expansion.
    """
    (heads, tiles), width = balls[0].radius.shape, points[0].shape[2]
    group = heads // balls[1].radius.shape[0]
    step, powers = _steps(points[0], balls[0], known)
    powers = powers * jnp.asarray(known.counts, powers.dtype)[None, None, None]
    key_steps, key_powers = _steps(points[1], balls[1], known)
    rows = jnp.concatenate([key_steps, key_powers, columns.reshape(*key_steps.shape[:3], -1)], axis=3)
    degrees = jnp.asarray([len(each) for each in known.axes], jnp.int32)
    half = scale[:, None] / 2
    head = (jnp.arange(heads, dtype=jnp.int32) // group)[:, None]
    reshaped = lambda each: each.reshape(heads, tiles, -1, *each.shape[2:])  # noqa: E731

    lists, lengths = _list(expanded)

    def add(place: Array, state: Sums) -> Sums:
        chosen = lax.dynamic_index_in_dim(lists, place, axis=2, keepdims=False)
        is_there = place < lengths
        taken, radius = rows[head, chosen], balls[1].radius[head, chosen]
        between = balls[0].center - balls[1].center[head, chosen]
        away, other, held = jnp.split(taken, (width, width + known.terms), axis=3)
        scores = -half[..., None] * jnp.sum(jnp.square(between[:, :, None] - away), axis=3)
        peak = jnp.max(scores, axis=2)
        length = 2 * half * balls[0].radius * radius
        moments = _moments(other * jnp.exp(scores - peak[..., None])[..., None], held)
        moments = moments * coefficients(length, known.order)[..., degrees][..., None]
        own = peak[..., None] - half[..., None] * jnp.sum(step * (step + 2 * between[:, :, None]), axis=3)
        error = truncation_error(length, known.order)
        found = jnp.matmul(powers, moments, precision=lax.Precision.HIGHEST)
        # A list that has ended names a tile that may not even be of numbers.
        found = jnp.where(is_there[..., None, None], found, 0)
        own = jnp.where(is_there[..., None], own, -jnp.inf)
        return _add(state, own, found, jnp.where(is_there, error / (1 - error), 0)[..., None])

    state = Sums(*map(reshaped, sums))
    state = lax.fori_loop(0, jnp.max(lengths), add, state)
    return Sums(*(each.reshape(whole.shape) for each, whole in zip(state, sums, strict=True)))


def _list(chosen: Chosen) -> tuple[Int[Array, "heads tiles others"], Int[Array, "heads tiles"]]:
    """List the keys' tiles that each tile of queries has chosen, and say how many these are."""
    reached = jnp.cumsum(chosen, axis=2, dtype=jnp.int32)
    heads, tiles, others = (jnp.arange(size, dtype=jnp.int32) for size in chosen.shape)
    places = jnp.where(chosen, reached - 1, len(others))
    numbers = jnp.broadcast_to(others[None, None], chosen.shape)
    lists = jnp.zeros_like(reached).at[heads[:, None, None], tiles[None, :, None], places].set(numbers, mode="drop")
    return lists, reached[..., -1]


def _add(state: Sums, own: Array, found: Array, error: Array) -> Sums:
    peak = jnp.maximum(state.peak, own)
    base = jnp.where(peak == -jnp.inf, 0, peak)
    decay, factor = jnp.exp(state.peak - base), jnp.exp(own - base)
    return Sums(
        peak,
        state.total * decay[..., None] + found * factor[..., None],
        state.error * decay + found[..., 0] * factor * error,
    )


def _moments(weighed: Float[Array, "heads tiles rows terms"], held: Float[Array, "heads tiles rows columns"]) -> Array:
    """Sum monomials times weights times (1, value) over the rows of each tile."""
    blocks = [each.reshape(*each.shape[:2], -1, min(BLOCK, each.shape[2]), each.shape[3]) for each in (weighed, held)]
    return jnp.sum(jnp.einsum("htbrm,htbrc->htbmc", *blocks, precision=lax.Precision.HIGHEST), axis=2)


def _steps(points: Points, balls: Balls, known: Expansion) -> tuple[Array, Array]:
    """Return the steps from the centres of tiles, and the monomials of these steps in units of the radius."""
    steps = points.reshape(*balls.radius.shape, -1, points.shape[2]) - balls.center[:, :, None]
    radius = balls.radius[..., None, None]
    return steps, monomials(steps / jnp.where(radius > 0, radius, 1), known)
