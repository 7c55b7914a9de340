"""Hamiltonian steps: symplectic, reversible, of their order (theory G-11)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from qga import OptionError, ShapeError
from qga.geometry import symplectic
from tests.qga.tolerances import assert_close

pytestmark = pytest.mark.usefixtures("x64")
START = np.array([0.7, -0.3]), np.array([0.1, 0.4])


def fall(step: float, steps: int) -> tuple[jax.Array, jax.Array]:
    return symplectic.verlet(lambda p: p, jnp.sin, *map(jnp.asarray, START), step, steps=steps)


def energy(position: jax.Array, momentum: jax.Array) -> jax.Array:
    return jnp.sum(momentum**2) / 2 - jnp.sum(jnp.cos(position))


def test_verlet_is_of_second_order() -> None:
    exact = np.concatenate(fall(1e-4, 20000))
    errors = [np.abs(np.concatenate(fall(2 / steps, steps)) - exact).max() for steps in (20, 40, 80)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_verlet_keeps_the_energy_for_long_and_runs_back() -> None:
    drift = [abs(float(energy(*fall(0.1, steps)) - energy(*map(jnp.asarray, START)))) for steps in (100, 10000)]
    assert max(drift) < 2e-3
    there = fall(0.1, 500)
    back = symplectic.verlet(lambda p: p, jnp.sin, *there, -0.1, steps=500)
    assert_close(np.concatenate(back), np.concatenate(START), depth=1000, scale=100.0)


def test_verlet_is_symplectic() -> None:
    def push(state: jax.Array) -> jax.Array:
        return jnp.concatenate(symplectic.verlet(lambda p: p, jnp.sin, state[:2], state[2:], 0.3, steps=7))

    jacobian = jax.jacfwd(push)(jnp.asarray(np.concatenate(START)))
    assert bool(symplectic.is_symplectic(jacobian, tolerance=1e-12))
    assert_close(jnp.linalg.det(jacobian), 1.0, scale=100.0)
    assert not bool(symplectic.is_symplectic(1.001 * jacobian, tolerance=1e-6))


def test_midpoint_rule_is_symplectic_and_keeps_the_energy(random: np.random.Generator) -> None:
    form = random.normal(size=(6, 6))
    form = jnp.asarray(form + form.T)
    step = symplectic.implicit_midpoint(form, 0.2)
    assert bool(symplectic.is_symplectic(step, tolerance=1e-12))
    start = jnp.asarray(random.normal(size=6))
    end = jnp.linalg.matrix_power(step, 50) @ start
    scale = float(jnp.abs(form).sum() * jnp.max(jnp.abs(end)) ** 2)
    assert abs(float(end @ form @ end - start @ form @ start)) < 1e-12 * scale


def test_cayley_step_is_unitary_within_its_error(random: np.random.Generator) -> None:
    matrix = random.normal(size=(4, 4)) + 1j * random.normal(size=(4, 4))
    hamiltonian = matrix + matrix.conj().T
    for step in (0.1, 0.01):
        got = np.asarray(symplectic.cayley_unitary(jnp.asarray(hamiltonian), step))
        assert np.abs(got @ got.conj().T - np.eye(4)).max() < 1e-13
        error = np.linalg.norm(got - expm(-1j * step * hamiltonian), 2)
        bound = (step * np.linalg.norm(hamiltonian, 2)) ** 3 / 12
        assert 0.5 * bound < error <= bound * (1 + 1e-6) + 1e-14


def test_symplectic_refuses_what_cannot_be() -> None:
    with pytest.raises(OptionError, match="verlet: steps are counted from zero"):
        fall(0.1, -1)
    with pytest.raises(ShapeError, match="as many momenta as positions"):
        symplectic.is_symplectic(jnp.eye(3))
