"""The cost of moving one distribution to another, between two bounds that hold however far the iteration came."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse

Costs = Float[Array, "rows columns"]


class TransportInterval(NamedTuple):
    """What an optimal transport costs at least and at most.

    Attributes:
        lower: the value of a dual solution, below every plan's cost.
        upper: the cost of ``plan``, which is a plan.
        plan: nearly optimal, with the masses asked for.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    plan: Costs


def transport_interval(
    costs: Costs,
    row_masses: Float[Array, " rows"],
    column_masses: Float[Array, " columns"],
    *,
    eps: float | Float[Array, ""],
    iterations: int,
) -> TransportInterval:
    """Bound W = min <C, P> over plans P with masses a and b, by Sinkhorn's iteration for <C, P> + eps KL(P || a b^T).

    lower <= W <= upper,  upper - lower <= eps min(H(X|Y), H(Y|X)) <= eps log min(rows, columns) where it has converged

    The upper bound is the plan with its missing masses filled in, which is then exactly feasible. The lower one takes
    the potential g of one side and its transform f_i = min_j (C_ij - g_j): f_i + g_j <= C_ij everywhere, so that
    <f, a> + <g, b> <= W for any g. Neither asks for convergence; the difference says how far it is.

    Args:
        costs: C, finite.
        row_masses: a, with sum one; a mass of zero leaves its row out.
        column_masses: b, likewise.
        eps: in units of the costs, above zero.
        iterations: at least 1; the first half comes down to eps from the range of the costs, which saves most of the
            max C / eps steps that eps alone would take.

    Raises:
        ShapeError: masses are missing.
        OptionError: ``iterations`` is below 1, or ``eps`` a number that is not above zero.

    Cost: rows columns iterations.
    Error: bounds hold up to a few eps(dtype) of the largest cost, times log2 of rows and columns.
    Source: Cuturi 2013; Altschuler, Weed and Rigollet 2017 (filling in); Kantorovich 1942 (the dual).

    Example:
        >>> found = transport_interval(1 - jnp.eye(2), jnp.array([0.8, 0.2]), jnp.full(2, 0.5), eps=0.05, iterations=50)
        >>> round(float(found.lower), 2), round(float(found.upper), 2)
        (0.3, 0.3)
    """
    _check(costs, row_masses, column_masses, eps, iterations)
    return _interval(costs, row_masses, column_masses, jnp.asarray(eps, costs.dtype), iterations=iterations)


@partial(jax.jit, static_argnames="iterations")
def _interval(
    costs: Costs, row_masses: Array, column_masses: Array, eps: Array, *, iterations: int
) -> TransportInterval:
    rows_there, columns_there = row_masses != 0, column_masses != 0
    row_logs, column_logs = (
        jnp.log(jnp.where(rows_there, row_masses, 1)),
        jnp.log(jnp.where(columns_there, column_masses, 1)),
    )

    def row_step(columns: Array, eps: Array) -> Array:
        return eps * (row_logs - jax.nn.logsumexp((columns[None] - costs) / eps, axis=1, where=columns_there[None]))

    def iterate(columns: Array, eps: Array) -> tuple[Array, None]:
        gains = (row_step(columns, eps)[:, None] - costs) / eps
        return eps * (column_logs - jax.nn.logsumexp(gains, axis=0, where=rows_there[:, None])), None

    # A small eps alone moves potentials by eps a step; from a large one they are nearly right when it is reached.
    coarse = jnp.maximum(jnp.ptp(costs) / eps, 1)
    falls = jnp.maximum(1 - 2 * jnp.arange(iterations, dtype=costs.dtype) / iterations, 0)
    columns = lax.scan(iterate, eps * column_logs, eps * coarse**falls)[0]
    rows = row_step(columns, eps)
    exponents = jnp.where(
        rows_there[:, None] & columns_there[None], (rows[:, None] + columns[None] - costs) / eps, -jnp.inf
    )
    plan = _fill(jnp.exp(exponents), row_masses, column_masses)
    lower = jnp.maximum(
        _dual(costs, row_masses, column_masses, columns), _dual(costs.T, column_masses, row_masses, rows)
    )
    return TransportInterval(lower, jnp.sum(costs * plan), plan)


def _fill(plan: Costs, row_masses: Array, column_masses: Array) -> Costs:
    """Give a plan whose rows are right the masses of its columns: take what is too much, add what is missing."""
    masses = jnp.sum(plan, axis=0)
    is_full = masses > column_masses
    plan = plan * jnp.where(is_full, column_masses / jnp.where(is_full, masses, 1), 1)[None]
    rows = jnp.maximum(row_masses - jnp.sum(plan, axis=1), 0)
    columns = jnp.maximum(column_masses - jnp.sum(plan, axis=0), 0)
    total = jnp.sum(columns)
    return plan + rows[:, None] * columns[None] / jnp.where(total == 0, 1, total)


def _dual(costs: Costs, row_masses: Array, column_masses: Array, potentials: Array) -> Float[Array, ""]:
    """Value a potential of the columns with mass, and its transform."""
    # Not jnp.min: its derivative looks for equal numbers, which a fused program may have rounded in two ways.
    slack = costs - potentials[None]
    nearest = jnp.argmin(jnp.where(column_masses != 0, lax.stop_gradient(slack), jnp.inf), axis=1, keepdims=True)
    transform = jnp.take_along_axis(slack, nearest, axis=1)[:, 0]
    return row_masses @ transform + column_masses @ potentials


def _check(costs: Array, row_masses: Array, column_masses: Array, eps: float | Array, iterations: int) -> None:
    if costs.ndim != 2 or (row_masses.shape, column_masses.shape) != (costs.shape[:1], costs.shape[1:]):
        refuse(
            ShapeError,
            "transport_interval: there must be one mass for each row and column.",
            got=f"costs {describe(costs)}, masses {describe(row_masses)} and {describe(column_masses)}",
            want="[rows, columns], [rows] and [columns]",
            fix="map over batches with jax.vmap.",
        )
    if iterations < 1 or (isinstance(eps, int | float) and not eps > 0):
        refuse(
            OptionError,
            "transport_interval: eps is above zero, and iterations are counted from one.",
            got=f"eps={eps}, iterations={iterations}",
            want="eps > 0 and iterations >= 1",
            fix="start with eps a hundredth of the largest cost, and 200 iterations.",
        )
