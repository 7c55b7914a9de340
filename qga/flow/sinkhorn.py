"""Balanced attention: the plan of given masses nearest to the scores, by Sinkhorn's iteration."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..operators import Potentials

Scores = Float[Array, "queries keys"]


@partial(jax.jit, static_argnames="iterations")
def sinkhorn(
    scores: Scores, row_masses: Float[Array, " queries"], column_masses: Float[Array, " keys"], *, iterations: int
) -> Potentials:
    """Balance a table of scores: rows and columns get the masses they are given.

    f_i = log a_i - log sum_j e^(s_ij + g_j),   g_j = log b_j - log sum_i e^(s_ij + f_i)

    The plan maximises <scores, P> plus the entropy of P. Forms the scores only; ``qga.operators.balance`` does not even
    that.

    Args:
        scores: in nats; minus infinity forbids a pair.
        row_masses: a, positive, with sum one.
        column_masses: b, positive, with sum one.
        iterations: at least 1.

    Raises:
        OptionError: ``iterations`` is below 1.
        ShapeError: masses are missing.

    Error: the measured ``violation``. The potentials come nearer to their limit by ``sinkhorn_rate`` an iteration, in
    Hilbert's metric, or faster.
    Source: Sinkhorn 1967; Cuturi 2013.
    """
    if (row_masses.shape, column_masses.shape) != (scores.shape[:1], scores.shape[1:]):
        refuse(
            ShapeError,
            "sinkhorn: there must be one mass for each row and column.",
            got=f"scores {describe(scores)}, masses {describe(row_masses)} and {describe(column_masses)}",
            want="[queries, keys], [queries] and [keys]",
            fix="pass 1 / count for equal shares.",
        )
    if iterations < 1:
        refuse(
            OptionError,
            "sinkhorn: iterations are counted from one.",
            got=f"iterations={iterations}",
            want="iterations >= 1",
            fix="raise iterations.",
        )

    def row_step(columns: Array) -> Array:
        return jnp.log(row_masses) - jax.nn.logsumexp(scores + columns[None], axis=1)

    def iterate(columns: Array, _: None) -> tuple[Array, None]:
        rows = row_step(columns)
        return jnp.log(column_masses) - jax.nn.logsumexp(scores + rows[:, None], axis=0), None

    columns = lax.scan(iterate, jnp.zeros_like(column_masses), None, length=iterations)[0]
    rows = row_step(columns)
    masses = jnp.sum(sinkhorn_plan(scores, rows, columns), axis=0)
    return Potentials(rows, columns, jnp.sum(jnp.abs(masses - column_masses)))


def sinkhorn_plan(scores: Scores, rows: Float[Array, " queries"], columns: Float[Array, " keys"]) -> Scores:
    """Form the plan of two potentials: exp(f_i + s_ij + g_j)."""
    return jnp.exp(scores + rows[:, None] + columns[None])


def sinkhorn_rate(scores: Scores) -> Float[Array, ""]:
    """Bound how fast Sinkhorn's iteration converges: tanh^2(D / 4), the factor an iteration in Hilbert's metric.

    D = max |s_ij + s_kl - s_il - s_kj|

    Args:
        scores: finite.

    Cost: queries^2 keys operations, memory of one copy of the scores.
    Source: Birkhoff 1957; Franklin and Lorenz 1989.
    """
    apart = lax.map(lambda row: jnp.max(jnp.ptp(scores - row[None], axis=1)), scores)
    return jnp.square(jnp.tanh(jnp.max(apart) / 4))
