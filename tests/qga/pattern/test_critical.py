"""Small systems and critical points: all but singular ones, deflation, implicit derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import root

from qga import OptionError, ShapeError, pattern
from qga.pattern.linear import solve
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("states", [1, 2, 7])
def test_solve_is_that_of_lapack(states: int, random: np.random.Generator) -> None:
    matrix, columns = random.normal(size=(states, states)), random.normal(size=(states, 3))
    want = np.linalg.solve(matrix, columns)
    got = solve(jnp.asarray(matrix), jnp.asarray(columns))
    assert_close(got, want, depth=states, scale=float(np.linalg.cond(matrix) * np.abs(want).max()))
    assert_far(solve(jnp.asarray(matrix + 1e-3), jnp.asarray(columns)), want)


def test_solve_of_a_singular_system_with_nothing_to_do_is_nothing() -> None:
    singular = jnp.array([[1.0, 2.0], [2.0, 4.0]])
    assert solve(singular, jnp.zeros((2, 1))).tolist() == [[0.0], [0.0]]
    assert_close(singular @ solve(singular, jnp.array([[1.0], [2.0]])), [[1.0], [2.0]], scale=16.0)


def test_one_start_finds_all_zeros_of_a_cubic() -> None:
    found = pattern.critical_points(lambda x: 4 * x - x**3, jnp.full((5, 1), 0.4))
    assert found.is_found.sum() == 3
    assert np.allclose(np.sort(found.points[found.is_found].ravel()), [-2, 0, 2], atol=1e-12)
    assert bool(jnp.isnan(found.points[~found.is_found]).all())
    # Nothing is found beside zeros that are said to be one.
    assert pattern.critical_points(lambda x: 4 * x - x**3, jnp.full((5, 1), 0.4), separation=9.0).is_found.sum() == 1


def test_critical_points_are_those_of_scipy(random: np.random.Generator) -> None:
    def slope(x: jax.Array) -> jax.Array:
        # Himmelblau's function: four minima, four saddles, one maximum.
        return jax.grad(lambda z: (z[0] ** 2 + z[1] - 11) ** 2 + (z[0] + z[1] ** 2 - 7) ** 2)(x)

    starts = random.uniform(-4, 4, size=(40, 2))
    got = pattern.critical_points(slope, jnp.asarray(starts))
    points = np.asarray(got.points)[np.asarray(got.is_found)]
    assert len(points) == 9
    for start in starts:
        want = root(lambda x: np.asarray(slope(jnp.asarray(x))), start)
        if want.success:
            assert np.abs(points - want.x).max(axis=1).min() < 1e-6


def test_field_without_zeros_has_none() -> None:
    found = pattern.critical_points(lambda x: 1 + x**2, jnp.array([[0.3], [2.0]]))
    assert not found.is_found.any()
    assert bool(jnp.isnan(found.errors).all())


def test_errors_of_critical_points_bound_them() -> None:
    found = pattern.critical_points(lambda x: x**2 - 2, jnp.array([[1.5]], jnp.float32))
    assert abs(float(found.points[0, 0]) - 2**0.5) <= 2 * float(found.errors[0]) + 2e-7


def test_derivative_of_a_critical_point_is_implicit() -> None:
    def positive(rate: jax.Array) -> jax.Array:
        return jnp.nanmax(pattern.critical_points(lambda x: rate * x - x**3, jnp.full((3, 1), 0.4)).points)

    rate = 4.0
    assert float(positive(rate)) == pytest.approx(2.0, abs=1e-12)
    assert float(jax.grad(positive)(rate)) == pytest.approx(1 / (2 * rate**0.5), abs=1e-12)
    assert float(jax.grad(jax.grad(positive))(rate)) == pytest.approx(-1 / 32, abs=1e-9)


@jax.jit
def zeros_of_product(zeros: jax.Array) -> pattern.CriticalPoints:
    return pattern.critical_points(
        lambda x: jnp.prod(x[:, None] - zeros[None], axis=1), jnp.linspace(-3, 4, 9)[:, None]
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_zeros_of_a_product_are_its_factors(seed: int) -> None:
    zeros = np.sort(np.random.default_rng(seed).uniform(-2, 2, 3))
    zeros[1:] += [0.3, 0.6]
    with jax.enable_x64(True):
        found = zeros_of_product(jnp.asarray(zeros))
        assert np.allclose(np.sort(found.points[found.is_found].ravel()), zeros, atol=1e-9)


def test_critical_points_refuse_what_is_no_field() -> None:
    with pytest.raises(ShapeError, match=r"each search starts at a point.\n  got:  float64\[2\]"):
        pattern.critical_points(lambda x: x, jnp.zeros(2))
    with pytest.raises(
        ShapeError, match=r"one rate for each state.\n  got:  a point float64\[2\], its rates float64\[\]"
    ):
        pattern.critical_points(jnp.sum, jnp.zeros((1, 2)))
    with pytest.raises(OptionError, match="iterations=0"):
        pattern.critical_points(lambda x: x, jnp.zeros((1, 2)), iterations=0)
