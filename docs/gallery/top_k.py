"""Find the largest k numbers of each row and where they stand.

    values_ij = the j-th largest of x_i,   indices_ij = its column, the first one among equals

One program holds a block of whole rows and goes k rounds: the largest number that is not taken yet, its first column,
take it. What is taken is marked by column, not by value, so that rows with infinities and with repeated numbers come
out right.

The gradient hands each value's gradient back to its column; one program makes a block of whole rows, again in k
rounds.

Moves rows · (columns + 2 k) numbers and does 4 · k operations a number: right for small k.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from qga.errors import ShapeError, describe, refuse

Rows = Float[Array, "rows columns"]
Values = Float[Array, "rows k"]
Indices = Int[Array, "rows k"]
Options = tuple[int, int, int, bool]


def top_k(x: Rows, k: int, *, block_rows: int = 8, interpret: bool = False) -> tuple[Values, Indices]:
    """Return the k largest numbers of each row, largest first, and their columns.

    Args:
        x: the rows, without NaN.
        k: how many; at least 1, at most the columns.
        block_rows: rows that one program holds.
        interpret: run the kernels as JAX operations, on any platform.

    Returns:
        The values in the dtype of ``x`` and their columns in int32, as ``jax.lax.top_k`` orders them but for zeros,
        of which none is larger here. The values are differentiable once, in reverse.

    Raises:
        ShapeError: ``x`` is not a matrix with at least k columns.
    """
    if x.ndim != 2 or not 1 <= k <= x.shape[1]:
        refuse(
            ShapeError,
            "top_k: each row must have at least k numbers, and k be positive.",
            got=f"x {describe(x)}, k {k}",
            want="x with two axes, 1 <= k <= columns",
            fix="reshape the leading axes into one, or lower k.",
        )
    return _top_k(x, (k, x.shape[1], block_rows, interpret))


def reference(x: Rows, k: int) -> tuple[Values, Indices]:
    """Return what ``top_k`` computes, in plain JAX."""
    values, indices = jax.lax.top_k(x, k)
    return values, indices


def _primal(x: Rows, options: Options) -> tuple[Values, Indices]:
    k, columns, block_rows, interpret = options
    rows = x.shape[0]
    few = pl.BlockSpec((block_rows, k), lambda i: (i, 0))
    values, indices = pl.pallas_call(
        functools.partial(_take, k=k),
        grid=(pl.cdiv(rows, block_rows),),
        in_specs=[pl.BlockSpec((block_rows, columns), lambda i: (i, 0))],
        out_specs=[few, few],
        out_shape=[jax.ShapeDtypeStruct((rows, k), x.dtype), jax.ShapeDtypeStruct((rows, k), jnp.int32)],
        interpret=interpret,
        name="top_k",
    )(x)
    return values, indices


def _forward(x: Rows, options: Options) -> tuple[tuple[Values, Indices], Indices]:
    values, indices = _primal(x, options)
    return (values, indices), indices


def _backward(options: Options, indices: Indices, bars: tuple[Values, Array]) -> tuple[Rows]:
    k, columns, block_rows, interpret = options
    rows, values_bar = indices.shape[0], bars[0]
    few = pl.BlockSpec((block_rows, k), lambda i: (i, 0))
    x_bar = pl.pallas_call(
        functools.partial(_hand_back, k=k),
        grid=(pl.cdiv(rows, block_rows),),
        in_specs=[few, few],
        out_specs=pl.BlockSpec((block_rows, columns), lambda i: (i, 0)),
        out_shape=jax.ShapeDtypeStruct((rows, columns), values_bar.dtype),
        interpret=interpret,
        name="top_k_gradient",
    )(indices, values_bar)
    return (x_bar,)


_top_k = jax.custom_vjp(_primal, nondiff_argnums=(1,))
_top_k.defvjp(_forward, _backward)


def _take(x_ref: jax.Ref, values_ref: jax.Ref, indices_ref: jax.Ref, *, k: int) -> None:
    x = x_ref[...]
    column = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)

    def take_one(j: jax.Array, is_left: jax.Array) -> jax.Array:
        value = jnp.where(is_left, x, -jnp.inf).max(axis=1, keepdims=True)
        index = jnp.argmax((is_left & (x == value)).astype(jnp.int32), axis=1).astype(jnp.int32)[:, None]
        values_ref[:, pl.ds(j, 1)] = value
        indices_ref[:, pl.ds(j, 1)] = index
        return is_left & (column != index)

    jax.lax.fori_loop(0, k, take_one, jnp.ones(x.shape, bool))


def _hand_back(indices_ref: jax.Ref, values_bar_ref: jax.Ref, x_bar_ref: jax.Ref, *, k: int) -> None:
    column = jax.lax.broadcasted_iota(jnp.int32, x_bar_ref.shape, 1)

    def hand_one(j: jax.Array, x_bar: jax.Array) -> jax.Array:
        here = pl.ds(j, 1)
        return jnp.where(column == indices_ref[:, here], values_bar_ref[:, here], x_bar)

    x_bar_ref[...] = jax.lax.fori_loop(0, k, hand_one, jnp.zeros(x_bar_ref.shape, x_bar_ref.dtype))
