"""A cache of keys and values: rows in order, for each batch entry as many as were appended."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..errors import OptionError, refuse
from .storage import SCALE_DTYPE, check_dtype, has_scales

Counts = Int[Array, " batch"]


class KVCache(NamedTuple):
    """Keys and values of every batch entry, and how many there are: a pytree, so it can be carried, mapped and donated.

    Attributes:
        keys: rows as they are kept; behind ``lengths`` they mean nothing.
        values: likewise.
        lengths: how many rows were appended to each entry. Above the capacity, the last ones were dropped.
        key_scales: what each stored key is multiplied by, heads in front, as kernels read them; None where keys are
            kept as they are.
        value_scales: likewise.
    """

    keys: Float[Array, "batch capacity key_heads width"]
    values: Float[Array, "batch capacity key_heads channels"]
    lengths: Counts
    key_scales: Float[Array, "batch key_heads capacity"] | None = None
    value_scales: Float[Array, "batch key_heads capacity"] | None = None

    @property
    def room(self) -> Counts:
        """Rows that each entry has room for."""
        return jnp.full_like(self.lengths, self.capacity)

    @property
    def capacity(self) -> int:
        """Rows that an entry has room for."""
        return self.keys.shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch entries, keys that each may have, and heads."""
        batch, capacity, heads, _ = self.keys.shape
        return batch, capacity, heads


def empty_cache(
    batch: int,
    capacity: int,
    key_heads: int,
    width: int,
    channels: int | None = None,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> KVCache:
    """Make a cache without rows.

    Args:
        batch: entries, each with a length of its own.
        capacity: rows that each has room for. Multiples of 128 are read as they lie; other capacities may be padded,
            which copies them at each call of ``attend``.
        key_heads: heads of keys and values.
        width: of a key.
        channels: of a value; ``width`` by default.
        dtype: that rows are kept in: of the model; or int8, float8_e4m3fn, with a float32 scale for each row and head.

    Raises:
        OptionError: the dtype is none of these, or a size is below zero.

    Cost: batch capacity key_heads (width + channels) numbers of the dtype, and 8 bytes for each row where it is scaled.

    Example:
        >>> cache = empty_cache(2, 128, 4, 64, dtype=jnp.int8)
        >>> cache.keys.nbytes, cache.key_scales.nbytes
        (65536, 4096)
    """
    kept = check_dtype("empty_cache", dtype)
    sizes = batch, capacity, key_heads, width, width if channels is None else channels
    if min(sizes) < 0:
        refuse(
            OptionError, "empty_cache: sizes count something.", got=f"{sizes}",
            want="batch, capacity, key_heads, width and channels from 0 on", fix="pass sizes that are not negative.",
        )  # fmt: skip
    keys, values = (jnp.zeros((*sizes[:3], last), kept) for last in sizes[3:])
    # One array for each, so that both can be donated.
    shape = batch, key_heads, capacity
    scales = [jnp.zeros(shape, SCALE_DTYPE) if has_scales(kept) else None for _ in range(2)]
    return KVCache(keys, values, jnp.zeros((batch,), jnp.int32), *scales)
