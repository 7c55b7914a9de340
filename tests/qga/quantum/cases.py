"""Rows of ``qga.quantum``."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from qga import quantum
from tests.qga.case import Case
from tests.qga.dense import rays
from tests.qga.quantum.states import BELL, PAULI, draw_kraus, draw_rho, qwz

Drawn = tuple[np.ndarray, ...]


def hermitian(matrix: jax.Array) -> jax.Array:
    """Keep derivatives among Hermitian matrices, where the functions live."""
    return (matrix + matrix.conj().T) / 2


def draw_kets(random: np.random.Generator) -> Drawn:
    return (rays(random.normal(size=(6, 8))),)


def draw_one(random: np.random.Generator) -> Drawn:
    return (draw_rho(random),)


def draw_entangled(random: np.random.Generator) -> Drawn:
    return (0.6 * np.outer(BELL, BELL) + 0.4 * draw_rho(random),)


def draw_two(random: np.random.Generator) -> Drawn:
    return draw_rho(random), draw_rho(random)


def draw_ensemble(random: np.random.Generator) -> Drawn:
    return random.dirichlet(np.ones(3)), np.stack([draw_rho(random, 3) for _ in range(3)])


def draw_pattern(random: np.random.Generator) -> Drawn:
    return random.dirichlet(np.ones(5), 4), random.dirichlet(np.ones(4))


def draw_channel(random: np.random.Generator) -> Drawn:
    return draw_kraus(random), draw_rho(random)


def draw_rows(random: np.random.Generator) -> Drawn:
    return tuple(random.normal(size=(rows, width)) for rows, width in ((5, 6), (9, 6), (9, 2)))


def draw_angles(random: np.random.Generator) -> Drawn:
    return (random.random(2) + 0.5,)


def spin(angles: jax.Array) -> jax.Array:
    half = angles[0] / 2
    tilt = jax.lax.complex(jnp.cos(angles[1]), jnp.sin(angles[1]))
    return jnp.stack([jax.lax.complex(jnp.cos(half), jnp.zeros_like(half)), jnp.sin(half).astype(tilt.dtype) * tilt])


def decay(rho: jax.Array) -> jax.Array:
    energy, jumps = (jnp.asarray(each, rho.dtype) for each in (PAULI[0], 0.4 * PAULI[1:2]))
    return quantum.lindblad(energy, jumps, rho, 0.7, steps=5)


def of_two(function: object) -> object:
    return lambda a, b: function(hermitian(a), hermitian(b))  # type: ignore[operator]


CASES = [
    Case("density", quantum.density, draw_kets, depth=6),
    Case("entropy", lambda rho: quantum.entropy(hermitian(rho)), draw_one, lowers=False, depth=4),
    Case("effective_rank", lambda rho: quantum.effective_rank(hermitian(rho)), draw_one, lowers=False, depth=4),
    Case("purity", quantum.purity, draw_one, depth=16),
    Case("collision_entropy", quantum.collision_entropy, draw_one, depth=16),
    Case("row_entropy", lambda p, _: quantum.row_entropy(p), draw_pattern, depth=5, scale=2.0),
    Case("is_density", lambda rho: quantum.is_density(rho, tolerance=1e-3), draw_one, is_smooth=False, lowers=False),
    Case("square_root", lambda rho: quantum.square_root(hermitian(rho)), draw_one, lowers=False, depth=4, scale=4.0),
    Case("absolute_trace", of_two(lambda a, b: quantum.absolute_trace(a - b)),
         draw_two, lowers=False, depth=4, scale=4.0),
    Case("fidelity", of_two(quantum.fidelity), draw_two, lowers=False, depth=4, scale=8.0),
    Case("root_fidelity", of_two(quantum.root_fidelity), draw_two, lowers=False, depth=4, scale=8.0),
    Case("pure_fidelity", lambda rho: quantum.pure_fidelity(rho[0], rho), draw_one, depth=4),
    Case("bures_squared", of_two(quantum.bures_squared), draw_two, lowers=False, depth=4, scale=8.0),
    Case("trace_distance", of_two(quantum.trace_distance), draw_two, lowers=False, depth=4, scale=4.0),
    Case("relative_entropy", of_two(quantum.relative_entropy), draw_two, lowers=False, depth=4, scale=20.0),
    Case("holevo", lambda w, rho: quantum.holevo(w, jax.vmap(hermitian)(rho)),
         draw_ensemble, lowers=False, depth=9, scale=4.0),
    Case("attention_entanglement", quantum.attention_entanglement, draw_pattern, lowers=False, depth=5, scale=4.0),
    Case("truncation_fidelity", lambda _, w: quantum.truncation_fidelity(w, 2), draw_pattern, depth=4),
    Case("partial_trace", lambda rho: quantum.partial_trace(rho, (2, 2), [1]), draw_one, depth=2),
    Case("partial_transpose", lambda rho: quantum.partial_transpose(rho, (2, 2)), draw_one),
    Case("negativity", lambda rho: quantum.negativity(hermitian(rho), (2, 2)),
         draw_one, is_smooth=False, lowers=False, depth=4, scale=4.0),
    Case("concurrence", lambda rho: quantum.concurrence(hermitian(rho)), draw_entangled, lowers=False, depth=4,
         scale=4.0),
    Case("geometric_tensor", lambda angles: quantum.geometric_tensor(spin, angles), draw_angles, depth=2),
    Case("berry_phase", quantum.berry_phase, draw_kets, depth=8, scale=8.0),
    Case("chern_number", quantum.chern_number, lambda random: (qwz(1.0 + random.random() / 9, 6),), is_smooth=False),
    Case("hamiltonian", lambda p, _: quantum.hamiltonian(p[:, :4]), draw_pattern),
    Case("evolve", lambda a, b: quantum.evolve(hermitian(a), b[0], 0.8), draw_two, lowers=False, depth=8, scale=8.0),
    Case("apply_channel", quantum.apply_channel, draw_channel, depth=12),
    Case("lindblad", decay, lambda random: (draw_rho(random, 2),), depth=20, scale=2.0),
    Case("born_attention", partial(quantum.born_attention, tile=4), draw_rows, depth=9, scale=4.0),
    Case("born_attention of power 2.5", partial(quantum.born_attention, power=2.5, tile=4), draw_rows, depth=9,
         scale=10.0),
    Case("born_masses", lambda q, k, _: quantum.born_masses(q, k, rank=2).error,
         draw_rows, lowers=False, depth=9, scale=4.0),
]  # fmt: skip
