"""Trees of tiles: nested cuttings of the keys, and the law that all of them give the same softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse
from .state import State, accumulator_dtype, state_leaf, state_merge, state_unit

_Indices = Int[np.ndarray, " nodes"]


@dataclass(frozen=True)
class TileTree:
    """A binary tree of key intervals; node 0 is the whole axis and parents stand before children.

    The arrays are NumPy's, because a tree is the static structure of a computation and never its data.

    Attributes:
        start: first key of each node.
        count: keys of each node.
        parent: index of the parent; -1 for the root.
        left: index of the first child; -1 for a leaf.
        right: index of the second child; -1 for a leaf.
        depth: steps from the root.
    """

    start: _Indices
    count: _Indices
    parent: _Indices
    left: _Indices
    right: _Indices
    depth: _Indices


def tree(keys: int, tile: int) -> TileTree:
    """Halve ``keys`` again and again until each leaf has at most ``tile`` keys.

    Args:
        keys: length of the axis, at least 1.
        tile: longest leaf, at least 1.

    Raises:
        OptionError: a size is below 1.
    """
    if keys < 1 or tile < 1:
        refuse(
            OptionError,
            "tree: sizes start at one.",
            got=f"keys={keys}, tile={tile}",
            want="keys >= 1 and tile >= 1",
            fix="give both sizes a positive value.",
        )
    rows: list[list[int]] = [[0, keys, -1, -1, -1, 0]]
    for node, (start, count, _, _, _, depth) in enumerate(rows):
        if count > tile:
            half = (count + 1) // 2
            rows[node][3:5] = len(rows), len(rows) + 1
            rows.append([start, half, node, -1, -1, depth + 1])
            rows.append([start + half, count - half, node, -1, -1, depth + 1])
    return TileTree(*np.asarray(rows, np.int32).T)


def kraft_sum(tiles: TileTree) -> Fraction:
    """Sum 2^-depth over the leaves, exactly; it is 1 for every complete binary tree."""
    leaves = tiles.depth[tiles.left < 0]
    return sum((Fraction(1, 2 ** int(depth)) for depth in leaves), Fraction(0))


def compose(tiling: Sequence[int], index: int, refinement: Sequence[int]) -> tuple[int, ...]:
    """Cut one tile of a tiling further: the partial composition A o_i B of the little-intervals operad.

    Args:
        tiling: A, the lengths of consecutive tiles.
        index: i, which tile to cut.
        refinement: B, the lengths of its pieces.

    Raises:
        OptionError: the pieces do not fill the tile.
    """
    if not 0 <= index < len(tiling) or sum(refinement) != tiling[index] or min(refinement, default=-1) < 0:
        refuse(
            OptionError,
            "compose: the pieces must fill the tile they replace.",
            got=f"tiling={tuple(tiling)}, index={index}, refinement={tuple(refinement)}",
            want="lengths >= 0 whose sum is tiling[index]",
            fix="choose pieces that add up to the tile.",
        )
    return (*tiling[:index], *refinement, *tiling[index + 1 :])


def state_of_tree(tiles: TileTree, scores: Float[Array, " keys"], values: Float[Array, "keys channels"]) -> State:
    """Evaluate the softmax state bottom-up along a tree; every tree gives the state of the whole set.

    Args:
        tiles: a tree over as many keys as there are scores.
        scores: one for each key, in nats.
        values: one row for each key.

    Raises:
        ShapeError: the tree covers another number of keys.
    """
    if int(tiles.count[0]) != scores.shape[0]:
        refuse(
            ShapeError,
            "state_of_tree: the tree must cover the keys.",
            got=f"a tree over {int(tiles.count[0])} keys, scores {describe(scores)}",
            want="as many keys in the tree as scores",
            fix="build the tree with tree(scores.shape[0], tile).",
        )
    states: list[State] = [state_unit(values.shape[1], accumulator_dtype(scores, values))] * len(tiles.start)
    for node in reversed(range(len(tiles.start))):
        if tiles.left[node] < 0:
            keys = slice(int(tiles.start[node]), int(tiles.start[node] + tiles.count[node]))
            states[node] = state_leaf(scores[keys], values[keys])
        else:
            states[node] = state_merge(states[tiles.left[node]], states[tiles.right[node]])
    return states[0]
