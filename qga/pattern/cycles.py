"""Cycles of a map: what comes back after some steps, whether it is stable, and where its period doubles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse
from .bifurcation import UNSURE_ROUNDINGS, carry_on, halve
from .continuation import Branch, Field, Place, Point
from .normal_form import flip_form


class Cycle(NamedTuple):
    """An orbit of a map, read as a cycle.

    Attributes:
        points: the start and what follows, one for each step of the period.
        multipliers: Floquet's: eigenvalues of the derivative of a whole period, largest modulus first.
        is_stable: whether all moduli are below 1, so that small disturbances die out; False where one is NaN.
        residual: the largest entry of what a period moves the start; of rounding size for a cycle.
    """

    points: Float[Array, "period states"]
    multipliers: Complex[Array, " states"]
    is_stable: Bool[Array, ""]
    residual: Float[Array, ""]


class PeriodDoublings(NamedTuple):
    """Where a multiplier passes -1 in each step of a branch; all but ``happens`` is NaN where none does.

    Attributes:
        happens: whether one does.
        points: where, one state of the cycle.
        parameters: at which.
        directions: of length one, largest entry positive: the new cycle alternates along it.
        coefficients: see ``flip_form``. Above zero: the new cycle, of twice the period, is stable if the old one was.
            Below: it is unstable, and the map jumps.
    """

    happens: Bool[Array, " steps"]
    points: Float[Array, "steps states"]
    parameters: Float[Array, " steps"]
    directions: Float[Array, "steps states"]
    coefficients: Float[Array, " steps"]


def cycle_field(function: Field, period: int) -> Field:
    """Turn a map into a field that rests on its cycles: F(x, lambda) = M(M(... M(x))) - x, ``period`` times M.

    ``continuation`` follows a cycle as a branch of it, whose eigenvalues plus 1 are the multipliers, ``bifurcations``
    finds its folds and crossings, ``critical_points`` cycles at one parameter.

    Args:
        function: (x, lambda) -> next x.
        period: p, at least 1. Cycles whose period divides it are found too.

    Raises:
        OptionError: ``period`` is below 1.

    Error: each step multiplies that of the one before by |M'|; for a chaotic map choose small periods.
    Cost: p evaluations of the map.

    Example:
        >>> from qga.pattern import critical_points
        >>> field = cycle_field(lambda x, p: p * x * (1 - x), 2)
        >>> found = critical_points(lambda x: field(x, jnp.asarray(3.2)), jnp.array([[0.5], [0.9]]))
        >>> [round(x, 4) for x in found.points.ravel().tolist()]  # two states of the same cycle
        [0.513, 0.7995]
    """
    _check_period("cycle_field", period)

    def field(point: Point, parameter: Float[Array, ""]) -> Point:
        return lax.fori_loop(0, period, lambda _, x: function(x, parameter), point) - point

    return field


@partial(jax.jit, static_argnames=("function", "period"))
def cycle_stability(function: Callable[[Point], Point], point: Point, *, period: int) -> Cycle:
    """Decide whether a cycle of a map is stable by its Floquet multipliers.

    eigenvalues of M'(x_p) ... M'(x_2) M'(x_1),   x_(i + 1) = M(x_i)

    The same for every state of the cycle.

    Args:
        function: x -> next x.
        point: x_1, a state of a cycle. It is not checked: look at ``residual``.
        period: p, at least 1.

    Raises:
        OptionError: ``period`` is below 1.
        ShapeError: the point is no vector of floats, or the map changes its shape or dtype.

    Needs a general eigenvalue solver, which the CPU has.

    Error: eps p times the product of |M'|, over how far the eigenvectors are from being parallel.
    Cost: p (states evaluations of M + states^3).
    Source: Floquet 1883; Kuznetsov 2004, section 1.5.

    Example:
        >>> cycle = cycle_stability(lambda x: 1 - x**2, jnp.zeros(1), period=2)  # 0, 1, 0, 1, ...
        >>> cycle.points.ravel().tolist(), cycle.multipliers.real.tolist(), bool(cycle.is_stable)
        ([0.0, 1.0], [0.0], True)
    """
    _check_period("cycle_stability", period)
    _check_map(function, point)

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        state, whole = carry
        after, push = jax.linearize(function, state)
        return (after, jax.vmap(push, in_axes=1, out_axes=1)(whole)), state

    start = point, jnp.eye(point.shape[0], dtype=point.dtype)
    (last, whole), points = lax.scan(step, start, None, length=period)
    finite = jnp.all(jnp.isfinite(whole))
    values = jnp.where(finite, jnp.linalg.eigvals(jnp.where(finite, whole, 0)), jnp.nan)
    values = values[jnp.argsort(-jnp.abs(values))]
    return Cycle(points, values, jnp.all(jnp.abs(values) < 1), jnp.max(jnp.abs(last - point)))


@partial(jax.jit, static_argnames="function")
def period_doublings(function: Field, branch: Branch) -> PeriodDoublings:
    """Find where the period of a cycle doubles along a branch, by the sign of det(A + 1) from point to point.

    A is the derivative of a whole period. Its determinant with 1 added changes sign where one multiplier passes -1;
    the place is found by halving the step until its ends are neighbours in floating point.

    Args:
        function: (x, lambda) -> M(x) - x of a map M, or ``cycle_field`` of one.
        branch: what ``continuation`` returned for it.

    Returns:
        One entry for each step. Two multipliers that pass -1 in one step hide each other: take shorter steps. Pairs of
        complex multipliers that pass the unit circle are not looked for.

    Raises:
        ShapeError: the branch has fewer than two points.

    Needs a singular value decomposition and a linear solver, which the CPU has.

    Error: within eps |A| over the speed of the multiplier along the branch.
    Cost: a determinant and singular values a point; a correction and one more of each a halving.
    Source: Kuznetsov 2004, sections 4.5 and 10.2.

    Example:
        >>> from qga.pattern import continuation
        >>> logistic = cycle_field(lambda x, p: p * x * (1 - x), 1)
        >>> branch = continuation(logistic, jnp.full(1, 0.6), 2.5, steps=9, length=0.1)
        >>> found = period_doublings(logistic, branch)
        >>> round(float(jnp.nanmax(found.parameters)), 4), round(float(jnp.nanmax(found.coefficients)), 2)
        (3.0, 9.0)
    """
    _check_branch(branch)
    places = jnp.concatenate([branch.points, branch.parameters[:, None]], axis=1)
    sides = carry_on(*jax.vmap(partial(_side, function))(places))
    nothing = jax.tree.map(lambda each: jnp.full_like(each, jnp.nan), (branch.points[0], branch.parameters[0]))

    def look(step: tuple[Array, ...]) -> PeriodDoublings:
        before, after, along, low, high = step

        def find() -> PeriodDoublings:
            place = halve(function, lambda place: _side(function, place)[0] == before, along, (low, high))
            form = flip_form(function, place[:-1], place[-1])
            return PeriodDoublings(jnp.asarray(True), place[:-1], place[-1], form.direction, form.cubic)

        return lax.cond(before != after, find, lambda: PeriodDoublings(jnp.asarray(False), *nothing, *nothing))

    return lax.map(look, (sides[:-1], sides[1:], branch.tangents[:-1], places[:-1], places[1:]))


def _side(function: Field, place: Place) -> tuple[Array, Array]:
    """Return whether an odd number of multipliers is below -1, and whether that can be trusted."""
    jacobian = jax.jacfwd(function)(place[:-1], place[-1])
    finite = jnp.all(jnp.isfinite(jacobian))
    shifted = jnp.where(finite, jacobian, 0) + 2 * jnp.eye(jacobian.shape[0], dtype=jacobian.dtype)
    slack = UNSURE_ROUNDINGS * jnp.finfo(place.dtype).eps * jnp.max(jnp.abs(shifted))
    is_sure = finite & (jnp.min(jnp.linalg.svd(shifted, compute_uv=False)) > slack)
    return jnp.linalg.slogdet(shifted)[0] < 0, is_sure


def _check_period(name: str, period: int) -> None:
    if period < 1:
        refuse(
            OptionError,
            f"{name}: a cycle has a step at least.",
            got=f"period={period}",
            want="period >= 1",
            fix="pass 1 for a fixed point.",
        )


def _check_map(function: Callable[[Point], Point], point: Array) -> None:
    is_vector = point.ndim == 1 and point.shape[0] > 0 and jnp.issubdtype(point.dtype, jnp.floating)
    after = jax.eval_shape(function, point) if is_vector else point
    if not is_vector or after.shape != point.shape or after.dtype != point.dtype:
        refuse(
            ShapeError,
            "cycle_stability: a map takes a state to a state.",
            got=f"a point {describe(point)}, what follows {describe(after)}",
            want="floats [states], at least one, and what follows like the point",
            fix="pass one point, and return an array of its shape and dtype from the function.",
        )


def _check_branch(branch: Branch) -> None:
    if branch.points.shape[0] < 2:
        refuse(
            ShapeError,
            "period_doublings: something happens between two points.",
            got=f"points {describe(branch.points)}",
            want="[steps, states], steps >= 2",
            fix="follow the cycle for a step at least.",
        )
