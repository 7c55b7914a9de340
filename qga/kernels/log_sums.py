"""Log sums of one head's attention as a kernel: what its rows sum to, without their averages."""

from __future__ import annotations

import math
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
    """Return the kernel that computes the log sum of each query of a problem with lists, and reads no values.

    Sums are relative to the lists' references, one for a tile, and in wide numbers, in which no maximum need be
    followed: what lies more than 80 nats below is lost. A sum that is no finite number says that nothing is known,
    minus infinity.

    One more operand: what the log sums are where nothing is visited. Nothing is read there.
    """
    sizes, promise = cut_forward(plan, problem, target)
    result = tile_of(sizes.query_tile)

    def guard(place: Place, *refs: Any) -> Array:
        del place
        visits: Any = split_refs(sizes, refs)[0].visits
        return visits.stop[0] > visits.start[0]

    return Kernel(
        partial(_sum, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        [*by_query(sizes, problem), result],
        [result],
        [jax.ShapeDtypeStruct(problem.planes[0].shape[:1], problem.scale.dtype)],
        "attention_sums",
        promise,
        guard,
    )


def _sum(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (log_sums,) = split_refs(sizes, refs)
    visits: Any = given.visits
    unit, exp = (math.log(2), jnp.exp2) if given.dtype.itemsize == 2 else (1.0, jnp.exp)
    reference = visits.reference[0, 0]
    base = reference * (1 / unit)

    def add(mass: Array, scores: Array, values: Array, *, factors: Array | None) -> Array:
        del values, factors
        return mass + jnp.sum(exp(scores - base), axis=1)

    start = jnp.zeros((sizes.query_tile,), given.scale.dtype)
    mass = fold_keys(plan, sizes, place[0], given, add, start, unit=unit, narrow=None)
    log_sums[...] = jnp.where(mass < jnp.inf, reference + jnp.log(mass), -jnp.inf)
