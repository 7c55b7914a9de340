"""Clusters at every scale: persistent homology of dimension zero."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..errors import ShapeError, describe, refuse


def component_scales(distances: Float[Array, "points points"]) -> Float[Array, " merges"]:
    """Find the scales at which clusters merge: the death times of H_0 of the Vietoris-Rips filtration.

    They are the edge lengths of a minimum spanning tree, found by Prim's method from point 0.

    Args:
        distances: symmetric, zero on the diagonal; infinite between points that nothing joins.

    Returns:
        points - 1 lengths in the order in which the tree grows; ``cluster_count`` reads them in any order. The
        derivative is that of the chosen edges, which exists where no two distances tie.

    Raises:
        ShapeError: the distances are not square, or there is no point.

    Error: moving no distance by more than eps moves none of the sorted scales by more than eps (stability).
    Cost: points^2 operations.
    Source: Robins 2000; Cohen-Steiner, Edelsbrunner and Harer 2007.

    Example:
        >>> places = jnp.array([0.0, 1.0, 5.0])
        >>> component_scales(jnp.abs(places[:, None] - places[None])).tolist()
        [1.0, 4.0]
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or distances.shape[0] < 1:
        refuse(
            ShapeError,
            "component_scales: there is one distance for each pair of points.",
            got=describe(distances),
            want="[points, points]",
            fix="compute the table of all distances first.",
        )
    points = distances.shape[0]
    place = jnp.arange(points)

    def grow(tree: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        nearest, is_inside = tree
        point = jnp.argmin(jnp.where(is_inside, jnp.inf, nearest))
        # Where everything left is infinitely far, argmin may name a point of the tree: take the first outside.
        point = jnp.where(is_inside[point], jnp.argmin(is_inside), point)
        scale = nearest[point]
        return (jnp.minimum(nearest, distances[point]), is_inside | (place == point)), scale

    return lax.scan(grow, (distances[0], place == 0), None, length=points - 1)[1]


def cluster_count(scales: Float[Array, " merges"], thresholds: Float[Array, " levels"]) -> Int[Array, " levels"]:
    """Count the clusters at each threshold: one plus the merges above it, the Betti curve of dimension zero."""
    return 1 + jnp.sum((scales[None] > thresholds[:, None]).astype(jnp.int32), axis=1)
