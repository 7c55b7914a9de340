"""Phases on links: gauge invariance, flatness, windings (theory G-10)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from qga import ShapeError
from qga.geometry import gauge
from tests.qga.dense import rays
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
CYCLES = jnp.array([[0, 1, 2], [1, 3, 4]])


def draw_links(random: np.random.Generator) -> np.ndarray:
    states = rays(random.normal(size=(5, 6)))
    return np.asarray(gauge.phase(jnp.asarray(states), jnp.asarray(states)))


def close(got: object, want: object) -> None:
    assert_close(np.asarray(got).real, np.asarray(want).real, scale=8.0)
    assert_close(np.asarray(got).imag, np.asarray(want).imag, scale=8.0)


def test_phases_are_units_and_follow_the_gauge(random: np.random.Generator) -> None:
    queries, keys = rays(random.normal(size=(3, 6))), rays(random.normal(size=(4, 6)))
    phases = gauge.phase(jnp.asarray(queries), jnp.asarray(keys))
    assert_close(jnp.abs(phases), np.ones((3, 4)), scale=4.0)
    turned = gauge.phase(jnp.asarray(queries * np.exp(0.7j)), jnp.asarray(keys * np.exp(0.2j)))
    close(turned, np.exp(0.5j) * np.asarray(phases))
    assert jnp.isnan(gauge.phase(jnp.eye(2, dtype=complex)[:1], jnp.eye(2, dtype=complex)[1:])).all()


def test_holonomy_is_gauge_invariant(random: np.random.Generator) -> None:
    links = jnp.asarray(draw_links(random))
    turned = gauge.change_gauge(links, jnp.asarray(np.exp(1j * random.normal(size=5))))
    close(gauge.holonomy(turned, CYCLES), gauge.holonomy(links, CYCLES))
    assert_far(np.asarray(turned).real, np.asarray(links).real)
    other = links * jnp.asarray(np.exp(0.3j * np.triu(np.ones((5, 5)), 1)))
    assert_far(np.asarray(gauge.holonomy(other, CYCLES)).real, np.asarray(gauge.holonomy(links, CYCLES)).real)


def test_rotary_positions_are_flat() -> None:
    angles = 0.37 * np.arange(5)
    links = jnp.asarray(np.exp(1j * (angles[:, None] - angles)))
    close(gauge.holonomy(links, CYCLES), np.ones(2))


def test_triangle_holonomy_is_the_bargmann_invariant(random: np.random.Generator) -> None:
    states = rays(random.normal(size=(3, 6)))
    invariant = complex(gauge.bargmann(*jnp.asarray(states)))
    links = gauge.phase(jnp.asarray(states), jnp.asarray(states))
    around = complex(gauge.holonomy(links, jnp.array([[0, 1, 2]]))[0])
    assert abs(around - np.conj(invariant) / abs(invariant)) < 1e-12 or abs(around - invariant / abs(invariant)) < 1e-12
    turned = [state * np.exp(1j * angle) for state, angle in zip(states, random.normal(size=3), strict=True)]
    assert abs(complex(gauge.bargmann(*map(jnp.asarray, turned))) - invariant) < 1e-12


def test_bargmann_phase_of_qubits_is_half_the_solid_angle() -> None:
    # An octant of the Bloch sphere: north, x, y; solid angle pi / 2.
    north, x, y = np.array([1, 0]), np.array([1, 1]) / np.sqrt(2), np.array([1, 1j]) / np.sqrt(2)
    invariant = complex(gauge.bargmann(*(jnp.asarray(state, complex) for state in (north, x, y))))
    assert np.angle(invariant) == pytest.approx(np.pi / 4, abs=1e-12)


@pytest.mark.parametrize("turns", [-2, 0, 1, 3])
def test_winding_counts_turns_and_adds_up(turns: int) -> None:
    around = np.exp(2j * np.pi * turns * np.arange(20) / 20) * (2 + np.cos(np.arange(20)))
    assert_close(gauge.winding(jnp.asarray(around)), float(turns), depth=20)
    once = np.exp(2j * np.pi * np.arange(20) / 20)
    assert_close(gauge.winding(jnp.asarray(around * once)), turns + 1.0, depth=20)


def test_gauge_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="phase: queries and keys have the same width"):
        gauge.phase(jnp.ones((2, 3), complex), jnp.ones((2, 4), complex))
    with pytest.raises(ShapeError, match="holonomy: links join places to places"):
        gauge.holonomy(jnp.ones((2, 3), complex), jnp.array([[0, 1]]))
