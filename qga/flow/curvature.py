"""Curvature of graphs: Ollivier's by optimal transport, exact or between bounds, and Forman's by counting."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import linprog
from scipy.sparse.csgraph import dijkstra

from ..errors import DomainError, OptionError, ShapeError, refuse
from .transport import transport_interval

Edge = tuple[int, int]
# A length shorter than this share of the distance is rounding of the linear programme.
_ONE_PLACE = 1e-9
# Edges of one step of ``ollivier_interval``: some megabytes for degrees up to a hundred.
_BLOCK = 64


class CurvatureInterval(NamedTuple):
    """Ollivier's curvature of every edge, between two bounds.

    Attributes:
        edges: the ends of each edge, the smaller first.
        lower: what the curvature is at least.
        upper: what it is at most.
    """

    edges: Int[np.ndarray, "edges 2"]
    lower: Float[Array, " edges"]
    upper: Float[Array, " edges"]


def ollivier(lengths: np.ndarray, *, idleness: float = 0.5) -> dict[Edge, float]:
    """Compute Ollivier's curvature of every edge of a graph, exactly.

    kappa(x, y) = 1 - W_1(m_x, m_y) / d(x, y),  m_x: stay with the idleness, else a neighbour, all alike

    On a bridge of length one, idleness 1/2, it is 1 / deg x + 1 / deg y - 1: negative where its ends have more than two
    neighbours each, whose mass must cross one by one. Positive inside of clusters. If every edge has
    kappa >= k, a step of the walk brings all pairs of distributions closer by the factor 1 - k.

    Runs on the host; not traceable.

    Args:
        lengths: symmetric, positive where there is an edge, zero elsewhere.
        idleness: from 0 to 1; 1/2 is the lazy walk of the literature.

    Returns:
        Curvature of each edge (i, j), i < j; at most 1.

    Raises:
        ShapeError: the table is not square and symmetric.
        DomainError: the idleness is out of range, a length negative, one on the diagonal, or the graph falls apart.

    Cost: one linear programme for each edge, of degree x degree variables.
    Source: Ollivier 2009; Lin, Lu and Yau 2011.

    Example:
        >>> round(float(ollivier(np.ones((4, 4)) - np.eye(4))[0, 1]), 6)
        0.666667
    """
    lengths = _check(lengths, idleness)
    distances = _distances(lengths)
    measures = [_measure(row > 0, place, idleness) for place, row in enumerate(lengths)]
    return {
        (first, second): 1 - _transport(measures[first], measures[second], distances) / distances[first, second]
        for first, second in _edges(lengths)
    }


def ollivier_interval(
    lengths: np.ndarray, *, eps: float, iterations: int, idleness: float = 0.5, block: int = _BLOCK
) -> CurvatureInterval:
    """Bound Ollivier's curvature of every edge by entropic transport, many edges at a time on JAX's device.

    kappa is in [1 - upper / d, 1 - lower / d], lower <= W_1 <= upper from ``transport_interval``, d the edge's length

    Distances are found on the host, as for ``ollivier``; transport runs on whatever device JAX has, one block of edges
    after the other, all of one shape.

    Args:
        lengths: as in ``ollivier``.
        eps: in units of length, above zero.
        iterations: of Sinkhorn, at least 1.
        idleness: from 0 to 1.
        block: edges in one step, at least 1.

    Returns:
        One interval an edge, no wider than eps log(1 + smaller degree) / d once converged.

    Raises:
        ShapeError: as ``ollivier``.
        DomainError: as ``ollivier``.
        OptionError: ``eps``, ``iterations`` or ``block`` is not above zero.

    Cost: edges (1 + largest degree)^2 iterations; memory of the distances and of one block.
    Error: bounds hold up to a few eps(dtype) of the largest distance over d.
    Source: Ollivier 2009; Cuturi 2013.

    Example:
        >>> found = ollivier_interval(np.ones((4, 4)) - np.eye(4), eps=0.01, iterations=100)
        >>> bool(found.lower[0] < 0.6667 < found.upper[0] + 1e-4)
        True
    """
    lengths = _check(lengths, idleness)
    if block < 1:
        refuse(
            OptionError,
            "ollivier_interval: a block has at least one edge.",
            got=f"block={block}",
            want="block >= 1",
            fix="raise block.",
        )
    distances = _distances(lengths)
    edges = np.array(_edges(lengths), dtype=int).reshape(-1, 2)
    supports, masses = _supports(lengths > 0, idleness)
    lower, upper = [], []
    for start in range(0, len(edges), block):
        # The last block is filled up with copies of its first edge, so that one program does for all.
        part = np.resize(edges[start : start + block], (block, 2)) if len(edges) > block else edges
        first, second = part.T
        costs = distances[supports[first][:, :, None], supports[second][:, None, :]]
        arrays = (costs, masses[first], masses[second], distances[first, second])
        found = _curvatures(*(jnp.asarray(each, float) for each in arrays), eps=eps, iterations=iterations)
        for side, values in zip((lower, upper), found, strict=True):
            side.append(values[: len(edges) - start])
    empty = [jnp.zeros(0)]
    return CurvatureInterval(edges, jnp.concatenate(lower or empty), jnp.concatenate(upper or empty))


def forman(lengths: np.ndarray) -> dict[Edge, int]:
    """Compute the augmented Forman curvature of every edge: 4 - deg i - deg j + 3 triangles.

    A count that costs nothing beside ``ollivier`` and often orders edges alike; the lengths do not enter.

    Runs on the host; not traceable.

    Raises:
        ShapeError: the table is not square and symmetric.
        DomainError: a length is negative, or one is on the diagonal.

    Source: Forman 2003; Samal et al. 2018.
    """
    joined = _check(lengths, 0.5) > 0
    degrees = joined.sum(axis=1)
    triangles = joined.astype(int) @ joined.astype(int)
    return {
        (first, second): int(4 - degrees[first] - degrees[second] + 3 * triangles[first, second])
        for first, second in _edges(lengths)
    }


def ricci_flow(lengths: np.ndarray, *, steps: int, idleness: float = 0.5) -> np.ndarray:
    """Let the lengths of a graph flow by Ollivier's curvature: l <- (1 - kappa) d, the total length kept.

    Bridges grow and clusters shrink, so that cutting long edges shows communities: tiles that belong together. The
    total is kept because the flow is defined with that normalisation.

    Runs on the host; not traceable.

    Args:
        lengths: as in ``ollivier``.
        steps: of the flow.
        idleness: of the walk.

    Returns:
        Lengths after the last step.

    Raises:
        ShapeError: as ``ollivier``.
        DomainError: as ``ollivier``, or an edge reaches curvature 1: its length would be zero and its ends one place.
        OptionError: ``steps`` is negative.

    Cost: ``steps`` times that of ``ollivier``.
    Source: Ni, Lin, Luo and Gao 2019.
    """
    if steps < 0:
        refuse(
            OptionError,
            "ricci_flow: steps are counted from zero.",
            got=f"steps={steps}",
            want="steps >= 0",
            fix="raise steps.",
        )
    current = _check(lengths, idleness).astype(float)
    total = current.sum()
    for _ in range(steps):
        distances = dijkstra(current, directed=False)
        after = np.zeros_like(current)
        for (first, second), kappa in ollivier(current, idleness=idleness).items():
            if kappa > 1 - _ONE_PLACE:
                refuse(
                    DomainError,
                    "ricci_flow: two places with the same walk are one.",
                    got=f"curvature 1 between {first} and {second}, idleness={idleness}",
                    want="curvature below 1 on every edge",
                    fix="merge the two places, or choose another idleness.",
                )
            after[first, second] = after[second, first] = (1 - kappa) * distances[first, second]
        current = after * total / after.sum()
    return current


@partial(jax.jit, static_argnames=("eps", "iterations"))
def _curvatures(
    costs: Array, first: Array, second: Array, lengths: Array, *, eps: float, iterations: int
) -> tuple[Array, Array]:
    found = jax.vmap(partial(transport_interval, eps=eps, iterations=iterations))(costs, first, second)
    return 1 - found.upper / lengths, 1 - found.lower / lengths


def _distances(lengths: np.ndarray) -> np.ndarray:
    distances = dijkstra(lengths, directed=False)
    if not np.isfinite(distances).all():
        refuse(
            DomainError,
            "ollivier: all places must be connected.",
            got="a graph of several parts",
            want="one part",
            fix="compute each part on its own; qga.pattern.connected_components or scipy finds them.",
        )
    return distances


def _supports(joined: np.ndarray, idleness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the places that each walk can reach, its own first, and their masses; short lists end in mass zero."""
    width = 1 + int(joined.sum(axis=1).max(initial=0))
    supports, masses = np.zeros((len(joined), width), int), np.zeros((len(joined), width))
    for place, row in enumerate(joined):
        reached = np.concatenate([[place], np.flatnonzero(row)])
        supports[place, : len(reached)] = reached
        masses[place, : len(reached)] = _measure(row, place, idleness)[reached]
    return supports, masses


def _measure(neighbours: np.ndarray, place: int, idleness: float) -> np.ndarray:
    measure = (1 - idleness) * neighbours / neighbours.sum()
    measure[place] += idleness
    return measure


def _transport(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> float:
    """Solve the transport problem between two measures on their supports."""
    rows, columns = np.flatnonzero(first), np.flatnonzero(second)
    costs = distances[np.ix_(rows, columns)]
    leaves = np.kron(np.eye(len(rows)), np.ones(len(columns)))
    arrives = np.kron(np.ones(len(rows)), np.eye(len(columns)))
    masses = np.concatenate([first[rows], second[columns]])
    return float(linprog(costs.ravel(), A_eq=np.vstack([leaves, arrives]), b_eq=masses, method="highs").fun)


def _edges(lengths: np.ndarray) -> list[Edge]:
    return [(int(first), int(second)) for first, second in zip(*np.nonzero(np.triu(lengths)), strict=True)]


def _check(lengths: np.ndarray, idleness: float) -> np.ndarray:
    lengths = np.asarray(lengths)
    if lengths.ndim != 2 or lengths.shape[0] != lengths.shape[1] or not np.array_equal(lengths, lengths.T):
        refuse(
            ShapeError,
            "curvature: the lengths of a graph are a symmetric table.",
            got=f"{lengths.dtype}{list(lengths.shape)}",
            want="[nodes, nodes], equal to its transpose",
            fix="symmetrise, such as with qga.routing.conductances.",
        )
    if not 0 <= idleness <= 1 or (lengths < 0).any() or (lengths.diagonal() != 0).any():
        refuse(
            DomainError,
            "curvature: lengths are not negative, nobody is his own neighbour, and idleness is a share.",
            got=f"smallest length {lengths.min(initial=0)}, idleness={idleness}",
            want="lengths >= 0 with a zero diagonal, 0 <= idleness <= 1",
            fix="set the diagonal to zero.",
        )
    return lengths
