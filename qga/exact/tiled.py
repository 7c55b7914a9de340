"""Softmax attention of one head over tiles, with derivatives that recompute tiles instead of storing them.

Forward is a kernel (``qga.kernels.attention``). The derivative is, with p = e^(s - logZ) made again from logZ, and f
the factors of weights, 1 where there are none,

    d out = sum_j p_j f_j (ds_j v_j + dv_j) + sum_j p_j df_j v_j - (sum_j p_j ds_j) out,    d logZ = sum_j p_j ds_j

a loop over tiles in JAX operations, open to every mode and order; where a plan asks for reverse mode, its transpose as
two kernels (``qga.kernels.attention_gradient``), whose own derivatives are those of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, describe, refuse
from ..kernels.attention_gradient import Backflow, pull_by_kernels, pull_in_loop
from ..kernels.pair import hide, modify
from ..kernels.problem import Problem, Sizes, TilePlan, channels_of, entries_at_once, sizes_of
from ..kernels.score import score_tile
from ..kernels.target import Target, on_target
from ..kernels.visits import Visits
from ..tiling.cut import split
from ..tiling.state import State, state_add, state_read
from .forward import Outputs, average_on, state_on

# A loop costs a device round of its own; few tiles are cheaper in line.
_TILES_IN_LINE = 4

Known = tuple[Problem, Float[Array, "queries channels"], Float[Array, " queries"]]
Bars = list[Array]


@partial(jax.jit, static_argnums=0)
def attention_state(plan: TilePlan, problem: Problem, peak: Float[Array, " queries"] | None = None) -> State:
    """Compute the softmax state of all keys for each query of one head.

    Args:
        plan: how.
        problem: of what, with queries as planes.
        peak: of each row, where it is known; any finite number not far below the row's largest score.

    Returns:
        peak, mass and total of each query, in the dtype of ``problem.scale``.
    """
    (rows, _), channels, dtype = problem.planes[0].shape, channels_of(plan, problem), problem.scale.dtype
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((rows,), (rows,), (rows, channels))]
    return State(*on_target(partial(_lifted, state_on, plan), results, problem, peak, at_once=entries_at_once(problem)))


def lift(plan: TilePlan, problem: Problem) -> Problem:
    """Return the problem with its queries lifted, as kernels read it."""
    return problem._replace(planes=plan.score.lift(problem.planes[0], problem.scale))


def _lifted(function: Callable[..., Any], plan: TilePlan, target: Target, problem: Problem, *rest: Any) -> Any:
    return function(plan, target, lift(plan, problem), *rest)


def attend(plan: TilePlan, problem: Problem, peak: Float[Array, " queries"] | None = None) -> Outputs:
    """Average the values of one head by the softmax of its scores, tile by tile.

    Args:
        plan: how.
        problem: of what, with queries as planes; they are lifted where the problem is read.
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
    _refuse_derivatives(problem)
    return jax.jvp(partial(_define_rounded, plan, problem), (_floats(problem),), (_floats(moves, problem),))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend_reverse(plan: TilePlan, problem: Problem, peak: Array | None) -> Outputs:
    return _attend_all(plan, problem, peak)


def _refuse_derivatives(problem: Problem) -> None:
    if problem.storage.scales or problem.storage.tables or problem.keys.dtype != problem.dtype:
        refuse(
            OptionError,
            "attend: rows that are kept in pages or in fewer bits have no derivative.",
            got=f"keys {describe(problem.keys)} for queries {describe(problem.planes[0])}",
            want="keys and values in the dtype of the queries, in order",
            fix="differentiate qga.attention of keys and values as arrays.",
        )


def _attend_forwards(plan: TilePlan, problem: Problem, peak: Array | None) -> tuple[Outputs, Known]:
    _refuse_derivatives(problem)
    out, log_sums = _attend_all(plan, problem, peak)
    return (out, log_sums), (problem, out, finite(log_sums))


def _attend_backwards(plan: TilePlan, known: Known, bars: Outputs) -> tuple[Problem, None]:
    problem, out, log_sums = known
    # The pull is a function of the problem and the bars; what else it is given is a function of the problem.
    known = problem, lax.stop_gradient(out), lax.stop_gradient(log_sums)
    return _fill(problem, _pull(plan, known, bars)), None


_attend_reverse.defvjp(_attend_forwards, _attend_backwards)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend_known(plan: TilePlan, problem: Problem, known: Outputs) -> Outputs:
    """Return what ``attend`` found over all keys, as a function of the problem, which has a part of them.

    Nothing is computed but the first gradient, in which a weight is e^(score - log sum) with the log sum of all keys:
    gradients of parts add up to that of the whole.

    Args:
        plan: how.
        problem: of what; its keys are some of all keys.
        known: averages and log sums over all keys.
    """
    del plan, problem
    return known


def _know(plan: TilePlan, problem: Problem, known: Outputs) -> tuple[Outputs, Known]:
    del plan
    return known, (problem, known[0], finite(known[1]))


attend_known.defvjp(_know, _attend_backwards)


@partial(jax.jit, static_argnums=0)
def _read(plan: TilePlan, problem: Problem, peak: Array | None) -> Outputs:
    (rows, _), channels, wide = problem.planes[0].shape, channels_of(plan, problem), problem.scale.dtype
    dtype = problem.dtype if plan.products == "given" else wide
    results = jax.ShapeDtypeStruct((rows, channels), dtype), jax.ShapeDtypeStruct((rows,), wide)
    return on_target(partial(_lifted, average_on, plan), results, problem, peak, at_once=entries_at_once(problem))


def _define_rounded(plan: TilePlan, problem: Problem, numbers: Bars) -> Outputs:
    """Compute ``_define`` of a problem with other numbers in it, in the dtype of the values."""
    out, log_sums = _define(plan, lift(plan, _fill(problem, numbers, keep=True)))
    return out.astype(problem.values.dtype), log_sums


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _define(plan: TilePlan, problem: Problem) -> Outputs:
    """Compute what ``attend`` does in JAX operations: what derivatives are taken of."""
    sizes, dtype = sizes_of(plan, problem), problem.scale.dtype
    rows, channels = problem.planes[0].shape[0], problem.values.shape[1]

    def add_tile(state: State, tile: _Tile) -> tuple[State, None]:
        part = _part(problem, tile)
        scores, factors = _score(plan, sizes, part, tile.first_key)
        return state_add(state, scores, part.values, factors=factors), None

    unit = State(jnp.full((rows,), -jnp.inf, dtype), jnp.zeros((rows,), dtype), jnp.zeros((rows, channels), dtype))
    return state_read(_scan(add_tile, unit, _cut(sizes, problem))[0])


@_define.defjvp
def _define_jvp(plan: TilePlan, primals: tuple, tangents: tuple) -> tuple[Outputs, Outputs]:
    (problem,), (moves,) = primals, tangents
    out, log_sums = _define(plan, problem)
    return (out, log_sums), _push(
        plan, (problem, out, finite(log_sums)), _fill(problem, _floats(moves, problem), keep=True)
    )


def finite(log_sums: Float[Array, " queries"]) -> Float[Array, " queries"]:
    """Replace minus infinity by zero, which gives the same weights of zero and never -inf - (-inf)."""
    return jnp.where(log_sums == -jnp.inf, 0, log_sums)


def _push(plan: TilePlan, known: Known, moves: Problem) -> Outputs:
    """Move the outputs as the inputs move: forward mode."""
    problem, out, log_sums = known
    sizes, dtype = sizes_of(plan, problem), problem.values.dtype
    product = partial(jnp.matmul, preferred_element_type=out.dtype)

    @partial(jax.checkpoint, prevent_cse=False)
    def add_tile(sums: Outputs, tiles: tuple[_Tile, _Tile]) -> tuple[Outputs, None]:
        part, moved_part = _part(problem, tiles[0]), _part(moves, tiles[1])

        def score(numbers: Bars) -> tuple[Array, Array]:
            scores, factors = _score(plan, sizes, _fill(part, numbers, keep=True), tiles[0].first_key)
            return scores, jnp.ones_like(scores) if factors is None else factors

        (scores, factors), (d_scores, d_factors) = jax.jvp(score, (_floats(part),), (_floats(moved_part, part),))
        weights = jnp.exp(scores - log_sums[:, None])
        moved = weights * d_scores
        kept, mixed = weights * factors, moved * factors + weights * d_factors
        d_total = product(mixed.astype(dtype), part.values) + product(kept.astype(dtype), moved_part.values)
        return (sums[0] + d_total, sums[1] + jnp.sum(moved, axis=1)), None

    tiles = _cut(sizes, problem), _cut(sizes, moves)
    (d_total, d_log_sums), _ = _scan(add_tile, (jnp.zeros_like(out), jnp.zeros_like(log_sums)), tiles)
    return d_total - d_log_sums[:, None] * out, d_log_sums


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _pull(plan: TilePlan, known: Known, bars: Outputs) -> Bars:
    """Pull cotangents of the outputs back to the numbers of the problem: the transpose of ``_push``."""
    problem, out, log_sums = known
    pulled = _pull_by_kernels(plan, known, bars)
    # No result depends on what weights are taken relative to.
    given, still = _floats(problem.given), [jnp.zeros_like(each) for each in _floats(problem.visits)]
    if plan.modifier is None or not plan.modifier.moves:
        return [*pulled, *map(jnp.zeros_like, given), *still]

    # What a modifier is given has no kernel of its own yet: the loop pulls it back.
    def define(numbers: Bars) -> Outputs:
        part = problem._replace(given=_fill(problem.given, numbers, keep=True))
        average, logs = _recall(plan, lift(plan, part), out.astype(log_sums.dtype), log_sums)
        return average.astype(problem.values.dtype), logs

    return [*pulled, *jax.vjp(define, given)[1](bars)[0], *still]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recall(plan: TilePlan, problem: Problem, out: Array, log_sums: Array) -> Outputs:
    """Return known results as functions of the problem: nothing but their derivative is computed."""
    del plan, problem
    return out, log_sums


@_recall.defjvp
def _recall_jvp(plan: TilePlan, primals: tuple, tangents: tuple) -> tuple[Outputs, Outputs]:
    moves = _fill(primals[0], _floats(tangents[0], primals[0]), keep=True)
    return primals[1:], _push(plan, primals, moves)


@_pull.defjvp
def _pull_jvp(plan: TilePlan, primals: tuple, tangents: tuple) -> tuple[Bars, Bars]:
    ((problem, *_), bars), ((moves, *_), moved_bars) = primals, tangents

    def define(numbers: Bars, bars: Outputs) -> Bars:
        return jax.vjp(partial(_define_rounded, plan, problem), numbers)[1](bars)[0]

    return jax.jvp(define, (_floats(problem), bars), (_floats(moves, problem), moved_bars))


@partial(jax.jit, static_argnums=0)
def _pull_by_kernels(plan: TilePlan, known: Known, bars: Outputs) -> Bars:
    """Return the cotangents of queries, keys, values and scale."""
    problem = known[0]
    moving = (*problem.planes, problem.keys, problem.values, problem.scale)
    results = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in moving]
    return on_target(
        partial(_pull_on, plan), results, problem, at_once=entries_at_once(problem), made=(known[1:], bars)
    )


def _pull_on(plan: TilePlan, target: Target, problem: Problem, found: Outputs, bars: Outputs) -> Bars:
    (out, log_sums), (out_bar, log_sum_bar) = found, bars
    planes, pull_lift = jax.vjp(plan.score.lift, problem.planes[0], problem.scale)
    wide = out_bar.astype(log_sums.dtype)
    offsets = log_sum_bar - jnp.sum(out.astype(log_sums.dtype) * wide, axis=1)
    # 16-bit cotangents of scores keep their bits only if they are about 1: a power of two is taken out and put back.
    is_narrow = problem.values.dtype.itemsize == 2
    unit = _power_of_two_below(jnp.max(jnp.abs(wide), initial=0)) if is_narrow else jnp.ones_like(problem.scale)
    back = Backflow((wide / unit).astype(problem.values.dtype), log_sums, offsets / unit)
    pull = pull_by_kernels if target is Target.VULKAN else pull_in_loop
    number_bars, scale_bars = pull(plan, problem._replace(planes=planes), back)
    *plane_bars, key_bar, value_bar = ((unit * bar.astype(unit.dtype)).astype(bar.dtype) for bar in number_bars)
    query_bar, scale_bar = pull_lift(tuple(plane_bars))
    if not plan.scale_moves:
        scale_bar = jnp.zeros_like(problem.scale)
    return [query_bar, key_bar, value_bar, unit * sum(map(jnp.sum, scale_bars), jnp.zeros_like(scale_bar)) + scale_bar]


def _power_of_two_below(size: Float[Array, ""]) -> Float[Array, ""]:
    """Return the largest power of two up to a size, 1 for zero and for what is not finite."""
    exponent = jnp.floor(jnp.log2(jnp.where(size > 0, size, 1)))
    return jnp.where(jnp.isfinite(size) & (size > 0), jnp.exp2(exponent), 1)


class _Tile(NamedTuple):
    """What belongs to a tile of keys, or a stack of them."""

    first_key: Int[Array, ""]
    keys: Float[Array, "tile width"]
    values: Float[Array, "tile channels"]
    mask: Bool[Array, "queries tile"] | None
    by_key: tuple[Array, ...]
    by_pair: tuple[Array, ...]


def _cut(sizes: Sizes, problem: Problem) -> _Tile:
    """Cut what has an axis of keys into one stack of tiles."""
    cut = lambda rows: split(rows, sizes.key_tile)[0]  # noqa: E731
    across = lambda table: jnp.swapaxes(cut(table.T), 1, 2)  # noqa: E731
    keys = cut(_repeat_last(problem.keys, sizes.key_tile))
    first_keys = jnp.arange(keys.shape[0], dtype=jnp.int32) * sizes.key_tile
    mask = None if problem.mask is None else across(problem.mask)
    if isinstance(problem.visits, Visits):
        visited = _visited(sizes, problem.visits, first_keys)
        mask = visited if mask is None else mask & visited
    by_key = tuple(cut(_repeat_last(each, sizes.key_tile)) for each in problem.given.by_key)
    by_pair = tuple(across(_repeat_last(each.T, sizes.key_tile).T) for each in problem.given.by_pair)
    return _Tile(first_keys, keys, cut(problem.values), mask, by_key, by_pair)


def _visited(sizes: Sizes, visits: Visits, first_keys: Int[Array, " tiles"]) -> Bool[Array, "tiles queries one"]:
    """Tell for each tile of keys which queries look at it."""
    rows = jnp.repeat(visits.visited, sizes.query_tile, axis=0)[: sizes.queries]
    return rows.T[first_keys // sizes.query_tile, :, None]


def _repeat_last(rows: Array, tile: int) -> Array:
    """Fill the last tile: what a modifier makes of zeros may have no derivative, and 0 times that is not 0."""
    missing = -rows.shape[0] % tile
    return jnp.pad(rows, [(0, missing), *[(0, 0)] * (rows.ndim - 1)], "edge") if rows.size else rows


def _part(problem: Problem, tile: _Tile) -> Problem:
    """Return the problem with one tile of keys."""
    given = problem.given._replace(by_key=tile.by_key, by_pair=tile.by_pair)
    return Problem(problem.planes, tile.keys, tile.values, problem.scale, tile.mask, given)


def _score(plan: TilePlan, sizes: Sizes, part: Problem, first_key: Array) -> tuple[Array, Array | None]:
    scores = score_tile(plan.score, part.planes, part.keys, part.scale)
    scores, factors = modify(plan, sizes, scores, 0, first_key, part.given)
    return hide(plan, sizes, scores, 0, first_key, part.mask), factors


def _floats(tree: Any, like: Any = None) -> Bars:
    """List the real numbers of a tree; where it holds tangents, those of what is real in ``like``."""
    leaves = jax.tree.leaves(tree)
    kinds = leaves if like is None else jax.tree.leaves(like)
    return [leaf for leaf, kind in zip(leaves, kinds, strict=True) if jnp.issubdtype(kind.dtype, jnp.floating)]


def _fill(like: Any, numbers: Sequence[Array], *, keep: bool = False) -> Any:
    """Put real numbers into the places of those of ``like``; its other leaves are kept, or become None."""
    leaves, structure = jax.tree.flatten(like)
    waiting = iter(numbers)
    filled = [next(waiting) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf if keep else None for leaf in leaves]
    return jax.tree.unflatten(structure, filled)


def _scan(step: Callable, start: tuple, tiles: Any) -> tuple:
    """Fold ``step`` over the leading axis of ``tiles``, in line when they are few."""
    count = jax.tree.leaves(tiles)[0].shape[0]
    return lax.scan(step, start, tiles, unroll=True if count <= _TILES_IN_LINE else 1)
