"""Reaction, diffusion, stability and chaos at their known thresholds (theory P-5, P-6)."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from qga import OptionError, ShapeError, pattern
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")


def test_laplacian_of_a_wave_is_its_eigenvalue() -> None:
    place = np.arange(12)
    wave = np.cos(2 * np.pi * (2 * place[:, None] + 3 * place[None]) / 12)
    rate = 2 * np.cos(2 * np.pi * 2 / 12) + 2 * np.cos(2 * np.pi * 3 / 12) - 4
    assert_close(pattern.laplacian(jnp.asarray(wave), spacing=0.5), rate / 0.25 * wave, scale=64.0)


def test_diffusion_keeps_mass_and_range(random: np.random.Generator) -> None:
    fields = jnp.asarray(random.random((2, 9, 9)))
    rates = jnp.array([1.0, 0.25])
    for duration, keeps in ((0.25, True), (0.6, False)):
        after = fields
        for _ in range(5):
            after = pattern.reaction_diffusion_step(after, jnp.zeros_like, rates, duration)
        assert_close(after.sum(axis=(1, 2)), fields.sum(axis=(1, 2)), depth=400, scale=8.0)
        inside = bool((after.min() >= fields.min() - 1e-12) & (after.max() <= fields.max() + 1e-12))
        assert inside == keeps


def test_brusselator_turns_at_its_threshold() -> None:
    source, rates = 3.0, jnp.array([1.0, 8.0])
    turing = pattern.brusselator_turing(source, rates)

    def growth(drive: float, squared: jax.Array) -> jax.Array:
        rest = jnp.array([source, drive / source])
        jacobian = jax.jacfwd(lambda u: pattern.brusselator(u, source, drive))(rest)
        return pattern.dispersion(jacobian, rates, squared)

    squared = jnp.linspace(0.01, 5, 2000)
    for drive, sign in ((0.99 * turing.threshold, -1), (1.01 * turing.threshold, 1)):
        assert np.sign(growth(float(drive), squared).max()) == sign
    at = growth(float(turing.threshold), jnp.asarray([float(turing.squared_wavenumber)]))
    assert float(at[0]) == pytest.approx(0.0, abs=1e-12)
    first = squared[jnp.argmax(growth(float(turing.threshold), squared))]
    assert float(first) == pytest.approx(float(turing.squared_wavenumber), abs=5e-3)


def test_gray_scott_states_vanish_at_the_saddle() -> None:
    feed = 0.04
    saddle = float(pattern.gray_scott_saddle(feed))

    def resting(kill: float) -> bool:
        # With u = (F + k) / v: F v^2 - F v + (F + k)^2 ... has a root where the reaction is at rest.
        values = np.linspace(1e-3, 1, 20001)
        fields = jnp.asarray(np.stack([(feed + kill) / values, values])[:, :, None])
        rates = np.asarray(pattern.gray_scott(fields, feed, kill))[0, :, 0]
        return bool((np.sign(rates[:-1]) != np.sign(rates[1:])).any())

    assert resting(saddle - 1e-4)
    assert not resting(saddle + 1e-4)
    assert saddle == pytest.approx(brentq(lambda k: feed - 4 * (feed + k) ** 2, 0, 1), rel=1e-12)


def test_swift_hohenberg_descends_and_selects_stripes(random: np.random.Generator) -> None:
    size = 64
    spacing = 2 * np.pi * 8 / size
    field = jnp.asarray(0.1 * random.normal(size=(size, size)))
    longest = 1.9 / (8 / spacing**2 - 1) ** 2
    step = jax.jit(lambda u: pattern.swift_hohenberg_step(u, 0.3, longest, spacing=spacing))
    energies = [float(pattern.swift_hohenberg_energy(field, 0.3, spacing=spacing))]
    for _ in range(40):
        field = jax.lax.fori_loop(0, 50, lambda _, u: step(u), field)
        energies.append(float(pattern.swift_hohenberg_energy(field, 0.3, spacing=spacing)))
    assert all(after <= before + 1e-12 for before, after in pairwise(energies))
    power = np.abs(np.fft.fft2(np.asarray(field))) ** 2
    waves = np.fft.fftfreq(size, spacing / (2 * np.pi))
    radius = np.hypot(*np.meshgrid(waves, waves)).ravel()
    mean = (radius * power.ravel()).sum() / power.sum()
    # One bin of the grid is 1 / 8; the discrete Laplacian moves the ring outwards by a few per cent.
    assert mean == pytest.approx(1.0, abs=0.125)


def test_swift_hohenberg_step_is_its_equation(random: np.random.Generator) -> None:
    field = jnp.asarray(random.normal(size=(8, 8)))
    bent = field + pattern.laplacian(field)
    want = 0.2 * field - bent - pattern.laplacian(bent) - field**3
    got = (pattern.swift_hohenberg_step(field, 0.2, 0.01) - field) / 0.01
    assert_close(got, want, depth=100, scale=300.0)


def test_allen_cahn_rests_in_its_states() -> None:
    assert_close(pattern.allen_cahn(jnp.array([-1.0, 0.0, 1.0])), np.zeros(3))
    assert_far(pattern.allen_cahn(jnp.array([0.5])), np.zeros(1))


def test_stability_of_linear_systems() -> None:
    matrix = jnp.array([[-1.0, 10.0], [0.0, -2.0]])
    flow = pattern.stability(lambda x: matrix @ x, jnp.zeros(2), is_flow=True)
    assert_close(jnp.real(flow.eigenvalues), [-1.0, -2.0], scale=20.0)
    assert bool(flow.is_stable)
    assert float(flow.growth) > 0  # Stable, and disturbances still grow at first.
    assert not bool(pattern.stability(lambda x: matrix @ x, jnp.zeros(2), is_flow=False).is_stable)
    turn = jnp.array([[0.0, 3.0], [-3.0, 0.0]])
    assert_close(pattern.stability(lambda x: turn @ x, jnp.zeros(2), is_flow=False).growth, 3.0, scale=20.0)
    assert not bool(pattern.stability(lambda x: -matrix @ x, jnp.zeros(2), is_flow=True).is_stable)


def test_exponents_of_a_linear_map_are_log_moduli(random: np.random.Generator) -> None:
    matrix = random.normal(size=(3, 3)) + 2 * np.diag([1.0, 3.0, 9.0])
    want = np.sort(np.log(np.abs(np.linalg.eigvals(matrix))))[::-1]

    def scaled(x: jax.Array) -> jax.Array:
        y = jnp.asarray(matrix) @ x
        return y - jax.lax.stop_gradient(y)  # The orbit stays at zero, its tangents move.

    got = pattern.lyapunov_exponents(scaled, jnp.zeros(3), steps=4000, count=3)
    assert np.allclose(got, want, atol=2e-3)


def test_henon_map() -> None:
    def henon(x: jax.Array) -> jax.Array:
        return jnp.stack([1 - 1.4 * x[0] ** 2 + x[1], 0.3 * x[0]])

    got = np.asarray(pattern.lyapunov_exponents(henon, jnp.array([0.1, 0.1]), steps=40000, count=2))
    # Sprott 2003: 0.41922 and -1.62319.
    assert got[0] == pytest.approx(0.41922, abs=5e-3)
    assert got[1] == pytest.approx(-1.62319, abs=5e-3)
    assert got.sum() == pytest.approx(np.log(0.3), abs=1e-12)


def test_exponents_refuse_what_cannot_be() -> None:
    with pytest.raises(OptionError, match="steps=0, count=1, 2 states"):
        pattern.lyapunov_exponents(lambda x: x, jnp.zeros(2), steps=0, count=1)
    with pytest.raises(OptionError, match="count=3, 2 states"):
        pattern.lyapunov_exponents(lambda x: x, jnp.zeros(2), steps=1, count=3)


def test_reactions_refuse_what_does_not_fit() -> None:
    grid, pair = jnp.ones((3, 3)), jnp.ones((2, 3, 3))
    for function in (pattern.laplacian, lambda u: pattern.swift_hohenberg_energy(u, 0.1)):
        with pytest.raises(ShapeError, match=r"a grid has two axes.\n  got:  float64\[2, 3, 3\]"):
            function(pair)
    with pytest.raises(ShapeError, match="swift_hohenberg_step: a grid has two axes"):
        pattern.swift_hohenberg_step(pair, 0.1, 0.1)
    with pytest.raises(OptionError, match=r"laplacian: places of a grid are apart.\n  got:  spacing=0"):
        pattern.laplacian(grid, spacing=0)
    with pytest.raises(ShapeError, match=r"fields float64\[2, 3, 3\], diffusivities float64\[3\]"):
        pattern.reaction_diffusion_step(pair, jnp.zeros_like, jnp.ones(3), 0.1)
    with pytest.raises(ShapeError, match=r"one rate for each species and place.\n  .* rates float64\[3, 3\]"):
        pattern.reaction_diffusion_step(pair, lambda u: u[0], jnp.ones(2), 0.1)
    for function in (pattern.gray_scott, pattern.brusselator):
        with pytest.raises(
            ShapeError, match=rf"{function.__name__}: two species react.\n  got:  fields float64\[3, 3\]"
        ):
            function(grid, 1.0, 1.0)
    with pytest.raises(ShapeError, match=r"two species react.\n  got:  diffusivities float64\[3\]"):
        pattern.brusselator_turing(1.0, jnp.ones(3))
    for jacobian, rates, waves in ((pair, pair[:, 0, 0], grid[0]), (grid, grid[0, :2], grid[0]), (grid, grid[0], grid)):
        with pytest.raises(ShapeError, match="dispersion: each species has a row of J and a diffusivity"):
            pattern.dispersion(jacobian, rates, waves)
