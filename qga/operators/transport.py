"""Doubly stochastic attention of long sequences: Sinkhorn's iteration as passes over blocks of scores."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..tiling.cut import join
from .operator import AttentionOperator
from .sweep import Block, Scores, sweep


class Potentials(NamedTuple):
    """The plan exp(rows_i + scores_ij + columns_j), by its potentials.

    Attributes:
        rows: f, one number for each query, in nats.
        columns: g, one number for each key, in nats.
        violation: sum_j |mass of column j - wanted mass|. The rows have their masses to rounding. Half of it is
            the total variation between the columns' masses and the wanted ones.
    """

    rows: Float[Array, " queries"]
    columns: Float[Array, " keys"]
    violation: Float[Array, ""]


@partial(jax.jit, static_argnames="iterations")
def balance(
    operator: AttentionOperator,
    row_masses: Float[Array, " queries"],
    column_masses: Float[Array, " keys"],
    *,
    iterations: int,
) -> Potentials:
    """Find the plan of given masses nearest to the scores, two passes an iteration.

    f_i = log a_i - log sum_j e^(s_ij + g_j),   g_j = log b_j - log sum_i e^(s_ij + f_i)

    The plan is never formed. Every key then receives the mass it is given, so that no key is a sink. The dense twin
    is ``qga.flow.sinkhorn``.

    Args:
        operator: of which the scores are taken; under a causal mask a plan need not exist, and the violation says so.
        row_masses: a, positive, with sum one.
        column_masses: b, positive, with sum one.
        iterations: at least 1.

    Returns:
        Potentials after a last half step on the rows. NaN or infinite where a column lies more than the exponent
        range of the dtype below its wanted mass.

    Raises:
        OptionError: ``iterations`` is below 1.
        ShapeError: masses are missing.

    Error: ``violation`` is measured, not estimated; it falls by tanh^2(osc / 4) an iteration or faster in Hilbert's
        metric, with osc the largest |s_ij + s_kl - s_il - s_kj|.
    Cost: 2 iterations + 1 passes, besides that of the operator.
    Source: Sinkhorn 1967; Franklin and Lorenz 1989; Sander et al. 2022.
    """
    _check(operator, row_masses, column_masses, iterations)
    scores = operator.scores
    # Before the first iteration the row sums of e^s are known.
    rows = jnp.log(row_masses) - operator.rows.log_sums

    def iterate(_: int, potentials: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, columns = potentials
        columns = columns + jnp.log(column_masses) - jnp.log(_column_sums(scores, rows, columns))
        return jnp.log(row_masses) - _row_log_sums(scores, columns), columns

    start = rows, jnp.zeros_like(column_masses)
    rows, columns = lax.fori_loop(0, iterations, iterate, start)
    violation = jnp.sum(jnp.abs(_column_sums(scores, rows, columns) - column_masses))
    return Potentials(rows, columns, violation)


def _column_sums(scores: Scores, rows: Array, columns: Array) -> Array:
    # Rows have their masses, so no term is above one and nothing overflows.
    def visit(block: Block, carry: tuple) -> tuple[tuple, Array]:
        weights = jnp.exp(block.scores + block.by_query[:, None] + block.by_key[None])
        return carry, jnp.sum(weights, axis=0)

    _, stack = sweep(scores, visit, (), by_query=rows, by_key=columns)
    return join(stack, scores.keys.shape[0])


def _row_log_sums(scores: Scores, columns: Array) -> Array:
    def visit(block: Block, carry: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple]:
        peak, mass = carry
        shifted = block.scores + block.by_key[None]
        higher = lax.stop_gradient(jnp.maximum(peak, jnp.max(shifted, axis=1)))
        reference = jnp.where(higher == -jnp.inf, 0, higher)
        kept = jnp.where(peak == -jnp.inf, 0, jnp.exp(peak - reference))
        return (higher, mass * kept + jnp.sum(jnp.exp(shifted - reference[:, None]), axis=1)), ()

    nothing = jnp.zeros((scores.block,), columns.dtype)
    (peaks, masses), _ = sweep(scores, visit, (jnp.full_like(nothing, -jnp.inf), nothing), by_key=columns)
    return join(peaks, scores.queries) + jnp.log(join(masses, scores.queries))


def _check(operator: AttentionOperator, row_masses: Array, column_masses: Array, iterations: int) -> None:
    if (row_masses.shape, column_masses.shape) != ((operator.shape[0],), (operator.shape[1],)):
        refuse(
            ShapeError,
            "balance: there must be one mass for each row and column.",
            got=f"row_masses {describe(row_masses)}, column_masses {describe(column_masses)}",
            want=f"[{operator.shape[0]}] and [{operator.shape[1]}]",
            fix="pass distributions over queries and keys; 1 / count for equal shares.",
        )
    if iterations < 1:
        refuse(
            OptionError,
            "balance: iterations are counted from one.",
            got=f"iterations={iterations}",
            want="iterations >= 1",
            fix="raise iterations.",
        )
