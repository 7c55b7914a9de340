"""Sums over tiles of points by expansions: a few moments of each tile of keys for each tile of queries."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
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
    asking = _Asking(*_steps(points[0], balls[0], known), scale / 2)
    keys = _steps(points[1], balls[1], known)
    rows = jnp.concatenate([*keys, columns.reshape(*keys[0].shape[:3], -1)], axis=3)
    state: Any = _sum_lists(known, asking, rows, lax.stop_gradient(_Plan(*_list(expanded), *balls)))
    return _join(sums, Sums(*(each.reshape(whole.shape) for each, whole in zip(state, sums, strict=True))))


class _Asking(NamedTuple):
    """Queries: their steps from the centres of their tiles, monomials of them, and half the inverse temperature."""

    step: Float[Array, "heads tiles rows width"]
    powers: Float[Array, "heads tiles rows terms"]
    half: Float[Array, " heads"]


class _Plan(NamedTuple):
    """Which tiles of keys each tile of queries adds, and where all tiles lie; constants of every derivative."""

    lists: Int[Array, "heads tiles others"]
    lengths: Int[Array, "heads tiles"]
    asking: Balls
    keys: Balls

    def key_heads(self) -> Int[Array, "heads one"]:
        """Return the key head of each head."""
        heads = len(self.lists)
        return (jnp.arange(heads, dtype=jnp.int32) // (heads // len(self.keys.radius)))[:, None]

    def chosen(self, place: Array) -> Int[Array, "heads tiles"]:
        """Return the tile of keys at a place of each list; what stands behind a list's end is any tile."""
        return lax.dynamic_index_in_dim(self.lists, place, axis=2, keepdims=False)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_lists(known: Expansion, asking: _Asking, rows: Array, plan: _Plan) -> Sums:
    """Sum over all lists: states of [heads, tiles, rows]. Peaks are units of sums, and have no derivative."""

    def add(place: Array, state: Sums) -> Sums:
        own, found = _expand(known, plan, place, asking, rows[plan.key_heads(), plan.chosen(place)])
        error = truncation_error(_length(plan, place, asking.half), known.order)
        error = jnp.where(place < plan.lengths, error / (1 - error), 0)[..., None]
        return _join(state, Sums(own, found, found[..., 0] * error))

    zero = jnp.zeros(asking.step.shape[:3], rows.dtype)
    columns = rows.shape[3] - asking.step.shape[3] - known.terms
    start = Sums(jnp.full_like(zero, -jnp.inf), jnp.zeros((*zero.shape, columns), zero.dtype), zero)
    return lax.fori_loop(0, jnp.max(plan.lengths), add, start)


def _sum_forwards(known: Expansion, asking: _Asking, rows: Array, plan: _Plan) -> tuple[Sums, tuple]:
    sums: Any = _sum_lists(known, asking, rows, plan)
    return sums, (asking, rows, plan, sums.peak)


def _sum_backwards(known: Expansion, held: tuple, bars: Sums) -> tuple[_Asking, Array, None]:
    """Expand every pair again, relative to the peaks that were found, and pull the cotangents of the sums back."""
    asking, rows, plan, peak = held
    base = jnp.where(peak == -jnp.inf, 0, peak)
    head = plan.key_heads()

    def add(place: Array, found: tuple[_Asking, Array]) -> tuple[_Asking, Array]:
        def weigh(asking: _Asking, taken: Array) -> Array:
            own, total = _expand(known, plan, place, asking, taken)
            return total * jnp.exp(own - base)[..., None]

        chosen = plan.chosen(place)
        _, pull = jax.vjp(weigh, asking, rows[head, chosen])
        asking_bar, taken_bar = pull(bars.total)
        # A list that has ended names a tile that may not even be of numbers.
        taken_bar = jnp.where((place < plan.lengths)[..., None, None], taken_bar, 0)
        return jax.tree.map(jnp.add, found[0], asking_bar), found[1].at[head, chosen].add(taken_bar)

    start = jax.tree.map(jnp.zeros_like, (asking, rows))
    asking_bar, row_bar = lax.fori_loop(0, jnp.max(plan.lengths), add, start)
    return asking_bar, row_bar, None


_sum_lists.defvjp(_sum_forwards, _sum_backwards)


def _length(plan: _Plan, place: Array, half: Float[Array, " heads"]) -> Float[Array, "heads tiles"]:
    """Return the largest exponent of a pair of tiles."""
    return 2 * half[:, None] * plan.asking.radius * plan.keys.radius[plan.key_heads(), plan.chosen(place)]


def _expand(
    known: Expansion, plan: _Plan, place: Array, asking: _Asking, taken: Float[Array, "heads tiles rows parts"]
) -> tuple[Array, Array]:
    """Expand one tile of keys for each tile of queries: the logs of what multiplies sums, and sums."""
    width, half = asking.step.shape[3], asking.half[:, None, None]
    between = plan.asking.center - plan.keys.center[plan.key_heads(), plan.chosen(place)]
    away, other, held = jnp.split(taken, (width, width + known.terms), axis=3)
    scores = -half * jnp.sum(jnp.square(between[:, :, None] - away), axis=3)
    peak = lax.stop_gradient(jnp.max(scores, axis=2))
    moments = _moments(other * jnp.exp(scores - peak[..., None])[..., None], held)
    degrees = jnp.asarray([len(each) for each in known.axes], jnp.int32)
    moments = moments * coefficients(_length(plan, place, asking.half), known.order)[..., degrees][..., None]
    own = peak[..., None] - half * jnp.sum(asking.step * (asking.step + 2 * between[:, :, None]), axis=3)
    powers = asking.powers * jnp.asarray(known.counts, taken.dtype)[None, None, None]
    found = jnp.matmul(powers, moments, precision=lax.Precision.HIGHEST)
    # A list that has ended names a tile that may not even be of numbers.
    is_there = (place < plan.lengths)[..., None]
    return jnp.where(is_there, own, -jnp.inf), jnp.where(is_there[..., None], found, 0)


def _list(chosen: Chosen) -> tuple[Int[Array, "heads tiles others"], Int[Array, "heads tiles"]]:
    """List the keys' tiles that each tile of queries has chosen, and say how many these are."""
    reached = jnp.cumsum(chosen, axis=2, dtype=jnp.int32)
    heads, tiles, others = (jnp.arange(size, dtype=jnp.int32) for size in chosen.shape)
    places = jnp.where(chosen, reached - 1, len(others))
    numbers = jnp.broadcast_to(others[None, None], chosen.shape)
    lists = jnp.zeros_like(reached).at[heads[:, None, None], tiles[None, :, None], places].set(numbers, mode="drop")
    return lists, reached[..., -1]


def _join(one: Sums, other: Sums) -> Sums:
    """Return the sums over two disjoint sets of keys."""
    peak = lax.stop_gradient(jnp.maximum(one.peak, other.peak))
    base = jnp.where(peak == -jnp.inf, 0, peak)
    factors = jnp.exp(one.peak - base), jnp.exp(other.peak - base)
    total = one.total * factors[0][..., None] + other.total * factors[1][..., None]
    return Sums(peak, total, one.error * factors[0] + other.error * factors[1])


def _moments(weighed: Float[Array, "heads tiles rows terms"], held: Float[Array, "heads tiles rows columns"]) -> Array:
    """Sum monomials times weights times (1, value) over the rows of each tile."""
    blocks = [each.reshape(*each.shape[:2], -1, min(BLOCK, each.shape[2]), each.shape[3]) for each in (weighed, held)]
    return jnp.sum(jnp.einsum("htbrm,htbrc->htbmc", *blocks, precision=lax.Precision.HIGHEST), axis=2)


def _steps(points: Points, balls: Balls, known: Expansion) -> tuple[Array, Array]:
    """Return the steps from the centres of tiles, and the monomials of these steps in units of the radius."""
    steps = points.reshape(*balls.radius.shape, -1, points.shape[2]) - balls.center[:, :, None]
    radius = balls.radius[..., None, None]
    return steps, monomials(steps / jnp.where(radius > 0, radius, 1), known)
