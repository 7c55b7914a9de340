"""Free energies over all paths and the cheapest paths (theory R-2)."""

from __future__ import annotations

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from qga import DomainError, OptionError, ShapeError, routing
from tests.qga.routing.chains import draw_chain
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")


def draw_costs(random: np.random.Generator) -> np.ndarray:
    return random.random((7, 7)) + 0.2


def cheapest(costs: np.ndarray) -> np.ndarray:
    graph = nx.from_numpy_array(costs, create_using=nx.DiGraph)
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
    return np.array([[lengths[i][j] for j in range(7)] for i in range(7)])


def test_free_energy_obeys_the_directed_triangle_inequality(random: np.random.Generator) -> None:
    got = np.asarray(routing.free_energy(jnp.asarray(draw_chain(random)), jnp.asarray(draw_costs(random)), 2.0))
    assert (got[:, None, :] <= got[:, :, None] + got[None] + 1e-12).all()
    assert_close(np.diagonal(got), np.zeros(7))
    # Directed: there is no symmetry to hide behind.
    assert_far(got, got.T)


def test_free_energy_of_cold_paths_is_the_cheapest_cost(random: np.random.Generator) -> None:
    chain, costs = draw_chain(random), draw_costs(random)
    want = cheapest(costs)
    gaps = []
    for theta in (20.0, 40.0, 80.0):
        got = np.asarray(routing.free_energy(jnp.asarray(chain), jnp.asarray(costs), theta))
        assert (got >= want - 1e-9).all()
        gaps.append(np.abs(got - want).max())
    # The gap falls like log(1 / P of the path) / theta.
    assert gaps[1] == pytest.approx(gaps[0] / 2, rel=0.2)
    assert gaps[2] == pytest.approx(gaps[1] / 2, rel=0.1)


def test_free_energy_of_hot_paths_is_the_hitting_cost(random: np.random.Generator) -> None:
    chain, costs = draw_chain(random), draw_costs(random)
    want = np.zeros((7, 7))
    for target in range(7):
        others = np.arange(7) != target
        mean = (chain * costs).sum(1)[others]
        want[others, target] = np.linalg.solve(np.eye(6) - chain[others][:, others], mean)
    errors = [
        np.abs(np.asarray(routing.free_energy(jnp.asarray(chain), jnp.asarray(costs), theta)) - want).max()
        for theta in (1e-3, 1e-4)
    ]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.05)
    assert errors[1] < 1e-2


def test_log_product_is_a_soft_minimum(random: np.random.Generator) -> None:
    first, second = random.random((3, 5)), random.random((5, 4))
    hard = np.asarray(routing.tropical_product(jnp.asarray(first), jnp.asarray(second)))
    assert_close(hard, (first[:, :, None] + second[None]).min(1))
    for theta in (1.0, 50.0):
        soft = np.asarray(routing.log_product(jnp.asarray(first), jnp.asarray(second), theta))
        assert (soft <= hard + 1e-12).all()
        assert (soft >= hard - np.log(5) / theta - 1e-12).all()
    assert_far(routing.log_product(jnp.asarray(first), jnp.asarray(second), 1.0), hard)


def test_log_product_of_closed_roads_is_infinite() -> None:
    closed = jnp.full((1, 2), jnp.inf)
    assert jnp.isposinf(routing.log_product(closed, closed.T, 3.0)).all()


def test_shortest_costs_are_those_of_dijkstra(random: np.random.Generator) -> None:
    costs = draw_costs(random) ** 3
    got = routing.shortest_costs(jnp.asarray(costs))
    assert_close(got, cheapest(costs), depth=7)
    assert_far(got, np.where(np.eye(7), 0, costs))


def test_paths_are_those_of_networkx(random: np.random.Generator) -> None:
    costs = draw_costs(random) * (random.random((7, 7)) < 0.5)
    graph = nx.from_numpy_array(costs, create_using=nx.DiGraph)
    want = list(nx.shortest_simple_paths(graph, 0, 6, weight="weight"))[:4]
    got = routing.paths(costs, source=0, target=6, count=4)
    assert [path.nodes for path in got] == [tuple(nodes) for nodes in want]
    assert got[0].cost == pytest.approx(sum(costs[a, b] for a, b in zip(want[0], want[0][1:], strict=False)))


def test_paths_refuse_a_place_that_is_not_there() -> None:
    with pytest.raises(OptionError, match="got:  source=0, target=9, count=1, 3 places"):
        routing.paths(np.ones((3, 3)), source=0, target=9, count=1)
    with pytest.raises(DomainError, match="paths: a step does not pay"):
        routing.paths(-np.ones((3, 3)), source=0, target=1, count=1)
    with pytest.raises(ShapeError, match="paths: "):
        routing.paths(np.ones((2, 3)), source=0, target=1, count=1)
    with pytest.raises(ShapeError, match="free_energy: "):
        routing.free_energy(jnp.ones((2, 3)), jnp.ones((2, 3)), 1.0)
    with pytest.raises(ShapeError, match="shortest_costs: "):
        routing.shortest_costs(jnp.ones((2, 3)))
