"""At which level each tile of keys was looked at: a map for each head, which shows where resolution went."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from .report import LEVELS

LEVEL_NAMES = ("hidden", *LEVELS.values())
"""Levels of a map by number, from nothing to everything, in the words of ``report_certificate``."""


class LevelMap(NamedTuple):
    """The level of each pair of tiles.

    Attributes:
        levels: numbers of ``LEVEL_NAMES``.
        tile: rows of a tile of either side.
    """

    levels: Int[Array, "*batch heads query_tiles key_tiles"]
    tile: int | Int[Array, ""]


def level_shares(
    levels: Int[Array, "*batch query_tiles key_tiles"] | Int[np.ndarray, "*batch query_tiles key_tiles"],
) -> dict[str, Float[np.ndarray, "*batch"]]:
    """Count at which levels the tiles are in which something can be seen.

    Args:
        levels: of a ``LevelMap``, concrete numbers.

    Returns:
        By name, the share of each level but "hidden" in those tiles; the share of "hidden" is in all tiles.

    Example:
        >>> shares = level_shares(np.array([[6, 0], [1, 6]]))
        >>> round(float(shares["exact"]), 2), float(shares["hidden"])
        (0.67, 0.25)
    """
    found = np.asarray(levels)
    counts = {name: np.sum(found == number, axis=(-2, -1)) for number, name in enumerate(LEVEL_NAMES)}
    total = max(found.shape[-2] * found.shape[-1], 1)
    seen = np.maximum(total - counts["hidden"], 1)
    return {name: count / (total if name == "hidden" else seen) for name, count in counts.items()}
