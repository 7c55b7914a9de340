"""How keys and values are kept: in few bits with a scale for each row, in pages, or simply as they are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int


class Storage(NamedTuple):
    """What stands between rows as they are kept and the keys and values of one head.

    Attributes:
        key_scales: what each stored key is multiplied by; None for 1.
        value_scales: likewise.
        pages: which page holds the next rows of the keys, for each page's worth of them; None where all lie in order.
    """

    key_scales: Float[Array, " rows"] | None = None
    value_scales: Float[Array, " rows"] | None = None
    pages: Int[Array, " entry_pages"] | None = None

    @property
    def scales(self) -> tuple[Array, ...]:
        """Scales that there are."""
        return tuple(each for each in self[:2] if each is not None)

    @property
    def tables(self) -> tuple[Array, ...]:
        """Tables that there are."""
        return () if self.pages is None else (self.pages,)

    def rows_at(self, number: Array, tile: int, page_tiles: int) -> Any:
        """Return the rows where a tile of keys is kept, by references."""
        if self.pages is not None:
            number = self.pages[number // page_tiles] * page_tiles + number % page_tiles
        return pl.ds(number * tile, tile)

    def read_scales(self, number: Array, tile: int, page_tiles: int) -> tuple[Array | None, Array | None]:
        """Read the scales of a tile of keys by references."""
        place = self.rows_at(number, tile, page_tiles)
        key, value = (None if each is None else each[place] for each in self[:2])
        return key, value

    def count_scales(self) -> tuple[int, int]:
        """Say which scales there are."""
        return int(self.key_scales is not None), int(self.value_scales is not None)


def unit_of(dtype: jax.typing.DTypeLike) -> float:
    """Return the least power of two above the largest stored number.

    A scale times it is about as large as the rows were, so that weights times it keep their bits in 16 of them.
    """
    dtype = jnp.dtype(dtype)
    info = jnp.iinfo(dtype) if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo(dtype)
    return 2.0 ** math.ceil(math.log2(float(info.max)))


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of a number up to a limit."""
    return max(each for each in range(1, min(number, limit) + 1) if number % each == 0)
