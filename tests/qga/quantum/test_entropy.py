"""Entropies of states and rows: closed forms, bounds, invariances, derivatives (theory Q-1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from qga import ShapeError, quantum
from tests.qga.dense import random_unitary, rays
from tests.qga.tolerances import assert_close, assert_far

# Eigenvalues of a small Hermitian matrix are good to a few eps, and -x log x is steep near zero.
EIGEN_SCALE = 50.0


def draw_rho(random: np.random.Generator, width: int = 4) -> np.ndarray:
    states = rays(random.normal(size=(6, 2 * width)))
    chances = random.dirichlet(np.ones(6))
    return (states * chances[:, None]).T @ states.conj()


@pytest.mark.usefixtures("x64")
def test_entropy_of_the_fully_mixed_state_is_the_log_of_the_width() -> None:
    assert_close(quantum.entropy(jnp.eye(5) / 5), np.log(5), scale=EIGEN_SCALE)


@pytest.mark.usefixtures("x64")
def test_entropy_of_a_pure_state_is_zero() -> None:
    pure = quantum.density(jnp.asarray(rays(np.arange(1.0, 9.0)[None])))
    assert_close(quantum.entropy(pure), 0.0, scale=EIGEN_SCALE)


@pytest.mark.usefixtures("x64")
def test_entropy_is_that_of_the_eigenvalues(random: np.random.Generator) -> None:
    rho = draw_rho(random)
    want = scipy_entropy(np.linalg.eigvalsh(rho))
    assert_close(quantum.entropy(jnp.asarray(rho)), want, scale=EIGEN_SCALE)
    assert_far(quantum.entropy(jnp.asarray(draw_rho(random))), want)


@pytest.mark.usefixtures("x64")
def test_entropy_is_invariant_under_unitaries(random: np.random.Generator) -> None:
    rho, unitary = draw_rho(random), random_unitary(random, 4)
    turned = unitary @ rho @ unitary.conj().T
    assert_close(quantum.entropy(jnp.asarray(turned)), quantum.entropy(jnp.asarray(rho)), scale=EIGEN_SCALE)


@pytest.mark.usefixtures("x64")
def test_entropy_adds_on_products(random: np.random.Generator) -> None:
    left, right = draw_rho(random, 2), draw_rho(random, 3)
    total = quantum.entropy(jnp.asarray(left)) + quantum.entropy(jnp.asarray(right))
    assert_close(quantum.entropy(jnp.asarray(np.kron(left, right))), total, scale=EIGEN_SCALE)


@pytest.mark.usefixtures("x64")
def test_entropy_is_concave(random: np.random.Generator) -> None:
    first, second = (jnp.asarray(draw_rho(random)) for _ in range(2))
    mean = (quantum.entropy(first) + quantum.entropy(second)) / 2
    assert quantum.entropy((first + second) / 2) > mean


@pytest.mark.usefixtures("x64")
def test_density_mixes_with_the_given_chances(random: np.random.Generator) -> None:
    states, chances = rays(random.normal(size=(3, 8))), np.array([0.5, 0.25, 0.25])
    want = sum(chance * np.outer(state, state.conj()) for chance, state in zip(chances, states, strict=True))
    got = np.asarray(quantum.density(jnp.asarray(states), jnp.asarray(chances)))
    assert_close(got.real, want.real, depth=3)
    assert_close(got.imag, want.imag, depth=3)
    assert_close(np.trace(got).real, 1.0, depth=4)


@pytest.mark.usefixtures("x64")
def test_purity_is_the_mean_fidelity_of_two_draws(random: np.random.Generator) -> None:
    states = rays(random.normal(size=(7, 6)))
    overlaps = np.abs(states.conj() @ states.T) ** 2
    assert_close(quantum.purity(quantum.density(jnp.asarray(states))), overlaps.mean(), depth=49)


@pytest.mark.usefixtures("x64")
def test_collision_entropy_is_below_entropy(random: np.random.Generator) -> None:
    rho = jnp.asarray(draw_rho(random))
    assert 0 < quantum.collision_entropy(rho) < quantum.entropy(rho) < np.log(4)


def test_effective_rank_counts_equal_directions() -> None:
    rho = jnp.diag(jnp.array([0.5, 0.5, 0.0]))
    assert_close(quantum.effective_rank(rho), 2.0, scale=EIGEN_SCALE)


@pytest.mark.usefixtures("x64")
def test_derivative_is_the_difference_quotient(random: np.random.Generator) -> None:
    rho, other = jnp.asarray(draw_rho(random)), jnp.asarray(draw_rho(random))
    _, slope = jax.jvp(quantum.entropy, (rho,), (other - rho,))
    step = 1e-5
    up, down = (quantum.entropy(rho + side * step * (other - rho)) for side in (1, -1))
    assert abs(float(slope) - float((up - down) / (2 * step))) < 1e-8


@pytest.mark.usefixtures("x64")
def test_derivative_is_finite_at_pure_and_degenerate_states() -> None:
    for rho in (jnp.diag(jnp.array([1.0, 0.0, 0.0])), jnp.eye(3) / 3):
        assert jnp.isfinite(jax.grad(quantum.entropy)(rho)).all()


def test_row_entropy_is_that_of_scipy(random: np.random.Generator, dtype: np.dtype) -> None:
    rows = random.dirichlet(np.ones(9), (2, 3))
    assert_close(quantum.row_entropy(jnp.asarray(rows, dtype)), scipy_entropy(rows, axis=-1), depth=9, scale=3.0)


def test_row_entropy_of_zeros_is_zero_with_finite_derivative() -> None:
    row = jnp.array([1.0, 0.0, 0.0])
    assert quantum.row_entropy(row) == 0
    assert jnp.isfinite(jax.grad(quantum.row_entropy)(row)).all()


def test_a_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"purity: a density matrix is square.\n  got:  float32\[2, 3\]"):
        quantum.purity(jnp.zeros((2, 3)))


def test_too_few_chances_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"states float32\[3, 2\], probabilities float32\[2\]"):
        quantum.density(jnp.zeros((3, 2)), jnp.ones(2))
