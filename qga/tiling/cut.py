"""Cut the leading axis of an array into tiles of equal length, and put it back."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Shaped

from ..errors import OptionError, ShapeError, describe, refuse


def split(
    rows: Shaped[Array, " rows *rest"], tile: int, pad_value: ArrayLike = 0
) -> tuple[Shaped[Array, "tiles tile *rest"], Bool[Array, "tiles tile"]]:
    """Cut the leading axis into tiles of ``tile`` rows; the last one is padded.

    Args:
        rows: any array with at least one axis.
        tile: rows of one tile, at least 1.
        pad_value: what fills the rows that do not exist.

    Returns:
        The tiles, and True where a row exists.

    Raises:
        OptionError: ``tile`` is below 1.
        ShapeError: ``rows`` has no axis.
    """
    if tile < 1:
        refuse(
            OptionError, "split: a tile has at least one row.", got=f"tile={tile}", want="tile >= 1", fix="raise tile."
        )
    if rows.ndim == 0:
        refuse(
            ShapeError,
            "split: there is no axis to cut.",
            got=describe(rows),
            want="at least one axis",
            fix="add a leading axis, such as rows[None].",
        )
    count = rows.shape[0]
    tiles = -(-count // tile)
    padding = [(0, tiles * tile - count)] + [(0, 0)] * (rows.ndim - 1)
    padded = jnp.pad(rows, padding, constant_values=pad_value)
    exists = jnp.arange(tiles * tile) < count
    return padded.reshape(tiles, tile, *rows.shape[1:]), exists.reshape(tiles, tile)


def join(tiles: Shaped[Array, "tiles tile *rest"], rows: int) -> Shaped[Array, " rows *rest"]:
    """Undo ``split``: put tiles end to end and drop the padding.

    Args:
        tiles: what ``split`` returned.
        rows: rows of the array that was split.

    Raises:
        ShapeError: the tiles cannot hold that many rows.
    """
    if tiles.ndim < 2 or not 0 <= rows <= tiles.shape[0] * tiles.shape[1]:
        refuse(
            ShapeError,
            "join: the tiles must hold all the rows.",
            got=f"tiles {describe(tiles)}, rows={rows}",
            want="tiles [tiles, tile, ...] with tiles * tile >= rows",
            fix="pass the row count of the array that was split.",
        )
    return tiles.reshape(tiles.shape[0] * tiles.shape[1], *tiles.shape[2:])[:rows]
