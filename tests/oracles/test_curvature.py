"""Curvature of graphs against GraphRicciCurvature (theory F-3): Ollivier's, Forman's, and the flow.

Its walk prefers short edges unless ``exp_power`` is 0; ours goes to all neighbours alike. It forks, and the threads of
JAX do not live on in a fork: it runs in a process of its own, where JAX has computed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import networkx as nx
import numpy as np
import pytest
from GraphRicciCurvature.FormanRicci import FormanRicci
from GraphRicciCurvature.OllivierRicci import OllivierRicci
from scipy.sparse.csgraph import dijkstra

from qga import flow

Edge = tuple[int, int]
Curvatures = dict[Edge, float]
GRAPHS = {
    "karate": nx.karate_club_graph(),
    "petersen": nx.petersen_graph(),
    "barbell": nx.barbell_graph(5, 2),
    "grid": nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 5)),
    "tree": nx.balanced_tree(3, 2),
    "small world": nx.connected_watts_strogatz_graph(20, 4, 0.3, seed=7),
}
# Both solve the same linear programme, by different methods, to the rounding of masses below one.
EXACT = 1e-9

# All edges of Petersen's graph are alike, and flat for every walk that stays with 0.3 or more.
FLAT = ("petersen",)

each_graph = pytest.mark.parametrize("name", GRAPHS)


def joined(graph: nx.Graph) -> np.ndarray:
    """Return the graph with all edges of length one."""
    return nx.to_numpy_array(graph, weight=None)


def broken(lengths: np.ndarray) -> np.ndarray:
    """Return the graph with its first missing edge put in: still connected, and all other edges the same."""
    first, second = np.argwhere((lengths + np.eye(len(lengths))) == 0)[0]
    other = lengths.copy()
    other[first, second] = other[second, first] = 1
    return other


@pytest.fixture(scope="module")
def apart() -> Iterator[Callable]:
    """Return a function that calls another in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result()


def ollivier(lengths: np.ndarray, *, idleness: float, power: int = 0) -> Curvatures:
    oracle = _ollivier(lengths, idleness, power)
    oracle.compute_ricci_curvature()
    return nx.get_edge_attributes(oracle.G, "ricciCurvature")


def ricci_flow(lengths: np.ndarray, *, steps: int) -> np.ndarray:
    oracle = _ollivier(lengths, idleness=0.5, power=0)
    # Below zero: it never stops early.
    oracle.compute_ricci_flow(iterations=steps, delta=-1.0)
    return nx.to_numpy_array(oracle.G, nodelist=range(len(lengths)))


def _ollivier(lengths: np.ndarray, idleness: float, power: int) -> OllivierRicci:
    # One process: a pool of many costs more than these graphs do.
    graph = nx.from_numpy_array(lengths)
    return OllivierRicci(graph, alpha=idleness, method="OTD", exp_power=power, proc=1, verbose="ERROR")


def forman(lengths: np.ndarray, *, method: str = "augmented") -> Curvatures:
    oracle = FormanRicci(nx.from_numpy_array(lengths), method=method, verbose="ERROR")
    oracle.compute_ricci_curvature()
    return nx.get_edge_attributes(oracle.G, "formanCurvature")


def worst(got: Curvatures, want: Curvatures) -> float:
    """Return the largest difference on edges that both have; those of the second may be fewer."""
    return max(abs(got[edge] - value) for edge, value in want.items())


def draw_lengths(random: np.random.Generator) -> np.ndarray:
    """Draw a connected graph of different lengths, with an edge longer than the way around it."""
    upper = np.triu((0.5 + random.random((8, 8))) * (random.random((8, 8)) < 0.5), 1)
    upper += np.eye(8, k=1) * (upper == 0)
    upper[0, 2] = 10.0
    return upper + upper.T


@each_graph
@pytest.mark.parametrize("idleness", [0.0, 0.3, 0.5])
def test_ollivier(apart: Callable, name: str, idleness: float) -> None:
    lengths = joined(GRAPHS[name])
    want = apart(ollivier, lengths, idleness=idleness)
    got = flow.ollivier(lengths, idleness=idleness)
    assert got.keys() == want.keys()
    assert worst(got, want) < EXACT
    assert worst(flow.ollivier(broken(lengths), idleness=idleness), want) > 1e-2
    assert name in FLAT or worst(flow.ollivier(lengths, idleness=idleness + 0.2), want) > 1e-2


def test_ollivier_with_lengths(apart: Callable, random: np.random.Generator) -> None:
    lengths = draw_lengths(random)
    assert dijkstra(lengths, directed=False)[0, 2] < lengths[0, 2]
    want = apart(ollivier, lengths, idleness=0.5)
    got = flow.ollivier(lengths)
    assert got.keys() == want.keys()
    assert worst(got, want) < EXACT
    assert worst(flow.ollivier((lengths > 0).astype(float)), want) > 1e-2
    assert worst(got, apart(ollivier, lengths, idleness=0.5, power=2)) > 1e-2


@each_graph
def test_ollivier_lies_in_its_interval(apart: Callable, name: str) -> None:
    lengths = joined(GRAPHS[name])
    found = flow.ollivier_interval(lengths, eps=0.05, iterations=500)

    def are_inside(want: Curvatures) -> np.ndarray:
        values = np.array([want[first, second] for first, second in found.edges.tolist()])
        # The bounds are of float32.
        return (np.asarray(found.lower) - 1e-5 <= values) & (values <= np.asarray(found.upper) + 1e-5)

    assert are_inside(apart(ollivier, lengths, idleness=0.5)).all()
    assert name in FLAT or not are_inside(apart(ollivier, lengths, idleness=0.9)).all()


@each_graph
def test_forman(name: str) -> None:
    lengths = joined(GRAPHS[name])
    assert flow.forman(lengths) == forman(lengths)
    assert worst(flow.forman(broken(lengths)), forman(lengths)) >= 1


@pytest.mark.parametrize(
    ("name", "has_triangles"), [("karate", True), ("barbell", True), ("grid", False), ("tree", False)]
)
def test_forman_counts_triangles(name: str, has_triangles: bool) -> None:
    lengths = joined(GRAPHS[name])
    assert (flow.forman(lengths) != forman(lengths, method="1d")) == has_triangles


# On these no edge gets longer than the way around it. Where one does, the oracle moves its length, and we its distance.
@pytest.mark.parametrize("name", ["barbell", "grid", "tree"])
def test_ricci_flow(apart: Callable, name: str) -> None:
    lengths, steps = joined(GRAPHS[name]), 4
    want = apart(ricci_flow, lengths, steps=steps)
    assert np.allclose(flow.ricci_flow(lengths, steps=steps), want, rtol=0, atol=1e-8)
    assert not np.allclose(flow.ricci_flow(lengths, steps=steps - 1), want, rtol=0, atol=1e-3)
