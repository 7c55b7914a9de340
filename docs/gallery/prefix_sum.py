"""Add up all numbers up to each place.

    out_i = x_0 + ... + x_i

In three steps: each program sums its own chunk and keeps the chunk's total; the totals are summed by this very
function; each program adds the total of all chunks before to its own, in place. The gradient is the same sum from the
other end.

Moves 4 · n numbers and does about 2 · n additions (the sum inside a chunk is the backend's ``cumsum``).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Num

from qga.errors import ShapeError, describe, refuse

Vector = Num[Array, "n"]
Options = tuple[int, bool]


def prefix_sum(x: Vector, *, block: int = 512, interpret: bool = False) -> Vector:
    """Return the sums of all beginnings of a vector.

    Args:
        x: numbers of any dtype. Integers wrap; f16 and bf16 are summed in f32.
        block: numbers in a chunk; at least 2.
        interpret: run the kernels as JAX operations, on any platform.

    Returns:
        As many sums, in the dtype of ``x``. Differentiable to any order, in reverse.

    Raises:
        ShapeError: ``x`` is not a vector, or ``block`` is below 2.
    """
    if x.ndim != 1 or block < 2:
        refuse(
            ShapeError,
            "prefix_sum: the numbers must be a vector, and a chunk have at least two.",
            got=f"x {describe(x)}, block {block}",
            want="one axis, block >= 2",
            fix="use jax.vmap for more axes.",
        )
    return _prefix_sum(x, (block, interpret))


def reference(x: Vector) -> Vector:
    """Return what ``prefix_sum`` computes, in plain JAX."""
    return jnp.cumsum(x)


def _primal(x: Vector, options: Options) -> Vector:
    dtype = _sum_dtype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype
    return _sums(x, options, dtype).astype(x.dtype)


def _forward(x: Vector, options: Options) -> tuple[Vector, None]:
    return _prefix_sum(x, options), None


def _backward(options: Options, _: None, out_bar: Vector) -> tuple[Vector]:
    return (_prefix_sum(out_bar[::-1], options)[::-1],)


_prefix_sum = jax.custom_vjp(_primal, nondiff_argnums=(1,))
_prefix_sum.defvjp(_forward, _backward)


def _sums(x: Vector, options: Options, dtype: jnp.dtype) -> Vector:
    block, interpret = options
    size, chunks = x.shape[0], pl.cdiv(x.shape[0], block)
    chunk, one = pl.BlockSpec((block,), lambda i: (i,)), pl.BlockSpec((1,), lambda i: (i,))
    inside, totals = pl.pallas_call(
        _sum_chunk,
        grid=(chunks,),
        in_specs=[chunk],
        out_specs=[chunk, one],
        out_shape=[jax.ShapeDtypeStruct((size,), dtype), jax.ShapeDtypeStruct((chunks,), dtype)],
        interpret=interpret,
        name="prefix_sum_chunks",
    )(x)
    if chunks == 1:
        return inside
    # The last total is of a chunk that may reach past the end, and nobody needs it.
    before = _sums(totals[:-1], options, dtype)
    return pl.pallas_call(
        _add_before,
        grid=(chunks,),
        in_specs=[chunk, pl.BlockSpec((1,), lambda i: (jnp.maximum(i - 1, 0),))],
        out_specs=chunk,
        out_shape=jax.ShapeDtypeStruct((size,), dtype),
        input_output_aliases={0: 0},
        interpret=interpret,
        name="prefix_sum_join",
    )(inside, before)


def _sum_chunk(x_ref: jax.Ref, out_ref: jax.Ref, total_ref: jax.Ref) -> None:
    sums = jnp.cumsum(x_ref[...].astype(out_ref.dtype))
    out_ref[...] = sums
    total_ref[0] = sums[-1]


def _add_before(inside_ref: jax.Ref, before_ref: jax.Ref, out_ref: jax.Ref) -> None:
    # The first chunk has nothing before it.
    before = jnp.where(pl.program_id(0) == 0, jnp.zeros((), out_ref.dtype), before_ref[0])
    out_ref[...] = inside_ref[...] + before


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
