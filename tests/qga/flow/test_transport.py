"""Sinkhorn and Hopfield: marginals, contraction, descent, critical temperature (theory F-6, F-7, P-7)."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import OptionError, ShapeError, flow
from tests.qga.tolerances import assert_close, assert_far


def draw(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return random.normal(size=(6, 5)), random.dirichlet(np.full(6, 4.0)), random.dirichlet(np.full(5, 4.0))


def hilbert(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.ptp(np.log(first) - np.log(second)))


def test_plan_has_its_masses_and_is_that_of_pot(random: np.random.Generator, dtype: np.dtype) -> None:
    scores, rows, columns = draw(random)
    given = [jnp.asarray(each, dtype) for each in (scores, rows, columns)]
    got = flow.sinkhorn(*given, iterations=80)
    plan = np.asarray(flow.sinkhorn_plan(given[0], got.rows, got.columns))
    assert_close(plan.sum(1), rows, depth=5)
    assert_close(plan.sum(0), columns, depth=6)
    want = ot.sinkhorn(rows, columns, -scores, reg=1.0, stopThr=1e-15, numItermax=10000)
    assert_close(plan, want, depth=30)
    assert_far(plan, ot.sinkhorn(rows, columns, -1.01 * scores, reg=1.0))


@pytest.mark.usefixtures("x64")
def test_violation_is_measured(random: np.random.Generator) -> None:
    scores, rows, columns = map(jnp.asarray, draw(random))
    got = flow.sinkhorn(scores, rows, columns, iterations=1)
    masses = flow.sinkhorn_plan(scores, got.rows, got.columns).sum(0)
    assert_close(got.violation, np.abs(masses - columns).sum(), depth=6)
    assert float(got.violation) > 1e-3


@pytest.mark.usefixtures("x64")
def test_iteration_contracts_at_the_rate(random: np.random.Generator) -> None:
    scores, rows, columns = map(jnp.asarray, draw(random))
    rate = float(flow.sinkhorn_rate(scores))
    target = np.asarray(flow.sinkhorn(scores, rows, columns, iterations=500).columns)
    gaps = [
        np.ptp(np.asarray(flow.sinkhorn(scores, rows, columns, iterations=count).columns) - target)
        for count in (1, 2, 3, 4)
    ]
    for before, after in pairwise(gaps):
        assert after <= rate * before + 1e-13
    assert gaps[1] > 1e-6
    brute = max(
        abs(scores[i, j] + scores[k, m] - scores[i, m] - scores[k, j])
        for i in range(6)
        for k in range(6)
        for j in range(5)
        for m in range(5)
    )
    assert_close(rate, np.tanh(brute / 4) ** 2, scale=4.0)


@pytest.mark.usefixtures("x64")
def test_rate_is_attained() -> None:
    # Two places and nearly equal masses: the second singular value of the plan is tanh(0.7), and D / 4 = 0.7.
    scores, masses = 0.7 * jnp.array([[1.0, -1.0], [-1.0, 1.0]]), jnp.array([0.5 + 1e-5, 0.5 - 1e-5])

    def columns(count: int) -> np.ndarray:
        return np.asarray(flow.sinkhorn(scores, masses, jnp.full(2, 0.5), iterations=count).columns)

    before, after = (float(np.ptp(columns(count) - columns(200))) for count in (2, 3))
    assert after == pytest.approx(float(flow.sinkhorn_rate(scores)) * before, rel=1e-4)
    # The rate of flatter scores is none for these.
    assert after > 1.05 * float(flow.sinkhorn_rate(0.95 * scores)) * before


@pytest.mark.usefixtures("x64")
def test_dual_objective_rises(random: np.random.Generator) -> None:
    scores, rows, columns = map(jnp.asarray, draw(random))

    def objective(row_side: jax.Array, column_side: jax.Array) -> float:
        plan = flow.sinkhorn_plan(scores, row_side, column_side)
        return float(rows @ row_side + columns @ column_side - plan.sum())

    found = [flow.sinkhorn(scores, rows, columns, iterations=count) for count in (1, 2, 3)]
    seen = [objective(each.rows, each.columns) for each in found]
    assert seen[0] < seen[1] < seen[2]
    # Three times the step goes too far: a concave function falls behind where it began.
    assert objective(found[0].rows, found[0].columns + 3 * (found[1].columns - found[0].columns)) < seen[0]


def test_balanced_scores_of_equal_masses_are_doubly_stochastic(random: np.random.Generator) -> None:
    scores = jnp.asarray(random.normal(size=(5, 5)), jnp.float32)
    even = jnp.full(5, 0.2)
    got = flow.sinkhorn(scores, even, even, iterations=100)
    plan = 5 * flow.sinkhorn_plan(scores, got.rows, got.columns)
    assert_close(plan.sum(0), np.ones(5), depth=25)
    assert hilbert(np.asarray(plan.sum(1)), np.ones(5)) < 1e-5


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 20.0))
def test_retrieval_never_raises_the_energy(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    keys, state = random.normal(size=(6, 3)), jnp.asarray(random.normal(size=3), jnp.float32)
    keys = jnp.asarray(keys, jnp.float32)
    energies = [
        float(flow.hopfield_energy(flow.hopfield(state, keys, scale, steps=steps), keys, scale)) for steps in range(5)
    ]
    assert all(after <= before + 1e-5 * max(1, abs(before)) for before, after in pairwise(energies))


@pytest.mark.usefixtures("x64")
def test_energy_rises_on_the_way_back(random: np.random.Generator) -> None:
    # The gradient of the energy is what a step takes away.
    keys, state = jnp.asarray(random.normal(size=(6, 3))), jnp.asarray(random.normal(size=3))
    move = flow.hopfield(state, keys, 2.0, steps=1) - state
    assert_close(jax.grad(flow.hopfield_energy)(state, keys, 2.0), -move, depth=6, scale=4.0)
    energies = [float(flow.hopfield_energy(state + share * move, keys, 2.0)) for share in (1.0, 0.0, -0.2)]
    assert energies[0] < energies[1] < energies[2]


@pytest.mark.usefixtures("x64")
def test_cold_retrieval_finds_the_memory_and_warm_retrieval_the_mean(random: np.random.Generator) -> None:
    keys = jnp.asarray(random.normal(size=(5, 8)))
    keys = keys - keys.mean(0, keepdims=True)
    cue = keys[2] + 0.1 * jnp.asarray(random.normal(size=8))
    assert np.abs(flow.hopfield(cue, keys, 20.0, steps=5) - keys[2]).max() < 1e-3
    assert np.abs(flow.hopfield(cue, keys, 1e-3, steps=50)).max() < 1e-6


@pytest.mark.usefixtures("x64")
def test_mean_splits_at_the_critical_scale(random: np.random.Generator) -> None:
    # A symmetric cloud, so that the mean is a fixed point at every temperature.
    half = random.normal(size=(6, 3))
    keys = jnp.asarray(np.concatenate([half, -half]))
    covariance = np.cov(np.asarray(keys).T, ddof=0)
    critical = 1 / np.linalg.eigvalsh(covariance)[-1]
    leading = jnp.asarray(np.linalg.eigh(covariance)[1][:, -1])
    below, above = (
        float(jnp.linalg.norm(flow.hopfield(1e-3 * leading, keys, scale * critical, steps=2000)))
        for scale in (0.95, 1.05)
    )
    assert below < 1e-6
    assert above > 1e-2


@pytest.mark.usefixtures("x64")
def test_contraction_has_one_fixed_point(random: np.random.Generator) -> None:
    keys = jnp.asarray(random.normal(size=(7, 3)))
    diameter = max(float(jnp.sum((a - b) ** 2)) for a in keys for b in keys)
    assert bool(flow.is_contraction(keys, 3.99 / diameter))
    assert not bool(flow.is_contraction(keys, 4.01 / diameter))
    ends = [flow.hopfield(jnp.asarray(random.normal(size=3)), keys, 3.9 / diameter, steps=3000) for _ in range(3)]
    assert max(float(jnp.abs(end - ends[0]).max()) for end in ends) < 1e-9


def test_contraction_is_never_claimed_by_rounding(random: np.random.Generator, dtype: np.dtype) -> None:
    keys = random.normal(size=(200, 5, 3)).astype(dtype)
    diameters = [max(exact_square(first, second) for first, second in combinations(each, 2)) for each in keys]
    # The smallest numbers at which the bound, in exact arithmetic, no longer holds.
    scales = np.array([smallest_above(4 / each, dtype) for each in diameters])
    test = jax.jit(jax.vmap(flow.is_contraction))
    assert not test(keys, scales).any()
    assert not test(keys, -scales).any()
    assert test(keys, scales * dtype.type(1 - 16 * np.finfo(dtype).eps)).all()
    # The negative twin: without slack, some of them pass.
    differences = keys[:, :, None] - keys[:, None]
    naive = scales * np.square(differences).sum(-1).max((1, 2)) / 4
    assert naive.dtype == dtype
    assert (naive < 1).any()


def exact_square(first: np.ndarray, second: np.ndarray) -> Fraction:
    return sum(((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(first, second, strict=True)), Fraction())


def smallest_above(number: Fraction, dtype: np.dtype) -> np.floating:
    near = dtype.type(float(number))
    return near if Fraction(float(near)) >= number else np.nextafter(near, dtype.type(np.inf))


def test_contraction_is_not_claimed_where_squares_underflow() -> None:
    # beta |k_1 - k_2|^2 / 4 = 2.5, of which single precision may see nothing.
    far, close = jnp.zeros((2, 10), jnp.float32).at[1].set(1e-19), jnp.zeros((2, 10), jnp.float32)
    assert not bool(flow.is_contraction(far, 1e38))
    assert bool(flow.is_contraction(close, 1e36))


def test_transport_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"scores float32\[2, 3\], masses float32\[3\] and float32\[3\]"):
        flow.sinkhorn(jnp.ones((2, 3)), jnp.ones(3), jnp.ones(3), iterations=1)
    with pytest.raises(OptionError, match="sinkhorn: iterations are counted from one"):
        flow.sinkhorn(jnp.ones((2, 3)), jnp.ones(2), jnp.ones(3), iterations=0)
    with pytest.raises(OptionError, match="hopfield: steps are counted from zero"):
        flow.hopfield(jnp.ones(2), jnp.ones((3, 2)), 1.0, steps=-1)


def test_gradients_of_retrieval_are_finite() -> None:
    assert jnp.isfinite(jax.grad(lambda k: flow.hopfield(jnp.ones(2), k, 2.0, steps=3).sum())(jnp.eye(2))).all()
