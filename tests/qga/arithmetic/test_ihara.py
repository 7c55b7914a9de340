"""Zeta functions of graphs, Ramanujan graphs and expanders (theory A-7)."""

from __future__ import annotations

import math

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from qga import arithmetic
from tests.qga.tolerances import assert_close

# Eigenvalues of small matrices are good to tens of eps.
SOLVER_SCALE = 50.0


@pytest.mark.usefixtures("x64")
def test_ihara_is_the_determinant_of_the_walk_without_turning_back(random: np.random.Generator) -> None:
    upper = np.triu(random.random((6, 6)) < 0.7, 1)
    adjacency = (upper | upper.T).astype(float)
    edges = [(a, b) for a in range(6) for b in range(6) if adjacency[a, b]]
    turn = np.array([[float(b == c and (a, b) != (d, c)) for c, d in edges] for a, b in edges])
    for point in (0.15, 0.1 + 0.2j):
        want = -np.log(np.linalg.det(np.eye(len(edges)) - point * turn))
        got = complex(arithmetic.ihara_log_determinant(jnp.asarray(adjacency), jnp.asarray(point)))
        assert abs(np.exp(got) - np.exp(want)) < 1e-10 * abs(np.exp(want))
    backtracking = np.array([[float(b == c) for c, d in edges] for a, b in edges])
    wrong = -np.log(abs(np.linalg.det(np.eye(len(edges)) - 0.15 * backtracking)))
    assert abs(complex(arithmetic.ihara_log_determinant(jnp.asarray(adjacency), jnp.asarray(0.15))).real - wrong) > 1e-3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("point", [0.1, -0.2, 0.15 + 0.2j])
def test_ihara_of_known_graphs(point: complex) -> None:
    def inverse(graph: nx.Graph) -> complex:
        adjacency = jnp.asarray(nx.to_numpy_array(graph))
        return complex(np.exp(-complex(arithmetic.ihara_log_determinant(adjacency, jnp.asarray(point)))))

    # Terras 2010, examples 2.5 and 2.8: the complete graph of four vertices, and the Petersen graph from its
    # eigenvalues 3, 1 (five times), -2 (four times).
    u = point
    complete = (1 - u**2) ** 2 * (1 - u) * (1 - 2 * u) * (1 + u + 2 * u**2) ** 3
    petersen = (1 - u**2) ** 5 * (1 - u) * (1 - 2 * u) * (1 - u + 2 * u**2) ** 5 * (1 + 2 * u + 2 * u**2) ** 4
    cycle = (1 - u**5) ** 2
    for graph, want in ((nx.complete_graph(4), complete), (nx.petersen_graph(), petersen), (nx.cycle_graph(5), cycle)):
        assert inverse(graph) == pytest.approx(want, rel=1e-12)
    # The prism has the degrees of neither: also ten vertices, all of degree three.
    assert inverse(nx.circular_ladder_graph(5)) != pytest.approx(petersen, rel=1e-6)


@pytest.mark.usefixtures("x64")
def test_ihara_counts_closed_walks_without_turning_back() -> None:
    # u d/du log zeta = sum N_m u^m: the complete graph of four vertices has 24 such walks of length 3 and of length 4,
    # none of length 5 (Terras 2010, example 2.8), the Petersen graph 120 = 12 cycles * 5 starts * 2 ways of length 5.
    def walks(graph: nx.Graph, length: int) -> float:
        adjacency = jnp.asarray(nx.to_numpy_array(graph))
        circle = 0.1 * np.exp(2j * np.pi * np.arange(64) / 64)
        values = np.asarray(arithmetic.ihara_log_determinant(adjacency, jnp.asarray(circle)))
        return length * (values * circle ** (-length)).mean().real

    complete = [walks(nx.complete_graph(4), length) for length in (1, 2, 3, 4, 5)]
    assert complete == pytest.approx([0, 0, 24, 24, 0], abs=1e-7)
    petersen = [walks(nx.petersen_graph(), length) for length in (3, 4, 5, 6)]
    assert petersen == pytest.approx([0, 0, 120, 120], abs=1e-6)


@pytest.mark.usefixtures("x64")
def test_poles_of_ihara_lie_on_the_circle_exactly_for_ramanujan_graphs() -> None:
    # The Riemann hypothesis of graphs: |u| = q^(-1/2) for poles with q^-1 < |u| < 1, from eigenvalues of the walk.
    def radii(graph: nx.Graph) -> np.ndarray:
        edges = [(a, b) for a, b in nx.DiGraph(graph).edges]
        turn = np.array([[float(b == c and a != d) for c, d in edges] for a, b in edges])
        sizes = np.abs(np.linalg.eigvals(turn))
        return sizes[(sizes > 1 + 1e-6) & (sizes < 2 - 1e-6)]

    for graph, holds in ((nx.petersen_graph(), True), (nx.circular_ladder_graph(30), False)):
        assert bool(arithmetic.is_ramanujan(jnp.asarray(nx.to_numpy_array(graph))).holds) == holds
        assert bool(np.allclose(radii(graph), math.sqrt(2), atol=1e-6)) == holds


@pytest.mark.usefixtures("x64")
def test_known_graphs_are_ramanujan_or_not() -> None:
    def test(graph: nx.Graph) -> arithmetic.Ramanujan:
        return arithmetic.is_ramanujan(jnp.asarray(nx.to_numpy_array(graph)))

    petersen = test(nx.petersen_graph())
    assert bool(petersen.holds)
    assert_close(petersen.second, 2.0, scale=SOLVER_SCALE)
    assert bool(test(nx.complete_graph(6)).holds)
    assert bool(test(nx.complete_bipartite_graph(4, 4)).holds)
    # A long prism is 3-regular and narrow: its second eigenvalue is near 3.
    assert not bool(test(nx.circular_ladder_graph(30)).holds)
    path = test(nx.path_graph(4))
    assert not bool(path.is_regular)
    assert not bool(path.holds)


@pytest.mark.usefixtures("x64")
def test_a_graph_of_two_parts_is_not_ramanujan() -> None:
    apart = nx.disjoint_union(nx.complete_graph(4), nx.complete_graph(4))
    graded = arithmetic.is_ramanujan(jnp.asarray(nx.to_numpy_array(apart)))
    assert not bool(graded.holds)
    assert_close(graded.second, 3.0, scale=SOLVER_SCALE)


@pytest.mark.usefixtures("x64")
def test_halves_of_a_bipartite_graph_do_not_mix() -> None:
    adjacency, half = nx.to_numpy_array(nx.complete_bipartite_graph(4, 4)), np.repeat([1.0, 0.0], 4)
    excess, graded = abs(half @ adjacency @ half - 4 * 4 * 4 / 8), arithmetic.is_ramanujan(jnp.asarray(adjacency))
    assert_close(arithmetic.mixing_bound(graded.mixing, jnp.asarray(4.0), jnp.asarray(4.0)), 16.0, scale=SOLVER_SCALE)
    assert excess > arithmetic.mixing_bound(graded.second, jnp.asarray(4.0), jnp.asarray(4.0))


@pytest.mark.usefixtures("x64")
def test_expanders_mix(random: np.random.Generator) -> None:
    adjacency = nx.to_numpy_array(nx.petersen_graph())
    second = arithmetic.is_ramanujan(jnp.asarray(adjacency)).mixing
    for _ in range(50):
        first, other = (random.random(10) < 0.5 for _ in range(2))
        excess = abs(first @ adjacency @ other - 3 * first.sum() * other.sum() / 10)
        bound = arithmetic.mixing_bound(second, jnp.asarray(float(first.sum())), jnp.asarray(float(other.sum())))
        assert excess <= bound + 1e-12
    # The negative twin: a fifth of that eigenvalue bounds nothing. One edge between two vertices: 1 - 3 / 10 = 0.7.
    assert arithmetic.mixing_bound(second, jnp.asarray(1.0), jnp.asarray(1.0)) >= 0.7
    assert arithmetic.mixing_bound(second / 5, jnp.asarray(1.0), jnp.asarray(1.0)) < 0.7
