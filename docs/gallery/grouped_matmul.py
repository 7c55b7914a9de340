"""Multiply each tile of rows by the matrix of its group (mixture of experts).

    out_r = x_r · matrices[group_of_tile[r // block_rows]]

The groups are known to the index maps before a program starts (scalar prefetch), so a program loads only the matrix
it needs. One program writes one tile of rows and a block of columns. The gradients:

    dx_r = g_r · matrices[group]ᵀ            the same kernel
    dmatrices_e = sum of x_rᵀ g_r over the rows of group e

For the second the grid has an axis of tiles, last, whose programs add to a sum in scratch where the tile is of their
group.

Moves rows · depth · (columns / block_columns) + tiles · depth · columns numbers, does 2 · rows · depth · columns
operations. The gradient of the matrices reads every tile once for each group.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from qga.errors import ShapeError, describe, refuse

Rows = Float[Array, "rows depth"]
Matrices = Float[Array, "groups depth columns"]
Groups = Int[Array, "tiles"]
Products = Float[Array, "rows columns"]


class Options(NamedTuple):
    """What a kernel is made for."""

    block_rows: int
    block_columns: int
    interpret: bool


def grouped_matmul(
    x: Rows,
    matrices: Matrices,
    group_of_tile: Groups,
    *,
    block_rows: int = 32,
    block_columns: int = 64,
    interpret: bool = False,
) -> Products:
    """Multiply each tile of rows by the matrix of its group.

    Args:
        x: rows, sorted by group so that no tile has rows of two groups.
        matrices: one for each group, in the dtype of ``x``.
        group_of_tile: the group of each ``block_rows`` rows, int32, at least 0 and below the groups, in any order.
        block_rows: rows of a tile. Other values give other results: the tile is what has a group.
        block_columns: columns that one program writes.
        interpret: run the kernels as JAX operations, on any platform.

    Returns:
        The products in the dtype of ``x``, summed in f32 (f64 for f64). Differentiable once, in reverse, in ``x`` and
        ``matrices``; a group without tiles has the gradient zero.

    Raises:
        ShapeError: shapes or dtypes do not fit together, or there is not one group for each tile.
    """
    if (
        x.ndim != 2
        or matrices.ndim != 3
        or x.shape[1] != matrices.shape[1]
        or x.dtype != matrices.dtype
        or group_of_tile.shape != (pl.cdiv(x.shape[0], block_rows),)
        or group_of_tile.dtype != jnp.int32
    ):
        refuse(
            ShapeError,
            "grouped_matmul: rows, matrices and groups must fit together.",
            got=f"x {describe(x)}, matrices {describe(matrices)}, group_of_tile {describe(group_of_tile)}",
            want=f"x [rows, depth], matrices [groups, depth, columns], an int32 for each {block_rows} rows",
            fix="pad each group's rows to whole tiles.",
        )
    return _grouped_matmul(x, matrices, group_of_tile, Options(block_rows, block_columns, interpret))


def reference(x: Rows, matrices: Matrices, group_of_tile: Groups, *, block_rows: int = 32) -> Products:
    """Return what ``grouped_matmul`` computes, in plain JAX."""
    group_of_row = jnp.repeat(group_of_tile, block_rows)[: x.shape[0]]
    return jnp.einsum("rd,rdc->rc", x, matrices[group_of_row])


def _primal(x: Rows, matrices: Matrices, group_of_tile: Groups, options: Options) -> Products:
    (rows, depth), columns = x.shape, matrices.shape[2]
    block_rows, block_columns, interpret = options
    return pl.pallas_call(
        functools.partial(_multiply, dtype=_sum_dtype(x.dtype)),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(pl.cdiv(rows, block_rows), pl.cdiv(columns, block_columns)),
            in_specs=[
                pl.BlockSpec((block_rows, depth), lambda i, j, groups: (i, 0)),
                pl.BlockSpec((None, depth, block_columns), lambda i, j, groups: (groups[i], 0, j)),
            ],
            out_specs=pl.BlockSpec((block_rows, block_columns), lambda i, j, groups: (i, j)),
        ),
        out_shape=jax.ShapeDtypeStruct((rows, columns), x.dtype),
        interpret=interpret,
        name="grouped_matmul",
    )(group_of_tile, x, matrices)


def _forward(
    x: Rows, matrices: Matrices, group_of_tile: Groups, options: Options
) -> tuple[Products, tuple[Rows, Matrices, Groups]]:
    return _primal(x, matrices, group_of_tile, options), (x, matrices, group_of_tile)


def _backward(
    options: Options, residuals: tuple[Rows, Matrices, Groups], out_bar: Products
) -> tuple[Rows, Matrices, None]:
    x, matrices, group_of_tile = residuals
    x_bar = _primal(out_bar, matrices.swapaxes(1, 2), group_of_tile, options)
    return x_bar, _matrices_gradient(x, matrices, group_of_tile, out_bar, options), None


_grouped_matmul = jax.custom_vjp(_primal, nondiff_argnums=(3,))
_grouped_matmul.defvjp(_forward, _backward)


def _matrices_gradient(
    x: Rows, matrices: Matrices, group_of_tile: Groups, out_bar: Products, options: Options
) -> Matrices:
    rows, (groups, depth, columns) = x.shape[0], matrices.shape
    block_rows, block_columns, interpret = options
    return pl.pallas_call(
        functools.partial(_add_tile, rows=rows),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(groups, pl.cdiv(columns, block_columns), pl.cdiv(rows, block_rows)),
            in_specs=[
                pl.BlockSpec((block_rows, depth), lambda e, j, i, groups: (i, 0)),
                pl.BlockSpec((block_rows, block_columns), lambda e, j, i, groups: (i, j)),
            ],
            out_specs=pl.BlockSpec((None, depth, block_columns), lambda e, j, i, groups: (e, 0, j)),
            scratch_shapes=[pl.ANY((depth, block_columns), _sum_dtype(x.dtype))],
        ),
        out_shape=jax.ShapeDtypeStruct(matrices.shape, matrices.dtype),
        # Scratch hides from a compiler which axes hand something on.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name="grouped_matmul_gradient",
    )(group_of_tile, x, out_bar)


def _multiply(groups_ref: jax.Ref, x_ref: jax.Ref, matrix_ref: jax.Ref, out_ref: jax.Ref, *, dtype: jnp.dtype) -> None:
    del groups_ref  # read by the index maps
    product = jnp.dot(x_ref[...], matrix_ref[...], preferred_element_type=dtype)
    out_ref[...] = product.astype(out_ref.dtype)


def _add_tile(
    groups_ref: jax.Ref, x_ref: jax.Ref, out_bar_ref: jax.Ref, matrix_bar_ref: jax.Ref, sum_ref: jax.Ref, *, rows: int
) -> None:
    tile = pl.program_id(2)

    @pl.when(tile == 0)
    def _start() -> None:
        sum_ref[...] = jnp.zeros(sum_ref.shape, sum_ref.dtype)

    @pl.when(groups_ref[tile] == pl.program_id(0))
    def _add() -> None:
        left = rows - tile * x_ref.shape[0]
        x, out_bar = _keep(x_ref[...], left), _keep(out_bar_ref[...], left)
        sum_ref[...] += jnp.dot(x.T, out_bar, preferred_element_type=sum_ref.dtype)

    @pl.when(tile == pl.num_programs(2) - 1)
    def _finish() -> None:
        matrix_bar_ref[...] = sum_ref[...].astype(matrix_bar_ref.dtype)


def _keep(block: jax.Array, rows: jax.Array) -> jax.Array:
    """Return a block with zeros after its first ``rows`` rows."""
    return jnp.where(jax.lax.broadcasted_iota(jnp.int32, block.shape, 0) < rows, block, 0)


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
