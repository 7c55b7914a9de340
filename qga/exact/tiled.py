"""Softmax attention of one head over tiles, with derivatives that recompute tiles instead of storing them.

Forward is a kernel (``qga.kernels.attention``). The derivative is, with p = e^(s - logZ) made again from logZ,

    d out = sum_j p_j ds_j v_j + sum_j p_j dv_j - (sum_j p_j ds_j) out,    d logZ = sum_j p_j ds_j

a loop over tiles in JAX operations, open to every mode and order; where a plan asks for reverse mode alone, its
transpose as two kernels (``qga.kernels.attention_gradient``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..kernels import launch
from ..kernels.attention import (
    Problem,
    TilePlan,
    attention_kernel,
    average_kernel,
    hide,
    operands,
    pass_kernel,
    sizes_of,
)
from ..kernels.attention_gradient import Backflow, key_gradient_kernel, query_gradient_kernel
from ..kernels.score import Planes, score_tile
from ..tiling.cut import split
from ..tiling.state import State, state_leaf, state_merge, state_read

# A loop costs a device round of its own; few tiles are cheaper in line.
_TILES_IN_LINE = 4

Outputs = tuple[Float[Array, "queries channels"], Float[Array, " queries"]]
Known = tuple[Problem, Float[Array, "queries channels"], Float[Array, " queries"]]
Moves = tuple[Planes, Float[Array, "keys width"], Float[Array, "keys channels"], Float[Array, ""]]


class _KeyTile(NamedTuple):
    """One tile of keys with everything that belongs to it; None where the problem has no such part."""

    keys: Float[Array, "tile width"]
    values: Float[Array, "tile channels"]
    first_key: Int[Array, ""]
    allowed: Bool[Array, "queries tile"] | None
    d_keys: Float[Array, "tile width"]
    d_values: Float[Array, "tile channels"]


@partial(jax.jit, static_argnums=0)
def attention_state(plan: TilePlan, problem: Problem, peak: Float[Array, " queries"] | None = None) -> State:
    """Compute the softmax state of all keys for each query of one head.

    Args:
        plan: how.
        problem: of what.
        peak: of each row, where it is known; any finite number not far below the row's largest score.

    Returns:
        peak, mass and total of each query, in the dtype of ``problem.scale``.
    """
    if peak is None:
        return State(*launch(attention_kernel(plan, problem), *operands(problem)))
    return State(peak, *launch(pass_kernel(plan, problem), *operands(problem), peak))


def attend(plan: TilePlan, problem: Problem, peak: Float[Array, " queries"] | None = None) -> Outputs:
    """Average the values of one head by the softmax of its scores, tile by tile.

    Args:
        plan: how.
        problem: of what.
        peak: as in ``attention_state``; no result depends on it.

    Returns:
        The averages in the dtype of the values, and the log of each row's partition sum in the accumulator's. A row
        that sees no key gives zeros and minus infinity.
    """
    run = _attend_reverse if plan.derivatives == "reverse" else _attend_all
    return run(plan, problem, peak)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _attend_all(plan: TilePlan, problem: Problem, peak: Array | None) -> Outputs:
    return _read(plan, problem, peak)


@_attend_all.defjvp
def _attend_all_jvp(plan: TilePlan, primals: tuple, tangents: tuple) -> tuple[Outputs, Outputs]:
    # A kernel has no derivative, and JAX drops rules where it separates the linear part of a derivative: what may be
    # differentiated once more has no kernel in it.
    (problem, _), (moves, _) = primals, tangents

    def define(problem: Problem) -> Outputs:
        out, log_sums = _define(plan, problem)
        return out.astype(problem.values.dtype), log_sums

    return jax.jvp(define, (problem,), (moves,))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend_reverse(plan: TilePlan, problem: Problem, peak: Array | None) -> Outputs:
    return _read(plan, problem, peak)


def _attend_forwards(plan: TilePlan, problem: Problem, peak: Array | None) -> tuple[Outputs, Known]:
    out, log_sums = _read(plan, problem, peak)
    return (out, log_sums), (problem, out, finite(log_sums))


def _attend_backwards(plan: TilePlan, known: Known, bars: Outputs) -> tuple[Problem, None]:
    planes, keys, values, scale = _pull(plan, known, bars)
    return Problem(planes, keys, values, scale, None), None


_attend_reverse.defvjp(_attend_forwards, _attend_backwards)


@partial(jax.jit, static_argnums=0)
def _read(plan: TilePlan, problem: Problem, peak: Array | None) -> Outputs:
    if peak is None:
        out, log_sums = launch(average_kernel(plan, problem), *operands(problem))
        return out, log_sums
    out, log_sums = state_read(attention_state(plan, problem, peak))
    return out.astype(problem.values.dtype), log_sums


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _define(plan: TilePlan, problem: Problem) -> Outputs:
    """Compute what ``attend`` does in JAX operations: what derivatives are taken of."""
    sizes, dtype = sizes_of(plan, problem), problem.scale.dtype
    rows, channels = problem.planes[0].shape[0], problem.values.shape[1]

    def add_tile(state: State, tile: _KeyTile) -> tuple[State, None]:
        scores = score_tile(plan.score, problem.planes, tile.keys, problem.scale)
        scores = hide(plan, sizes, scores, 0, tile.first_key, tile.allowed)
        return state_merge(state, jax.vmap(state_leaf, in_axes=(0, None))(scores, tile.values)), None

    unit = State(jnp.full((rows,), -jnp.inf, dtype), jnp.zeros((rows,), dtype), jnp.zeros((rows, channels), dtype))
    tiles = _cut(sizes.key_tile, problem, _moves(problem))
    return state_read(_scan(add_tile, unit, tiles)[0])


@_define.defjvp
def _define_jvp(plan: TilePlan, primals: tuple, tangents: tuple) -> tuple[Outputs, Outputs]:
    (problem,), (moves,) = primals, tangents
    out, log_sums = _define(plan, problem)
    return (out, log_sums), _push(plan, (problem, out, finite(log_sums)), _moves(moves))


def finite(log_sums: Float[Array, " queries"]) -> Float[Array, " queries"]:
    """Replace minus infinity by zero, which gives the same weights of zero and never -inf - (-inf)."""
    return jnp.where(log_sums == -jnp.inf, 0, log_sums)


def _moves(tangent: Problem) -> Moves:
    return tangent.planes, tangent.keys, tangent.values, tangent.scale


def _push(plan: TilePlan, known: Known, moves: Moves) -> Outputs:
    """Move the outputs as the inputs move: forward mode."""
    (problem, out, log_sums), (d_planes, *_, d_scale) = known, moves
    sizes = sizes_of(plan, problem)

    @partial(jax.checkpoint, prevent_cse=False)
    def add_tile(sums: Outputs, tile: _KeyTile) -> tuple[Outputs, None]:
        primals = problem.planes, tile.keys, problem.scale
        scores, d_scores = jax.jvp(partial(score_tile, plan.score), primals, (d_planes, tile.d_keys, d_scale))
        weights = jnp.exp(hide(plan, sizes, scores, 0, tile.first_key, tile.allowed) - log_sums[:, None])
        moved = weights * d_scores
        product = partial(jnp.matmul, preferred_element_type=out.dtype)
        dtype = problem.values.dtype
        d_total = product(moved.astype(dtype), tile.values) + product(weights.astype(dtype), tile.d_values)
        return (sums[0] + d_total, sums[1] + jnp.sum(moved, axis=1)), None

    tiles = _cut(sizes.key_tile, problem, moves)
    (d_total, d_log_sums), _ = _scan(add_tile, (jnp.zeros_like(out), jnp.zeros_like(log_sums)), tiles)
    return d_total - d_log_sums[:, None] * out, d_log_sums


@partial(jax.jit, static_argnums=0)
def _pull(plan: TilePlan, known: Known, bars: Outputs) -> Moves:
    """Pull cotangents of the outputs back to the inputs by kernels: the transpose of ``_push``."""
    (problem, out, log_sums), (out_bar, log_sum_bar) = known, bars
    wide = out_bar.astype(log_sums.dtype)
    offsets = log_sum_bar - jnp.sum(out.astype(log_sums.dtype) * wide, axis=1)
    # 16-bit cotangents of scores keep their bits only if they are about 1: a power of two is taken out and put back.
    is_narrow = problem.values.dtype.itemsize == 2
    unit = _power_of_two_below(jnp.max(jnp.abs(wide), initial=0)) if is_narrow else jnp.ones_like(problem.scale)
    back = Backflow((wide / unit).astype(problem.values.dtype), log_sums, offsets / unit)
    arrays = [*operands(problem), *back]
    by_query = launch(query_gradient_kernel(plan, problem), *arrays)
    plane_bars, scale_bars = tuple(by_query[: len(problem.planes)]), by_query[len(problem.planes) :]
    key_bar, value_bar = launch(key_gradient_kernel(plan, problem), *arrays)
    bars_of = jax.tree.map(
        lambda bar: (unit * bar.astype(unit.dtype)).astype(bar.dtype), (plane_bars, key_bar, value_bar)
    )
    return *bars_of, unit * sum(map(jnp.sum, scale_bars), jnp.zeros_like(problem.scale))


def _power_of_two_below(size: Float[Array, ""]) -> Float[Array, ""]:
    """Return the largest power of two up to a size, 1 for zero and for what is not finite."""
    exponent = jnp.floor(jnp.log2(jnp.where(size > 0, size, 1)))
    return jnp.where(jnp.isfinite(size) & (size > 0), jnp.exp2(exponent), 1)


def _cut(tile: int, problem: Problem, moves: Moves) -> _KeyTile:
    """Cut keys, values, their tangents and the mask into one stack of tiles."""
    cut = lambda rows: split(rows, tile)[0]  # noqa: E731
    keys = cut(problem.keys)
    first_keys = jnp.arange(keys.shape[0], dtype=jnp.int32) * tile
    allowed = None if problem.mask is None else jnp.swapaxes(split(problem.mask.T, tile, False)[0], 1, 2)
    return _KeyTile(keys, cut(problem.values), first_keys, allowed, cut(moves[1]), cut(moves[2]))


def _scan(step: Callable, start: tuple, tiles: _KeyTile) -> tuple:
    """Fold ``step`` over the leading axis of ``tiles``, in line when they are few."""
    count = tiles.keys.shape[0]
    return lax.scan(step, start, tiles, unroll=True if count <= _TILES_IN_LINE else 1)
