"""Solving small systems on any device, also where they are all but singular."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Square = Float[Array, "states states"]
Columns = Float[Array, "states columns"]


def solve(matrix: Square, columns: Columns) -> Columns:
    """Solve A X = B by Gauss and Jordan's elimination with row pivots, one scan, without a library.

    Rows are scaled to a largest entry of one, but rows within sqrt(eps) of zero, which may be nothing but rounding. A
    pivot below sqrt(eps) counts as sqrt(eps): on a curve of solutions, a system is singular where branches cross, and
    there the right-hand side vanishes along with the pivot.

    Error: eps times the condition number; for a system within sqrt(eps) of a singular one, that of one so far away.
    Cost: states^2 (states + columns) operations. The derivative is one more system, not that of the elimination.
    Source: Li and Demmel 2003 (static pivoting).
    """
    return lax.custom_linear_solve(
        lambda x: jnp.matmul(matrix, x, precision=lax.Precision.HIGHEST),
        columns,
        lambda _, right: _eliminate(matrix, right),
        lambda _, right: _eliminate(matrix.T, right),
    )


def _eliminate(matrix: Square, columns: Columns) -> Columns:
    states = matrix.shape[0]
    largest = jnp.max(jnp.abs(matrix), axis=1, keepdims=True)
    floor = jnp.sqrt(jnp.finfo(matrix.dtype).eps).astype(matrix.dtype)
    whole = jnp.max(largest)
    scale = jnp.where(largest > floor * whole, largest, jnp.where(whole > 0, whole, 1))
    table = jnp.concatenate([matrix, columns], axis=1) / scale

    def clear(state: tuple[Array, Array, Array], column: Array) -> tuple[tuple[Array, Array, Array], None]:
        table, rows, is_used = state
        # Rows stay where they are: which of them serves a column is remembered instead.
        entries = lax.dynamic_index_in_dim(table, column, axis=1, keepdims=False)
        chosen = jnp.argmax(jnp.where(is_used, -1, jnp.abs(entries)))
        is_chosen = jnp.arange(states) == chosen
        pivot = entries[chosen]
        pivot = jnp.where(jnp.abs(pivot) < floor, jnp.where(pivot < 0, -floor, floor), pivot)
        row = table[chosen] / pivot
        table = jnp.where(is_chosen[:, None], row[None], table - entries[:, None] * row[None])
        return (table, rows.at[column].set(chosen), is_used | is_chosen), None

    start = table, jnp.zeros(states, int), jnp.zeros(states, bool)
    (table, rows, _), _ = lax.scan(clear, start, jnp.arange(states))
    return table[rows, states:]
