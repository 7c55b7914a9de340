"""Quantum geometric tensor, Berry phase, Chern numbers, evolution and measurement (theory Q-7 to Q-10, G-3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov

from qga import OptionError, ShapeError, quantum
from tests.qga.dense import as_rows, random_unitary, rays
from tests.qga.quantum.states import PAULI, draw_kraus, draw_rho, qwz
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
EIGEN_SCALE = 200.0


def spin(angles: jax.Array) -> jax.Array:
    """A spin one half along a direction."""
    theta, phi = angles
    tilt = jax.lax.complex(jnp.cos(phi), jnp.sin(phi))
    return jnp.stack([jnp.cos(theta / 2).astype(tilt.dtype), jnp.sin(theta / 2).astype(tilt.dtype) * tilt])


def test_tensor_of_a_spin_is_the_sphere() -> None:
    theta = 0.8
    got = np.asarray(quantum.geometric_tensor(spin, jnp.array([theta, 0.3])))
    assert_close(got.real, np.diag([0.25, 0.25 * np.sin(theta) ** 2]), scale=10.0)
    assert_close(-2 * got.imag[0, 1], -0.5 * np.sin(theta), scale=10.0)
    assert np.linalg.eigvalsh(got).min() > -1e-15


def test_tensor_ignores_phase_and_length() -> None:
    point = jnp.array([0.8, 0.3])

    def other_gauge(angles: jax.Array) -> jax.Array:
        size, phase = 3 * jnp.exp(0.5 * angles[1]), angles[0] ** 2
        return jax.lax.complex(size * jnp.cos(phase), size * jnp.sin(phase)) * spin(angles)

    other = quantum.geometric_tensor(other_gauge, point)
    same = quantum.geometric_tensor(spin, point)
    assert_close(other.real, same.real, scale=10.0)
    assert_close(other.imag, same.imag, scale=10.0)
    bent = quantum.geometric_tensor(lambda a: spin(a * jnp.array([1.0, 1.1])), point)
    assert_far(bent.real, same.real)


def test_tensor_of_amplitudes_is_a_quarter_of_fisher(random: np.random.Generator) -> None:
    keys, query = random.normal(size=(6, 3)), jnp.asarray(random.normal(size=3))
    got = quantum.geometric_tensor(lambda q: jnp.sqrt(jax.nn.softmax(jnp.asarray(keys) @ q)).astype(complex), query)
    weights = np.asarray(jax.nn.softmax(jnp.asarray(keys) @ query))
    assert_close(4 * got.real, np.cov(keys.T, aweights=weights, ddof=0), depth=6, scale=4.0)
    assert_close(got.imag, np.zeros((3, 3)))


def test_berry_phase_of_a_circle_is_half_the_solid_angle() -> None:
    theta, errors = 0.7, []
    for steps in (50, 100, 200):
        angles = np.arange(steps) * 2 * np.pi / steps
        path = jax.vmap(spin)(jnp.stack([jnp.full(steps, theta), jnp.asarray(angles)], axis=1))
        errors.append(abs(float(quantum.berry_phase(path)) + np.pi * (1 - np.cos(theta))))
    # Second order in the step.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_berry_phase_is_gauge_invariant(random: np.random.Generator) -> None:
    path = rays(random.normal(size=(5, 6)))
    turned = path * np.exp(1j * random.normal(size=(5, 1)))
    assert_close(quantum.berry_phase(jnp.asarray(turned)), quantum.berry_phase(jnp.asarray(path)), scale=20.0)
    assert (
        abs(
            float(quantum.berry_phase(jnp.asarray(path[[0, 2, 1, 3, 4]])))
            - float(quantum.berry_phase(jnp.asarray(path)))
        )
        > 1e-3
    )


def test_berry_phase_through_orthogonal_states_is_undefined() -> None:
    assert jnp.isnan(quantum.berry_phase(jnp.eye(3).astype(complex)))


@pytest.mark.parametrize(("mass", "want"), [(-3.0, 0), (-1.0, 1), (1.0, -1), (3.0, 0)])
@pytest.mark.parametrize("size", [8, 15])
def test_chern_numbers_of_qi_wu_and_zhang(mass: float, want: int, size: int) -> None:
    states = qwz(mass, size)
    phases = np.exp(2j * np.pi * np.random.default_rng(0).random((size, size, 1)))
    got = int(quantum.chern_number(jnp.asarray(states)))
    assert got == int(quantum.chern_number(jnp.asarray(states * phases)))
    assert abs(got) == abs(want)
    assert got * int(quantum.chern_number(jnp.asarray(qwz(-mass, size)))) == -abs(want)


def test_chern_number_of_states_without_phase_is_not_a_number() -> None:
    states = qwz(1.0, 6)
    for bad in (np.nan * np.ones(2), np.array([np.inf, 0]), np.zeros(2)):
        broken = states.copy()
        broken[2, 3] = bad
        assert jnp.isnan(quantum.chern_number(jnp.asarray(broken)))
    # A neighbour orthogonal up to rounding has no phase either; the same grid without it has a number.
    broken = states.copy()
    broken[2, 3] = np.array([-states[2, 2, 1].conj(), states[2, 2, 0].conj()]) * np.exp(0.3j)
    assert jnp.isnan(quantum.chern_number(jnp.asarray(broken)))
    assert abs(float(quantum.chern_number(jnp.asarray(states)))) == 1
    with pytest.raises(ShapeError, match="chern_number: a closed surface is a grid"):
        quantum.chern_number(jnp.ones((2, 2), complex))


def test_evolution_is_unitary_and_solves_schroedinger(random: np.random.Generator) -> None:
    energy = random.normal(size=(4, 4)) + 1j * random.normal(size=(4, 4))
    energy = energy + energy.conj().T
    state = rays(random.normal(size=(1, 8)))[0]
    got = np.asarray(quantum.evolve(jnp.asarray(energy), jnp.asarray(state), 0.9))
    want = expm(-0.9j * energy) @ state
    assert_close(got.real, want.real, scale=EIGEN_SCALE)
    assert_close(got.imag, want.imag, scale=EIGEN_SCALE)
    assert_close(np.linalg.norm(got), 1.0, scale=EIGEN_SCALE)
    assert_far(np.asarray(quantum.evolve(jnp.asarray(energy), jnp.asarray(state), 0.8)).real, want.real)


def test_hamiltonian_has_the_constants_as_ground_state(random: np.random.Generator) -> None:
    matrix = random.random((5, 5))
    for _ in range(200):
        matrix = matrix / matrix.sum(1, keepdims=True)
        matrix = matrix / matrix.sum(0)
    energy = np.asarray(quantum.hamiltonian(jnp.asarray(matrix)))
    assert_close(energy @ np.ones(5), np.zeros(5), depth=5)
    assert np.linalg.eigvalsh(energy).min() > -1e-12


def test_channels_keep_the_trace_and_positivity(random: np.random.Generator) -> None:
    rho, kraus = draw_rho(random), draw_kraus(random)
    sent = quantum.apply_channel(jnp.asarray(kraus), jnp.asarray(rho))
    assert bool(quantum.is_density(sent, tolerance=1e-12))
    want = sum(each @ rho @ each.conj().T for each in kraus)
    assert_close(np.asarray(sent).real, want.real, depth=12)
    assert not bool(
        quantum.is_density(quantum.apply_channel(jnp.asarray(1.01 * kraus), jnp.asarray(rho)), tolerance=1e-3)
    )


def test_lindblad_decay_of_a_qubit_is_exponential() -> None:
    lower = np.array([[0, 1], [0, 0]], complex)
    rho = np.array([[0.2, 0.3], [0.3, 0.8]], complex)
    got = np.asarray(
        quantum.lindblad(jnp.zeros((2, 2), complex), jnp.asarray(lower[None]), jnp.asarray(rho), 1.3, steps=60)
    )
    assert got[1, 1].real == pytest.approx(0.8 * np.exp(-1.3), abs=1e-7)
    assert abs(got[0, 1]) == pytest.approx(0.3 * np.exp(-0.65), abs=1e-7)
    assert_close(np.trace(got).real, 1.0, depth=60)


def test_lindblad_error_is_of_fourth_order(random: np.random.Generator) -> None:
    energy, jumps, rho = PAULI[0] + 0.5 * PAULI[2], 0.6 * PAULI[1:2], draw_rho(random, 2)
    identity = np.eye(2)
    drift = -1j * energy - 0.5 * sum(jump.conj().T @ jump for jump in jumps)
    generator = (
        np.kron(drift, identity) + np.kron(identity, drift.conj()) + sum(np.kron(jump, jump.conj()) for jump in jumps)
    )
    want = (expm(2.0 * generator) @ rho.reshape(-1)).reshape(2, 2)
    errors = [
        np.abs(
            np.asarray(quantum.lindblad(jnp.asarray(energy), jnp.asarray(jumps), jnp.asarray(rho), 2.0, steps=steps))
            - want
        ).max()
        for steps in (20, 40)
    ]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.1)


def test_quantum_fisher_information_is_the_bures_metric(random: np.random.Generator) -> None:
    rho, generator = draw_rho(random, 3), random.normal(size=(3, 3)) + 1j * random.normal(size=(3, 3))
    generator = generator + generator.conj().T
    moved = 1j * (rho @ generator - generator @ rho)
    # The symmetric logarithmic derivative solves rho L + L rho = 2 d rho.
    logarithmic = solve_continuous_lyapunov(rho, 2 * moved)
    want = np.trace(rho @ logarithmic @ logarithmic).real
    step = 1e-3
    turn = expm(-1j * step * generator)
    distance = quantum.bures_squared(jnp.asarray(rho), jnp.asarray(turn @ rho @ turn.conj().T))
    assert 4 * float(distance) / step**2 == pytest.approx(want, rel=1e-4)


def test_born_attention_is_the_dense_rule(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = (
        random.normal(size=(rows, width)).astype(dtype) for rows, width in ((5, 6), (9, 6), (9, 2))
    )
    overlaps = np.abs(rays(queries) @ rays(keys).conj().T) ** 2
    want = overlaps / overlaps.sum(1, keepdims=True) @ values
    got = quantum.born_attention(*map(jnp.asarray, (queries, keys, values)))
    assert_close(got, want, depth=9, scale=4.0)
    assert_far(got, overlaps**2 / (overlaps**2).sum(1, keepdims=True) @ values)


@pytest.mark.parametrize("tile", [1, 4, 9, 64])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 30.0])
def test_born_attention_of_any_power_by_tiles(random: np.random.Generator, power: float, tile: int) -> None:
    queries, keys, values = (random.normal(size=(rows, width)) for rows, width in ((5, 6), (9, 6), (9, 2)))
    chances = np.abs(rays(queries) @ rays(keys).conj().T) ** (2 * power)
    want = chances / chances.sum(1, keepdims=True) @ values
    got = quantum.born_attention(*map(jnp.asarray, (queries, keys, values)), power=power, tile=tile)
    assert_close(got, want, depth=9, scale=4.0 * max(1.0, power))
    other = quantum.born_attention(*map(jnp.asarray, (queries, keys, values)), power=1.1 * power, tile=tile)
    assert_far(other, want)


def test_born_attention_of_great_power_finds_the_nearest_key(random: np.random.Generator) -> None:
    # |<k|q>|^2000 alone would underflow.
    queries, keys = random.normal(size=(3, 16)), random.normal(size=(40, 16))
    best = (np.abs(rays(queries) @ rays(keys).conj().T) ** 2).argmax(1)
    got = quantum.born_attention(jnp.asarray(queries), jnp.asarray(keys), jnp.eye(40), power=1000.0, tile=16)
    assert (np.asarray(got).argmax(1) == best).all()
    assert_close(got.sum(1), np.ones(3), depth=40)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_born_attention_holds_one_tile_of_features(power: float) -> None:
    keys, width, tile = 4096, 32, 64
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((8, width), (keys, width), (keys, 4))]

    def held(tile: int) -> int:
        program = jax.jit(lambda q, k, v: quantum.born_attention(q, k, v, power=power, tile=tile))
        return program.lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    feature_bytes = keys * (width // 2) ** 2 * 8 if power == 1 else keys * 8 * 4
    assert held(tile) < 6 * keys * width * 4
    if power == 1:
        assert held(tile) < feature_bytes / 2 < held(keys)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_born_attention_of_missing_rays(random: np.random.Generator, power: float) -> None:
    queries, keys, values = (random.normal(size=(rows, width)) for rows, width in ((3, 6), (5, 6), (5, 2)))
    keys[1] = 0
    born = lambda q, k: quantum.born_attention(q, k, jnp.asarray(values), power=power, tile=2)  # noqa: E731
    got = born(jnp.asarray(queries), jnp.asarray(keys))
    rest = np.arange(5) != 1
    want = quantum.born_attention(*map(jnp.asarray, (queries, keys[rest], values[rest])), power=power)
    assert_close(got, want, depth=5, scale=8.0)
    gradient = jax.grad(lambda k: born(jnp.asarray(queries), k).sum())(jnp.asarray(keys))
    assert jnp.isfinite(gradient).all()
    assert float(jnp.abs(gradient[1]).max()) == 0 < float(jnp.abs(gradient[0]).max())
    keys[1] = np.nan
    assert jnp.isnan(born(jnp.asarray(queries), jnp.asarray(keys))).all()


def test_born_attention_is_invariant_under_unitaries_and_phases(random: np.random.Generator) -> None:
    queries, keys = rays(random.normal(size=(4, 6))), rays(random.normal(size=(7, 6)))
    values = jnp.asarray(random.normal(size=(7, 2)))
    turn, phases = random_unitary(random, 3), np.exp(1j * random.normal(size=(7, 1)))
    first = quantum.born_attention(jnp.asarray(as_rows(queries)), jnp.asarray(as_rows(keys)), values)
    second = quantum.born_attention(
        jnp.asarray(as_rows(queries @ turn.T)), jnp.asarray(as_rows(phases * keys @ turn.T)), values
    )
    assert_close(first, second, depth=9, scale=4.0)


def test_born_attention_of_an_orthogonal_query_is_undefined(random: np.random.Generator) -> None:
    frame = random_unitary(random, 4).T
    keys = (random.normal(size=(9, 2)) + 1j * random.normal(size=(9, 2))) @ frame[:2]
    asked = jnp.asarray(as_rows(frame[2:]))
    got = quantum.born_attention(asked, jnp.asarray(as_rows(keys)), jnp.ones((9, 1)))
    assert jnp.isnan(got).all()


def test_chern_number_is_minus_the_sum_of_berry_phases() -> None:
    states = qwz(1.0, 8)
    corners = [states, np.roll(states, -1, 0), np.roll(np.roll(states, -1, 0), -1, 1), np.roll(states, -1, 1)]
    loops = np.stack(corners, axis=2).reshape(-1, 4, 2)
    phases = jax.vmap(quantum.berry_phase)(jnp.asarray(loops))
    assert float(-phases.sum() / (2 * np.pi)) == pytest.approx(int(quantum.chern_number(jnp.asarray(states))), abs=1e-9)


def test_truncated_masses_are_within_the_next_eigenvalue(random: np.random.Generator) -> None:
    queries, keys = random.normal(size=(30, 8)), random.normal(size=(12, 8))
    exact = (np.abs(rays(queries) @ rays(keys).conj().T) ** 2).mean(1)
    for rank in (1, 2, 3, 4):
        got = quantum.born_masses(jnp.asarray(queries), jnp.asarray(keys), rank=rank)
        assert (np.asarray(got.mass) <= exact + 1e-12).all()
        assert (exact <= np.asarray(got.mass) + float(got.error) + 1e-12).all()
        assert (float(got.error) == 0) == (rank == 4)
    assert (exact - np.asarray(quantum.born_masses(jnp.asarray(queries), jnp.asarray(keys), rank=1).mass)).max() > 1e-3


def test_quantum_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"berry_phase: a path is a list of states.\n  got:  complex128\[3\]"):
        quantum.berry_phase(jnp.ones(3).astype(complex))
    with pytest.raises(OptionError, match="lindblad: steps are counted from one"):
        quantum.lindblad(
            jnp.eye(2).astype(complex),
            jnp.zeros((1, 2, 2)).astype(complex),
            jnp.eye(2).astype(complex) / 2,
            1.0,
            steps=0,
        )
    with pytest.raises(ShapeError, match="apply_channel: the operators of a channel act on the state"):
        quantum.apply_channel(jnp.ones((1, 3, 3)).astype(complex), jnp.eye(2).astype(complex))
    with pytest.raises(ShapeError, match="born_attention: keys must have the width of queries"):
        quantum.born_attention(jnp.ones((2, 4)), jnp.ones((2, 6)), jnp.ones((2, 1)))
    with pytest.raises(OptionError, match=r"power=0\.0, tile="):
        quantum.born_attention(jnp.ones((2, 4)), jnp.ones((2, 4)), jnp.ones((2, 1)), power=0.0)
    with pytest.raises(OptionError, match="rank=3, states of 2 components"):
        quantum.born_masses(jnp.ones((2, 4)), jnp.ones((2, 4)), rank=3)
