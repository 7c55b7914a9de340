"""Tiles: the softmax state monoid, cutting arrays into tiles, and trees of tiles."""

from .cut import join, split
from .state import State, state_leaf, state_merge, state_read, state_unit
from .tree import TileTree, compose, kraft_sum, state_of_tree, tree

__all__ = [
    "State",
    "TileTree",
    "compose",
    "join",
    "kraft_sum",
    "split",
    "state_leaf",
    "state_merge",
    "state_of_tree",
    "state_read",
    "state_unit",
    "tree",
]
