"""Centre each row, scale it to variance one, then stretch and shift its columns.

    y_ij = scale_j h_ij + shift_j,   h_ij = (x_ij - mean_i) r_i,   r_i = 1 / sqrt(variance_i + eps)

One program normalises a block of whole rows and keeps mean_i and r_i for the gradient:

    dx_ij = r_i (w_ij - mean_j w_ij - h_ij mean_j(w_ij h_ij)),   w_ij = scale_j g_ij
    dscale_j = sum_i g_ij h_ij,   dshift_j = sum_i g_ij

The sums over rows cross programs. Each program writes the sums of its own rows, and a sum over programs ends it: no
atomics, and one order of addition in every run.

Forward moves 2 · rows · columns numbers and does 8 operations a number, the gradient moves 3 and does 14.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from qga.errors import ShapeError, describe, refuse

Rows = Float[Array, "rows columns"]
Columns = Float[Array, "columns"]
Options = tuple[float, int, bool]
Residuals = tuple[Rows, Columns, Float[Array, "rows 1"], Float[Array, "rows 1"]]


def layer_norm(
    x: Rows, scale: Columns, shift: Columns, *, eps: float = 1e-5, block_rows: int = 8, interpret: bool = False
) -> Rows:
    """Normalise each row of a matrix.

    Args:
        x: the rows; f16 and bf16 are computed in f32.
        scale: one factor for each column, in the dtype of ``x``.
        shift: one summand for each column, in the dtype of ``x``.
        eps: added to the variance; positive.
        block_rows: rows that one program holds.
        interpret: run the kernels as JAX operations, on any platform.

    Returns:
        The normalised rows in the dtype of ``x``. Differentiable once, in reverse, in all three arrays.

    Raises:
        ShapeError: ``x`` is not a matrix, or ``scale`` or ``shift`` has not one number for each of its columns.
    """
    if x.ndim != 2 or scale.shape != x.shape[1:] or shift.shape != x.shape[1:]:
        refuse(
            ShapeError,
            "layer_norm: scale and shift must have one number for each column of a matrix.",
            got=f"x {describe(x)}, scale {describe(scale)}, shift {describe(shift)}",
            want=f"x with two axes, scale and shift with {x.shape[-1] if x.ndim else 1} numbers",
            fix="reshape the leading axes of x into one.",
        )
    return _layer_norm(x, scale, shift, (eps, block_rows, interpret))


def reference(x: Rows, scale: Columns, shift: Columns, *, eps: float = 1e-5) -> Rows:
    """Return what ``layer_norm`` computes, in plain JAX."""
    centred = x - x.mean(axis=1, keepdims=True)
    variance = jnp.square(centred).mean(axis=1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + eps) * scale[None, :] + shift[None, :]


def _primal(x: Rows, scale: Columns, shift: Columns, options: Options) -> Rows:
    return _forward(x, scale, shift, options)[0]


def _forward(x: Rows, scale: Columns, shift: Columns, options: Options) -> tuple[Rows, Residuals]:
    eps, block_rows, interpret = options
    rows, columns = x.shape
    block, wide = _specs(block_rows, columns), _sum_dtype(x.dtype)
    out, mean, inverse = pl.pallas_call(
        functools.partial(_normalise, eps=eps),
        grid=(pl.cdiv(rows, block_rows),),
        in_specs=[block["rows"], block["columns"], block["columns"]],
        out_specs=[block["rows"], block["row"], block["row"]],
        out_shape=[
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            jax.ShapeDtypeStruct((rows, 1), wide),
            jax.ShapeDtypeStruct((rows, 1), wide),
        ],
        interpret=interpret,
        name="layer_norm",
    )(x, scale, shift)
    return out, (x, scale, mean, inverse)


def _backward(options: Options, residuals: Residuals, out_bar: Rows) -> tuple[Rows, Columns, Columns]:
    _, block_rows, interpret = options
    x, scale, mean, inverse = residuals
    rows, columns = x.shape
    block, programs = _specs(block_rows, columns), pl.cdiv(rows, block_rows)
    partial_sums = jax.ShapeDtypeStruct((programs, columns), mean.dtype)
    x_bar, scale_sums, shift_sums = pl.pallas_call(
        functools.partial(_pull_back, rows=rows),
        grid=(programs,),
        in_specs=[block["rows"], block["columns"], block["row"], block["row"], block["rows"]],
        out_specs=[block["rows"], block["program"], block["program"]],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype), partial_sums, partial_sums],
        interpret=interpret,
        name="layer_norm_gradient",
    )(x, scale, mean, inverse, out_bar)
    return x_bar, scale_sums.sum(axis=0).astype(scale.dtype), shift_sums.sum(axis=0).astype(scale.dtype)


_layer_norm = jax.custom_vjp(_primal, nondiff_argnums=(3,))
_layer_norm.defvjp(_forward, _backward)


def _specs(block_rows: int, columns: int) -> dict[str, pl.BlockSpec]:
    return {
        "rows": pl.BlockSpec((block_rows, columns), lambda i: (i, 0)),
        "row": pl.BlockSpec((block_rows, 1), lambda i: (i, 0)),
        "columns": pl.BlockSpec((columns,), lambda i: (0,)),
        "program": pl.BlockSpec((1, columns), lambda i: (i, 0)),
    }


def _normalise(
    x_ref: jax.Ref,
    scale_ref: jax.Ref,
    shift_ref: jax.Ref,
    out_ref: jax.Ref,
    mean_ref: jax.Ref,
    inverse_ref: jax.Ref,
    *,
    eps: float,
) -> None:
    dtype = mean_ref.dtype
    x = x_ref[...].astype(dtype)
    mean = x.mean(axis=1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(x - mean).mean(axis=1, keepdims=True) + eps)
    scale, shift = scale_ref[...].astype(dtype)[None, :], shift_ref[...].astype(dtype)[None, :]
    out_ref[...] = ((x - mean) * inverse * scale + shift).astype(out_ref.dtype)
    mean_ref[...] = mean
    inverse_ref[...] = inverse


def _pull_back(
    x_ref: jax.Ref,
    scale_ref: jax.Ref,
    mean_ref: jax.Ref,
    inverse_ref: jax.Ref,
    out_bar_ref: jax.Ref,
    x_bar_ref: jax.Ref,
    scale_bar_ref: jax.Ref,
    shift_bar_ref: jax.Ref,
    *,
    rows: int,
) -> None:
    dtype = mean_ref.dtype
    row = pl.program_id(0) * x_ref.shape[0] + jax.lax.broadcasted_iota(jnp.int32, x_ref.shape, 0)
    # Rows past the end would enter the sums over rows.
    out_bar = jnp.where(row < rows, out_bar_ref[...].astype(dtype), 0)
    unit = jnp.where(row < rows, (x_ref[...].astype(dtype) - mean_ref[...]) * inverse_ref[...], 0)
    stretched = out_bar * scale_ref[...].astype(dtype)[None, :]
    along = (stretched * unit).mean(axis=1, keepdims=True)
    x_bar = inverse_ref[...] * (stretched - stretched.mean(axis=1, keepdims=True) - unit * along)
    x_bar_ref[...] = x_bar.astype(x_bar_ref.dtype)
    scale_bar_ref[...] = (out_bar * unit).sum(axis=0, keepdims=True)
    shift_bar_ref[...] = out_bar.sum(axis=0, keepdims=True)


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
