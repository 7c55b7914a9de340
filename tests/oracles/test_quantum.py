"""Quantum quantities against QuTiP (theory Q-1, Q-2, Q-6, Q-8). QuTiP's fidelity is the root of ours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qutip

from qga import quantum
from tests.qga.quantum.states import BELL, PAULI, draw_rho, werner


@pytest.fixture(autouse=True)
def _double() -> object:
    with jax.enable_x64(True):
        yield


def test_entropy(random: np.random.Generator) -> None:
    for width in (2, 3, 5):
        rho = draw_rho(random, width)
        assert float(quantum.entropy(jnp.asarray(rho))) == pytest.approx(qutip.entropy_vn(qutip.Qobj(rho)), abs=1e-9)


def test_fidelity_and_trace_distance(random: np.random.Generator) -> None:
    first, second = draw_rho(random), draw_rho(random)
    given = qutip.Qobj(first), qutip.Qobj(second)
    ours = jnp.asarray(first), jnp.asarray(second)
    assert float(quantum.fidelity(*ours)) == pytest.approx(qutip.fidelity(*given) ** 2, abs=1e-9)
    assert abs(float(quantum.fidelity(*ours)) - qutip.fidelity(*given)) > 1e-3
    assert float(quantum.trace_distance(*ours)) == pytest.approx(qutip.tracedist(*given), abs=1e-9)
    assert float(quantum.relative_entropy(*ours)) == pytest.approx(qutip.entropy_relative(*given), abs=1e-9)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_negativity_and_concurrence(share: float) -> None:
    rho = werner(share)
    shaped = qutip.Qobj(rho, dims=[[2, 2], [2, 2]])
    assert float(quantum.negativity(jnp.asarray(rho), (2, 2))) == pytest.approx(qutip.negativity(shaped, 0), abs=1e-9)
    assert float(quantum.concurrence(jnp.asarray(rho))) == pytest.approx(qutip.concurrence(shaped), abs=1e-6)


def test_partial_trace(random: np.random.Generator) -> None:
    rho = draw_rho(random, 12)
    want = qutip.Qobj(rho, dims=[[2, 3, 2], [2, 3, 2]]).ptrace([0, 2]).full()
    assert np.allclose(quantum.partial_trace(jnp.asarray(rho), (2, 3, 2), [0, 2]), want, atol=1e-12)


def test_lindblad(random: np.random.Generator) -> None:
    rho, energy, jump = draw_rho(random, 2), PAULI[0] + 0.3 * PAULI[2], 0.5 * PAULI[1]
    options = {"rtol": 1e-10, "atol": 1e-12}
    run = qutip.mesolve(qutip.Qobj(energy), qutip.Qobj(rho), [0, 1.5], c_ops=[qutip.Qobj(jump)], options=options)
    got = quantum.lindblad(jnp.asarray(energy), jnp.asarray(jump[None]), jnp.asarray(rho), 1.5, steps=300)
    assert np.allclose(got, run.states[-1].full(), atol=1e-8)


def test_bell_state_is_maximally_entangled() -> None:
    rho = qutip.Qobj(np.outer(BELL, BELL), dims=[[2, 2], [2, 2]])
    got = quantum.entropy(quantum.partial_trace(jnp.asarray(rho.full()), (2, 2), [0]))
    assert float(got) == pytest.approx(qutip.entropy_vn(rho.ptrace(0)), abs=1e-9)
