"""How a flow moves next to a state of rest that is about to change: coefficients of normal forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..errors import ShapeError, describe, refuse
from .continuation import Field, Point, Scalar

Flow = Callable[[Point], Point]


class SteadyForm(NamedTuple):
    """How a flow moves along the state that a zero eigenvalue frees: u' = quadratic u^2 + cubic u^3 + ...

    Attributes:
        direction: q, of length one, largest entry positive; the state is x + u q + ...
        quadratic: zero for pitchforks.
        cubic: of a pitchfork, below zero if its new states are stable in u.
    """

    direction: Point
    quadratic: Float[Array, ""]
    cubic: Float[Array, ""]


class HopfForm(NamedTuple):
    """How a flow turns in the plane that a pair of imaginary eigenvalues frees.

    Attributes:
        direction: q, of length one, up to a phase.
        frequency: omega, radians a time unit.
        coefficient: l_1, the first Lyapunov coefficient; below zero if the new cycles are stable in the plane.
    """

    direction: Complex[Array, " states"]
    frequency: Float[Array, ""]
    coefficient: Float[Array, ""]


class FlipForm(NamedTuple):
    """How a map moves along the state that a multiplier -1 frees: u -> -u + cubic u^3 + ...

    Attributes:
        direction: q, of length one, largest entry positive; the state is x + u q + ...
        cubic: above zero if the new cycle, of twice the period, is stable in u.
    """

    direction: Point
    cubic: Float[Array, ""]


def steady_form(function: Field, point: Point, parameter: Scalar) -> SteadyForm:
    """Compute the normal form of a state of rest with one eigenvalue zero.

    quadratic = <p, B(q, q)> / 2,   cubic = <p, C(q, q, q) - 3 B(q, A^+ B(q, q))> / 6

    A q = 0, A^T p = 0, <p, q> = 1; B and C are the second and third derivatives of F, A^+ inverts A at right angles to
    p and q.

    Args:
        function: (x, lambda) -> F.
        point: x, at rest. Neither this nor the eigenvalue is checked: the smallest singular value counts as zero.
        parameter: lambda.

    Raises:
        ShapeError: the point is no vector of floats, or F changes its shape or dtype.

    Needs a singular value decomposition and a linear solver, which the CPU has.

    Error: that of the point, times the next derivatives.
    Source: Kuznetsov 2004, sections 5.4.1 and 8.7 (|q| = 1).
    """
    field, jacobian = _at("steady_form", function, point, parameter)
    left, _, right = jnp.linalg.svd(jacobian)
    direction = _upright(right[-1])
    dual = left[:, -1] / jnp.dot(left[:, -1], direction)
    bend = _second(field, point, direction, direction)
    quadratic = jnp.dot(dual, bend) / 2
    # Bordered, the Jacobian is regular, and its solution is the one at right angles to q.
    whole = jnp.block([[jacobian, left[:, -1:]], [direction[None], jnp.zeros((1, 1), point.dtype)]])
    drift = jnp.linalg.solve(whole, jnp.append(bend, 0))[:-1]
    twist = _third(field, point, direction, direction, direction) - 3 * _second(field, point, direction, drift)
    return SteadyForm(direction, quadratic, jnp.dot(dual, twist) / 6)


def hopf_form(function: Field, point: Point, parameter: Scalar) -> HopfForm:
    """Compute the normal form of a state of rest with a pair of imaginary eigenvalues.

    l_1 = Re <p, C(q, q, q*) - 2 B(q, A^-1 B(q, q*)) + B(q*, (2 i omega - A)^-1 B(q, q))> / (2 omega)

    A q = i omega q, A^T p = -i omega p, <p, q> = 1; B and C are the second and third derivatives of F.

    Args:
        function: (x, lambda) -> F.
        point: x, at rest. Neither this nor the eigenvalues are checked: of complex ones, those next to the axis count.
        parameter: lambda.

    Returns:
        NaN where no eigenvalue is complex.

    Raises:
        ShapeError: the point is no vector of floats, or F changes its shape or dtype.

    Needs a general eigenvalue solver, which the CPU has.

    Error: that of the point, times the next derivatives.
    Source: Kuznetsov 2004, section 5.4.2 (|q| = 1).
    """
    field, jacobian = _at("hopf_form", function, point, parameter)
    values = jnp.linalg.eigvals(jacobian)
    turning = jnp.abs(jnp.imag(values)) > axis_slack(jacobian)
    nearest = jnp.argmin(jnp.where(turning, jnp.abs(jnp.real(values)), jnp.inf))
    frequency = jnp.where(jnp.any(turning), jnp.abs(jnp.imag(values[nearest])), jnp.nan)
    identity = jnp.eye(point.shape[0], dtype=values.dtype)
    spin = lax.complex(jnp.zeros_like(frequency), jnp.where(jnp.any(turning), frequency, 1))
    complexed = jacobian.astype(values.dtype)
    left, _, right = jnp.linalg.svd(complexed - spin * identity)
    q, p = jnp.conj(right[-1]), left[:, -1]
    a, b = jnp.real(q), jnp.imag(q)

    def third(x: Point, y: Point, z: Point) -> Point:
        return _third(field, point, x, y, z)

    twist = lax.complex(third(a, a, a) + third(a, b, b), third(a, a, b) + third(b, b, b))
    steady = jnp.linalg.solve(jacobian, jnp.real(_pair(field, point, q, jnp.conj(q)))).astype(values.dtype)
    double = jnp.linalg.solve(2 * spin * identity - complexed, _pair(field, point, q, q))
    total = twist - 2 * _pair(field, point, q, steady) + _pair(field, point, jnp.conj(q), double)
    return HopfForm(q, frequency, jnp.real(jnp.vdot(p, total) / jnp.vdot(p, q)) / (2 * frequency))


def flip_form(function: Field, point: Point, parameter: Scalar) -> FlipForm:
    """Compute the normal form of a fixed point, or a cycle, of a map with one multiplier -1.

    cubic = <p, C(q, q, q) - 3 B(q, (A - 1)^-1 B(q, q))> / 6

    A q = -q, A^T p = -p, <p, q> = 1; A, B and C are the first three derivatives of the map.

    Args:
        function: (x, lambda) -> M(x) - x of a map M, or of the p-th iterate of one: see ``cycle_field``.
        point: x, fixed. Neither this nor the multiplier is checked: the smallest singular value of A + 1 counts as 0.
        parameter: lambda.

    Raises:
        ShapeError: the point is no vector of floats, or the function changes its shape or dtype.

    Needs a singular value decomposition and a linear solver, which the CPU has.

    Error: that of the point, times the next derivatives.
    Source: Kuznetsov 2004, section 5.4.2 (|q| = 1).

    Example:
        >>> form = flip_form(lambda x, p: -jnp.tanh(p * x) - x, jnp.zeros(1), 1.0)
        >>> round(float(form.cubic), 4)  # -tanh u = -u + u^3 / 3 - ...
        0.3333
    """
    field, shifted = _at("flip_form", function, point, parameter)
    identity = jnp.eye(point.shape[0], dtype=point.dtype)
    left, _, right = jnp.linalg.svd(shifted + 2 * identity)
    direction = _upright(right[-1])
    dual = left[:, -1] / jnp.dot(left[:, -1], direction)
    drift = jnp.linalg.solve(shifted, _second(field, point, direction, direction))
    twist = _third(field, point, direction, direction, direction) - 3 * _second(field, point, direction, drift)
    return FlipForm(direction, jnp.dot(dual, twist) / 6)


def axis_slack(jacobian: Array) -> Array:
    """Return how far from the real axis an eigenvalue is complex for certain; a double one splits by a root of eps."""
    return jnp.sqrt(jnp.finfo(jacobian.dtype).eps).astype(jacobian.dtype) * jnp.max(jnp.abs(jacobian))


def _at(name: str, function: Field, point: Point, parameter: Scalar) -> tuple[Flow, Array]:
    is_vector = point.ndim == 1 and point.shape[0] > 0 and jnp.issubdtype(point.dtype, jnp.floating)
    number = jnp.asarray(parameter, point.dtype)
    value = jax.eval_shape(function, point, number) if is_vector else point
    if not is_vector or value.shape != point.shape or value.dtype != point.dtype:
        refuse(
            ShapeError,
            f"{name}: a field has one rate for each state.",
            got=f"a point {describe(point)}, its rates {describe(value)}",
            want="floats [states], at least one, and rates like the point",
            fix="pass one point, and return an array of its shape and dtype from the function.",
        )

    def flow(x: Point) -> Point:
        return function(x, number)

    return flow, jax.jacfwd(flow)(point)


def _second(flow: Flow, point: Point, x: Point, y: Point) -> Point:
    return jax.jvp(lambda at: jax.jvp(flow, (at,), (x,))[1], (point,), (y,))[1]


def _third(flow: Flow, point: Point, x: Point, y: Point, z: Point) -> Point:
    return jax.jvp(lambda at: _second(flow, at, x, y), (point,), (z,))[1]


def _pair(flow: Flow, point: Point, x: Array, y: Array) -> Complex[Array, " states"]:
    """Apply the second derivative to complex vectors, which multiply out: it is of real arguments."""
    parts = [(jnp.real(each), jnp.imag(each)) for each in (x, y)]
    reals, mixed = (
        [_second(flow, point, a, b) for a, b in zip(parts[0], second, strict=True)]
        for second in (parts[1], parts[1][::-1])
    )
    return lax.complex(reals[0] - reals[1], mixed[0] + mixed[1])


def _upright(vector: Point) -> Point:
    return vector * jnp.where(vector[jnp.argmax(jnp.abs(vector))] < 0, -1, 1).astype(vector.dtype)
