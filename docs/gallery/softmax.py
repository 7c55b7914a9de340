"""Normalise the exponentials of each row.

    p_ij = e^(x_ij - max_j x_ij) / sum_j e^(x_ij - max_j x_ij)

One program holds a block of whole rows. Rows do not know each other, so the undefined rows of a last block that
reaches past the end spoil nothing and are dropped. The gradient is a kernel of the same shape:

    dx_ij = p_ij (g_ij - sum_j p_ij g_ij)

Forward moves 2 · rows · columns numbers (one read, one write) and does 5 operations a number, one of them ``exp``;
the gradient moves 3 and does 4.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from qga.errors import ShapeError, describe, refuse

Rows = Float[Array, "rows columns"]


def softmax(x: Rows, *, block_rows: int = 8, interpret: bool = False) -> Rows:
    """Return the softmax of each row of a matrix.

    Args:
        x: scores; f16 and bf16 are computed in f32.
        block_rows: rows that one program holds.
        interpret: run the kernel as JAX operations, on any platform.

    Returns:
        Rows that add up to one, in the dtype of ``x``. Differentiable once, in reverse.

    Raises:
        ShapeError: ``x`` is not a matrix.
    """
    if x.ndim != 2:
        refuse(
            ShapeError,
            "softmax: the scores must be a matrix.",
            got=f"x {describe(x)}",
            want="two axes: rows, columns",
            fix="reshape the leading axes into one.",
        )
    return _softmax(x, block_rows, interpret)


def reference(x: Rows) -> Rows:
    """Return what ``softmax`` computes, in plain JAX."""
    return jax.nn.softmax(x, axis=-1)


def _primal(x: Rows, block_rows: int, interpret: bool) -> Rows:
    return _over_rows(_normalise, block_rows, interpret, x)


def _forward(x: Rows, block_rows: int, interpret: bool) -> tuple[Rows, Rows]:
    out = _primal(x, block_rows, interpret)
    return out, out


def _backward(block_rows: int, interpret: bool, out: Rows, out_bar: Rows) -> tuple[Rows]:
    return (_over_rows(_pull_back, block_rows, interpret, out, out_bar),)


_softmax = jax.custom_vjp(_primal, nondiff_argnums=(1, 2))
_softmax.defvjp(_forward, _backward)


def _over_rows(kernel: Callable[..., None], block_rows: int, interpret: bool, *arrays: Rows) -> Rows:
    rows, columns = arrays[0].shape
    spec = pl.BlockSpec((block_rows, columns), lambda i: (i, 0))
    return pl.pallas_call(
        kernel,
        grid=(pl.cdiv(rows, block_rows),),
        in_specs=[spec] * len(arrays),
        out_specs=spec,
        out_shape=jax.ShapeDtypeStruct((rows, columns), arrays[0].dtype),
        interpret=interpret,
        name=f"softmax{kernel.__name__}",
    )(*arrays)


def _normalise(x_ref: jax.Ref, out_ref: jax.Ref) -> None:
    x = _wide(x_ref)
    powers = jnp.exp(x - x.max(axis=1, keepdims=True))
    out_ref[...] = (powers / powers.sum(axis=1, keepdims=True)).astype(out_ref.dtype)


def _pull_back(out_ref: jax.Ref, out_bar_ref: jax.Ref, x_bar_ref: jax.Ref) -> None:
    out, out_bar = _wide(out_ref), _wide(out_bar_ref)
    along = (out * out_bar).sum(axis=1, keepdims=True)
    x_bar_ref[...] = (out * (out_bar - along)).astype(x_bar_ref.dtype)


def _wide(ref: jax.Ref) -> jax.Array:
    """Load a block in the dtype that sums are taken in."""
    return ref[...].astype(_sum_dtype(ref.dtype))


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
