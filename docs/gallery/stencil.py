"""One step of heat on a grid of points: every point moves towards the mean of its four neighbours.

    out_rc = u_rc + rate (u_(r-1)c + u_(r+1)c + u_r(c-1) + u_r(c+1) - 4 u_rc),   u = 0 outside

One program makes one tile. Its neighbours' edges (the halo) come as four thin blocks of the same array; the program
puts tile and halo together in scratch and reads the scratch five times, shifted. Edges of the array, also inside a
tile that reaches past them, have zeros beyond. The operator is symmetric, so the gradient is the same kernel.

Moves rows · columns · (2 + 2 / block_rows + 2 / block_columns) numbers and does 6 operations a number.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from qga.errors import ShapeError, describe, refuse

Points = Float[Array, "rows columns"]
Options = tuple[float, int, int, bool]


def stencil(
    u: Points, *, rate: float = 0.25, block_rows: int = 16, block_columns: int = 64, interpret: bool = False
) -> Points:
    """Return the temperatures one step later.

    Args:
        u: temperatures.
        rate: how far a point moves; the step is stable up to 0.25.
        block_rows: rows of a tile.
        block_columns: columns of a tile.
        interpret: run the kernel as JAX operations, on any platform.

    Returns:
        Temperatures in the dtype of ``u``; f16 and bf16 are computed in f32. Differentiable to any order, in reverse.

    Raises:
        ShapeError: ``u`` is not a matrix.
    """
    if u.ndim != 2:
        refuse(
            ShapeError,
            "stencil: the temperatures must be a matrix.",
            got=f"u {describe(u)}",
            want="two axes: rows, columns",
            fix="use jax.vmap for more axes.",
        )
    return _stencil(u, (rate, block_rows, block_columns, interpret))


def reference(u: Points, *, rate: float = 0.25) -> Points:
    """Return what ``stencil`` computes, in plain JAX."""
    wide = jnp.pad(u, 1)
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return u + rate * (around - 4 * u)


def _primal(u: Points, options: Options) -> Points:
    rate, high, wide, interpret = options
    rows, columns = u.shape
    tile = pl.BlockSpec((high, wide), lambda i, j: (i, j))
    # A block of one row is counted in rows. At an edge of the array any row will do: the kernel writes zeros over it.
    above = pl.BlockSpec((1, wide), lambda i, j: (jnp.maximum(i * high - 1, 0), j))
    below = pl.BlockSpec((1, wide), lambda i, j: (jnp.minimum((i + 1) * high, rows - 1), j))
    left = pl.BlockSpec((high, 1), lambda i, j: (i, jnp.maximum(j * wide - 1, 0)))
    right = pl.BlockSpec((high, 1), lambda i, j: (i, jnp.minimum((j + 1) * wide, columns - 1)))
    return pl.pallas_call(
        functools.partial(_step, rate=rate, rows=rows, columns=columns),
        grid=(pl.cdiv(rows, high), pl.cdiv(columns, wide)),
        in_specs=[tile, above, below, left, right],
        out_specs=tile,
        out_shape=jax.ShapeDtypeStruct(u.shape, u.dtype),
        scratch_shapes=[pl.ANY((high + 2, wide + 2), _sum_dtype(u.dtype))],
        # Scratch hides from a compiler which axes hand something on.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        interpret=interpret,
        name="stencil",
    )(u, u, u, u, u)


def _forward(u: Points, options: Options) -> tuple[Points, None]:
    return _stencil(u, options), None


def _backward(options: Options, _: None, out_bar: Points) -> tuple[Points]:
    return (_stencil(out_bar, options),)


_stencil = jax.custom_vjp(_primal, nondiff_argnums=(1,))
_stencil.defvjp(_forward, _backward)


def _step(
    tile_ref: jax.Ref,
    above_ref: jax.Ref,
    below_ref: jax.Ref,
    left_ref: jax.Ref,
    right_ref: jax.Ref,
    out_ref: jax.Ref,
    wide_ref: jax.Ref,
    *,
    rate: float,
    rows: int,
    columns: int,
) -> None:
    high, wide = tile_ref.shape
    dtype = wide_ref.dtype
    first_row, first_column = pl.program_id(0) * high, pl.program_id(1) * wide
    row = first_row + jax.lax.broadcasted_iota(jnp.int32, (high, wide), 0)
    column = first_column + jax.lax.broadcasted_iota(jnp.int32, (high, wide), 1)

    def put(ref: jax.Ref, is_inside: jax.Array, down: int, across: int) -> None:
        block = jnp.where(is_inside, ref[...].astype(dtype), 0)
        wide_ref[pl.ds(down, block.shape[0]), pl.ds(across, block.shape[1])] = block

    put(tile_ref, (row < rows) & (column < columns), 1, 1)
    put(above_ref, first_row > 0, 0, 1)
    put(below_ref, first_row + high < rows, high + 1, 1)
    put(left_ref, first_column > 0, 1, 0)
    put(right_ref, first_column + wide < columns, 1, wide + 1)

    def shifted(down: int, across: int) -> jax.Array:
        return wide_ref[pl.ds(1 + down, high), pl.ds(1 + across, wide)]

    around = shifted(-1, 0) + shifted(1, 0) + shifted(0, -1) + shifted(0, 1)
    here = shifted(0, 0)
    out_ref[...] = (here + rate * (around - 4 * here)).astype(out_ref.dtype)


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
