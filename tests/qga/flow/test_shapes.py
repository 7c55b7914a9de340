"""Graph curvature, its flow, and threshold dynamics of masks (theory F-3, F-4, F-5)."""

from __future__ import annotations

from itertools import pairwise

import jax.numpy as jnp
import networkx as nx
import numpy as np
import ot
import pytest
from scipy.sparse.csgraph import dijkstra

from qga import DomainError, OptionError, ShapeError, flow


def barbell(size: int) -> np.ndarray:
    return nx.to_numpy_array(nx.barbell_graph(size, 0))


@pytest.mark.parametrize("size", [3, 6])
def test_curvature_of_a_complete_graph(size: int) -> None:
    # Half of the mass stays, the rest spreads over the others: the measures differ by (1/2 - 1/(2(n-1))) at two places.
    want = 1 - (0.5 - 0.5 / (size - 1))
    curvature = flow.ollivier(np.ones((size, size)) - np.eye(size))
    assert len(curvature) == size * (size - 1) // 2
    assert all(value == pytest.approx(want) for value in curvature.values())
    # A walk that never stays is another one: all but one of the neighbours are shared.
    busy = flow.ollivier(np.ones((size, size)) - np.eye(size), idleness=0.0)
    assert all(value == pytest.approx(1 - 1 / (size - 1)) for value in busy.values())
    assert abs(busy[0, 1] - curvature[0, 1]) > 0.1


@pytest.mark.parametrize("size", [6, 9])
def test_long_cycles_are_flat(size: int) -> None:
    cycle = nx.to_numpy_array(nx.cycle_graph(size))
    assert all(value == pytest.approx(0, abs=1e-9) for value in flow.ollivier(cycle).values())


@pytest.mark.parametrize(("size", "want"), [(3, 3 / 4), (4, 1 / 2), (5, 1 / 4)])
def test_short_cycles_are_curved(size: int, want: float) -> None:
    cycle = nx.to_numpy_array(nx.cycle_graph(size))
    assert all(value == pytest.approx(want) for value in flow.ollivier(cycle).values())


def test_bridge_of_a_barbell_is_negative() -> None:
    # Two complete graphs of five: each end sends 1/10 to each of four partners, whose way is 3: W = 8/5.
    curvature = flow.ollivier(barbell(5))
    assert curvature[4, 5] == pytest.approx(-0.6)
    assert min(curvature, key=curvature.__getitem__) == (4, 5)
    assert all(value > 0 for edge, value in curvature.items() if edge != (4, 5))


def test_curvature_is_that_of_optimal_transport(random: np.random.Generator) -> None:
    upper = np.triu(random.random((7, 7)) * (random.random((7, 7)) < 0.6), 1) + np.eye(7, k=1)
    lengths = upper + upper.T
    distances = dijkstra(lengths, directed=False)
    walks = [0.3 * np.eye(7)[place] + 0.7 * (row > 0) / (row > 0).sum() for place, row in enumerate(lengths)]
    for (first, second), value in flow.ollivier(lengths, idleness=0.3).items():
        want = 1 - ot.emd2(walks[first], walks[second], distances) / distances[first, second]
        assert value == pytest.approx(want, abs=1e-9)
        assert value <= 1
    # Places that walk alike reach the bound, and nothing is above it.
    assert flow.ollivier(np.ones((2, 2)) - np.eye(2))[0, 1] == pytest.approx(1)


def test_positive_curvature_contracts_distributions(random: np.random.Generator) -> None:
    lengths = np.ones((5, 5)) - np.eye(5)
    smallest = min(flow.ollivier(lengths).values())
    walk = 0.5 * np.eye(5) + 0.5 * lengths / 4
    first, second = random.dirichlet(np.ones(5), 2)
    distances = dijkstra(lengths, directed=False)
    assert ot.emd2(first @ walk, second @ walk, distances) <= (1 - smallest) * ot.emd2(first, second, distances) + 1e-12
    # Neighbours attain the factor, so that no smaller one would do; and where curvature is negative they part.
    assert ot.emd2(walk[0], walk[1], distances) == pytest.approx(1 - smallest)
    bridge = barbell(5)
    steps = 0.5 * np.eye(10) + 0.5 * bridge / bridge.sum(1, keepdims=True)
    assert ot.emd2(steps[4], steps[5], dijkstra(bridge, directed=False)) == pytest.approx(1.6)


def test_forman_counts() -> None:
    assert set(flow.forman(np.ones((4, 4)) - np.eye(4)).values()) == {4 - 3 - 3 + 6}
    assert flow.forman(barbell(4))[3, 4] == 4 - 4 - 4
    assert set(flow.forman(nx.to_numpy_array(nx.cycle_graph(5))).values()) == {0}


def test_flow_keeps_the_total_and_stretches_the_bridge() -> None:
    start = barbell(4)
    seen = [flow.ricci_flow(start, steps=steps) for steps in (0, 1, 3)]
    for lengths in seen:
        assert lengths.sum() == pytest.approx(start.sum())
        assert np.array_equal(lengths, lengths.T)
    bridges = [lengths[3, 4] / lengths[0, 1] for lengths in seen]
    assert bridges[0] == 1 < bridges[1] < bridges[2]
    assert bridges[2] > 5
    # What the norming undoes: without it the lengths shrink.
    raw = sum((1 - kappa) * start[edge] for edge, kappa in flow.ollivier(start).items())
    assert raw < 0.9 * start.sum() / 2


def test_flow_finds_no_bridge_where_all_edges_are_alike() -> None:
    start = np.ones((5, 5)) - np.eye(5)
    assert flow.ricci_flow(start, steps=3) == pytest.approx(start)


@pytest.mark.parametrize("degrees", [(1, 1), (1, 3), (2, 2), (4, 3)])
def test_bridge_of_a_tree_has_its_closed_form(degrees: tuple[int, int]) -> None:
    graph = nx.Graph([(0, 1)])
    graph.add_edges_from((0, 10 + leaf) for leaf in range(degrees[0] - 1))
    graph.add_edges_from((1, 20 + leaf) for leaf in range(degrees[1] - 1))
    curvature = flow.ollivier(nx.to_numpy_array(graph, nodelist=sorted(graph)))
    assert curvature[0, 1] == pytest.approx(1 / degrees[0] + 1 / degrees[1] - 1)


def test_flow_refuses_two_places_that_are_one() -> None:
    with pytest.raises(DomainError, match="ricci_flow: two places with the same walk are one"):
        flow.ricci_flow(np.ones((2, 2)) - np.eye(2), steps=1)
    with pytest.raises(OptionError, match="steps=-1"):
        flow.ricci_flow(np.ones((2, 2)) - np.eye(2), steps=-1)


def test_curvature_refuses_what_is_no_graph() -> None:
    with pytest.raises(ShapeError, match="the lengths of a graph are a symmetric table"):
        flow.ollivier(np.triu(np.ones((3, 3)), 1))
    with pytest.raises(DomainError, match="all places must be connected"):
        flow.ollivier(np.kron(np.eye(2), np.ones((2, 2)) - np.eye(2)))
    with pytest.raises(DomainError, match="idleness=2"):
        flow.ollivier(np.ones((2, 2)) - np.eye(2), idleness=2)
    with pytest.raises(DomainError, match="nobody is his own neighbour"):
        flow.forman(np.eye(2))


@pytest.mark.usefixtures("x64")
def test_dynamics_keep_the_budget_and_lower_the_energy(random: np.random.Generator) -> None:
    mask = jnp.asarray(random.random((16, 20)) < 0.4)
    count = int(mask.sum())
    states = [flow.threshold_dynamics(mask, 1.5, steps=steps, active=count) for steps in (0, 1, 2, 5, 20)]
    energies = [float(flow.threshold_energy(each, 1.5)) for each in states]
    assert all(int(each.sum()) == count for each in states)
    assert all(after <= before + 1e-12 for before, after in pairwise(energies))
    assert energies[-1] < 0.5 * energies[0]
    # A step of the same budget that is none of the flow's raises it.
    assert (
        float(
            flow.threshold_energy(jnp.asarray(random.permutation(np.asarray(states[-1]).ravel()).reshape(16, 20)), 1.5)
        )
        > energies[-1]
    )


@pytest.mark.usefixtures("x64")
def test_a_half_plane_rests() -> None:
    mask = jnp.arange(12)[:, None] < jnp.full((1, 10), 5)
    assert bool((flow.threshold_dynamics(mask, 2.0, steps=3, active=50) == mask).all())


@pytest.mark.usefixtures("x64")
def test_energy_is_the_length_of_the_border() -> None:
    # Across a straight border flows width / sqrt(2 pi) of heat a unit of length, up to the grid: (1 / width)^2.
    mask = jnp.arange(80)[:, None] < jnp.full((1, 7), 40)
    for width in (2.0, 4.0):
        assert float(flow.threshold_energy(mask, width)) == pytest.approx(
            7 * width / np.sqrt(2 * np.pi), rel=0.15 / width**2
        )


def test_dynamics_refuse_a_budget_that_does_not_fit() -> None:
    with pytest.raises(OptionError, match="got:  active=7, steps=1, 6 entries"):
        flow.threshold_dynamics(jnp.ones((2, 3), bool), 1.0, steps=1, active=7)
    with pytest.raises(ShapeError, match="a mask has two axes"):
        flow.threshold_energy(jnp.ones(3, bool), 1.0)
