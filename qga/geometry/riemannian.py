"""Riemannian geometry of any metric function, by automatic differentiation; a tool to look at spaces of few dimensions.

A metric is a function from a point [width] to a symmetric positive matrix [width, width]. Everything here solves
linear systems, which the CPU can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse

Point = Float[Array, " width"]
Vector = Float[Array, " width"]
Metric = Callable[[Point], Float[Array, "width width"]]


class Geodesic(NamedTuple):
    """A geodesic in coordinates.

    Attributes:
        points: where it is after each step, the start first.
        velocities: its coordinate velocity there.
        error: estimate of the error of the last point: the difference to half as many steps, over 15.
    """

    points: Float[Array, "steps width"]
    velocities: Float[Array, "steps width"]
    error: Float[Array, ""]


class Transport(NamedTuple):
    """A vector carried to the end of a path.

    Attributes:
        vector: its coordinates at the last point.
        error: estimate of its error: the difference to every second point of the path, over 3.
    """

    vector: Vector
    error: Float[Array, ""]


def christoffel(metric: Metric, point: Point) -> Float[Array, "width width width"]:
    """Compute the Christoffel symbols Gamma^k_ij = g^kl (d_i g_jl + d_j g_il - d_l g_ij) / 2, indexed [k, i, j].

    Needs a linear solver, which the CPU has.

    Raises:
        ShapeError: the metric is not a square matrix of the point's width.
    """
    slopes = jax.jacfwd(metric)(point)  # [a, b, c] = d_c g_ab
    width = point.shape[0] if point.ndim == 1 else -1
    if slopes.shape != (width, width, width):
        refuse(
            ShapeError,
            "christoffel: a metric is a square matrix of the point's width.",
            got=f"point {describe(point)}, derivative of the metric {describe(slopes)}",
            want="a point [width] and a metric [width, width]",
            fix="pass one point, and map over more with jax.vmap.",
        )
    lowered = (jnp.einsum("jli->lij", slopes) + jnp.einsum("ilj->lij", slopes) - jnp.einsum("ijl->lij", slopes)) / 2
    return jnp.linalg.solve(metric(point), lowered.reshape(width, -1)).reshape(lowered.shape)


def riemann(metric: Metric, point: Point) -> Float[Array, "width width width width"]:
    """Compute the curvature tensor R^l_kij = d_i G^l_jk - d_j G^l_ik + G^l_im G^m_jk - G^l_jm G^m_ik, as [l, k, i, j].

    Needs a linear solver, which the CPU has.

    Raises:
        ShapeError: as ``christoffel``.
    """
    symbols = christoffel(metric, point)
    slopes = jax.jacfwd(lambda place: christoffel(metric, place))(point)  # [l, j, k, i] = d_i G^l_jk
    half = jnp.einsum("ljki->lkij", slopes) + jnp.einsum("lim,mjk->lkij", symbols, symbols)
    return half - jnp.swapaxes(half, 2, 3)


def ricci(metric: Metric, point: Point) -> Float[Array, "width width"]:
    """Compute the Ricci tensor R_kj = R^i_kij; (width - 1) kappa g where the curvature is a constant kappa.

    Raises:
        ShapeError: as ``christoffel``.
    """
    return jnp.einsum("ikij->kj", riemann(metric, point))


def scalar(metric: Metric, point: Point) -> Float[Array, ""]:
    """Compute the scalar curvature g^kj R_kj: twice the Gauss curvature of a surface.

    Raises:
        ShapeError: as ``christoffel``.
    """
    return jnp.trace(jnp.linalg.solve(metric(point), ricci(metric, point)))


def sectional(metric: Metric, point: Point, first: Vector, second: Vector) -> Float[Array, ""]:
    """Compute the Gauss curvature of the plane of two vectors: <R(u, v) v, u> / (|u|^2 |v|^2 - <u, v>^2).

    Args:
        metric: g.
        point: where.
        first: u.
        second: v, not a multiple of u (the result is then not finite).

    Raises:
        ShapeError: as ``christoffel``.
    """
    g = metric(point)
    bent = jnp.einsum("lkij,k,i,j->l", riemann(metric, point), second, first, second)
    area = (first @ g @ first) * (second @ g @ second) - jnp.square(first @ g @ second)
    return (first @ g @ bent) / area


def geodesic(metric: Metric, point: Point, velocity: Vector, time: float | Float[Array, ""], *, steps: int) -> Geodesic:
    """Follow the geodesic x'' = -Gamma(x', x') by the classical Runge-Kutta method, of order four.

    Args:
        metric: g.
        point: start.
        velocity: coordinate velocity at the start.
        time: how long; the length walked is time times the length of the velocity.
        steps: how many, even and at least 2.

    Raises:
        OptionError: ``steps`` is odd or below 2.
        ShapeError: as ``christoffel``.
    """
    _check_even("geodesic", "steps", steps)
    fine = _follow(metric, point, velocity, time, steps)
    coarse = _follow(metric, point, velocity, time, steps // 2)
    error = jnp.linalg.norm(fine[0][-1] - coarse[0][-1]) / 15
    return Geodesic(*fine, error)


def transport(metric: Metric, path: Float[Array, "steps width"], vector: Vector) -> Transport:
    """Carry a vector along a path: v' = -Gamma(x', v), by the implicit midpoint rule on each segment, of order two.

    Args:
        metric: g.
        path: points, with an even number of segments.
        vector: coordinates at the first point.

    Raises:
        OptionError: the number of segments is odd or below 2.
        ShapeError: as ``christoffel``.
    """
    _check_even("transport", "segments", path.shape[0] - 1)
    fine, coarse = _carry(metric, path, vector), _carry(metric, path[::2], vector)
    return Transport(fine, jnp.linalg.norm(fine - coarse) / 3)


def constant_curvature_flow(
    metric: Float[Array, "width width"], curvature: float | Float[Array, ""], time: float | Float[Array, ""]
) -> Float[Array, "width width"]:
    """Follow Ricci flow dg/dt = -2 Ric exactly, from a metric of constant curvature: g(t) = (1 - 2 (n - 1) kappa t) g.

    Args:
        metric: g at time zero, at one point.
        curvature: kappa at time zero.
        time: t; from the time 1 / (2 (n - 1) kappa) on a sphere has vanished, and the result is NaN.

    Source: Hamilton 1982.
    """
    factor = 1 - 2 * (metric.shape[0] - 1) * jnp.asarray(curvature, metric.dtype) * time
    return jnp.where(factor > 0, factor, jnp.nan) * metric


def _follow(metric: Metric, point: Point, velocity: Vector, time: float | Array, steps: int) -> tuple[Array, Array]:
    step = jnp.asarray(time, point.dtype) / steps

    def rate(state: Array) -> Array:
        return jnp.stack([state[1], -jnp.einsum("kij,i,j->k", christoffel(metric, state[0]), state[1], state[1])])

    def advance(state: Array, _: None) -> tuple[Array, Array]:
        first = rate(state)
        second = rate(state + step / 2 * first)
        third = rate(state + step / 2 * second)
        fourth = rate(state + step * third)
        state = state + step / 6 * (first + 2 * second + 2 * third + fourth)
        return state, state

    start = jnp.stack([point, velocity])
    states = jnp.concatenate([start[None], lax.scan(advance, start, None, length=steps)[1]])
    return states[:, 0], states[:, 1]


def _carry(metric: Metric, path: Array, vector: Vector) -> Vector:
    one = jnp.eye(vector.shape[0], dtype=vector.dtype)

    def advance(vector: Vector, segment: tuple[Array, Array]) -> tuple[Vector, None]:
        start, end = segment
        half = -jnp.einsum("kij,i->kj", christoffel(metric, (start + end) / 2), end - start) / 2
        return jnp.linalg.solve(one - half, vector + half @ vector), None

    return lax.scan(advance, vector, (path[:-1], path[1:]))[0]


def _check_even(name: str, what: str, count: int) -> None:
    if count < 2 or count % 2:
        refuse(
            OptionError,
            f"riemannian.{name}: the error is estimated from half of the {what}.",
            got=f"{what}={count}",
            want="an even number, at least 2",
            fix=f"pass an even number of {what}.",
        )
