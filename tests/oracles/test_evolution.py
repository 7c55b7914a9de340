"""States in time against dynamiqs (theory Q-1, Q-2, Q-6, Q-8): its fidelity is ours, its solvers are adaptive."""

from __future__ import annotations

from collections.abc import Iterator

import dynamiqs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import arithmetic, quantum
from tests.qga.dense import rays
from tests.qga.quantum.states import PAULI, draw_rho

LOWER = np.array([[0, 1], [0, 0]])
ADAPTIVE = dynamiqs.method.Tsit5(rtol=1e-11, atol=1e-12)
# Twelve digits asked of each step of the solver, some hundred steps.
SOLVED = 1e-9
# What the oracle's own eigenvalues and roots leave.
ROUNDED = 1e-9


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def draw_energy(random: np.random.Generator, width: int) -> np.ndarray:
    """Draw a Hermitian matrix."""
    matrix = random.normal(size=(width, width)) + 1j * random.normal(size=(width, width))
    return (matrix + matrix.conj().T) / 2


def draw_ket(random: np.random.Generator, width: int) -> np.ndarray:
    return rays(random.normal(size=(1, 2 * width)))[0]


def reversible(random: np.random.Generator, width: int) -> np.ndarray:
    """Draw a reversible chain: conductances over their rows."""
    weights = random.random((width, width))
    return (weights + weights.T) / (weights + weights.T).sum(axis=1, keepdims=True)


def schroedinger(energy: np.ndarray, state: np.ndarray, time: float) -> np.ndarray:
    run = dynamiqs.sesolve(energy, state[:, None], [0, time], method=ADAPTIVE, progress_meter=False)
    return run.states[-1].to_numpy()[:, 0]


def master(energy: np.ndarray, jumps: np.ndarray, rho: np.ndarray, time: float) -> np.ndarray:
    run = dynamiqs.mesolve(energy, list(jumps), rho, [0, time], method=ADAPTIVE, progress_meter=False)
    return run.states[-1].to_numpy()


def assert_near(got: object, want: object, tolerance: float) -> None:
    assert np.allclose(np.asarray(got), np.asarray(want), rtol=0, atol=tolerance)


def assert_apart(got: object, want: object) -> None:
    """Require more than any tolerance here: the negative twin of ``assert_near``."""
    assert not np.allclose(np.asarray(got), np.asarray(want), rtol=0, atol=1e-3)


@pytest.mark.parametrize("time", [0.0, 0.9, -2.0])
def test_evolve(random: np.random.Generator, time: float) -> None:
    energy, state = draw_energy(random, 5), draw_ket(random, 5)
    got = quantum.evolve(jnp.asarray(energy), jnp.asarray(state), time)
    # Solvers run forwards: against time is along it with the opposite energy.
    assert_near(got, schroedinger(energy * np.sign(time), state, abs(time)) if time else state, SOLVED)
    assert_apart(got, schroedinger(energy, state, abs(time) + 0.1))


def test_evolve_is_the_propagator(random: np.random.Generator) -> None:
    energy, state = draw_energy(random, 6), draw_ket(random, 6)
    unitary = dynamiqs.sepropagator(energy, [0, 1.7], progress_meter=False).propagators[-1].to_numpy()
    got = quantum.evolve(jnp.asarray(energy), jnp.asarray(state), 1.7)
    assert_near(got, unitary @ state, 1e-12)
    assert_apart(got, unitary.conj().T @ state)


def test_walk_of_a_pattern(random: np.random.Generator) -> None:
    pattern, other = (reversible(random, 4) for _ in range(2))
    start = np.eye(4)[1].astype(complex)
    got = quantum.evolve(quantum.hamiltonian(jnp.asarray(pattern)), jnp.asarray(start), 2.5)
    want, wrong = (schroedinger(np.eye(4) - (each + each.T) / 2, start, 2.5) for each in (pattern, other))
    assert_near(np.abs(got) ** 2, np.abs(want) ** 2, SOLVED)
    assert_apart(np.abs(got) ** 2, np.abs(wrong) ** 2)


def test_phases_of_a_walk_are_the_spectrum_of_the_discriminant(random: np.random.Generator) -> None:
    # Tr e^(-i t D) = sum_k e^(-i t cos theta_k), which the propagator knows without an eigenvalue of ours.
    pattern, times = reversible(random, 6), np.array([0.5, 3.0, 11.0])
    energy = np.sqrt(pattern * pattern.T)
    unitaries = dynamiqs.sepropagator(energy, times, progress_meter=False, t0=0.0).propagators.to_numpy()
    want = np.trace(unitaries, axis1=1, axis2=2)

    def traces(weights: np.ndarray) -> np.ndarray:
        phases = np.asarray(arithmetic.szegedy_phases(jnp.asarray(weights)))
        return np.exp(-1j * times[:, None] * np.cos(phases)).sum(axis=1)

    assert_near(traces(pattern), want, 1e-9)
    assert_apart(traces(0.9 * pattern + 0.1 * np.eye(6)), want)


def test_lindblad_of_two_qubits(random: np.random.Generator) -> None:
    rho, energy = draw_rho(random, 4), draw_energy(random, 4)
    jumps = np.stack(
        [0.6 * np.kron(LOWER, np.eye(2)), 0.4 * np.kron(np.eye(2), PAULI[2]), 0.3j * np.kron(LOWER, LOWER)]
    )
    got = quantum.lindblad(*(jnp.asarray(each, complex) for each in (energy, jumps, rho)), 1.5, steps=600)
    assert_near(got, master(energy, jumps, rho, 1.5), SOLVED)
    assert_apart(got, master(energy, np.conj(np.swapaxes(jumps, 1, 2)), rho, 1.5))
    assert_apart(got, master(energy, jumps[:2], rho, 1.5))


def test_mixing_by_jumps_is_the_chain_in_continuous_time(random: np.random.Generator) -> None:
    # One jump sqrt(P_ij) |j><i| for each move: populations follow the chain, coherences die.
    pattern, rho = reversible(random, 3), draw_rho(random, 3)
    units = np.eye(3)
    jumps = np.stack([np.sqrt(pattern[i, j]) * np.outer(units[j], units[i]) for i in range(3) for j in range(3)])
    nothing = np.zeros((3, 3))
    got = quantum.lindblad(*(jnp.asarray(each, complex) for each in (nothing, jumps, rho)), 2.0, steps=600)
    chain = jax.scipy.linalg.expm(2.0 * (pattern - np.eye(3)))
    assert_near(got, master(nothing, jumps, rho, 2.0), SOLVED)
    assert_near(jnp.diag(got), np.diag(rho) @ chain, SOLVED)
    assert_apart(jnp.diag(got), chain @ np.diag(rho))


@pytest.mark.parametrize("time", [0.2, 2.0])
def test_damping_as_a_channel(random: np.random.Generator, time: float) -> None:
    rho, rate = draw_rho(random, 2), 0.7
    lost = 1 - np.exp(-rate * time)
    kraus = np.stack([np.diag([1, np.sqrt(1 - lost)]), np.sqrt(lost) * LOWER])
    got = quantum.apply_channel(jnp.asarray(kraus, complex), jnp.asarray(rho))
    assert_near(got, master(np.zeros((2, 2)), np.sqrt(rate) * LOWER[None], rho, time), SOLVED)
    assert_apart(got, master(np.zeros((2, 2)), np.sqrt(rate) * LOWER.T[None], rho, time))


def test_derivative_through_the_lindblad_equation(random: np.random.Generator) -> None:
    rho, goal, energy = draw_rho(random, 2), draw_ket(random, 2), draw_energy(random, 2)
    jumps = np.stack([0.5 * LOWER, 0.3 * PAULI[2]]).astype(complex)

    def ours(strength: jax.Array) -> jax.Array:
        reached = quantum.lindblad(strength * energy, jnp.asarray(jumps), jnp.asarray(rho), 1.2, steps=400)
        return quantum.pure_fidelity(jnp.asarray(goal), reached)

    def theirs(strength: jax.Array, *, time: float = 1.2) -> jax.Array:
        run = dynamiqs.mesolve(
            strength * jnp.asarray(energy), list(jumps), rho, [0, time], method=ADAPTIVE, progress_meter=False
        )
        return dynamiqs.fidelity(dynamiqs.asqarray(goal[:, None]), run.states[-1])

    # The oracle differentiates its own steps, whose lengths depend on what is asked.
    assert_near(jax.jacfwd(ours)(0.8), jax.grad(theirs)(0.8), 1e-7)
    assert_apart(jax.jacfwd(ours)(0.8), jax.grad(lambda strength: theirs(strength, time=1.4))(0.8))


@pytest.mark.parametrize("width", [2, 3, 5])
def test_entropy_and_purity(random: np.random.Generator, width: int) -> None:
    rho, other = draw_rho(random, width), draw_rho(random, width, states=2)
    for ours, theirs in ((quantum.entropy, dynamiqs.entropy_vn), (quantum.purity, dynamiqs.purity)):
        assert_near(ours(jnp.asarray(rho)), theirs(rho), ROUNDED)
        assert_apart(ours(jnp.asarray(rho)), theirs(other))


def test_fidelity_and_relative_entropy(random: np.random.Generator) -> None:
    first, second, state = draw_rho(random), draw_rho(random), draw_ket(random, 4)
    ours = jnp.asarray(first), jnp.asarray(second)
    assert_near(quantum.fidelity(*ours), dynamiqs.fidelity(first, second), ROUNDED)
    assert_apart(quantum.root_fidelity(*ours), dynamiqs.fidelity(first, second))
    assert_near(quantum.pure_fidelity(jnp.asarray(state), ours[0]), dynamiqs.fidelity(state[:, None], first), ROUNDED)
    assert_apart(quantum.pure_fidelity(jnp.asarray(state), ours[1]), dynamiqs.fidelity(state[:, None], first))
    assert_near(quantum.relative_entropy(*ours), dynamiqs.entropy_relative(first, second), ROUNDED)
    assert_apart(quantum.relative_entropy(*ours), dynamiqs.entropy_relative(second, first))


@pytest.mark.parametrize("keep", [(0,), (1,), (0, 2), (1, 2)])
def test_partial_trace(random: np.random.Generator, keep: tuple[int, ...]) -> None:
    rho = draw_rho(random, 12)
    got = quantum.partial_trace(jnp.asarray(rho), (2, 3, 2), keep)
    assert_near(got, dynamiqs.ptrace(rho, keep, dims=(2, 3, 2)).to_numpy(), 1e-12)
    wrong = dynamiqs.ptrace(rho.T, keep, dims=(2, 3, 2)).to_numpy()
    assert_apart(got, wrong)


def test_entropy_of_a_part_that_decays(random: np.random.Generator) -> None:
    energy, state = draw_energy(random, 6), draw_ket(random, 6)
    jumps, rho = 0.5 * np.kron(LOWER, np.eye(3))[None], np.outer(state, state.conj())
    reached = quantum.lindblad(*(jnp.asarray(each, complex) for each in (energy, jumps, rho)), 1.0, steps=600)
    got = quantum.entropy(quantum.partial_trace(reached, (2, 3), (1,)))
    want = master(energy, jumps, rho, 1.0)
    assert_near(got, dynamiqs.entropy_vn(dynamiqs.ptrace(want, 1, dims=(2, 3))), SOLVED)
    assert_apart(got, dynamiqs.entropy_vn(dynamiqs.ptrace(want, 0, dims=(2, 3))))
