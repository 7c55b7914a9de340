"""Rows of ``qga.pattern``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from qga import pattern
from tests.qga.case import Case

Drawn = tuple[np.ndarray, ...]


def draw_map(random: np.random.Generator) -> Drawn:
    return (random.normal(size=(8, 8)),)


def draw_signal(random: np.random.Generator) -> Drawn:
    return random.normal(size=16), random.normal(size=4)


def draw_distances(random: np.random.Generator) -> Drawn:
    points = random.normal(size=(9, 2))
    return (cdist(points, points),)


def draw_mask(random: np.random.Generator) -> Drawn:
    return (random.random((9, 11)) < 0.6,)


def draw_fields(random: np.random.Generator) -> Drawn:
    return random.random((2, 6, 7)) + 0.5, random.random(2) + 0.1


def henon(x: jax.Array) -> jax.Array:
    return jnp.stack([1 - 1.4 * x[0] ** 2 + x[1], 0.3 * x[0]])


def draw_system(random: np.random.Generator) -> Drawn:
    """Draw starts, and rates away from a bifurcation."""
    return random.random((4, 2)) + 0.4, random.random(2) + 1.0


def pull(x: jax.Array, rates: jax.Array) -> jax.Array:
    return rates * x - x**3 - 0.3 * x[::-1]


def follow(starts: jax.Array, rates: jax.Array, *, spectrum: bool) -> pattern.Branch:
    branch = pattern.continuation(
        lambda x, p: pull(x, p * rates), 2 * starts[0], 2.0, steps=3, length=0.1, spectrum=spectrum
    )
    # How far a point is from the curve is rounding.
    return branch._replace(residuals=starts[0, 0], errors=starts[0, 0])


def bifurcate(_: jax.Array, rates: jax.Array) -> tuple[jax.Array, ...]:
    def field(x: jax.Array, p: jax.Array) -> jax.Array:
        return p * rates * x - x**3

    found = pattern.bifurcations(
        field, pattern.continuation(field, jnp.zeros(2, rates.dtype), -1.0, steps=4, length=0.5)
    )
    return found.kinds, found.parameters


def turn(x: jax.Array, p: jax.Array) -> jax.Array:
    return -p * x + 0.2 * x[::-1] - 0.3 * x**3


def come_back(starts: jax.Array, rates: jax.Array) -> jax.Array:
    return pattern.cycle_field(lambda x, p: turn(x, p * rates), 3)(starts[0], starts[1, 0])


def double(starts: jax.Array, rates: jax.Array) -> tuple[jax.Array, ...]:
    field = pattern.cycle_field(lambda x, p: turn(x, p * rates), 1)
    branch = pattern.continuation(field, jnp.zeros_like(starts[0]), 0.1, steps=4, length=0.3)
    return pattern.period_doublings(field, branch)[:3]


def refined(signal: jax.Array, _: jax.Array) -> jax.Array:
    place = jnp.arange(16, dtype=signal.dtype)
    return pattern.wavelength(signal + 4 * jnp.cos(2.2 * place), refine=True)


def react(fields: jax.Array, rates: jax.Array) -> jax.Array:
    return pattern.reaction_diffusion_step(fields, lambda u: pattern.brusselator(u, 1.0, 2.0), rates, 0.1, spacing=0.9)


def dispersion(fields: jax.Array, rates: jax.Array) -> jax.Array:
    return pattern.dispersion(fields[:, :2, 0], rates, jnp.square(fields[0, 0]))


CASES = [
    Case("decompose", pattern.decompose, draw_map, depth=64, scale=4.0),
    Case("decompose_causal", pattern.decompose_causal, draw_map, depth=64, scale=8.0),
    Case("symbol", pattern.symbol, draw_map, lowers=False, depth=64, scale=4.0),
    Case("block_part", lambda a: pattern.block_part(a, 4), draw_map, depth=16, scale=4.0),
    Case("haar", lambda x, _: pattern.haar(x), draw_signal, depth=16, scale=4.0),
    Case("inverse_haar", lambda x, _: pattern.inverse_haar(x), draw_signal, depth=16, scale=4.0),
    Case("wavelength", lambda x, _: pattern.wavelength(x), draw_signal, is_smooth=False, lowers=False),
    Case("wavelength, refined", refined, draw_signal, lowers=False, depth=16,
         scale=16.0),
    Case("match", pattern.match, draw_signal, depth=4, scale=4.0),
    Case("component_scales", pattern.component_scales, draw_distances, scale=4.0),
    Case("cluster_count", lambda x: pattern.cluster_count(x[0], x[1]), draw_distances, is_smooth=False),
    Case("local_density", lambda mask: pattern.local_density(mask, 3), draw_mask, is_smooth=False, depth=99),
    Case("connected_components", pattern.connected_components, draw_mask, is_smooth=False),
    Case("laplacian", lambda u, _: pattern.laplacian(u[0]), draw_fields, scale=8.0),
    Case("reaction_diffusion_step", react, draw_fields, scale=8.0),
    Case("gray_scott", lambda u, r: pattern.gray_scott(u, r[0], r[1]), draw_fields, scale=8.0),
    Case("gray_scott_saddle", lambda _, r: pattern.gray_scott_saddle(r[0]), draw_fields),
    Case("brusselator", lambda u, r: pattern.brusselator(u, r[0], r[1]), draw_fields, scale=8.0),
    Case("brusselator_turing", lambda u, r: pattern.brusselator_turing(u[0, 0, 0], r), draw_fields, scale=8.0),
    Case("allen_cahn", lambda u, _: pattern.allen_cahn(u), draw_fields, scale=8.0),
    Case("dispersion", dispersion, draw_fields, lowers=False, scale=8.0),
    Case("swift_hohenberg_step", lambda u, r: pattern.swift_hohenberg_step(u[0], r[0], 0.01), draw_fields, scale=16.0),
    Case("swift_hohenberg_energy", lambda u, r: pattern.swift_hohenberg_energy(u[0], r[0]), draw_fields,
         depth=42, scale=16.0),
    Case("stability", lambda _, r: pattern.stability(henon, r, is_flow=False)[1:], draw_fields, is_smooth=False,
         lowers=False, scale=4.0),
    Case("lyapunov_exponents", lambda _, r: pattern.lyapunov_exponents(henon, r, steps=3, count=2), draw_fields,
         is_smooth=False, lowers=False, depth=3, scale=8.0),
    Case("critical_points", lambda x, r: pattern.critical_points(lambda y: pull(y, r), x).points, draw_system,
         scale=16.0),
    Case("continuation", lambda x, r: follow(x, r, spectrum=True), draw_system, lowers=False, depth=6, scale=8.0),
    Case("continuation, without spectrum", lambda x, r: follow(x, r, spectrum=False), draw_system, depth=6, scale=8.0),
    Case("bifurcations", bifurcate, draw_system, is_smooth=False, lowers=False, scale=8.0),
    Case("cycle_field", come_back, draw_system, depth=3, scale=16.0),
    Case("cycle_stability", lambda x, r: pattern.cycle_stability(lambda y: turn(y, r), x[0], period=3)[2:], draw_system,
         is_smooth=False, lowers=False, depth=3, scale=16.0),
    Case("period_doublings", double, draw_system, is_smooth=False, lowers=False, scale=8.0),
    Case("flip_form", lambda _, r: pattern.flip_form(lambda x, p: -2 * x + r[:1] * x**2 + r[1:] * x**3,
         jnp.zeros_like(r[:1]), 0.0)[1:], draw_system, lowers=False, scale=8.0),
    Case("steady_form", lambda _, r: pattern.steady_form(lambda x, p: p * x[:1] + r[:1] * x[:1]**2 - r[1:] * x[:1]**3,
         jnp.zeros_like(r[:1]), 0.0)[1:], draw_system, lowers=False, scale=8.0),
    Case("hopf_form", lambda _, r: pattern.hopf_form(lambda x, p: jnp.stack([-r[0] * x[1], r[0] * x[0]]) - r[1] * x**3,
         jnp.zeros_like(r), 0.0)[1:], draw_system, is_smooth=False, lowers=False, scale=8.0),
]  # fmt: skip
