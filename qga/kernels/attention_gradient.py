"""What flows back through softmax attention of one head: two kernels that make the weights again from the log sums.

    p_ij = e^(s_ij - logZ_i)              bar s_ij = p_ij (<bar out_i, v_j> + offset_i)
    offset_i = bar logZ_i - <bar out_i, out_i>

One kernel has a program for each tile of queries and sums over keys, the other a program for each tile of keys and
sums over queries, so that no program adds to what another one writes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from .attention import Problem, Sizes, TilePlan, by_query, hide, key_steps, sizes_of, split_refs, tile_of, whole
from .call import Block, Kernel, Place
from .score import Planes, score_tile


class Backflow(NamedTuple):
    """What comes back to each query, in the dtype that sums are taken in.

    Attributes:
        out_bar: cotangent of the mixed values.
        log_sums: logZ; zero where a query sees no key.
        offsets: cotangent of logZ less <out_bar, out>.
    """

    out_bar: Float[Array, "queries channels"]
    log_sums: Float[Array, " queries"]
    offsets: Float[Array, " queries"]


def query_gradient_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes the cotangents of each plane, and of the scale by tile of queries."""
    sizes, dtype = sizes_of(plan, problem), problem.scale.dtype
    tile = sizes.query_tile
    return Kernel(
        partial(_pull_queries, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        [*by_query(sizes), tile_of(tile, sizes.channels), tile_of(tile), tile_of(tile)],
        [*[tile_of(tile, sizes.width)] * sizes.planes, tile_of(1)],
        [jax.ShapeDtypeStruct(each.shape, dtype) for each in problem.planes]
        + [jax.ShapeDtypeStruct((sizes.query_tiles,), dtype)],
        "attention_query_gradient",
    )


def key_gradient_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes the cotangents of keys and values."""
    sizes, dtype = sizes_of(plan, problem), problem.scale.dtype
    queries, tile = sizes.query_tiles * sizes.query_tile, sizes.key_tile
    mask = [Block((queries, tile), lambda j: (0, j))] if sizes.is_masked else []
    return Kernel(
        partial(_pull_keys, plan=plan, sizes=sizes),
        (sizes.key_tiles,),
        [
            *[whole(queries, sizes.width)] * sizes.planes,
            tile_of(tile, sizes.width), tile_of(tile, sizes.channels), whole(1, 1), *mask,
            whole(queries, sizes.channels), whole(queries), whole(queries),
        ],
        [tile_of(tile, sizes.width), tile_of(tile, sizes.channels)],
        [jax.ShapeDtypeStruct(each.shape, dtype) for each in (problem.keys, problem.values)],
        "attention_key_gradient",
    )  # fmt: skip


def _pull_queries(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (out_bar_ref, log_sums_ref, offsets_ref, *bars, scale_bar_ref) = split_refs(sizes, refs)
    first, dtype = place[0] * sizes.query_tile, out_bar_ref.dtype
    planes = tuple(ref[...].astype(dtype) for ref in given.planes)
    scale, back = given.scale[0, 0], Backflow(out_bar_ref[...], log_sums_ref[...], offsets_ref[...])

    def add(number: Array, sums: tuple[Planes, Array]) -> tuple[Planes, Array]:
        rows = pl.ds(number * sizes.key_tile, sizes.key_tile)
        keys, values = given.keys[rows, :].astype(dtype), given.values[rows, :].astype(dtype)
        scores, pull = jax.vjp(lambda planes, scale: score_tile(plan.score, planes, keys, scale), planes, scale)
        allowed = None if given.mask is None else given.mask[:, rows]
        scores = hide(plan, sizes, scores, first, number * sizes.key_tile, allowed)
        return jax.tree.map(jnp.add, sums, pull(_score_bar(scores, values, back)[1]))

    start = tuple(jnp.zeros_like(plane) for plane in planes), jnp.zeros_like(scale)
    plane_bars, scale_bar = lax.fori_loop(0, key_steps(plan, sizes, first), add, start)
    for ref, bar in zip(bars, plane_bars, strict=True):
        ref[...] = bar
    scale_bar_ref[...] = scale_bar[None]


def _pull_keys(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (*back_refs, key_bar_ref, value_bar_ref) = split_refs(sizes, refs)
    first, dtype = place[0] * sizes.key_tile, key_bar_ref.dtype
    keys, values, scale = given.keys[...].astype(dtype), given.values[...].astype(dtype), given.scale[0, 0]

    def add(number: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        rows = pl.ds(number * sizes.query_tile, sizes.query_tile)
        planes = tuple(ref[rows, :].astype(dtype) for ref in given.planes)
        back = Backflow(back_refs[0][rows, :], back_refs[1][rows], back_refs[2][rows])
        scores, pull = jax.vjp(lambda keys: score_tile(plan.score, planes, keys, scale), keys)
        allowed = None if given.mask is None else given.mask[rows, :]
        scores = hide(plan, sizes, scores, number * sizes.query_tile, first, allowed)
        weights, score_bar = _score_bar(scores, values, back)
        value_bar = lax.dot_general(weights, back.out_bar, (((0,), (0,)), ((), ())))
        return sums[0] + pull(score_bar)[0], sums[1] + value_bar

    # No query before a tile's first key sees any of its keys.
    start = first // sizes.query_tile if plan.is_causal else 0
    sums = jnp.zeros_like(keys), jnp.zeros_like(values)
    key_bar_ref[...], value_bar_ref[...] = lax.fori_loop(start, sizes.query_tiles, add, sums)


def _score_bar(
    scores: Float[Array, "queries keys"], values: Float[Array, "keys channels"], back: Backflow
) -> tuple[Float[Array, "queries keys"], Float[Array, "queries keys"]]:
    """Return the weights of a pair of tiles and the cotangent of its scores."""
    weights = jnp.exp(scores - back.log_sums[:, None])
    inner = lax.dot_general(back.out_bar, values, (((1,), (1,)), ((), ())))
    return weights, weights * (inner + back.offsets[:, None])
