"""Geometry of metric functions: identities of curvature, geodesics, transport (theory G-8, G-9)."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError
from qga.geometry import riemannian
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
POINT = np.array([0.3, -0.2, 0.4])


def bumpy(point: jax.Array) -> jax.Array:
    """A metric without symmetries."""
    wave = jnp.sin(jnp.outer(jnp.array([1.0, 2.0, 0.5]), point) + jnp.arange(9.0).reshape(3, 3))
    return jnp.eye(3) + 0.2 * wave @ wave.T


def ball(curvature: float) -> object:
    """The stereographic chart of a space of constant curvature."""
    return lambda point: 4 * jnp.eye(point.shape[0]) / jnp.square(1 + curvature * jnp.sum(point**2))


def sphere(point: jax.Array) -> jax.Array:
    return jnp.diag(jnp.stack([jnp.ones(()), jnp.sin(point[0]) ** 2]))


def test_symbols_are_symmetric_and_keep_the_metric() -> None:
    symbols = riemannian.christoffel(bumpy, jnp.asarray(POINT))
    assert_close(symbols, jnp.swapaxes(symbols, 1, 2), scale=4.0)
    slopes = jax.jacfwd(bumpy)(jnp.asarray(POINT))
    lowered = jnp.einsum("lki,lj->ijk", symbols, bumpy(jnp.asarray(POINT)))
    assert_close(slopes, lowered + jnp.swapaxes(lowered, 0, 1), scale=8.0)
    assert_far(slopes, lowered)


def test_curvature_obeys_bianchi() -> None:
    raised = riemannian.riemann(bumpy, jnp.asarray(POINT))
    cyclic = raised + jnp.einsum("lijk->ljki", raised) + jnp.einsum("lijk->lkij", raised)
    by_first = raised + jnp.transpose(raised, (0, 2, 3, 1)) + jnp.transpose(raised, (0, 3, 1, 2))
    assert_close(cyclic, by_first, scale=64.0)
    assert_close(by_first, jnp.zeros_like(raised), scale=64.0)
    lowered = jnp.einsum("hl,lijk->hijk", bumpy(jnp.asarray(POINT)), raised)
    assert float(jnp.abs(lowered).max()) > 1e-2
    tensor = riemannian.ricci(bumpy, jnp.asarray(POINT))
    assert_close(tensor, tensor.T, scale=64.0)


@pytest.mark.parametrize("curvature", [-1.0, -0.3, 0.5, 1.0])
def test_constant_curvature_is_found(curvature: float) -> None:
    metric = ball(curvature)
    first, second = jnp.array([1.0, 0.2, 0.0]), jnp.array([0.0, 1.0, -0.5])
    got = riemannian.sectional(metric, jnp.asarray(POINT), first, second)  # type: ignore[arg-type]
    assert_close(got, curvature, scale=100.0)
    assert_close(riemannian.ricci(metric, jnp.asarray(POINT)), 2 * curvature * metric(jnp.asarray(POINT)), scale=200.0)  # type: ignore[operator,arg-type]
    assert_close(riemannian.scalar(metric, jnp.asarray(POINT)), 6 * curvature, scale=200.0)  # type: ignore[arg-type]
    # A multiple of the metric has the curvature divided.
    scaled = riemannian.sectional(lambda place: 9 * metric(place), jnp.asarray(POINT), first, second)  # type: ignore[operator]
    assert_close(scaled, curvature / 9, scale=100.0)


@pytest.mark.parametrize("steps", [8, 16])
def test_geodesics_of_the_sphere_are_great_circles(steps: int) -> None:
    start, velocity = jnp.array([1.0, 0.0]), jnp.array([0.4, 0.9])
    found = riemannian.geodesic(sphere, start, velocity, 1.0, steps=steps)

    def place(angles: np.ndarray) -> np.ndarray:
        return np.array(
            [np.sin(angles[0]) * np.cos(angles[1]), np.sin(angles[0]) * np.sin(angles[1]), np.cos(angles[0])]
        )

    push = np.asarray(
        jax.jacfwd(lambda a: jnp.stack([jnp.sin(a[0]) * jnp.cos(a[1]), jnp.sin(a[0]) * jnp.sin(a[1]), jnp.cos(a[0])]))(
            start
        )
        @ velocity
    )
    length = np.linalg.norm(push)
    want = np.cos(length) * place(np.asarray(start)) + np.sin(length) * push / length
    error = np.linalg.norm(place(np.asarray(found.points[-1])) - want)
    assert error < 2e-4 * (8 / steps) ** 4
    assert error < 3 * float(found.error) + 1e-12


def test_transport_round_a_triangle_turns_by_its_excess() -> None:
    # Along the equator, up a meridian, and back: an octant, whose area is pi / 2.
    corners = [(np.pi / 2, 0.0), (np.pi / 2, np.pi / 2), (1e-3, np.pi / 2), (1e-3, 0.0), (np.pi / 2, 0.0)]
    path = np.concatenate([np.linspace(a, b, 400, endpoint=False) for a, b in pairwise(corners)] + [[corners[-1]]])
    carried = riemannian.transport(sphere, jnp.asarray(path), jnp.array([1.0, 0.0]))
    angle = np.arctan2(float(carried.vector[1]), float(carried.vector[0]))
    assert abs(angle) == pytest.approx(np.pi / 2, abs=5e-3)
    assert float(jnp.linalg.norm(carried.vector)) == pytest.approx(1, abs=1e-4)


def test_ricci_flow_of_a_sphere_shrinks_it() -> None:
    metric = ball(0.5)(jnp.asarray(POINT))  # type: ignore[operator]
    after = riemannian.constant_curvature_flow(metric, 0.5, 0.3)
    assert_close(after, (1 - 2 * 2 * 0.5 * 0.3) * metric)
    step = 1e-5
    rate = (riemannian.constant_curvature_flow(metric, 0.5, step) - metric) / step
    assert np.allclose(rate, -2 * riemannian.ricci(ball(0.5), jnp.asarray(POINT)), atol=1e-9)  # type: ignore[arg-type]
    assert jnp.isnan(riemannian.constant_curvature_flow(metric, 0.5, 0.6)).all()


def test_riemannian_refuses_odd_steps() -> None:
    with pytest.raises(OptionError, match="steps=3"):
        riemannian.geodesic(sphere, jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), 1.0, steps=3)
