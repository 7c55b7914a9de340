"""Walks of a tile tree, all nodes of a depth at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from .tree import TileTree


class Generation(NamedTuple):
    """The inner nodes of one depth with their children, known while JAX traces.

    Attributes:
        nodes: that have children.
        left: first child of each.
        right: second child of each.
    """

    nodes: Int[np.ndarray, " nodes"]
    left: Int[np.ndarray, " nodes"]
    right: Int[np.ndarray, " nodes"]


def generations(tiles: TileTree) -> list[Generation]:
    """List the inner nodes of a tree by depth, the root first; reversed, it goes bottom-up."""
    inner = tiles.left >= 0
    found = (np.flatnonzero(inner & (tiles.depth == depth)) for depth in range(int(tiles.depth.max()) + 1))
    return [Generation(nodes, tiles.left[nodes], tiles.right[nodes]) for nodes in found if len(nodes)]


def leaves(tiles: TileTree) -> Int[np.ndarray, " leaves"]:
    """List the leaves of a tree in the order of their keys."""
    ends = np.flatnonzero(tiles.left < 0)
    return ends[np.argsort(tiles.start[ends])]
