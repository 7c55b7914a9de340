"""Distances of states: closed forms, inequalities, contraction under channels, derivatives (theory Q-2, Q-3, Q-8)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import logm, sqrtm

from qga import ShapeError, quantum
from tests.qga.dense import random_unitary, rays
from tests.qga.quantum.states import draw_kraus, draw_rho
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
# Roots of eigenvalues of small Hermitian matrices.
EIGEN_SCALE = 200.0


def draw_two(random: np.random.Generator) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(draw_rho(random)), jnp.asarray(draw_rho(random))


def test_fidelity_is_the_formula(random: np.random.Generator) -> None:
    first, second = draw_two(random)
    root = sqrtm(np.asarray(first))
    want = np.trace(sqrtm(root @ np.asarray(second) @ root)).real ** 2
    assert_close(quantum.fidelity(first, second), want, scale=EIGEN_SCALE)
    assert_close(quantum.fidelity(second, first), want, scale=EIGEN_SCALE)
    assert_far(quantum.fidelity(first, second), want**0.5)


def test_fidelity_of_pure_states_is_the_overlap(random: np.random.Generator) -> None:
    one, other = rays(random.normal(size=(2, 8)))
    pair = [jnp.asarray(np.outer(ket, ket.conj())) for ket in (one, other)]
    want = abs(np.vdot(one, other)) ** 2
    # A state of rank one has roots of rounding: sqrt(eps).
    assert float(quantum.fidelity(*pair)) == pytest.approx(want, abs=1e-7)
    assert_close(quantum.pure_fidelity(jnp.asarray(one), pair[1]), want, depth=4)


def test_pure_fidelity_is_the_mean_over_a_mixture(random: np.random.Generator) -> None:
    keys, query = rays(random.normal(size=(7, 6))), rays(random.normal(size=(1, 6)))[0]
    got = quantum.pure_fidelity(jnp.asarray(query), quantum.density(jnp.asarray(keys)))
    assert_close(got, (np.abs(keys.conj() @ query) ** 2).mean(), depth=7)


def test_fidelity_of_equal_states_is_one(random: np.random.Generator) -> None:
    first, _ = draw_two(random)
    assert_close(quantum.fidelity(first, first), 1.0, scale=EIGEN_SCALE)
    assert_close(quantum.bures_squared(first, first), 0.0, scale=EIGEN_SCALE)


def test_fidelity_is_invariant_under_unitaries(random: np.random.Generator) -> None:
    first, second = draw_two(random)
    turn = random_unitary(random, 4)
    turned = [jnp.asarray(turn @ np.asarray(each) @ turn.conj().T) for each in (first, second)]
    assert_close(quantum.fidelity(*turned), quantum.fidelity(first, second), scale=EIGEN_SCALE)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_fuchs_and_van_de_graaf(seed: int) -> None:
    random = np.random.default_rng(seed)
    with jax.enable_x64(True):
        first, second = draw_two(random)
        fidelity, distance = quantum.fidelity(first, second), quantum.trace_distance(first, second)
        assert 1 - jnp.sqrt(fidelity) <= distance + 1e-10
        assert distance <= jnp.sqrt(1 - fidelity) + 1e-10
        # Pinsker.
        assert quantum.relative_entropy(first, second) >= 2 * distance**2 - 1e-10


def test_channels_contract(random: np.random.Generator) -> None:
    first, second = draw_two(random)
    kraus = jnp.asarray(draw_kraus(random))
    sent = [quantum.apply_channel(kraus, each) for each in (first, second)]
    assert quantum.trace_distance(*sent) < quantum.trace_distance(first, second)
    assert quantum.fidelity(*sent) > quantum.fidelity(first, second)
    assert quantum.relative_entropy(*sent) < quantum.relative_entropy(first, second)
    assert quantum.bures_squared(*sent) < quantum.bures_squared(first, second)


def test_relative_entropy_is_the_formula(random: np.random.Generator) -> None:
    first, second = (np.asarray(each) for each in draw_two(random))
    want = np.trace(first @ (logm(first) - logm(second))).real
    assert_close(quantum.relative_entropy(jnp.asarray(first), jnp.asarray(second)), want, scale=EIGEN_SCALE)
    assert_far(quantum.relative_entropy(jnp.asarray(second), jnp.asarray(first)), want)


def test_relative_entropy_outside_of_the_support_is_infinite() -> None:
    pure, other = (jnp.diag(jnp.array(values)) for values in ([1.0, 0.0], [0.0, 1.0]))
    assert jnp.isposinf(quantum.relative_entropy(pure, other))
    assert_close(quantum.relative_entropy(pure, jnp.eye(2) / 2), np.log(2), scale=EIGEN_SCALE)


def test_trace_distance_bounds_every_mean_score(random: np.random.Generator) -> None:
    first, second = draw_two(random)
    distance = quantum.trace_distance(first, second)
    queries = rays(random.normal(size=(200, 8)))
    moved = np.einsum("qi,ij,qj->q", queries.conj(), np.asarray(first - second), queries).real
    assert np.abs(moved).max() <= distance
    # The bound is attained up to the positive part's largest eigenvalue.
    values, vectors = np.linalg.eigh(np.asarray(first - second))
    assert abs(values).max() > 0.3 * float(distance)
    assert vectors.shape == (4, 4)


def test_variance_of_scores_is_bounded_by_purity(random: np.random.Generator) -> None:
    keys, queries = rays(random.normal(size=(9, 6))), rays(random.normal(size=(50, 6)))
    variances = (np.abs(queries.conj() @ keys.T) ** 2).var(axis=1)
    purity = quantum.purity(quantum.density(jnp.asarray(keys)))
    assert variances.max() <= (1 - purity) / 2


@pytest.mark.parametrize(
    "function", [quantum.fidelity, quantum.trace_distance, quantum.relative_entropy, quantum.bures_squared]
)
def test_derivatives_are_difference_quotients(function: object, random: np.random.Generator) -> None:
    first, second = draw_two(random)
    third, fourth = draw_two(random)

    def moved(step: float) -> jax.Array:
        return function(first + step * (third - first), second + step * (fourth - second))  # type: ignore[operator]

    _, slope = jax.jvp(moved, (0.0,), (1.0,))
    quotient = (8 * (moved(1e-4) - moved(-1e-4)) - (moved(2e-4) - moved(-2e-4))) / 12e-4
    assert float(slope) == pytest.approx(float(quotient), rel=1e-7)


def test_derivatives_are_finite_at_equal_eigenvalues() -> None:
    mixed, other = jnp.eye(3) / 3, jnp.diag(jnp.array([0.5, 0.25, 0.25]))
    for function in (quantum.fidelity, quantum.trace_distance, quantum.relative_entropy):
        assert jnp.isfinite(jax.grad(function)(mixed, other)).all()
        assert jnp.isfinite(jax.grad(function, argnums=1)(mixed, other)).all()


def test_is_density_checks_all_three() -> None:
    good = jnp.diag(jnp.array([0.5, 0.5]))
    assert bool(quantum.is_density(good, tolerance=1e-9))
    for bad in (good * 1.01, jnp.diag(jnp.array([1.5, -0.5])), good.at[0, 1].set(0.1)):
        assert not bool(quantum.is_density(bad, tolerance=1e-3))


def test_states_of_different_sizes_are_refused() -> None:
    with pytest.raises(
        ShapeError,
        match=r"fidelity: states of one system are square matrices of one size.\n  got:  float64\[2, 2\]",
    ):
        quantum.fidelity(jnp.eye(2), jnp.eye(3))
    for function in (quantum.trace_distance, quantum.relative_entropy):
        with pytest.raises(ShapeError, match="square matrices of one size"):
            function(jnp.eye(2), jnp.ones((2, 3)))
