"""Tiles that fit a device, from its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax.typing import DTypeLike

from ..tiling import tile_size
from .limits import Limits


@dataclass(frozen=True)
class Tiling:
    """How the keys of attention are cut.

    Attributes:
        tile: keys scored at a time, at most: what ``qga.attention`` takes as ``tile``.
        tiles: how many that makes.
        tile_bytes: of the keys and values of a tile.
        granule: rows that the device's matrix units, or a subgroup, take at a time.
        is_aligned: whether the tile is a multiple of it; a shorter one leaves lanes without work.
        limit: what keeps the tile from being longer.
    """

    tile: int
    tiles: int
    tile_bytes: int
    granule: int
    is_aligned: bool
    limit: Literal["keys", "memory"]


def fit_tile(limits: Limits, keys: int, width: int, channels: int, dtype: DTypeLike) -> int:
    """Find the longest tile whose keys and values fit: ``qga.tiling.tile_size`` under a device's limits."""
    return tile_size(keys, width, channels, limits.for_elements(jnp.dtype(dtype).itemsize))


def fit_tile_or_part(limits: Limits, keys: int, width: int, channels: int, dtype: DTypeLike) -> int:
    """Find the longest tile that fits; where not even one row does, kernels take rows in parts, a granule at a time."""
    if (width + channels) * jnp.dtype(dtype).itemsize > limits.room_bytes:
        return limits.granule(jnp.dtype(dtype).name)
    return fit_tile(limits, keys, width, channels, dtype)


def tiling_of(limits: Limits, keys: int, width: int, channels: int, dtype: DTypeLike) -> Tiling:
    """Cut the keys of attention into the longest tiles that fit a device.

    Tiles are powers of two, as subgroups and matrices are: one that is no shorter than they are is a multiple of them.
    """
    tile, granule = fit_tile(limits, keys, width, channels, dtype), limits.granule(jnp.dtype(dtype).name)
    return Tiling(
        tile=tile,
        tiles=-(-keys // tile),
        tile_bytes=tile * (width + channels) * jnp.dtype(dtype).itemsize,
        granule=granule,
        is_aligned=tile % granule == 0,
        limit="keys" if tile >= keys else "memory",
    )
