"""Gap, conductance, resistance, Kemeny's constant and bridges (theory R-4)."""

from __future__ import annotations

from itertools import combinations

import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from scipy.linalg import expm

from qga import DomainError, OptionError, ShapeError, routing
from tests.qga.routing.chains import barbell, draw_chain, draw_network, law_of, walk
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
# Eigenvalues and inverses of small well-conditioned matrices are good to tens of eps.
SOLVER_SCALE = 50.0


def smallest_conductance(chain: np.ndarray, law: np.ndarray) -> float:
    rows = len(law)
    sides = (set(side) for size in range(1, rows // 2 + 1) for side in combinations(range(rows), size))
    masks = [np.isin(np.arange(rows), list(side)) for side in sides]
    flows = [(law[mask] @ chain[mask][:, ~mask]).sum() / min(law[mask].sum(), law[~mask].sum()) for mask in masks]
    return min(flows)


@pytest.mark.parametrize("rows", [3, 8])
def test_gap_of_the_cycle(rows: int) -> None:
    cycle = np.roll(np.eye(rows), 1, 0) / 2 + np.roll(np.eye(rows), -1, 0) / 2
    got = routing.spectral_gap(jnp.asarray(cycle), jnp.full(rows, 1 / rows))
    assert_close(got, 1 - np.cos(2 * np.pi / rows), scale=SOLVER_SCALE)


def test_gap_of_the_complete_graph() -> None:
    chain, law = walk(np.ones((5, 5)) - np.eye(5))
    assert_close(routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law)), 1 + 1 / 4, scale=SOLVER_SCALE)


def test_gap_bounds_the_decay_of_variance_of_any_walk(random: np.random.Generator) -> None:
    chain = draw_chain(random)
    law, field = law_of(chain), random.normal(size=7)
    gap = float(routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law)))

    def variance(time: float) -> float:
        flowed = expm(-time * (np.eye(7) - chain)) @ field
        return float(law @ (flowed - law @ flowed) ** 2)

    for time in (0.1, 0.5, 2.0):
        assert variance(time) <= np.exp(-2 * gap * time) * variance(0.0) + 1e-14
    assert variance(0.1) > np.exp(-2 * 1.9 * 0.1) * variance(0.0)


def test_fiedler_is_the_slowest_mode(random: np.random.Generator) -> None:
    chain, law = walk(draw_network(random))
    mode = np.asarray(routing.fiedler(jnp.asarray(chain), jnp.asarray(law)))
    gap = float(routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law)))
    assert_close(chain @ mode, (1 - gap) * mode, scale=SOLVER_SCALE)
    assert_close(law @ mode**2, 1.0, scale=SOLVER_SCALE)
    assert_close(law @ mode, 0.0, scale=SOLVER_SCALE)


def test_cheeger_holds_on_both_sides(random: np.random.Generator) -> None:
    for network in (draw_network(random), barbell(4), np.eye(7, k=1) + np.eye(7, k=-1)):
        chain, law = walk(network)
        bounds = routing.cheeger_bounds(routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law)))
        best = smallest_conductance(chain, law)
        assert bounds.lower - 1e-12 <= best <= bounds.upper
        cut = routing.sweep_cut(jnp.asarray(chain), jnp.asarray(law))
        assert best - 1e-12 <= cut.conductance <= bounds.upper
        assert_close(routing.conductance(jnp.asarray(chain), jnp.asarray(law), cut.side), cut.conductance, scale=10.0)


def test_sweep_finds_the_bridge_of_a_barbell() -> None:
    chain, law = walk(barbell(5))
    cut = routing.sweep_cut(jnp.asarray(chain), jnp.asarray(law))
    assert sorted(np.asarray(cut.side)[:5].tolist() + (~np.asarray(cut.side))[5:].tolist()) in (
        [False] * 10,
        [True] * 10,
    )
    assert_close(cut.conductance, 1 / 21, scale=10.0)


def test_conductance_of_no_set_is_undefined() -> None:
    chain, law = jnp.full((2, 2), 0.5), jnp.full(2, 0.5)
    assert jnp.isnan(routing.conductance(chain, law, jnp.zeros(2, bool)))
    assert jnp.isnan(routing.conductance(chain, law, jnp.ones(2, bool)))


def test_resistance_is_that_of_networkx(random: np.random.Generator) -> None:
    network = draw_network(random)
    got = np.asarray(routing.effective_resistance(jnp.asarray(network)))
    graph = nx.from_numpy_array(network)
    want = nx.resistance_distance(graph, weight="weight", invert_weight=False)
    assert_close(got, [[want[i][j] for j in range(7)] for i in range(7)], scale=SOLVER_SCALE)
    assert_far(got, np.where(network > 0, 1 / np.maximum(network, 1e-9), 0))


def test_resistance_closed_forms() -> None:
    path = routing.effective_resistance(jnp.asarray(np.eye(6, k=1) + np.eye(6, k=-1)))
    assert_close(path, np.abs(np.subtract.outer(np.arange(6), np.arange(6))).astype(float), scale=SOLVER_SCALE)
    complete = routing.effective_resistance(jnp.ones((5, 5)))
    assert_close(complete, 2 / 5 * (1 - np.eye(5)), scale=SOLVER_SCALE)


def test_a_network_that_falls_apart_has_no_resistance() -> None:
    apart = jnp.asarray(np.kron(np.eye(2), np.ones((2, 2)) - np.eye(2)))
    assert jnp.isnan(routing.effective_resistance(apart)[0, 2])
    assert jnp.isnan(routing.kemeny_constant(apart, jnp.full(4, 0.25)))
    # A transient part is no second class.
    assert jnp.isfinite(routing.kemeny_constant(jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([1.0, 0.0])))


def test_conductance_of_nearly_everything_keeps_its_digits() -> None:
    law = jnp.array([1 - 1e-9, 1e-9])
    chain = jnp.array([[1 - 1e-10, 1e-10], [0.1, 0.9]])
    for side in ([True, False], [False, True]):
        got = routing.conductance(chain, law, jnp.array(side))
        assert float(got) == pytest.approx(0.1, rel=1e-6)


def test_resistance_is_a_metric(random: np.random.Generator) -> None:
    got = np.asarray(routing.effective_resistance(jnp.asarray(draw_network(random))))
    assert (got[:, :, None] <= got[:, None, :] + got.T[None] + 1e-12).all()


def test_kemeny_constant_is_the_same_from_every_start(random: np.random.Generator) -> None:
    chain = draw_chain(random)
    law = law_of(chain)
    hitting = np.zeros((7, 7))
    for target in range(7):
        others = np.arange(7) != target
        hitting[others, target] = np.linalg.solve(np.eye(6) - chain[others][:, others], np.ones(6))
    got = routing.kemeny_constant(jnp.asarray(chain), jnp.asarray(law))
    assert_close(hitting @ law, np.full(7, float(got)), scale=SOLVER_SCALE)


@pytest.mark.parametrize("rows", [3, 6])
def test_kemeny_constant_closed_forms(rows: int) -> None:
    law = jnp.full(rows, 1 / rows)
    complete, _ = walk(np.ones((rows, rows)) - np.eye(rows))
    assert_close(routing.kemeny_constant(jnp.asarray(complete), law), (rows - 1) ** 2 / rows, scale=SOLVER_SCALE)
    cycle = np.roll(np.eye(rows), 1, 0) / 2 + np.roll(np.eye(rows), -1, 0) / 2
    assert_close(routing.kemeny_constant(jnp.asarray(cycle), law), (rows**2 - 1) / 6, scale=SOLVER_SCALE)


def test_leverages_sum_to_a_spanning_tree_and_a_bridge_has_one() -> None:
    network = barbell(4)
    got = routing.detect_bottlenecks(jnp.asarray(network), 28)
    assert_close(got.leverage.sum(), 7.0, depth=28, scale=10.0)
    assert got.edges[0].tolist() == [3, 4]
    assert_close(got.leverage[0], 1.0, scale=SOLVER_SCALE)
    assert float(got.leverage[1]) < 0.6


def test_mixing_time_lies_within_its_bounds(random: np.random.Generator) -> None:
    for network in (draw_network(random), barbell(3)):
        chain, law = walk(network)
        gap = routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law))
        bounds = routing.mixing_time_bounds(gap, jnp.asarray(law), distance=0.25)

        def distance(time: float, chain: np.ndarray = chain, law: np.ndarray = law) -> float:
            return float(np.abs(expm(-time * (np.eye(len(law)) - chain)) - law).sum(1).max() / 2)

        assert distance(float(bounds.upper)) <= 0.25 + 1e-12
        assert distance(float(bounds.lower)) >= 0.25 - 1e-12


def test_bottlenecks_refuse_what_cannot_be() -> None:
    with pytest.raises(OptionError, match=r"got:  count=4, 3 nodes\n  want: 1 <= count <= 3"):
        routing.detect_bottlenecks(jnp.ones((3, 3)), 4)
    with pytest.raises(ShapeError, match="effective_resistance: an operator has as many rows as columns"):
        routing.effective_resistance(jnp.ones((2, 3)))
    with pytest.raises(ShapeError, match="kemeny_constant: "):
        routing.kemeny_constant(jnp.ones((2, 3)), jnp.ones(2))
    with pytest.raises(DomainError, match=r"distance=0\.5"):
        routing.mixing_time_bounds(jnp.array(0.5), jnp.ones(2) / 2, distance=0.5)
