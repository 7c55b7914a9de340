"""Curvature of graphs: Ollivier's by optimal transport, Forman's by counting. Runs on the host."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse.csgraph import dijkstra

from ..errors import DomainError, OptionError, ShapeError, refuse

Edge = tuple[int, int]
# A length shorter than this share of the distance is rounding of the linear programme.
_ONE_PLACE = 1e-9


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
        DomainError: the idleness is out of range, a length negative, or the graph falls apart.

    Cost: one linear programme for each edge, of degree x degree variables.
    Source: Ollivier 2009; Lin, Lu and Yau 2011.

    Example:
        >>> round(float(ollivier(np.ones((4, 4)) - np.eye(4))[0, 1]), 6)
        0.666667
    """
    lengths = _check(lengths, idleness)
    distances = dijkstra(lengths, directed=False)
    if not np.isfinite(distances).all():
        refuse(
            DomainError,
            "ollivier: all places must be connected.",
            got="a graph of several parts",
            want="one part",
            fix="compute each part on its own; qga.pattern.connected_components or scipy finds them.",
        )
    measures = [_measure(row > 0, place, idleness) for place, row in enumerate(lengths)]
    return {
        (first, second): 1 - _transport(measures[first], measures[second], distances) / distances[first, second]
        for first, second in _edges(lengths)
    }


def forman(lengths: np.ndarray) -> dict[Edge, int]:
    """Compute the augmented Forman curvature of every edge: 4 - deg i - deg j + 3 triangles.

    A count that costs nothing beside ``ollivier`` and often orders edges alike; the lengths do not enter.

    Runs on the host; not traceable.

    Raises:
        ShapeError: the table is not square and symmetric.
        DomainError: a length is negative.

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
