"""Tiles: the softmax state monoid, cutting arrays into tiles, summaries and trees of tiles."""

from .cut import join, split
from .state import State, state_leaf, state_merge, state_read, state_unit
from .summary import (
    Summary,
    summarize,
    summary_center,
    summary_mean,
    summary_merge,
    summary_scatter,
    summary_unit,
)
from .tree import TileTree, compose, kraft_sum, state_of_tree, tree

__all__ = [
    "State",
    "Summary",
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
    "summarize",
    "summary_center",
    "summary_mean",
    "summary_merge",
    "summary_scatter",
    "summary_unit",
    "tree",
]
