"""Free energies over all paths and the cheapest paths (theory R-2)."""

from __future__ import annotations

from itertools import pairwise

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


def test_sum_over_paths_that_return_obeys_no_triangle_inequality(random: np.random.Generator) -> None:
    # The negative twin: without the division by z_tt, paths that come back to t are counted again and again.
    chain, costs = draw_chain(random), draw_costs(random)
    whole = np.linalg.inv(np.eye(7) - chain * np.exp(-2.0 * costs))
    raw = -np.log(whole) / 2.0
    assert not (raw[:, None, :] <= raw[:, :, None] + raw[None] + 1e-12).all()
    got = np.asarray(routing.free_energy(jnp.asarray(chain), jnp.asarray(costs), 2.0))
    assert_close(got, raw - np.diagonal(raw)[None], scale=50.0)


def test_free_energy_is_the_sum_over_paths_one_by_one(random: np.random.Generator) -> None:
    # From the definition: walks from i that stop when they first meet t, up to forty steps.
    chain, costs, theta = draw_chain(random)[:4, :4], draw_costs(random)[:4, :4], 1.5
    chain = chain / chain.sum(1, keepdims=True)
    got = np.asarray(routing.free_energy(jnp.asarray(chain), jnp.asarray(costs), theta))
    for target in range(4):
        step, arriving = chain * np.exp(-theta * costs), np.zeros(4)
        alive, others = np.eye(4), np.arange(4) != target
        for _ in range(40):
            arriving += alive @ step[:, target]
            alive = alive @ (step * others)
        assert np.abs(-np.log(arriving[others]) / theta - got[others, target]).max() < 1e-9


def test_free_energy_falls_as_paths_get_colder(random: np.random.Generator) -> None:
    # -log E[e^(-theta C)] / theta, between the mean and the smallest cost: Jensen.
    chain, costs = jnp.asarray(draw_chain(random)), jnp.asarray(draw_costs(random))
    seen = [np.asarray(routing.free_energy(chain, costs, theta)) for theta in (0.1, 0.5, 2.0, 8.0)]
    away = ~np.eye(7, dtype=bool)
    assert all((colder < warmer)[away].all() for warmer, colder in pairwise(seen))


def test_free_energy_of_two_places_has_its_closed_form() -> None:
    # One road there: phi = c - log(p) / theta, with the loop at the start summed as a geometric series.
    stay, go, theta = 0.3, 0.7, 2.0
    chain, costs = jnp.array([[stay, go], [0.4, 0.6]]), jnp.array([[0.5, 1.0], [2.0, 0.1]])
    want = -np.log(go * np.exp(-theta) / (1 - stay * np.exp(-theta * 0.5))) / theta
    assert_close(routing.free_energy(chain, costs, theta)[0, 1], want, scale=10.0)
    assert_far(routing.free_energy(chain, costs, theta)[1, 0], want)


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


def test_log_product_is_associative(random: np.random.Generator) -> None:
    first, second, third = (jnp.asarray(random.random(shape)) for shape in ((3, 5), (5, 4), (4, 2)))
    for theta in (0.7, 30.0):
        left = routing.log_product(routing.log_product(first, second, theta), third, theta)
        right = routing.log_product(first, routing.log_product(second, third, theta), theta)
        assert_close(left, right, depth=9, scale=2.0)
        # One temperature: with two, the order in which sums are done shows.
        assert_far(routing.log_product(routing.log_product(first, second, 2 * theta), third, theta), right)


def test_tropical_product_is_associative_and_distributive(random: np.random.Generator) -> None:
    first, second, third = (jnp.asarray(random.integers(0, 9, (4, 4)).astype(float)) for _ in range(3))
    left = routing.tropical_product(routing.tropical_product(first, second), third)
    assert np.array_equal(left, routing.tropical_product(first, routing.tropical_product(second, third)))
    both = routing.tropical_product(first, jnp.minimum(second, third))
    parts = routing.tropical_product(first, second), routing.tropical_product(first, third)
    assert np.array_equal(both, jnp.minimum(*parts))
    # Commutative it is not.
    assert not np.array_equal(routing.tropical_product(first, second), routing.tropical_product(second, first))


def test_shortest_costs_are_a_fixed_point(random: np.random.Generator) -> None:
    costs = jnp.asarray(draw_costs(random) ** 3)
    best = routing.shortest_costs(costs)
    assert_close(routing.tropical_product(best, best), best, depth=7)
    direct = jnp.where(jnp.eye(7, dtype=bool), 0, costs)
    assert_far(routing.tropical_product(direct, direct), direct)


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
    with pytest.raises(ShapeError) as error:
        routing.free_energy(jnp.ones((2, 2)), jnp.ones(2), 1.0)
    assert str(error.value) == (
        "free_energy: every step has a cost.\n"
        "  got:  weights float64[2, 2], costs float64[2]\n"
        "  want: two arrays of one shape\n"
        "  fix:  write infinity where a step is not possible."
    )
    with pytest.raises(DomainError, match=r"free_energy: an inverse temperature is positive.\n  got:  theta=0"):
        routing.free_energy(jnp.eye(2), jnp.ones((2, 2)), 0)
    with pytest.raises(DomainError, match=r"log_product: an inverse temperature is positive.\n  got:  theta=-1.0"):
        routing.log_product(jnp.ones((2, 2)), jnp.ones((2, 2)), -1.0)
    for product in (lambda a, b: routing.log_product(a, b, 1.0), routing.tropical_product):
        with pytest.raises(ShapeError, match="the columns of the first factor are the rows of the second"):
            product(jnp.ones((2, 3)), jnp.ones((2, 3)))
    with pytest.raises(ShapeError, match="shortest_costs: "):
        routing.shortest_costs(jnp.ones((2, 3)))
