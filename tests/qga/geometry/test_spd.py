"""Distances of positive matrices as Gaussians (theory G-5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from scipy.linalg import sqrtm

from qga import ShapeError, quantum
from qga.geometry import spd
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
# Roots of eigenvalues of small matrices.
EIGEN_SCALE = 500.0


def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    factors = random.normal(size=(2, 4, 7))
    first, second = factors @ np.swapaxes(factors, 1, 2)
    return first, second


def test_square_root_squares(random: np.random.Generator) -> None:
    first, _ = draw(random)
    root = quantum.square_root(jnp.asarray(first))
    assert_close(root @ root, first, scale=EIGEN_SCALE)
    assert_close(root, sqrtm(first).real, scale=EIGEN_SCALE)


def test_distance_is_the_formula_and_that_of_pot(random: np.random.Generator) -> None:
    first, second = draw(random)
    root = sqrtm(first)
    want = np.trace(first + second - 2 * sqrtm(root @ second @ root)).real
    got = spd.bures_wasserstein_squared(jnp.asarray(first), jnp.asarray(second))
    assert_close(got, want, scale=EIGEN_SCALE)
    means = random.normal(size=(2, 4))
    squared = ot.gaussian.bures_wasserstein_distance(means[0], means[1], first, second) ** 2
    full = spd.gaussian_wasserstein_squared(*map(jnp.asarray, (means[0], first, means[1], second)))
    assert_close(full, squared, scale=EIGEN_SCALE)
    assert_far(got, squared)


def test_commuting_matrices_have_the_distance_of_their_roots() -> None:
    first, second = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    got = spd.bures_wasserstein_squared(jnp.diag(jnp.asarray(first)), jnp.diag(jnp.asarray(second)))
    assert_close(got, ((np.sqrt(first) - np.sqrt(second)) ** 2).sum(), scale=EIGEN_SCALE)


def test_distance_of_equal_matrices_is_zero_with_zero_derivative(random: np.random.Generator) -> None:
    first = jnp.asarray(draw(random)[0])
    assert_close(spd.bures_wasserstein_squared(first, first), 0.0, scale=EIGEN_SCALE)
    assert float(jnp.abs(jax.grad(spd.bures_wasserstein_squared)(first, first)).max()) < 1e-7


def test_derivative_is_the_difference_quotient(random: np.random.Generator) -> None:
    (first, second), (third, fourth) = draw(random), draw(random)

    def moved(step: float) -> jax.Array:
        return spd.bures_wasserstein_squared(jnp.asarray(first + step * third), jnp.asarray(second + step * fourth))

    def traced(step: jax.Array) -> jax.Array:
        return spd.bures_wasserstein_squared(
            jnp.asarray(first) + step * jnp.asarray(third), jnp.asarray(second) + step * jnp.asarray(fourth)
        )

    _, slope = jax.jvp(traced, (0.0,), (1.0,))
    assert float(slope) == pytest.approx(float((moved(1e-5) - moved(-1e-5)) / 2e-5), rel=1e-6)


def test_matrices_of_two_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match="matrices are square and of one size"):
        spd.bures_wasserstein_squared(jnp.eye(2), jnp.eye(3))
