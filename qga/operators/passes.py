"""One pass of an operator over a field: P f, its transpose, and the amplitudes sqrt(pi P)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from ..tiling.cut import join
from .operator import AttentionOperator
from .sweep import Block, sweep


@jax.jit
def operate(operator: AttentionOperator, field: Float[Array, "keys channels"]) -> Float[Array, "queries channels"]:
    """Apply the operator: (P f)_i = sum_j P_ij f_j.

    Args:
        operator: P.
        field: f, one row for each key.

    Raises:
        ShapeError: the field has not one row for each key.

    Error: a few eps sqrt(keys) times the largest |f|.
    Cost: one pass over blocks: 2 queries keys (width + channels) operations.
    """
    _check("operate", operator, field, axis=1)
    return _add_rows(operator, field, operator.rows.log_sums, power=1.0)


@jax.jit
def operate_transposed(
    operator: AttentionOperator, field: Float[Array, "queries channels"]
) -> Float[Array, "keys channels"]:
    """Apply the transpose of the operator: (P^T f)_j = sum_i P_ij f_i.

    With f a distribution over queries, in one column, this is the distribution of where they look.

    Args:
        operator: P.
        field: f, one row for each query.

    Raises:
        ShapeError: the field has not one row for each query.

    Error: a few eps sqrt(queries) times the largest |f|.
    Cost: as ``operate``.
    """
    _check("operate_transposed", operator, field, axis=0)
    return _add_columns(operator, field, operator.rows.log_sums, power=1.0)


@jax.jit
def amplify(
    operator: AttentionOperator, field: Float[Array, "keys channels"], query_weights: Float[Array, " queries"]
) -> Float[Array, "queries channels"]:
    """Apply the amplitude matrix: (Psi f)_i = sum_j sqrt(pi_i P_ij) f_j, whose squared entries sum to one.

    Args:
        operator: P.
        field: f, one row for each key.
        query_weights: pi, non-negative, with sum one.

    Raises:
        ShapeError: rows are missing.
    """
    _check("amplify", operator, field, axis=1)
    mixed = _add_rows(operator, field, operator.rows.log_sums / 2, power=0.5)
    return jnp.sqrt(query_weights)[:, None] * mixed


@jax.jit
def amplify_transposed(
    operator: AttentionOperator, field: Float[Array, "queries channels"], query_weights: Float[Array, " queries"]
) -> Float[Array, "keys channels"]:
    """Apply the transpose of the amplitude matrix of ``amplify``: (Psi^T f)_j = sum_i sqrt(pi_i P_ij) f_i.

    Raises:
        ShapeError: rows are missing.
    """
    _check("amplify_transposed", operator, field, axis=0)
    return _add_columns(operator, jnp.sqrt(query_weights)[:, None] * field, operator.rows.log_sums / 2, power=0.5)


def weigh(block: Block, log_sums: Float[Array, " queries"], power: float = 1.0) -> Float[Array, "queries keys"]:
    """Return a block of P to some power, given the log sums of its rows to that power."""
    return jnp.exp(power * block.scores - jnp.where(log_sums == -jnp.inf, 0, log_sums)[:, None])


def _add_rows(operator: AttentionOperator, field: Array, log_sums: Array, *, power: float) -> Array:
    dtype = operator.scores.scale.dtype
    start = jnp.zeros((operator.scores.block, field.shape[1]), dtype)

    def visit(block: Block, total: Array) -> tuple[Array, tuple]:
        weights = weigh(block, block.by_query, power).astype(field.dtype)
        return total + jnp.matmul(weights, block.by_key, preferred_element_type=dtype), ()

    stack, _ = sweep(operator.scores, visit, start, by_query=log_sums, by_key=field)
    return join(stack, operator.shape[0])


def _add_columns(operator: AttentionOperator, field: Array, log_sums: Array, *, power: float) -> Array:
    dtype = operator.scores.scale.dtype

    def visit(block: Block, carry: tuple) -> tuple[tuple, Array]:
        log_sums, rows = block.by_query
        weights = weigh(block, log_sums, power).astype(field.dtype)
        # Channels in front: the field is transposed and not the weights, which are many more.
        return carry, jnp.matmul(rows.T, weights, preferred_element_type=dtype)

    _, stack = sweep(operator.scores, visit, (), by_query=(log_sums, field))
    return join(jnp.swapaxes(stack, 1, 2), operator.shape[1])


def _check(name: str, operator: AttentionOperator, field: Array, *, axis: int) -> None:
    rows = ("query", "key")[axis]
    if field.ndim != 2 or field.shape[0] != operator.shape[axis]:
        refuse(
            ShapeError,
            f"{name}: the field must have one row for each {rows}.",
            got=f"field {describe(field)}, operator {operator.shape[0]} x {operator.shape[1]}",
            want=f"[{operator.shape[axis]}, channels]",
            fix="add an axis of channels with field[:, None], or transpose the field.",
        )
