"""Rows of ``qga.motivic``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from qga import motivic, tiling
from tests.qga.case import Case

# A triangle and a tail: one cycle, degrees 1 to 3.
EDGES = ((0, 1), (1, 2), (2, 0), (2, 3))
NODES, WIDTH, STALK = 4, 3, 2


def edges() -> jax.Array:
    return jnp.asarray(EDGES, jnp.int32)


def draw_scores(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (random.normal(size=(3, 7)),)


def draw_masked(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return random.normal(size=(3, 7)), np.float64(1.7), random.random((3, 7)) < 0.6


def draw_two(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return tuple(random.normal(size=(2, 5)) for _ in range(2))


def draw_rows(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (random.normal(size=(8, 3)),)


def draw_gains(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return random.normal(size=(8, 3)), random.normal(size=4)


def draw_tile(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return random.normal(size=7), random.normal(size=(7, 2))


def draw_mask(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (random.random((11, 13)) < 0.5,)


def draw_field(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return random.normal(size=(11, 13)), np.linspace(-1, 1, 5)


def draw_sheaf(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return random.normal(size=(NODES, WIDTH)), random.normal(size=(len(EDGES), 2, STALK, WIDTH))


def draw_maps(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (random.normal(size=(len(EDGES), 2, STALK, WIDTH)),)


def draw_path(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return np.array([[0, 0], [1, 0], [2, 1]], np.int32), random.normal(size=(len(EDGES), 2, WIDTH, WIDTH))


def draw_exponent(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (np.float64(0.5 + random.random()),)


def diffuse(field: jax.Array, maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    return motivic.sheaf_diffuse(field, edges(), maps, 0.3, order=12)


CASES = [
    Case("weights", motivic.weights, draw_rows, depth=8),
    Case("energies", motivic.energies, draw_rows, depth=8),
    Case("apply", motivic.apply, draw_gains, depth=8),
    Case("measure", motivic.measure, draw_scores, depth=7),
    Case("measure, masked", lambda s, b, e: motivic.measure(s, b, exists=e), draw_masked, depth=7, scale=4.0),
    Case("measure_merge", motivic.measure_merge, draw_two, depth=2),
    Case("measure_product", motivic.measure_product, draw_two),
    Case("multiset_product", motivic.multiset_product, draw_two),
    Case("state_measure", lambda s, v: motivic.state_measure(tiling.state_leaf(s, v)), draw_tile, depth=7, scale=4.0),
    Case("euler", motivic.euler, draw_mask, is_smooth=False),
    Case("euler, corners", lambda m: motivic.euler(m, connectivity=8), draw_mask, is_smooth=False),
    Case("euler_curve", motivic.euler_curve, draw_field, is_smooth=False),
    Case("coboundary", lambda x, maps: motivic.coboundary(x, edges(), maps), draw_sheaf, depth=6, scale=4.0),
    Case("sheaf_laplacian", lambda x, m: motivic.sheaf_laplacian(edges(), m, nodes=NODES)(x), draw_sheaf, depth=18),
    Case("sheaf_ceiling", lambda maps: motivic.sheaf_ceiling(edges(), maps, nodes=NODES), draw_maps, depth=18),
    Case("consistency", lambda x, maps: motivic.consistency(x, edges(), maps), draw_sheaf, depth=20, scale=16.0),
    Case(
        "sheaf_sections_dimension",
        lambda maps: motivic.sheaf_sections_dimension(edges(), maps, nodes=NODES).dimension,
        draw_maps,
        is_smooth=False,
        lowers=False,
    ),
    Case("holonomy", motivic.holonomy, draw_path, depth=9, scale=8.0),
    Case("sheaf_diffuse", diffuse, draw_sheaf, depth=12 * 18, scale=4.0),
    Case("igusa", lambda s: motivic.igusa([0, 0, 1], 2, s, depth=10), draw_exponent, depth=10),
]
