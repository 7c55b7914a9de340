"""Rays and the Fubini-Study distance: invariances, the Bloch sphere, geodesics (theory G-3, T-16)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import ShapeError
from qga.exact import metrics
from qga.geometry import projective
from tests.qga.dense import as_rows, random_unitary, rays
from tests.qga.tolerances import assert_close, assert_far

CHAIN = 10.0


def draw(random: np.random.Generator, dtype: np.dtype, width: int = 4) -> list[jax.Array]:
    return [projective.lift(jnp.asarray(random.normal(size=(3, 2 * width)), dtype)) for _ in range(2)]


def bloch(states: np.ndarray) -> np.ndarray:
    cross = states[..., 0].conj() * states[..., 1]
    return np.stack(
        [2 * cross.real, 2 * cross.imag, np.abs(states[..., 0]) ** 2 - np.abs(states[..., 1]) ** 2], axis=-1
    )


def test_lift_reads_real_then_imaginary_parts(random: np.random.Generator, dtype: np.dtype) -> None:
    rows = random.normal(size=(3, 8)).astype(dtype)
    states = projective.lift(jnp.asarray(rows))
    assert_close(projective.unlift(states), as_rows(rays(rows)))
    assert_far(projective.unlift(states), as_rows(rays(rows).conj()))


def test_lift_of_zeros_has_no_ray() -> None:
    assert np.array_equal(projective.lift(jnp.zeros(4)), np.zeros(2))
    rows = jnp.stack([jnp.zeros(4), jnp.ones(4)])
    slopes = jax.jacfwd(lambda moved: projective.unlift(projective.lift(moved)))(rows)
    assert jnp.isfinite(slopes).all()
    assert float(jnp.abs(slopes[0]).max()) == 0 < float(jnp.abs(slopes[1]).max())
    gradient = jax.grad(lambda moved: projective.fidelity(projective.lift(moved), projective.lift(moved[::-1])).sum())
    assert jnp.isfinite(gradient(rows)).all()


def test_lift_of_what_is_not_known_is_not_known() -> None:
    assert jnp.isnan(projective.unlift(projective.lift(jnp.full(4, jnp.nan)))).all()
    for metric in ("fidelity", "born", "cosine"):
        row = jnp.ones((1, 4))
        assert jnp.isnan(metrics.scores(row, jnp.nan * row, metric=metric, scale=1.0)).all()


def test_fidelity_is_the_squared_overlap(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = draw(random, dtype)
    want = np.abs((np.asarray(first).conj() * np.asarray(second)).sum(-1)) ** 2
    assert_close(projective.fidelity(first, second), want, depth=4)


def test_distance_is_the_angle_of_the_overlap(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = draw(random, dtype)
    want = np.arccos(np.sqrt(np.asarray(projective.fidelity(first, second), float)))
    assert_close(projective.distance(first, second), want, depth=4, scale=4.0)


def test_distance_is_symmetric_and_below_a_right_angle(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = draw(random, dtype)
    there = projective.distance(first, second)
    assert_close(there, projective.distance(second, first), depth=4)
    assert float(there.max()) <= np.pi / 2


def test_distance_is_half_that_of_the_bloch_sphere(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = draw(random, dtype, width=2)
    one, two = bloch(np.asarray(first, complex)), bloch(np.asarray(second, complex))
    want = np.arctan2(np.linalg.norm(np.cross(one, two), axis=-1), (one * two).sum(-1)) / 2
    assert_close(projective.distance(first, second), want, scale=CHAIN)


@pytest.mark.usefixtures("x64")
def test_distance_is_invariant_under_unitaries_and_phases(random: np.random.Generator) -> None:
    first, second = draw(random, np.dtype(float))
    unitary, phases = jnp.asarray(random_unitary(random, 4)), jnp.exp(1j * random.normal(size=(3, 1)))
    want = projective.distance(first, second)
    assert_close(projective.distance(phases * (first @ unitary), second @ unitary), want, scale=CHAIN)
    assert_far(projective.distance(first @ unitary, second), want)


def test_distance_of_near_rays_keeps_its_digits(dtype: np.dtype) -> None:
    # arccos of the overlap is zero here in single precision.
    angle = np.asarray(1e-4, dtype)
    first = jnp.asarray(np.array([1, 0], dtype).astype(np.result_type(dtype, np.complex64)))
    second = jnp.asarray(np.array([np.cos(angle), np.sin(angle)]).astype(first.dtype))
    assert_close(projective.distance(first, second), angle, scale=1e-4)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), time=st.floats(0, 1), width=st.integers(2, 5))
def test_geodesic_divides_the_distance(seed: int, time: float, width: int) -> None:
    with jax.enable_x64(True):
        first, second = draw(np.random.default_rng(seed), np.dtype(float), width)
        between = projective.geodesic(first, second, time)
        total = projective.distance(first, second)
        assert_close(jnp.linalg.norm(between, axis=-1), np.ones(3), scale=CHAIN)
        assert_close(projective.distance(first, between), time * total, scale=CHAIN)
        assert_close(projective.distance(between, second), (1 - time) * total, scale=CHAIN)


def test_geodesic_midpoint_halves_the_distance(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = draw(random, dtype)
    half = projective.distance(first, projective.geodesic(first, second, 0.5))
    assert_close(half, projective.distance(first, second) / 2, scale=CHAIN)
    middle = first + second
    length = jnp.linalg.norm(middle, axis=-1, keepdims=True).astype(middle.dtype)
    straight = projective.distance(first, middle / length)
    # The negative twin: without the phase the midpoint of the vectors is not that of the rays.
    assert_far(straight, projective.distance(first, second) / 2)


@pytest.mark.usefixtures("x64")
def test_geodesic_of_orthogonal_rays_is_a_quarter_circle() -> None:
    first, second = jnp.array([1, 0j]), jnp.array([0, 1j])
    assert_close(projective.unlift(projective.geodesic(first, second, 1 / 3)), [np.sqrt(3) / 2, 0, 0, 0.5], scale=2.0)


@pytest.mark.parametrize("function", [projective.distance, lambda a, b: projective.geodesic(a, b, 0.3)])
def test_derivatives_at_equal_rays_are_finite(function: object, random: np.random.Generator) -> None:
    row = jnp.asarray(random.normal(size=8), jnp.float32)

    def measure(moved: jax.Array) -> jax.Array:
        value = function(projective.lift(moved), projective.lift(row))
        return jnp.sum(jnp.real(value) + jnp.imag(value))

    assert bool(jnp.isfinite(jax.grad(measure)(row)).all())


def test_widths_that_differ_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        projective.fidelity(jnp.ones(2, complex), jnp.ones(3, complex))
    assert str(error.value).splitlines()[:2] == [
        "projective.fidelity: states have the same width.",
        "  got:  complex64[2] and complex64[3]",
    ]
