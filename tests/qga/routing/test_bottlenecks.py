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


def hypercube(dimension: int) -> np.ndarray:
    return nx.to_numpy_array(nx.hypercube_graph(dimension))


@pytest.mark.parametrize("dimension", [2, 3, 4])
def test_cheeger_is_attained_on_the_cube(dimension: int) -> None:
    # Gap 2 / d and narrowest cut 1 / d, across one axis: the lower bound with equality, so that none above it holds.
    chain, law = walk(hypercube(dimension))
    gap = routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law))
    assert_close(gap, 2 / dimension, scale=SOLVER_SCALE)
    best = smallest_conductance(chain, law) if dimension < 4 else 1 / dimension
    assert best == pytest.approx(1 / dimension)
    bounds = routing.cheeger_bounds(gap)
    assert_close(bounds.lower, best, scale=SOLVER_SCALE)
    assert not float(1.01 * bounds.lower) <= best


def test_upper_side_of_cheeger_needs_its_root() -> None:
    # The negative twin: on a long cycle the narrowest cut is far above a multiple of the gap.
    rows = 16
    chain, law = walk(nx.to_numpy_array(nx.cycle_graph(rows)))
    gap = routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law))
    half = routing.conductance(jnp.asarray(chain), jnp.asarray(law), jnp.arange(rows) < rows // 2)
    assert_close(half, 2 / rows, scale=10.0)
    assert half <= routing.cheeger_bounds(gap).upper
    assert half > 1.5 * gap


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


@pytest.mark.parametrize(
    ("graph", "by_distance"),
    [
        # Klein 2002, resistances of the Platonic solids; the Petersen graph from its eigenvalues.
        (nx.tetrahedral_graph(), [0, 1 / 2]),
        (nx.octahedral_graph(), [0, 5 / 12, 1 / 2]),
        (nx.cubical_graph(), [0, 7 / 12, 3 / 4, 5 / 6]),
        (nx.icosahedral_graph(), [0, 11 / 30, 7 / 15, 1 / 2]),
        (nx.dodecahedral_graph(), [0, 19 / 30, 9 / 10, 16 / 15, 17 / 15, 7 / 6]),
        (nx.petersen_graph(), [0, 3 / 5, 4 / 5]),
    ],
)
def test_resistances_of_known_graphs(graph: nx.Graph, by_distance: list[float]) -> None:
    got = np.asarray(routing.effective_resistance(jnp.asarray(nx.to_numpy_array(graph))))
    steps = np.asarray(nx.floyd_warshall_numpy(graph), int)
    assert_close(got, np.array(by_distance)[steps], scale=SOLVER_SCALE)
    assert_far(got, steps.astype(float))


def test_more_conductance_never_raises_a_resistance(random: np.random.Generator) -> None:
    # Rayleigh's monotonicity, and where it is strict.
    network = draw_network(random)
    more = network.copy()
    more[0, 1] = more[1, 0] = network[0, 1] + 1
    before, after = (np.asarray(routing.effective_resistance(jnp.asarray(each))) for each in (network, more))
    assert (after <= before + 1e-12).all()
    assert after[0, 1] < before[0, 1] - 1e-3


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
    # The negative twin: resistances are distances already; their squares are none on a path.
    path = np.asarray(routing.effective_resistance(jnp.asarray(np.eye(7, k=1) + np.eye(7, k=-1)))) ** 2
    assert not (path[:, :, None] <= path[:, None, :] + path.T[None] + 1e-12).all()


def test_kemeny_constant_is_the_same_from_every_start(random: np.random.Generator) -> None:
    chain = draw_chain(random)
    law = law_of(chain)
    hitting = np.zeros((7, 7))
    for target in range(7):
        others = np.arange(7) != target
        hitting[others, target] = np.linalg.solve(np.eye(6) - chain[others][:, others], np.ones(6))
    got = routing.kemeny_constant(jnp.asarray(chain), jnp.asarray(law))
    assert_close(hitting @ law, np.full(7, float(got)), scale=SOLVER_SCALE)
    # The negative twin: under another law than its own, the start matters.
    assert np.ptp(hitting @ np.full(7, 1 / 7)) > 1e-3


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


def test_lower_bound_of_the_mixing_time_is_attained_on_two_places() -> None:
    # Distance e^(-gap t) / 2 exactly: a chain of two places mixes at its lower bound.
    chain, law = jnp.array([[0.7, 0.3], [0.3, 0.7]]), jnp.full(2, 0.5)
    gap = routing.spectral_gap(chain, law)
    assert_close(gap, 0.6, scale=SOLVER_SCALE)
    time = float(routing.mixing_time_bounds(gap, law, distance=0.1).lower)
    assert time == pytest.approx(np.log(5) / 0.6, rel=1e-12)
    flowed = expm(-time * (np.eye(2) - np.asarray(chain)))
    assert np.abs(flowed - 0.5).sum(1).max() / 2 == pytest.approx(0.1, rel=1e-12)


def test_flow_between_rows_counts_both_directions(random: np.random.Generator) -> None:
    chain = draw_chain(random)
    law = law_of(chain)
    network = np.asarray(routing.conductances(jnp.asarray(chain), jnp.asarray(law)))
    assert_close(network, network.T)
    # What leaves a row is what it holds: the law is that of the network too.
    assert_close(network.sum(1), law, depth=7)
    assert_far(network, law[:, None] * chain)


def test_walks_and_laws_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        routing.conductances(jnp.ones((3, 3)), jnp.ones(2))
    assert str(error.value) == (
        "conductances: a law has one number for each row of its walk.\n"
        "  got:  weights float64[3, 3], stationary float64[2]\n"
        "  want: stationary [3]\n"
        "  fix:  pass the law that the walk keeps (qga.routing.stationary)."
    )
    with pytest.raises(ShapeError, match=r"conductance: every row is on one side of a cut.\n  got:  side bool\[3\]"):
        routing.conductance(jnp.full((2, 2), 0.5), jnp.full(2, 0.5), jnp.ones(3, bool))
    for function in (routing.spectral_gap, routing.fiedler, routing.sweep_cut):
        with pytest.raises(ShapeError, match="a walk on one place has no second eigenvalue and no cut"):
            function(jnp.ones((1, 1)), jnp.ones(1))
    with pytest.raises(ShapeError, match="detect_bottlenecks: an operator has as many rows as columns"):
        routing.detect_bottlenecks(jnp.ones((2, 3)), 1)


def test_bottlenecks_refuse_what_cannot_be() -> None:
    with pytest.raises(OptionError, match=r"got:  count=4, 3 nodes\n  want: 1 <= count <= 3"):
        routing.detect_bottlenecks(jnp.ones((3, 3)), 4)
    with pytest.raises(ShapeError, match="effective_resistance: an operator has as many rows as columns"):
        routing.effective_resistance(jnp.ones((2, 3)))
    with pytest.raises(ShapeError, match="kemeny_constant: "):
        routing.kemeny_constant(jnp.ones((2, 3)), jnp.ones(2))
    with pytest.raises(DomainError, match=r"distance=0\.5"):
        routing.mixing_time_bounds(jnp.array(0.5), jnp.ones(2) / 2, distance=0.5)
