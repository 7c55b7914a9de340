"""What flows back through softmax attention of one head: two kernels that make the weights again from the log sums.

    p_ij = e^(s_ij - logZ_i)              bar s_ij = p_ij (<bar out_i, v_j> + offset_i)
    offset_i = bar logZ_i - <bar out_i, out_i>

One kernel has a program for each tile of queries and sums over keys, the other a program for each tile of keys and
sums over queries, so that no program adds to what another one writes. Both keep what they sum in the rows of their
tiles: the second one makes every table of numbers transposed. Factors of products have the dtype of the keys.

Where programs follow one another, a third kernel is the second one that adds up what queries get, too, in whole arrays:
five products for each pair of tiles instead of seven.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from .attention import promise_of
from .call import Kernel, Place, call_pallas, execute
from .pair import hide, key_tile_of, modify, query_tile_of
from .problem import (
    STAGED,
    Longest,
    Problem,
    Sizes,
    TilePlan,
    by_key,
    by_query,
    fit_loop,
    operands,
    sizes_of,
    split_refs,
    tile_of,
    whole,
    with_lists,
)
from .score import Planes
from .steps import key_steps, over_tiles, query_steps, together_of
from .target import Target

_BY_ROWS, _BY_COLUMNS = (((1,), (1,)), ((), ())), (((0,), (0,)), ((), ()))
# Keys, or queries, of a round at most.
_CHUNK = 128
# Of the loop, which holds two tables, and all arrays of a head beside them.
_LOOP = Longest(queries=512, keys=1024, hiding=512, bytes=1 << 22)


class Backflow(NamedTuple):
    """What comes back to each query.

    Attributes:
        out_bar: cotangent of the mixed values, in the dtype of the values.
        log_sums: logZ in the dtype that sums are taken in; zero where a query sees no key.
        offsets: cotangent of logZ less <out_bar, out>, likewise.
    """

    out_bar: Float[Array, "queries channels"]
    log_sums: Float[Array, " queries"]
    offsets: Float[Array, " queries"]


class _Sums(NamedTuple):
    """What is summed for a tile of keys; planes and scale by a kernel that has all cotangents only."""

    keys: Float[Array, "tile width"]
    values: Float[Array, "tile channels"]
    planes: tuple[Float[Array, "width queries"], ...]
    scale: tuple[Float[Array, " tile"], ...]


def pull_by_kernels(plan: TilePlan, problem: Problem, back: Backflow) -> tuple[list[Array], list[Array]]:
    """Return the cotangents of planes, keys and values, and those of the scale by query, by two kernels on `vulkan`."""
    of_queries, of_keys = (with_lists(problem, by_key=by_key) for by_key in (False, True))
    by_query = call_pallas(query_gradient_kernel(plan, of_queries), *operands(of_queries), *back)
    by_key = call_pallas(key_gradient_kernel(plan, of_keys), *operands(of_keys), *back)
    count = len(problem.planes)
    return [*by_query[:count], *by_key], by_query[count:]


def pull_in_loop(plan: TilePlan, problem: Problem, back: Backflow) -> tuple[list[Array], list[Array]]:
    """Return the cotangents of planes, keys and values, and those of the scale by key, by one kernel that loops."""
    problem = with_lists(problem, by_key=True)
    key_bar, value_bar, *rest = execute(gradient_kernel(plan, problem), *operands(problem), *back)
    pairs = zip(rest, problem.planes, strict=False)
    return [*(bar.T.astype(plane.dtype) for bar, plane in pairs), key_bar, value_bar], rest[len(problem.planes) :]


def query_gradient_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes the cotangents of each plane and, where it moves, of the scale by query."""
    sizes, dtype = _sizes(plan, problem, sums_over_keys=True), problem.scale.dtype
    tile = sizes.query_tile
    rows = [problem.planes[0].shape[:1]] * plan.scale_moves
    return Kernel(
        partial(_pull_queries, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        [*by_query(sizes, problem), tile_of(tile, sizes.channels), tile_of(tile), tile_of(tile)],
        [*[tile_of(tile, sizes.width)] * sizes.planes, *[tile_of(tile)] * len(rows)],
        [*(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in problem.planes)]
        + [jax.ShapeDtypeStruct(shape, dtype) for shape in rows],
        "attention_query_gradient",
        replace(promise_of(plan, problem), last_first=together_of(plan, problem)),
    )


def key_gradient_kernel(plan: TilePlan, problem: Problem, sizes: Sizes | None = None) -> Kernel:
    """Return the kernel that computes the cotangents of keys and values, in tiles that fit a workgroup or are given."""
    sizes = sizes or _sizes(plan, problem, sums_over_keys=False)
    queries, tile = sizes.query_tiles * sizes.query_tile, sizes.key_tile
    return Kernel(
        partial(_pull_keys, plan=plan, sizes=sizes),
        (sizes.key_tiles,),
        [*by_key(sizes, problem), whole(queries, sizes.channels), whole(queries), whole(queries)],
        [tile_of(tile, sizes.width), tile_of(tile, sizes.channels)],
        [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in (problem.keys, problem.values)],
        "attention_key_gradient",
        promise_of(plan, problem),
    )


def gradient_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes all cotangents, of the scale by key, in programs that follow one another.

    Cotangents of planes are whole, [width, queries], and added up.
    """
    sizes, dtype = _loop_sizes(plan, problem), problem.scale.dtype
    kernel = key_gradient_kernel(plan, problem, sizes)
    (queries, width), keys = problem.planes[0].shape, problem.keys.shape[0]
    columns = whole(max(1, width), sizes.query_tiles * sizes.query_tile)
    return replace(
        kernel,
        outputs=[*kernel.outputs, *[columns] * sizes.planes, *[tile_of(sizes.key_tile)] * plan.scale_moves],
        results=[*kernel.results, *[jax.ShapeDtypeStruct((width, queries), dtype)] * sizes.planes]
        + [jax.ShapeDtypeStruct((keys,), dtype)] * plan.scale_moves,
        name="attention_gradient",
    )


def _loop_sizes(plan: TilePlan, problem: Problem) -> Sizes:
    sizes = sizes_of(plan, problem, Target.LOOP)
    if sizes.has_visits:
        # Lists are of tiles of keys that are as long as those of queries.
        return sizes._replace(key_tile=sizes.query_tile)
    query_tile, key_tile = fit_loop(plan, problem, sizes.queries, sizes.keys, _LOOP)
    return sizes._replace(query_tile=query_tile, key_tile=key_tile)


def _sizes(plan: TilePlan, problem: Problem, *, sums_over_keys: bool) -> Sizes:
    """Cut a problem: a program has the rows of the way forward, a round brings no more, or less of wide rows."""
    sizes = sizes_of(plan, problem)
    chunk = min(_CHUNK, sizes.query_tile, sizes.key_tile)
    if sums_over_keys:
        return sizes._replace(key_tile=chunk)
    while (
        problem.keys.dtype.itemsize == 2
        and chunk > 16
        and chunk * (sizes.planes * sizes.width + sizes.channels) > STAGED
    ):
        chunk //= 2
    rows = sizes.query_tile if sizes.has_visits else max(1, min(sizes.query_tile, sizes.keys))
    return sizes._replace(key_tile=rows, query_tile=chunk)


def _pull_queries(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (out_bar_ref, log_sums_ref, offsets_ref, *bars) = split_refs(sizes, refs)
    first, dtype = place[0] * sizes.query_tile, log_sums_ref.dtype
    planes, scale = tuple(ref[...] for ref in given.planes), given.scale[0, 0]
    back = Backflow(out_bar_ref[...], log_sums_ref[...], offsets_ref[...])

    def add(
        number: Array, sums: tuple[Planes, tuple[Array, ...]], *, is_open: bool
    ) -> tuple[Planes, tuple[Array, ...]]:
        keys, values, read, allowed = key_tile_of(given, sizes, number)
        inners = tuple(_product(plane, keys, dtype) for plane in planes)
        first_key = number * sizes.key_tile

        def score(inners: Planes, scale: Array) -> tuple[Array, Array | None]:
            return modify(plan, sizes, plan.score.link(inners, scale), first, first_key, read)

        scores, pull, factors = jax.vjp(lambda inners: score(inners, scale), inners, has_aux=True)
        if not is_open:
            scores = hide(plan, sizes, scores, first, first_key, allowed)
        weights = jnp.exp(scores - back.log_sums[:, None])
        mixed = _product(back.out_bar, values, dtype)
        score_bar = weights * ((mixed if factors is None else mixed * factors) + back.offsets[:, None])
        plane_bars = tuple(
            bar + jnp.matmul(each.astype(keys.dtype), keys, preferred_element_type=dtype)
            for bar, each in zip(sums[0], pull(score_bar)[0], strict=True)
        )
        return plane_bars, tuple(bar + _scale_bar(partial(score, inners), scale, score_bar) for bar in sums[1])

    start = (
        tuple(jnp.zeros(plane.shape, dtype) for plane in planes),
        (jnp.zeros(planes[0].shape[:1], dtype),) * plan.scale_moves,
    )
    sums = over_tiles(key_steps(plan, sizes, first, given), add, start)
    for ref, bar in zip(bars, (*sums[0], *sums[1]), strict=True):
        ref[...] = bar.astype(ref.dtype)


def _scale_bar(score: Callable[[Array], tuple[Array, Any]], scale: Array, score_bar: Array) -> Array:
    """Return what each query gives to the cotangent of the scale."""
    _, moved = jax.jvp(lambda scale: score(scale)[0], (scale,), (jnp.ones_like(scale),))
    return jnp.sum(score_bar * moved, axis=1)


def _pull_keys(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    """Sum over queries for a tile of keys; given references for it, add what queries get to whole arrays."""
    given, (out_bar_ref, log_sums_ref, offsets_ref, *bars) = split_refs(sizes, refs)
    first, dtype = place[0] * sizes.key_tile, log_sums_ref.dtype
    keys, values, scale = given.keys[...], given.values[...], given.scale[0, 0]
    # A modifier may give anything to a query that does not exist, and a key that does not exist gives queries nothing.
    is_ragged = plan.modifier is not None and sizes.queries % sizes.query_tile != 0
    is_ragged |= len(bars) > 2 and sizes.keys % sizes.key_tile != 0

    def add(number: Array, sums: _Sums, *, is_open: bool) -> _Sums:
        rows = pl.ds(number * sizes.query_tile, sizes.query_tile)
        planes, read, allowed = query_tile_of(given, sizes, number)
        back = Backflow(out_bar_ref[rows, :], log_sums_ref[rows], offsets_ref[rows])
        # Everything here has a row for each key and a column for each query.
        inners = tuple(_product(keys, plane, dtype) for plane in planes)
        first_query = number * sizes.query_tile

        def score(inners: Planes, scale: Array) -> tuple[Array, Array | None]:
            return modify(plan, sizes, plan.score.link(inners, scale), first_query, first, read, by_rows=False)

        scores, pull, factors = jax.vjp(lambda inners: score(inners, scale), inners, has_aux=True)
        if not is_open or is_ragged:
            scores = hide(plan, sizes, scores, first_query, first, allowed, by_rows=False)
        weights = jnp.exp(scores - back.log_sums[None])
        mixed = _product(values, back.out_bar, dtype)
        score_bar = weights * ((mixed if factors is None else mixed * factors) + back.offsets[None])
        kept = weights if factors is None else weights * factors
        sums = _add_tile(sums, pull(score_bar)[0], kept, (keys, planes, back.out_bar), rows.start)
        scales = tuple(bar + _scale_bar(partial(score, inners), scale, score_bar) for bar in sums.scale)
        return sums._replace(scale=scales)

    sums = over_tiles(query_steps(plan, sizes, first, given), add, _sums_before(sizes, keys, values, bars, dtype))
    for ref, bar in zip(bars, jax.tree.leaves(sums), strict=True):
        ref[...] = bar.astype(ref.dtype)


def _sums_before(sizes: Sizes, keys: Array, values: Array, bars: Sequence[Any], dtype: jnp.dtype) -> _Sums:
    """Return zeros, and what programs before have added for planes: references after those of keys and values."""
    planes, scale = bars[2 : 2 + sizes.planes], bars[2 + sizes.planes :]
    return _Sums(
        jnp.zeros(keys.shape, dtype), jnp.zeros(values.shape, dtype),
        tuple(ref[...] for ref in planes), tuple(jnp.zeros(ref.shape, dtype) for ref in scale),
    )  # fmt: skip


def _add_tile(
    sums: _Sums, inner_bars: Planes, kept: Array, read: tuple[Array, Planes, Array], first_query: int | Array
) -> _Sums:
    """Add what a tile of queries gives to keys and values, and takes from them where that is summed."""
    (keys, planes, out_bar), dtype, key_bar = read, sums.keys.dtype, sums.keys
    for each, plane in zip(inner_bars, planes, strict=True):
        key_bar += jnp.matmul(each.astype(plane.dtype), plane, preferred_element_type=dtype)
    value_bar = sums.values + jnp.matmul(kept.astype(out_bar.dtype), out_bar, preferred_element_type=dtype)
    # XLA multiplies no batch of transposed bfloat16 matrices on a CPU: factors have the dtype of the sums.
    plane_bars = tuple(
        _add_columns(bar, first_query, _product(keys.astype(dtype), each, dtype, _BY_COLUMNS))
        for bar, each in zip(sums.planes, inner_bars, strict=False)
    )
    return _Sums(key_bar, value_bar, plane_bars, sums.scale)


def _add_columns(bars: Array, first: int | Array, more: Array) -> Array:
    """Add to the columns from the first one on."""
    old = lax.dynamic_slice_in_dim(bars, first, more.shape[1], 1)
    return lax.dynamic_update_slice_in_dim(bars, old + more, first, 1)


def _product(rows: Array, columns: Array, dtype: jnp.dtype, axes: Any = _BY_ROWS) -> Array:
    return lax.dot_general(rows, columns, axes, preferred_element_type=dtype)
