"""Rows of ``qga.geometry``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np

from qga.geometry import constant_curvature, gauge, holonomy, information, projective, riemannian, spd, symplectic
from tests.qga.case import Case
from tests.qga.dense import rays

Arrays = tuple[np.ndarray, ...]
CURVATURES = (-1.0, 0.0, 0.5)


def complete(spatial: np.ndarray, curvature: float) -> np.ndarray:
    return np.concatenate([np.sqrt(1 - curvature * (spatial**2).sum(-1, keepdims=True)), spatial], axis=-1)


def draw_spatial(random: np.random.Generator) -> Arrays:
    return (0.4 * random.normal(size=(2, 3)),)


def draw_place(random: np.random.Generator) -> Arrays:
    return (0.2 * random.normal(size=(2, 3)),)


def draw_points(random: np.random.Generator, curvature: float) -> Arrays:
    return tuple(complete(0.4 * random.normal(size=(2, 3)), curvature) for _ in range(2))


def draw_tangent(random: np.random.Generator, curvature: float) -> Arrays:
    start, end = draw_points(random, curvature)
    spatial = random.normal(size=(2, 3))
    time = -curvature * (start[:, 1:] * spatial).sum(-1, keepdims=True) / start[:, :1]
    return np.concatenate([time, spatial], axis=-1), start, end


def draw_walk(random: np.random.Generator, curvature: float) -> Arrays:
    tangent, start, _ = draw_tangent(random, curvature)
    return start, tangent


def curved(curvature: float) -> list[Case]:
    end, space = f" at curvature {curvature}", constant_curvature
    options, points = {"curvature": curvature}, partial(draw_points, curvature=curvature)
    return [
        Case("inner" + end, partial(space.inner, **options), points, depth=4),
        Case("project" + end, partial(space.project, **options), draw_spatial, depth=3),
        Case(
            "exponential" + end, partial(space.exponential, **options), partial(draw_walk, curvature=curvature), depth=4
        ),
        Case("logarithm" + end, partial(space.logarithm, **options), points, depth=4),
        Case("distance" + end, partial(space.distance, **options), points, depth=4),
        Case(
            "transport" + end, partial(space.transport, **options), partial(draw_tangent, curvature=curvature), depth=4
        ),
    ]


def draw_rows(random: np.random.Generator) -> Arrays:
    return (random.normal(size=(3, 6)),)


def draw_states(random: np.random.Generator) -> Arrays:
    return tuple(rays(random.normal(size=(3, 6))) for _ in range(2))


def draw_three(random: np.random.Generator) -> Arrays:
    return tuple(rays(random.normal(size=(3, 6))) for _ in range(3))


def draw_loop(random: np.random.Generator) -> Arrays:
    angles = np.arange(12) * np.pi / 3
    return (np.exp(1j * angles) * (1 + 0.2 * random.random(12)) + 0.1,)


def draw_links(random: np.random.Generator) -> Arrays:
    angles = random.normal(size=(4, 4))
    return np.exp(1j * (angles - angles.T)), np.array([[0, 1, 2], [1, 3, 2]])


def draw_gauge(random: np.random.Generator) -> Arrays:
    return draw_links(random)[0], np.exp(1j * random.normal(size=4))


def draw_sequence(random: np.random.Generator) -> Arrays:
    return rays(random.normal(size=(7, 6))), np.array([0, 2]), np.array([6, 5])


def draw_frames(random: np.random.Generator) -> Arrays:
    walk = np.cumsum(0.2 * random.normal(size=(7, 4, 2)), axis=0) + np.eye(4, 2)
    return np.linalg.qr(walk)[0], np.array([0, 2]), np.array([6, 5])


def draw_rotations(random: np.random.Generator) -> Arrays:
    return (np.linalg.qr(random.normal(size=(5, 3, 3)))[0],)


def draw_covariances(random: np.random.Generator) -> Arrays:
    roots = random.normal(size=(2, 3, 5))
    return tuple(root @ root.T / 5 + 0.3 * np.eye(3) for root in roots)


def draw_gaussians(random: np.random.Generator) -> Arrays:
    first, second = draw_covariances(random)
    return random.normal(size=3), first, random.normal(size=3), second


def draw_attention(random: np.random.Generator) -> Arrays:
    return random.normal(size=3), random.normal(size=(7, 3)), np.array(0.8)


def draw_pair(random: np.random.Generator) -> Arrays:
    query, keys, scale = draw_attention(random)
    return query, random.normal(size=3), keys, scale


def draw_direction(random: np.random.Generator) -> Arrays:
    query, other, keys, scale = draw_pair(random)
    return query, keys, other, scale


def draw_values(random: np.random.Generator) -> Arrays:
    query, keys, scale = draw_attention(random)
    return query, keys, random.normal(size=(7, 2)), scale


def draw_distributions(random: np.random.Generator) -> Arrays:
    return tuple(random.dirichlet(np.ones(6), size=2) for _ in range(2))


def draw_scores(random: np.random.Generator) -> Arrays:
    return random.normal(size=(2, 6)), np.array(1.3)


def bowl(point: jnp.ndarray) -> jnp.ndarray:
    """Return the metric of the graph of a smooth function: I + grad f grad f^T, f = |x|^2 / 2 + sin x_0."""
    slope = point.at[0].add(jnp.cos(point[0]))
    return jnp.eye(point.shape[0], dtype=point.dtype) + slope[:, None] * slope[None, :]


def draw_point(random: np.random.Generator) -> Arrays:
    return (0.3 * random.normal(size=2),)


def draw_plane(random: np.random.Generator) -> Arrays:
    return 0.3 * random.normal(size=2), np.array([1.0, 0.2]), np.array([-0.3, 1.0])


def draw_start(random: np.random.Generator) -> Arrays:
    return 0.3 * random.normal(size=2), random.normal(size=2), np.array(0.4)


def draw_path(random: np.random.Generator) -> Arrays:
    return 0.3 * random.normal(size=(5, 2)), random.normal(size=2)


def draw_metric(random: np.random.Generator) -> Arrays:
    return draw_covariances(random)[0], np.array(-0.7), np.array(0.3)


def draw_phase(random: np.random.Generator) -> Arrays:
    return random.normal(size=3), random.normal(size=3), np.array(0.1)


def draw_form(random: np.random.Generator) -> Arrays:
    form = random.normal(size=(4, 4))
    return (form + form.T) / 2, np.array(0.3)


def draw_hamiltonian(random: np.random.Generator) -> Arrays:
    entries = random.normal(size=(3, 3)) + 1j * random.normal(size=(3, 3))
    return (entries + entries.conj().T) / 2, np.array(0.3)


def draw_shear(random: np.random.Generator) -> Arrays:
    shift = random.normal(size=(2, 2))
    return (np.block([[np.eye(2), shift + shift.T], [np.zeros((2, 2)), np.eye(2)]]),)


POINCARE = {"curvature": -0.5}
CASES = [
    *(case for curvature in CURVATURES for case in curved(curvature)),
    Case(
        "to_poincare",
        partial(constant_curvature.to_poincare, **POINCARE),
        lambda random: draw_points(random, -0.5)[:1],
    ),
    Case("from_poincare", partial(constant_curvature.from_poincare, **POINCARE), draw_place, depth=3),
    Case("lift", projective.lift, draw_rows, depth=6),
    Case("unlift", projective.unlift, lambda random: draw_states(random)[:1]),
    Case("fidelity", projective.fidelity, draw_states, depth=3),
    Case("fubini_study", projective.distance, draw_states, depth=3),
    Case(
        "ray_geodesic",
        lambda a, b, time: projective.geodesic(a, b, time),
        lambda random: (*draw_states(random), np.array(0.3)),
        depth=3,
    ),
    Case(
        "bures_wasserstein_squared",
        lambda a, b: spd.bures_wasserstein_squared((a + a.T) / 2, (b + b.T) / 2),
        draw_covariances,
        lowers=False,
        depth=3,
        scale=10.0,
    ),
    Case(
        "gaussian_wasserstein_squared",
        lambda m, a, n, b: spd.gaussian_wasserstein_squared(m, (a + a.T) / 2, n, (b + b.T) / 2),
        draw_gaussians,
        lowers=False,
        depth=3,
        scale=10.0,
    ),
    Case("fisher_rao", information.fisher_rao, draw_distributions, depth=6),
    Case("attention_metric", information.attention_metric, draw_attention, depth=7, scale=3.0),
    Case("attention_metric_form", information.attention_metric_form, draw_direction, depth=7, scale=3.0),
    Case("bregman", information.bregman, draw_pair, depth=7, scale=3.0),
    Case("output_jacobian", information.output_jacobian, draw_values, depth=7, scale=3.0),
    Case("lipschitz", information.lipschitz, draw_values, lowers=False, depth=7, scale=3.0),
    Case("temperature_slope", information.temperature_slope, draw_scores, depth=6),
    Case("christoffel", partial(riemannian.christoffel, bowl), draw_point, lowers=False, depth=2, scale=4.0),
    Case("riemann", partial(riemannian.riemann, bowl), draw_point, lowers=False, depth=4, scale=8.0),
    Case("ricci", partial(riemannian.ricci, bowl), draw_point, lowers=False, depth=4, scale=8.0),
    Case("scalar", partial(riemannian.scalar, bowl), draw_point, lowers=False, depth=4, scale=8.0),
    Case("sectional", partial(riemannian.sectional, bowl), draw_plane, lowers=False, depth=4, scale=8.0),
    Case(
        "geodesic",
        lambda x, v, t: riemannian.geodesic(bowl, x, v, t, steps=4)[:2],
        draw_start,
        lowers=False,
        depth=8,
        scale=4.0,
    ),
    Case("transport", lambda path, v: riemannian.transport(bowl, path, v), draw_path, lowers=False, depth=8, scale=4.0),
    Case("constant_curvature_flow", riemannian.constant_curvature_flow, draw_metric),
    Case("phase", gauge.phase, draw_states, depth=3, scale=4.0),
    Case("holonomy", gauge.holonomy, draw_links, depth=3),
    Case("change_gauge", gauge.change_gauge, draw_gauge),
    Case("bargmann", gauge.bargmann, draw_three, depth=3),
    Case("state_links", lambda s, *_: holonomy.state_links(s), draw_sequence, depth=3, scale=4.0),
    Case("frame_links", lambda f, *_: holonomy.frame_links(f), draw_frames, lowers=False, depth=4, scale=4.0),
    Case("carry of phases", lambda s, *_: holonomy.carry(holonomy.state_links(s)), draw_sequence, depth=7, scale=4.0),
    Case("carry of rotations", holonomy.carry, draw_rotations, depth=15, scale=4.0),
    Case("around", holonomy.around, draw_rotations, depth=15, scale=4.0),
    Case("loop_phases", holonomy.loop_phases, draw_sequence, depth=7, scale=8.0),
    Case("loop_rotations", holonomy.loop_rotations, draw_frames, lowers=False, depth=14, scale=8.0),
    Case("rotation_angles", holonomy.rotation_angles, draw_rotations, lowers=False, depth=3, scale=8.0),
    Case("winding", gauge.winding, draw_loop, is_smooth=False, depth=12),
    Case(
        "verlet", lambda q, p, step: symplectic.verlet(lambda p: p, jnp.sin, q, p, step, steps=5), draw_phase, depth=5
    ),
    Case("implicit_midpoint", symplectic.implicit_midpoint, draw_form, lowers=False, depth=4, scale=4.0),
    Case(
        "cayley_unitary",
        lambda h, step: symplectic.cayley_unitary((h + h.conj().T) / 2, step),
        draw_hamiltonian,
        lowers=False,
        depth=3,
        scale=4.0,
    ),
    Case("is_symplectic", symplectic.is_symplectic, draw_shear, is_smooth=False, depth=4),
]
