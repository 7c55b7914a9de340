"""Spaces of constant curvature of any sign, in one set of coordinates that is continuous at curvature zero.

A point is (t, x) with t^2 + kappa |x|^2 = 1: the hyperboloid for kappa < 0 (t > 0), the sphere for kappa > 0, and flat
space (t = 1) for kappa = 0. The usual hyperboloid coordinate is t / sqrt(-kappa), which has no flat limit; t has one.
A tangent (s, v) at a point satisfies t s + kappa <x, v> = 0.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse
from .series import angle_over_sine, cosine, root, sine_ratio

Point = Float[Array, "*batch coordinates"]
Tangent = Float[Array, "*batch coordinates"]
Spatial = Float[Array, "*batch width"]


def inner(first: Point, second: Point, *, curvature: float) -> Float[Array, "*batch"]:
    """Compute the ambient form <a, b> = a_x . b_x + a_t b_t / kappa, and a_x . b_x for kappa = 0.

    Points satisfy <x, x> = 1 / kappa; on tangents the form is the metric, also in the flat limit.

    Args:
        first: a point or tangent, time coordinate first.
        second: another, in the same layout.
        curvature: kappa, of any sign.

    Raises:
        OptionError: the curvature is not finite.
        ShapeError: the coordinates do not fit together.

    Example:
        >>> float(inner(project(jnp.ones(2), curvature=-4.0), project(jnp.ones(2), curvature=-4.0), curvature=-4.0))
        -0.25
    """
    _check("inner", curvature, first, second)
    space = _dot(first[..., 1:], second[..., 1:])
    return space + first[..., 0] * second[..., 0] / curvature if curvature else space


def project(spatial: Spatial, *, curvature: float) -> Point:
    """Complete spatial coordinates to a point: t = sqrt(1 - kappa |x|^2).

    Args:
        spatial: x, in units of length; for kappa > 0 of length at most 1 / sqrt(kappa), else the result is NaN.
        curvature: kappa, of any sign. For kappa > 0 the point is on the half sphere t >= 0.

    Raises:
        OptionError: the curvature is not finite.
    """
    _check_curvature("project", curvature)
    time = jnp.sqrt(1 - curvature * _dot(spatial, spatial))
    return jnp.concatenate([time[..., None], spatial], axis=-1)


def exponential(point: Point, tangent: Tangent, *, curvature: float) -> Point:
    """Walk from a point along a geodesic, for unit time: exp_x(v) = cos(sqrt(kappa) r) x + sin(...) / ... v, r = |v|.

    Smooth at the zero tangent and across kappa = 0, where it is x + v.

    Args:
        point: x.
        tangent: v, a tangent at x; its length is the distance walked.
        curvature: kappa, of any sign.

    Raises:
        OptionError: the curvature is not finite.
        ShapeError: the coordinates do not fit together.

    Error: a few eps relative to cosh(sqrt(-kappa) r).
    """
    _check("exponential", curvature, point, tangent)
    squared = (curvature * _norm_squared(point, tangent, curvature))[..., None]
    is_negative = curvature < 0
    return cosine(squared, is_negative=is_negative) * point + sine_ratio(squared, is_negative=is_negative) * tangent


def logarithm(point: Point, other: Point, *, curvature: float) -> Tangent:
    """Find the tangent at a point whose geodesic reaches another: log_x(y) = (a / sin a)(y - cos(a) x), a = angle.

    Written in the chord, y - cos(a) x = (y - x) + (kappa chord^2 / 2) x, so that near points lose no digits; smooth
    at y = x.

    Args:
        point: x.
        other: y. For kappa > 0 the antipode of x is excluded: there are many geodesics, and the result is not finite.
        curvature: kappa, of any sign.

    Raises:
        OptionError: the curvature is not finite.
        ShapeError: the coordinates do not fit together.
    """
    _check("logarithm", curvature, point, other)
    squared = curvature * _chord_squared(point, other, curvature)
    direction = _difference(other, point, curvature) + squared[..., None] / 2 * point
    # a / sin a = (a / 2) / (sin(a / 2) cos(a / 2)), and s chord = 2 sin(a / 2), s |x + y| = 2 cos(a / 2).
    half_cosine = _opposite(point, other, curvature) / 2 if curvature > 0 else jnp.sqrt(1 - squared / 4)
    ratio = angle_over_sine(squared / 4, half_cosine, is_negative=curvature < 0) / half_cosine
    return ratio[..., None] * direction


def distance(first: Point, second: Point, *, curvature: float) -> Float[Array, "*batch"]:
    """Measure the length of the geodesic between two points.

    kappa < 0: (2 / s) asinh(s chord / 2);  kappa > 0: (2 / s) atan2(s |x - y|, s |x + y|);  s = sqrt|kappa|

    Its derivative at equal points is taken as zero (the distance has a cusp there).

    Args:
        first: x.
        second: y.
        curvature: kappa, of any sign.

    Raises:
        OptionError: the curvature is not finite.
        ShapeError: the coordinates do not fit together.

    Error: a few eps sqrt(1 + |kappa| |x|^2), relative, however near the points are to each other; arccosh of the
        inner product loses every digit below separation sqrt(eps).
    """
    _check("distance", curvature, first, second)
    chord = root(_chord_squared(first, second, curvature))
    unit = math.sqrt(abs(curvature))
    if curvature < 0:
        return 2 / unit * jnp.asinh(unit / 2 * chord)
    if curvature > 0:
        return 2 / unit * jnp.atan2(unit * chord, _opposite(first, second, curvature))
    return chord


def transport(tangent: Tangent, start: Point, end: Point, *, curvature: float) -> Tangent:
    """Carry a tangent along the geodesic between two points: v - kappa <y, v> / (1 + kappa <x, y>) (x + y).

    An isometry of the tangent spaces; its inverse is the transport back.

    Args:
        tangent: v, at ``start``.
        start: x.
        end: y, not the antipode of x.
        curvature: kappa, of any sign.

    Raises:
        OptionError: the curvature is not finite.
        ShapeError: the coordinates do not fit together.
    """
    _check("transport", curvature, tangent, start)
    _check("transport", curvature, start, end)
    step = _difference(end, start, curvature)
    # <y, v> = <y - x, v>, since v is tangent at x.
    along = curvature * _dot(step[..., 1:], tangent[..., 1:]) + step[..., 0] * tangent[..., 0]
    ratio = along / (2 - curvature / 2 * _chord_squared(start, end, curvature))
    return tangent - ratio[..., None] * (start + end)


def to_poincare(point: Point, *, curvature: float) -> Spatial:
    """Map the hyperboloid to the ball of radius 1 / sqrt(-kappa): p = x / (1 + t).

    Raises:
        OptionError: the curvature is not negative.
    """
    _check_negative("to_poincare", curvature)
    return point[..., 1:] / (1 + point[..., :1])


def from_poincare(place: Spatial, *, curvature: float) -> Point:
    """Map the Poincare ball to the hyperboloid: (t, x) = (1 - kappa |p|^2, 2 p) / (1 + kappa |p|^2).

    Args:
        place: p, of length below 1 / sqrt(-kappa).
        curvature: kappa, negative.

    Raises:
        OptionError: the curvature is not negative.
    """
    _check_negative("from_poincare", curvature)
    squared = curvature * _dot(place, place)[..., None]
    return jnp.concatenate([1 - squared, 2 * place], axis=-1) / (1 + squared)


def _dot(first: Array, second: Array) -> Array:
    return jnp.sum(first * second, axis=-1)


def _difference(first: Point, second: Point, curvature: float) -> Tangent:
    """Subtract points; the time difference is -kappa (x - y).(x + y) / (t_x + t_y), which loses no digits."""
    step, total = first - second, first + second
    # Below the equator of a sphere the sum of the times is no safe divisor, and the plain difference is good.
    is_safe = total[..., 0] > 1
    divisor = jnp.where(is_safe, total[..., 0], 1)
    stable = -curvature * _dot(step[..., 1:], total[..., 1:]) / divisor
    time = jnp.where(is_safe, stable, step[..., 0])
    return jnp.concatenate([time[..., None], step[..., 1:]], axis=-1)


def _chord_squared(first: Point, second: Point, curvature: float) -> Float[Array, "*batch"]:
    """Compute <x - y, x - y>."""
    step = _difference(first, second, curvature)
    plain = inner(step, step, curvature=curvature)
    if curvature >= 0:
        return plain
    # The two terms nearly cancel far out. |d - m (d.s) s|^2 is the same number as a sum of squares; m needs
    # 4 - kappa chord^2, for which the plain value is good enough.
    total = first + second
    time, space = total[..., 0], total[..., 1:]
    middle = jnp.sqrt(4 - curvature * jnp.maximum(plain, 0))
    part = -curvature * _dot(step[..., 1:], space) / (time * (time + middle))
    rest = step[..., 1:] - part[..., None] * space
    return _dot(rest, rest)


def _opposite(first: Point, second: Point, curvature: float) -> Float[Array, "*batch"]:
    """Compute sqrt(kappa) |x + y|, which on a sphere is twice the cosine of half the angle."""
    total = first + second
    return root(curvature * _dot(total[..., 1:], total[..., 1:]) + jnp.square(total[..., 0]))


def _norm_squared(point: Point, tangent: Tangent, curvature: float) -> Float[Array, "*batch"]:
    """Compute <v, v>; for kappa < 0 as the squared length of v carried to the origin, which cancels nothing."""
    if curvature >= 0:
        return inner(tangent, tangent, curvature=curvature)
    carried = tangent[..., 1:] - tangent[..., :1] / (1 + point[..., :1]) * point[..., 1:]
    return _dot(carried, carried)


def _check(name: str, curvature: float, first: Array, second: Array) -> None:
    _check_curvature(name, curvature)
    if first.ndim == 0 or second.ndim == 0 or first.shape[-1] < 2 or first.shape[-1] != second.shape[-1]:
        refuse(
            ShapeError,
            f"{name}: points and tangents have the same coordinates, time first.",
            got=f"{describe(first)} and {describe(second)}",
            want="two arrays [*batch, 1 + width]",
            fix="complete spatial coordinates with qga.geometry.constant_curvature.project.",
        )


def _check_curvature(name: str, curvature: float) -> None:
    if not math.isfinite(curvature):
        refuse(
            OptionError,
            f"{name}: a curvature is a finite number.",
            got=f"curvature={curvature}",
            want="negative, zero or positive",
            fix="pass a plain number; it is static.",
        )


def _check_negative(name: str, curvature: float) -> None:
    _check_curvature(name, curvature)
    if curvature >= 0:
        refuse(
            OptionError,
            f"{name}: the Poincare ball is hyperbolic.",
            got=f"curvature={curvature}",
            want="curvature < 0",
            fix="use a negative curvature.",
        )
