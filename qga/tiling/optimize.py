"""The best tiling that a tree contains, for a price of distortion."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..errors import ShapeError, describe, refuse
from .levels import generations
from .tree import TileTree


def optimize(
    tiles: TileTree,
    distortion: Float[Array, " nodes"],
    cost: Float[Array, " nodes"],
    multiplier: float | Float[Array, ""],
) -> Bool[Array, " nodes"]:
    """Choose the tiles of a tree that minimise sum cost + multiplier sum distortion, among all prunings of it.

    best(T) = min(cost(T) + multiplier distortion(T), best(left) + best(right))

    Where a parent's distortion is at least the sum of its children's, a higher multiplier only cuts tiles further: the
    solutions are nested. Distortions of the same pass as attention are the additive terms P_T KL(p_T || equal weights).

    Args:
        tiles: the tree; its leaves are the finest tiling.
        distortion: of each node if it were a tile.
        cost: of each node if it were a tile.
        multiplier: price of distortion, zero or more.

    Returns:
        True for the nodes that are tiles; every key is in one of them. Of equally good tilings the coarsest. It is
        piecewise constant, so it has no derivative.

    Raises:
        ShapeError: not one distortion and cost for each node.

    Cost: one addition and comparison for each node, in as many steps as the tree is deep.
    Source: Breiman, Friedman, Olshen and Stone 1984; Chou, Lookabaugh and Gray 1989.

    Example:
        >>> from qga.tiling import tree
        >>> halves = tree(keys=4, tile=2)
        >>> optimize(halves, jnp.asarray([5.0, 1.0, 1.0]), jnp.ones(3), 1.0).tolist()
        [False, True, True]
    """
    nodes = tiles.start.shape
    if distortion.shape != nodes or cost.shape != nodes:
        refuse(
            ShapeError,
            "optimize: every node has one distortion and one cost.",
            got=f"distortion {describe(distortion)}, cost {describe(cost)}, {nodes[0]} nodes",
            want=f"[{nodes[0]}] each",
            fix="pass arrays in the order of the tree's nodes.",
        )
    own = cost + multiplier * distortion
    best, whole = own, jnp.ones(nodes, bool)
    for generation in reversed(generations(tiles)):
        parts = best[generation.left] + best[generation.right]
        alone = own[generation.nodes]
        whole = whole.at[generation.nodes].set(alone <= parts)
        best = best.at[generation.nodes].set(jnp.minimum(alone, parts))
    reached = jnp.zeros(nodes, bool).at[0].set(True)
    for generation in generations(tiles):
        cut = reached[generation.nodes] & ~whole[generation.nodes]
        reached = reached.at[generation.left].set(cut).at[generation.right].set(cut)
    return reached & whole
