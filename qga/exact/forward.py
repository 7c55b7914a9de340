"""Which kernels compute one head on a target, and how their results become one."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels.attention import (
    attention_kernel,
    average_kernel,
    is_led,
    join_kernel,
    led_kernel,
    mend_kernel,
    parts_of,
    pass_kernel,
    split_kernel,
)
from ..kernels.call import call_pallas
from ..kernels.log_sums import sum_kernel
from ..kernels.problem import Problem, TilePlan, channels_of, operands, sizes_of, with_lists
from ..kernels.target import Target
from ..tiling.state import State, state_read

Outputs = tuple[Float[Array, "queries channels"], Float[Array, " queries"]]


def state_on(plan: TilePlan, target: Target, problem: Problem, peak: Array | None) -> State:
    """Return the softmax state of each query of a lifted problem, relative to a peak where one is known."""
    if peak is None:
        return State(*target.launch(attention_kernel(plan, problem, target), *operands(problem)))
    return State(peak, *target.launch(pass_kernel(plan, problem, target), *operands(problem), peak))


def average_on(plan: TilePlan, target: Target, problem: Problem, peak: Array | None) -> Outputs:
    """Return the averages and log sums of a lifted problem, relative to a peak where one is known."""
    problem = with_lists(problem)
    if plan.sums_only:
        nothing = jnp.full(problem.planes[0].shape[:1], -jnp.inf, problem.scale.dtype)
        (log_sums,) = target.launch(sum_kernel(plan, problem, target), *operands(problem), nothing)
        out = jnp.zeros((len(log_sums), channels_of(plan, problem)), problem.dtype)
    elif peak is not None:
        out, log_sums = state_read(state_on(plan, target, problem, peak))
    elif target is Target.VULKAN and parts_of(plan, sizes_of(plan, problem)) > 1:
        parts = target.launch(split_kernel(plan, problem), *operands(problem))
        out, log_sums = target.launch(join_kernel(plan, problem), *parts)
    elif target is Target.VULKAN and is_led(plan, problem):
        out, log_sums = _average_led(plan, problem)
    else:
        out, log_sums = target.launch(average_kernel(plan, problem, target), *operands(problem))
    return out.astype(problem.dtype if plan.products == "given" else log_sums.dtype), log_sums


def _average_led(plan: TilePlan, problem: Problem) -> Outputs:
    """Average by ``led_kernel``, and once more what it has lost."""
    sizes = sizes_of(plan, problem)
    out, log_sums = call_pallas(led_kernel(plan, problem), *operands(problem))
    is_lost = ~jnp.isfinite(jnp.pad(log_sums, (0, sizes.query_tiles * sizes.query_tile - sizes.queries)))
    is_lost = jnp.any(is_lost.reshape(sizes.query_tiles, sizes.query_tile), axis=1).astype(jnp.int32)
    out, log_sums = call_pallas(mend_kernel(plan, problem), *operands(problem), is_lost, out, log_sums)
    return out, log_sums
