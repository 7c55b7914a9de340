"""Log sums of one head's attention as a kernel: what its rows sum to, without their averages."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .attention import cut_forward, fold_keys
from .call import Kernel, Place
from .problem import Problem, Sizes, TilePlan, by_query, split_refs, tile_of
from .target import Target


def sum_kernel(plan: TilePlan, problem: Problem, target: Target = Target.VULKAN) -> Kernel:
    """Return the kernel that computes the log sum of each query, and reads no values.

    One more operand: what the log sums are where nothing is visited. Nothing is read there.
    """
    sizes, promise = cut_forward(plan, problem, target)
    result = tile_of(sizes.query_tile)

    def guard(place: Place, *refs: Any) -> Array:
        del place
        visits: Any = split_refs(sizes, refs)[0].visits
        return jnp.asarray(1) > 0 if visits is None else visits.stop[0] > visits.start[0]

    return Kernel(
        partial(_sum, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        [*by_query(sizes, problem), result],
        [result],
        [jax.ShapeDtypeStruct(problem.planes[0].shape[:1], problem.scale.dtype)],
        "attention_sums",
        replace(promise, nan_in_extrema=False),
        guard,
    )


def _sum(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (log_sums,) = split_refs(sizes, refs)
    dtype, is_narrow = given.scale.dtype, given.dtype.itemsize == 2
    unit, exp = (math.log(2), jnp.exp2) if is_narrow else (1.0, jnp.exp)

    def add(sums: tuple[Array, Array], scores: Array, values: Array, *, factors: Array | None) -> tuple[Array, Array]:
        del values, factors
        peak = jnp.maximum(sums[0], jnp.max(scores, axis=1))
        base = jnp.where(peak == -jnp.inf, jnp.zeros_like(peak), peak)
        return peak, sums[1] * exp(sums[0] - base) + jnp.sum(exp(scores - base[:, None]), axis=1)

    start = jnp.full((sizes.query_tile,), -jnp.inf, dtype), jnp.zeros((sizes.query_tile,), dtype)
    peak, mass = fold_keys(plan, sizes, place[0], given, add, start, unit=unit, narrow=None)
    log_sums[...] = peak * unit + jnp.log(mass)
