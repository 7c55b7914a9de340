"""Where a branch of states of rest changes its kind: folds, crossings, and the birth of oscillations."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float, Int

from ..errors import ShapeError, describe, refuse
from .continuation import Branch, Field, Place, Point, Scalar, bordered, correct, improve

Flow = Callable[[Point], Point]
# Eigenvalues this many roundings from the axis are not trusted to have a side.
UNSURE_ROUNDINGS = 100


class Bifurcation(IntEnum):
    """What happens in a step of a branch.

    A fold: the curve turns back, one eigenvalue through zero. A crossing with another curve: ``TRANSCRITICAL`` where
    that goes on at both sides, ``PITCHFORK`` where it is at one side only. ``HOPF``: a complex pair through the axis.
    ``DEGENERATE``: several at once, of which no simple formula speaks.
    """

    NONE = 0
    FOLD = 1
    TRANSCRITICAL = 2
    PITCHFORK = 3
    HOPF = 4
    DEGENERATE = 5


class Bifurcations(NamedTuple):
    """What happens in each step of a branch; all but ``kinds`` is NaN where nothing does.

    Attributes:
        kinds: values of ``Bifurcation``.
        points: where it happens.
        parameters: at which.
        directions: of length one, the state that becomes free, largest entry positive; a real part for Hopf points.
        coefficients: of the normal form, see ``steady_form`` and ``hopf_form``: the quadratic one of folds and
            transcritical crossings, the cubic one of pitchforks, l_1 of Hopf points. Of the latter two, below zero: the
            new states are stable if the old ones were.
        frequencies: radians a time unit, of Hopf points.
    """

    kinds: Int[Array, " steps"]
    points: Float[Array, "steps states"]
    parameters: Float[Array, " steps"]
    directions: Float[Array, "steps states"]
    coefficients: Float[Array, " steps"]
    frequencies: Float[Array, " steps"]


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


@partial(jax.jit, static_argnames="function")
def bifurcations(function: Field, branch: Branch) -> Bifurcations:
    """Find where a branch bends, crosses another or begins to oscillate, by what changes from point to point.

    The number of unstable eigenvalues, and the sign of det [F_x F_lambda; t], which changes where curves cross. The
    place is found by halving the step until its ends are neighbours in floating point.

    Args:
        function: (x, lambda) -> F, of ``continuation``.
        branch: what that returned.

    Returns:
        One entry for each step, from points[i] to points[i + 1]. Two events in one step may hide each other: take
        shorter steps. Of a map, x -> M - x as F, only eigenvalues 1 of M are seen.

    Raises:
        ShapeError: the branch has fewer than two points.

    Needs a general eigenvalue solver, which the CPU has.

    Error: folds and Hopf points within eps |F_x| over the speed of the eigenvalue along the branch; crossings within
    sqrt(eps) |F_x| over it, since curves that cross cannot be told apart closer than that.
    Cost: an eigenvalue problem a point, and a correction and one more a halving for each event.
    Source: Kuznetsov 2004, sections 5.4 and 10.2.

    Example:
        >>> from qga.pattern import continuation
        >>> def pull(x, p): return p * x - x**3
        >>> found = bifurcations(pull, continuation(pull, jnp.zeros(1), -1.0, steps=10, length=0.3))
        >>> [Bifurcation(kind).name for kind in found.kinds.tolist() if kind], jnp.nanmax(found.coefficients).tolist()
        (['PITCHFORK'], -1.0)
    """
    if branch.points.shape[0] < 2:
        refuse(
            ShapeError,
            "bifurcations: something happens between two points.",
            got=f"points {describe(branch.points)}",
            want="[steps, states], steps >= 2",
            fix="follow the curve for a step at least.",
        )
    places = jnp.concatenate([branch.points, branch.parameters[:, None]], axis=1)
    signs = _carry_on(*jax.vmap(partial(_signs, function))(places, branch.tangents))
    before, after = signs[:-1], signs[1:]
    nothing = Bifurcations(jnp.int32(Bifurcation.NONE), *_nowhere(branch.points[0]))

    def look(step: tuple[Array, ...]) -> Bifurcations:
        before, after, along, low, high = step
        # A turn of the parameter alone is none of the flow: that is the top of a pitchfork, or nothing.
        return lax.cond(
            jnp.any(before[:2] != after[:2]),
            lambda: _classify(function, before, after, _halve(function, before, along, (low, high))),
            lambda: nothing,
        )

    return lax.map(look, (before, after, branch.tangents[:-1], places[:-1], places[1:]))


def steady_form(function: Field, point: Point, parameter: Scalar) -> SteadyForm:
    """Compute the normal form of a state of rest with one eigenvalue zero.

    quadratic = <p, B(q, q)> / 2,   cubic = <p, C(q, q, q) - 3 B(q, A^+ B(q, q))> / 6

    A q = 0, A^T p = 0, <p, q> = 1; B and C are the second and third derivatives of F, A^+ inverts A at right angles to
    p and q.

    Args:
        function: (x, lambda) -> F.
        point: x, at rest. Neither this nor the eigenvalue is checked: the smallest singular value counts as zero.
        parameter: lambda.

    Needs a singular value decomposition and a linear solver, which the CPU has.

    Error: that of the point, times the next derivatives.
    Source: Kuznetsov 2004, sections 5.4.1 and 8.7 (|q| = 1).
    """
    field, jacobian = _at(function, point, parameter)
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

    Needs a general eigenvalue solver, which the CPU has.

    Error: that of the point, times the next derivatives.
    Source: Kuznetsov 2004, section 5.4.2 (|q| = 1).
    """
    field, jacobian = _at(function, point, parameter)
    values = jnp.linalg.eigvals(jacobian)
    turning = jnp.abs(jnp.imag(values)) > _slack(jacobian)
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


def _signs(function: Field, place: Place, along: Place) -> tuple[Array, Array]:
    """Return unstable eigenvalues, the side of a crossing and of a fold; and whether they can be trusted."""
    matrix = bordered(function, place, along)
    finite = jnp.all(jnp.isfinite(matrix))
    matrix = jnp.where(finite, matrix, 0)
    reals = jnp.real(jnp.linalg.eigvals(matrix[:-1, :-1]))
    side = jnp.linalg.slogdet(matrix)[0]
    slack = UNSURE_ROUNDINGS * jnp.finfo(place.dtype).eps * jnp.max(jnp.abs(matrix))
    is_sure = finite & (jnp.min(jnp.abs(reals)) > slack)
    counts = jnp.sum(reals > 0), side > 0, along[-1] > 0
    return jnp.stack([each.astype(jnp.int32) for each in counts]), is_sure


def _carry_on(signs: Array, is_sure: Array) -> Array:
    """Replace signs that cannot be trusted by those of the point before; at the start, of the first one that can."""

    def keep(last: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen = jnp.where(now[1], now[0], last)
        return chosen, chosen

    return lax.scan(keep, signs[jnp.argmax(is_sure)], (signs, is_sure))[1]


def _halve(function: Field, before: Array, along: Place, ends: tuple[Place, Place]) -> Place:
    """Find where the signs change between two places of a curve."""

    def halve(_: int, ends: tuple[Place, Place]) -> tuple[Place, Place]:
        low, high = ends
        # Between places that draw closer, the guess does so faster: it stays on its curve where another one crosses.
        middle = correct(function, (low + high) / 2, along)
        signs = _signs(function, middle, improve(function, middle, along)[0])[0]
        is_like = jnp.all(signs[:2] == before[:2])
        return jnp.where(is_like, middle, low), jnp.where(is_like, high, middle)

    halvings = jnp.finfo(along.dtype).nmant + 1
    low, high = lax.fori_loop(0, halvings, halve, ends)
    return correct(function, (low + high) / 2, along)


def _classify(function: Field, before: Array, after: Array, place: Place) -> Bifurcations:
    point, parameter = place[:-1], place[-1]
    jacobian = jax.jacfwd(function)(point, parameter)
    values = jnp.linalg.eigvals(jacobian)
    is_turning = jnp.abs(jnp.imag(values[jnp.argmin(jnp.abs(jnp.real(values)))])) > _slack(jacobian)
    steady, hopf = steady_form(function, point, parameter), hopf_form(function, point, parameter)
    change = jnp.abs(after[0] - before[0])
    crosses, turns = after[1] != before[1], after[2] != before[2]
    third = jnp.finfo(place.dtype).eps ** (1 / 3)
    is_odd = jnp.abs(steady.quadratic) <= third * (jnp.max(jnp.abs(jacobian)) + jnp.abs(steady.cubic))
    kinds = (
        (crosses & (change <= 1) & is_odd, Bifurcation.PITCHFORK, steady.cubic),
        (crosses & (change <= 1), Bifurcation.TRANSCRITICAL, steady.quadratic),
        (~crosses & turns & (change == 1), Bifurcation.FOLD, steady.quadratic),
        (~crosses & (change == 2) & is_turning, Bifurcation.HOPF, hopf.coefficient),
    )
    conditions = [condition for condition, _, _ in kinds]
    kind = jnp.select(conditions, [jnp.int32(kind) for _, kind, _ in kinds], jnp.int32(Bifurcation.DEGENERATE))
    coefficient = jnp.select(conditions, [value for _, _, value in kinds], jnp.asarray(jnp.nan, place.dtype))
    is_hopf = kind == Bifurcation.HOPF
    direction = jnp.where(is_hopf, jnp.real(hopf.direction), steady.direction)
    return Bifurcations(kind, point, parameter, direction, coefficient, jnp.where(is_hopf, hopf.frequency, jnp.nan))


def _nowhere(point: Point) -> tuple[Array, ...]:
    vector, number = jnp.full_like(point, jnp.nan), jnp.asarray(jnp.nan, point.dtype)
    return vector, number, vector, number, number


def _at(function: Field, point: Point, parameter: Scalar) -> tuple[Flow, Array]:
    number = jnp.asarray(parameter, point.dtype)

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


def _slack(jacobian: Array) -> Array:
    """Return how far from the real axis an eigenvalue is complex for certain; a double one splits by a root of eps."""
    return jnp.sqrt(jnp.finfo(jacobian.dtype).eps).astype(jacobian.dtype) * jnp.max(jnp.abs(jacobian))
