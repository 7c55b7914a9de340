"""Add two vectors: the smallest whole kernel.

    out_i = x_i + y_i

One program adds one block. The last block may reach past the end: what it reads there is undefined, what it writes
there is dropped.

Moves 3 · n numbers and does n additions: bound by memory everywhere.
"""

from __future__ import annotations

import jax
from jax.experimental import pallas as pl
from jaxtyping import Array, Num

from qga.errors import ShapeError, describe, refuse

Vector = Num[Array, "n"]


def vector_add(x: Vector, y: Vector, *, block: int = 1024, interpret: bool = False) -> Vector:
    """Add two vectors of one shape and dtype.

    Args:
        x: the first vector, of any number dtype.
        y: the second vector.
        block: numbers that one program adds.
        interpret: run the kernel as JAX operations, on any platform.

    Returns:
        The sum, in the dtype of ``x``.

    Raises:
        ShapeError: the vectors differ in shape or dtype.
    """
    if x.shape != y.shape or x.dtype != y.dtype:
        refuse(
            ShapeError,
            "vector_add: both vectors must have one shape and dtype.",
            got=f"x {describe(x)}, y {describe(y)}",
            want=f"y {describe(x)}",
            fix="convert or slice one of them.",
        )
    spec = pl.BlockSpec((block,), lambda i: (i,))
    call = pl.pallas_call(
        _add,
        grid=(pl.cdiv(x.shape[0], block),),
        in_specs=[spec, spec],
        out_specs=spec,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        interpret=interpret,
        name="vector_add",
    )
    return call(x, y)


def reference(x: Vector, y: Vector) -> Vector:
    """Return what ``vector_add`` computes, in plain JAX."""
    return x + y


def _add(x_ref: jax.Ref, y_ref: jax.Ref, out_ref: jax.Ref) -> None:
    out_ref[...] = x_ref[...] + y_ref[...]
