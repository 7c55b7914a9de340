"""How much each cut of a tile tree tells apart: Holevo information, node by node."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from ..errors import ShapeError, describe, refuse
from ..quantum.entropy import entropy
from .levels import generations, leaves
from .tree import TileTree

Densities = Complex[Array, "leaves width width"] | Float[Array, "leaves width width"]


class HolevoTree(NamedTuple):
    """The entropy of the whole, shared out among the cuts of a tree.

    S(root) = sum_nodes weight information + sum_leaves weight entropy, exactly.

    Attributes:
        information: chi of each node's two children, in nats; zero for leaves.
        weight: part of all keys that are in the node.
        entropy: S of the node's mean state, in nats.
    """

    information: Float[Array, " nodes"]
    weight: Float[Array, " nodes"]
    entropy: Float[Array, " nodes"]


def holevo_tree(tiles: TileTree, densities: Densities) -> HolevoTree:
    """Compute what each cut of a tree of tiles makes distinguishable: chi = S(rho) - sum_children w S(rho_child).

    The gains of all cuts add up exactly, so cutting where weight times information is large is honest bookkeeping, and
    merging where it is small is harmless: sum_children w |rho_child - rho|_1^2 <= 2 chi, and the mean fidelity of any
    query with a tile moves by at most half that distance.

    Needs an eigenvalue solver, which the CPU has.

    Args:
        tiles: the tree.
        densities: rho of each leaf, in the order of the keys, such as ``qga.quantum.density`` of its rays.

    Raises:
        ShapeError: not one density for each leaf.

    Cost: an eigenvalue problem for each node.
    Source: Holevo 1973; theory of this project for its use on tiles.
    """
    ends = leaves(tiles)
    if densities.ndim != 3 or densities.shape[1] != densities.shape[2] or densities.shape[0] != len(ends):
        refuse(
            ShapeError,
            "holevo_tree: every leaf has one density matrix.",
            got=f"densities {describe(densities)}, {len(ends)} leaves",
            want=f"[{len(ends)}, width, width]",
            fix="stack one matrix for each leaf, in the order of the keys.",
        )
    nodes = jnp.zeros((len(tiles.start), *densities.shape[1:]), densities.dtype).at[ends].set(densities)
    share = tiles.count / tiles.count[tiles.parent]
    pairs = [(each, (share[each.left], share[each.right])) for each in generations(tiles)]
    for (parents, left, right), parts in reversed(pairs):
        first, second = (jnp.asarray(part, densities.dtype)[:, None, None] for part in parts)
        nodes = nodes.at[parents].set(first * nodes[left] + second * nodes[right])
    entropies = jax.vmap(entropy)(nodes)
    information = jnp.zeros_like(entropies)
    for (parents, left, right), parts in pairs:
        first, second = (jnp.asarray(part, entropies.dtype) for part in parts)
        gained = entropies[parents] - first * entropies[left] - second * entropies[right]
        information = information.at[parents].set(gained)
    return HolevoTree(information, jnp.asarray(tiles.count / tiles.count[0], entropies.dtype), entropies)
