"""Entropic transport and curvature between bounds, against exact programmes (theory F-3, F-6)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import ot
import pytest
from scipy.stats import entropy

from qga import DomainError, OptionError, ShapeError, flow
from tests.qga.tolerances import assert_close

SHAPES = [(1, 4), (2, 2), (5, 3), (7, 11)]


def draw(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    return random.random(shape) * 3, random.dirichlet(np.ones(shape[0])), random.dirichlet(np.ones(shape[1]))


def draw_graph(random: np.random.Generator, nodes: int = 8) -> np.ndarray:
    joined = np.triu(random.random((nodes, nodes)) < 0.5, 1) | np.eye(nodes, k=1).astype(bool)
    upper = joined * random.uniform(0.5, 2, (nodes, nodes))
    return upper + upper.T


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1.0, 0.1, 0.02])
def test_entropic_plan_costs_at_most_its_entropy_more(
    random: np.random.Generator, shape: tuple[int, int], eps: float
) -> None:
    costs, rows, columns = draw(random, shape)
    found = flow.transport_interval(*map(jnp.asarray, (costs, rows, columns)), eps=eps, iterations=5000)
    exact = ot.emd2(rows, columns, costs)
    more = float(jnp.sum(costs * found.plan)) - exact
    assert -1e-12 <= more <= eps * min(entropy(rows), entropy(columns)) + 1e-9
    assert float(found.lower) <= exact + 1e-12
    assert exact <= float(found.upper) + 1e-12
    # KL(P || a b^T) of the plan itself makes the bound of the interval smaller still.
    plan = np.asarray(found.plan)
    shared = entropy(rows) + entropy(columns) - entropy(plan.ravel())
    gap = eps * (min(entropy(rows), entropy(columns)) - shared)
    assert float(found.upper - found.lower) <= gap + 1e-6
    assert gap <= eps * np.log(min(shape)) + 1e-12


@pytest.mark.usefixtures("x64")
def test_bound_is_no_larger_than_it_must_be() -> None:
    # Two places: the plan costs 1 / (1 + e^(1 / eps)) more, and 0.4 eps log 2 of that is needed.
    eps = 1 / 1.28
    found = flow.transport_interval(1 - jnp.eye(2), jnp.full(2, 0.5), jnp.full(2, 0.5), eps=eps, iterations=50)
    assert float(found.upper) == pytest.approx(1 / (1 + np.exp(1 / eps)), rel=1e-12)
    assert 0.3 * eps * np.log(2) < float(found.upper) < 0.45 * eps * np.log(2)
    assert float(found.lower) <= 0 < float(found.upper)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_bounds_hold_before_convergence(random: np.random.Generator, iterations: int) -> None:
    too_cheap = 0
    for _ in range(30):
        costs, rows, columns = draw(random, (6, 5))
        eps = 0.03
        found = flow.transport_interval(*map(jnp.asarray, (costs, rows, columns)), eps=eps, iterations=iterations)
        exact = ot.emd2(rows, columns, costs)
        assert float(found.lower) <= exact + 1e-12
        assert exact <= float(found.upper) + 1e-12
        assert_close(found.plan.sum(0), columns, depth=6)
        assert_close(found.plan.sum(1), rows, depth=5)
        raw = flow.sinkhorn(jnp.asarray(-costs / eps), jnp.asarray(rows), jnp.asarray(columns), iterations=iterations)
        plan = flow.sinkhorn_plan(jnp.asarray(-costs / eps), raw.rows, raw.columns)
        too_cheap += float(jnp.sum(costs * plan)) < exact - 1e-6
    # The negative twin: a plan whose masses are not filled in may cost less than any plan.
    assert too_cheap > 0


@pytest.mark.usefixtures("x64")
def test_interval_closes_with_eps(random: np.random.Generator) -> None:
    costs, rows, columns = map(jnp.asarray, draw(random, (6, 6)))
    widths = []
    for eps in (0.4, 0.1, 0.025):
        found = flow.transport_interval(costs, rows, columns, eps=eps, iterations=20_000)
        widths.append(float(found.upper - found.lower))
    assert widths[1] < widths[0] / 3
    assert widths[2] < widths[1] / 3


@pytest.mark.usefixtures("x64")
def test_masses_of_zero_are_left_out(random: np.random.Generator) -> None:
    costs, rows, columns = draw(random, (4, 5))
    wide = np.full((6, 8), 0.7)
    wide[:4, :5] = costs
    padded = np.concatenate([rows, np.zeros(2)]), np.concatenate([columns, np.zeros(3)])
    got = flow.transport_interval(*map(jnp.asarray, (wide, *padded)), eps=0.1, iterations=100)
    want = flow.transport_interval(*map(jnp.asarray, (costs, rows, columns)), eps=0.1, iterations=100)
    assert_close(got.lower, want.lower, depth=100, scale=3.0)
    assert_close(got.upper, want.upper, depth=100, scale=3.0)
    slopes = jax.grad(
        lambda c, a: flow.transport_interval(c, a, jnp.asarray(padded[1]), eps=0.1, iterations=9).upper, (0, 1)
    )
    assert all(jnp.isfinite(each).all() for each in slopes(jnp.asarray(wide), jnp.asarray(padded[0])))
    assert jnp.isnan(
        flow.transport_interval(jnp.asarray(wide), *(jnp.nan * each for each in padded), eps=0.1, iterations=3)[1]
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("idleness", [0.0, 0.3, 0.5])
def test_curvature_lies_in_its_interval(random: np.random.Generator, idleness: float) -> None:
    lengths = draw_graph(random)
    exact = flow.ollivier(lengths, idleness=idleness)
    found = flow.ollivier_interval(lengths, eps=0.02, iterations=3000, idleness=idleness)
    assert [tuple(edge) for edge in found.edges] == list(exact)
    for edge, lower, upper in zip(found.edges, found.lower, found.upper, strict=True):
        value = exact[edge[0], edge[1]]
        assert lower - 1e-9 <= value <= upper + 1e-9
        degree = 1 + min((lengths[end] > 0).sum() for end in edge)
        assert upper - lower <= 0.02 * np.log(degree) / lengths[tuple(edge)] * 2 + 1e-3
    other = flow.ollivier(lengths, idleness=0.9)
    inside = [
        low <= other[a, b] <= high for (a, b), low, high in zip(found.edges, found.lower, found.upper, strict=True)
    ]
    assert not all(inside)


def test_bridge_of_a_barbell_is_certainly_negative() -> None:
    found = flow.ollivier_interval(nx.to_numpy_array(nx.barbell_graph(5, 0)), eps=0.05, iterations=500)
    upper = {tuple(edge): float(high) for edge, high in zip(found.edges, found.upper, strict=True)}
    lower = {tuple(edge): float(low) for edge, low in zip(found.edges, found.lower, strict=True)}
    assert lower[4, 5] - 1e-5 <= -0.6 <= upper[4, 5] < -0.5
    assert min(low for edge, low in lower.items() if edge != (4, 5)) > 0


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_blocks_change_nothing(random: np.random.Generator, block: int) -> None:
    lengths = draw_graph(random)
    got = flow.ollivier_interval(lengths, eps=0.1, iterations=50, block=block)
    want = flow.ollivier_interval(lengths, eps=0.1, iterations=50)
    assert len(got.lower) == len(got.edges) == np.triu(lengths > 0).sum()
    assert_close(got.lower, want.lower, depth=50, scale=30.0)
    assert_close(got.upper, want.upper, depth=50, scale=30.0)


def test_vulkan_finds_the_same_interval(random: np.random.Generator, vulkan: jax.Device) -> None:
    lengths = draw_graph(random)
    want = flow.ollivier_interval(lengths, eps=0.1, iterations=50)
    with jax.default_device(vulkan):
        got = flow.ollivier_interval(lengths, eps=0.1, iterations=50)
    assert got.lower.devices() == {vulkan}
    assert np.abs(np.asarray(got.lower) - np.asarray(want.lower)).max() < 1e-3
    assert np.abs(np.asarray(got.upper) - np.asarray(want.upper)).max() < 1e-3


def test_interval_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="transport_interval: there must be one mass for each row and column"):
        flow.transport_interval(jnp.ones((2, 3)), jnp.ones(3), jnp.ones(2), eps=1.0, iterations=1)
    with pytest.raises(OptionError, match=r"eps=0\.0, iterations=1"):
        flow.ollivier_interval(np.ones((2, 2)) - np.eye(2), eps=0.0, iterations=1)
    with pytest.raises(OptionError, match=r"block=0"):
        flow.ollivier_interval(np.ones((2, 2)) - np.eye(2), eps=1.0, iterations=1, block=0)
    with pytest.raises(DomainError, match="all places must be connected"):
        flow.ollivier_interval(np.kron(np.eye(2), np.ones((2, 2)) - np.eye(2)), eps=1.0, iterations=1)
