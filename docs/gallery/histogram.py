"""Count how often each small integer occurs.

    counts_b = how many i have values_i = b

The grid has an axis of slices of the values and one of blocks of bins. One program compares its slice with its bins
and adds up each bin's hits; a sum over slices ends it. No atomics: counting is comparing, and the same in every
order.

Moves n · (bins / block_bins) + 2 · bins · slices numbers and does 2 · n · bins operations: right for few bins.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Int

from qga.errors import ShapeError, describe, refuse

Values = Int[Array, "n"]
Counts = Int[Array, "bins"]


def histogram(values: Values, bins: int, *, block: int = 1024, block_bins: int = 64, interpret: bool = False) -> Counts:
    """Count the integers 0 to ``bins`` - 1.

    Args:
        values: integers of 32 bits; those outside the bins are not counted.
        bins: how many integers are counted, at least 1.
        block: values that one program looks at.
        block_bins: bins that it counts.
        interpret: run the kernel as JAX operations, on any platform.

    Returns:
        One int32 count for each bin.

    Raises:
        ShapeError: ``values`` is not a vector of int32, or there is no bin.
    """
    if values.ndim != 1 or values.dtype != jnp.int32 or bins < 1:
        refuse(
            ShapeError,
            "histogram: the values must be a vector of int32, and bins be positive.",
            got=f"values {describe(values)}, bins {bins}",
            want="values int32[n], bins >= 1",
            fix="ravel and convert the values.",
        )
    size, slices = values.shape[0], pl.cdiv(values.shape[0], block)
    partial_counts = pl.pallas_call(
        functools.partial(_count, size=size),
        grid=(slices, pl.cdiv(bins, block_bins)),
        in_specs=[pl.BlockSpec((block,), lambda i, j: (i,))],
        out_specs=pl.BlockSpec((1, block_bins), lambda i, j: (i, j)),
        out_shape=jax.ShapeDtypeStruct((slices, bins), jnp.int32),
        interpret=interpret,
        name="histogram",
    )(values)
    return partial_counts.sum(axis=0, dtype=jnp.int32)


def reference(values: Values, bins: int) -> Counts:
    """Return what ``histogram`` computes, in plain JAX."""
    hits = values[:, None] == jnp.arange(bins, dtype=values.dtype)[None, :]
    return hits.sum(axis=0, dtype=jnp.int32)


def _count(values_ref: jax.Ref, counts_ref: jax.Ref, *, size: int) -> None:
    shape = (values_ref.shape[0], counts_ref.shape[1])
    place = pl.program_id(0) * shape[0] + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    bin_ = pl.program_id(1) * shape[1] + jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    hits = (values_ref[...][:, None] == bin_) & (place < size)
    counts_ref[...] = hits.astype(jnp.int32).sum(axis=0, keepdims=True)
