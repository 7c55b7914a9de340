"""Multiply two matrices block by block.

    out_ij = sum_k x_ik y_kj

``matmul``: the grid has three axes, the last one walks along k. Programs that share an output block follow each other
and keep their sum in scratch, wider than the operands; the last of them writes it.

``matmul_inside``: the grid has two axes. A program sees a stripe of rows of x and a stripe of columns of y and walks
along k in a loop of its own, with the sum in a value.

Where a block reaches past the end of k, what is read there is undefined and must not be summed, so both operands are
masked. Rows and columns past the end are dropped when the block is written.

Moves rows · columns · depth · (1 / block_rows + 1 / block_columns) numbers, does 2 · rows · columns · depth
operations.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from qga.errors import ShapeError, describe, refuse

Left = Float[Array, "rows depth"]
Right = Float[Array, "depth columns"]
Product = Float[Array, "rows columns"]
# Where the walk along k is ("grid" or "inside"), then the blocks of rows, columns and depth, then `interpret`.
Options = tuple[str, int, int, int, bool]


def matmul(
    x: Left,
    y: Right,
    *,
    block_rows: int = 64,
    block_columns: int = 64,
    block_depth: int = 32,
    interpret: bool = False,
) -> Product:
    """Multiply two matrices; the grid walks along the depth and sums in scratch.

    Args:
        x: the left factor.
        y: the right factor, in the dtype of ``x``.
        block_rows: rows of the block that one program writes.
        block_columns: its columns.
        block_depth: terms that one program adds.
        interpret: run the kernel as JAX operations, on any platform.

    Returns:
        The product in the dtype of ``x``, summed in f32 (f64 for f64). Differentiable to any order, in reverse.

    Raises:
        ShapeError: the matrices do not fit together, or differ in dtype.
    """
    _check("matmul", x, y)
    return _matmul(x, y, ("grid", block_rows, block_columns, block_depth, interpret))


def matmul_inside(
    x: Left,
    y: Right,
    *,
    block_rows: int = 64,
    block_columns: int = 64,
    block_depth: int = 32,
    interpret: bool = False,
) -> Product:
    """Multiply two matrices; each program walks along the depth in a loop.

    Arguments, result and errors are those of ``matmul``.
    """
    _check("matmul_inside", x, y)
    return _matmul(x, y, ("inside", block_rows, block_columns, block_depth, interpret))


def reference(x: Left, y: Right) -> Product:
    """Return what both functions compute, in plain JAX."""
    return x @ y


def _check(name: str, x: Left, y: Right) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[0] or x.dtype != y.dtype:
        refuse(
            ShapeError,
            f"{name}: the columns of the left matrix must be the rows of the right one.",
            got=f"x {describe(x)}, y {describe(y)}",
            want="x [rows, depth], y [depth, columns], one dtype",
            fix="transpose or convert one of them.",
        )


def _primal(x: Left, y: Right, options: Options) -> Product:
    return (_with_grid if options[0] == "grid" else _with_loop)(x, y, options)


def _forward(x: Left, y: Right, options: Options) -> tuple[Product, tuple[Left, Right]]:
    return _primal(x, y, options), (x, y)


def _backward(options: Options, factors: tuple[Left, Right], out_bar: Product) -> tuple[Left, Right]:
    x, y = factors
    where, rows, columns, depth, interpret = options
    # The axes change their parts, and their blocks with them.
    x_bar = _matmul(out_bar, y.T, (where, rows, depth, columns, interpret))
    return x_bar, _matmul(x.T, out_bar, (where, depth, columns, rows, interpret))


_matmul = jax.custom_vjp(_primal, nondiff_argnums=(2,))
_matmul.defvjp(_forward, _backward)


def _with_grid(x: Left, y: Right, options: Options) -> Product:
    _, block_rows, block_columns, block_depth, interpret = options
    (rows, depth), columns = x.shape, y.shape[1]
    return pl.pallas_call(
        functools.partial(_add_one_step, depth=depth),
        grid=(pl.cdiv(rows, block_rows), pl.cdiv(columns, block_columns), pl.cdiv(depth, block_depth)),
        in_specs=[
            pl.BlockSpec((block_rows, block_depth), lambda i, j, k: (i, k)),
            pl.BlockSpec((block_depth, block_columns), lambda i, j, k: (k, j)),
        ],
        out_specs=pl.BlockSpec((block_rows, block_columns), lambda i, j, k: (i, j)),
        out_shape=jax.ShapeDtypeStruct((rows, columns), x.dtype),
        scratch_shapes=[pl.ANY((block_rows, block_columns), _sum_dtype(x.dtype))],
        # Scratch hides from a compiler which axes hand something on.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name="matmul",
    )(x, y)


def _with_loop(x: Left, y: Right, options: Options) -> Product:
    _, block_rows, block_columns, block_depth, interpret = options
    (rows, depth), columns = x.shape, y.shape[1]
    # A stripe is a whole number of steps long, so that no load of the loop leaves it.
    stripe = pl.cdiv(depth, block_depth) * block_depth
    return pl.pallas_call(
        functools.partial(_add_all_steps, depth=depth, block_depth=block_depth),
        grid=(pl.cdiv(rows, block_rows), pl.cdiv(columns, block_columns)),
        in_specs=[
            pl.BlockSpec((block_rows, stripe), lambda i, j: (i, 0)),
            pl.BlockSpec((stripe, block_columns), lambda i, j: (0, j)),
        ],
        out_specs=pl.BlockSpec((block_rows, block_columns), lambda i, j: (i, j)),
        out_shape=jax.ShapeDtypeStruct((rows, columns), x.dtype),
        interpret=interpret,
        name="matmul_inside",
    )(x, y)


def _add_one_step(x_ref: jax.Ref, y_ref: jax.Ref, out_ref: jax.Ref, sum_ref: jax.Ref, *, depth: int) -> None:
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _start() -> None:
        sum_ref[...] = jnp.zeros(sum_ref.shape, sum_ref.dtype)

    left = depth - step * x_ref.shape[1]
    sum_ref[...] += _product(x_ref[...], y_ref[...], left, sum_ref.dtype)

    @pl.when(step == pl.num_programs(2) - 1)
    def _finish() -> None:
        out_ref[...] = sum_ref[...].astype(out_ref.dtype)


def _add_all_steps(x_ref: jax.Ref, y_ref: jax.Ref, out_ref: jax.Ref, *, depth: int, block_depth: int) -> None:
    dtype = _sum_dtype(x_ref.dtype)

    def step(k: jax.Array, total: jax.Array) -> jax.Array:
        here = pl.ds(k * block_depth, block_depth)
        return total + _product(x_ref[:, here], y_ref[here, :], depth - k * block_depth, dtype)

    total = jax.lax.fori_loop(0, x_ref.shape[1] // block_depth, step, jnp.zeros(out_ref.shape, dtype))
    out_ref[...] = total.astype(out_ref.dtype)


def _product(x: jax.Array, y: jax.Array, left: jax.Array | int, dtype: jnp.dtype) -> jax.Array:
    """Multiply two blocks of which the first ``left`` terms are there."""
    x = jnp.where(jax.lax.broadcasted_iota(jnp.int32, x.shape, 1) < left, x, 0)
    y = jnp.where(jax.lax.broadcasted_iota(jnp.int32, y.shape, 0) < left, y, 0)
    return jnp.dot(x, y, preferred_element_type=dtype)


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
