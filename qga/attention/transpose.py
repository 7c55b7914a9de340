"""A linear function whose transpose is written by hand, open to every transformation of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Known = TypeVar("Known")
Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")


def with_transpose(
    push: Callable[[Known, Inputs], Outputs],
    pull: Callable[[Known, Outputs], Inputs],
    known: Known,
    inputs: Inputs,
) -> Outputs:
    """Apply a linear map T and let reverse mode use a transpose of our own.

    T x is the lower half of the solution of the unipotent system (1 - N) (x, y) = (x, 0), N (x, y) = (0, T x), whose
    solution operator is 1 + N and whose transpose has 1 + N^T. JAX lets a linear solve bring its own solution and
    transposed solution, and differentiates it in what T depends on through the system alone: it maps over batches, is
    transposed by ``pull``, and its derivatives in ``known``, of any order, are those of ``push``. (A ``custom_vjp``
    has no forward mode; ``jax.custom_derivatives.linear_call`` has no batches and no derivative in ``known``.)

    Args:
        push: (known, x) -> T x, linear in x and differentiable in ``known``.
        pull: (known, y) -> T^T y, the same map transposed.
        known: what T depends on.
        inputs: x.

    Returns:
        T x.
    """
    outputs = jax.eval_shape(push, known, inputs)
    zeros = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), outputs)
    # A solve is transposed in its whole right side or not at all. Barriers make what is constant in it, and what does
    # not move in derivatives of the system or of its transpose, as linear as the rest.
    right_side = lax.optimization_barrier((inputs, zeros))

    def system(unknown: tuple[Inputs, Outputs]) -> tuple[Inputs, Outputs]:
        x, y = lax.optimization_barrier(unknown)
        return lax.optimization_barrier((x, jax.tree.map(jnp.subtract, y, push(known, x))))

    def solve(_: Callable, right: tuple[Inputs, Outputs]) -> tuple[Inputs, Outputs]:
        x, y = right
        return x, jax.tree.map(jnp.add, y, push(known, x))

    def solve_transposed(_: Callable, right: tuple[Inputs, Outputs]) -> tuple[Inputs, Outputs]:
        x, y = right
        return jax.tree.map(jnp.add, x, pull(known, y)), y

    return lax.custom_linear_solve(system, right_side, solve, solve_transposed)[1]
