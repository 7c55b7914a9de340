"""Where a branch of states of rest changes its kind: folds, crossings, and the birth of oscillations."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..errors import ShapeError, describe, refuse
from .continuation import Branch, Field, Place, Point, bordered, correct, improve
from .normal_form import axis_slack, hopf_form, steady_form

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
        shorter steps. Of a map, M - x as F, eigenvalues 1 of M are seen; for -1 see ``period_doublings``.

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
    signs = carry_on(*jax.vmap(partial(_signs, function))(places, branch.tangents))
    before, after = signs[:-1], signs[1:]
    nothing = Bifurcations(jnp.int32(Bifurcation.NONE), *_nowhere(branch.points[0]))

    def look(step: tuple[Array, ...]) -> Bifurcations:
        before, after, along, low, high = step

        def is_like(place: Place) -> Array:
            signs = _signs(function, place, improve(function, place, along)[0])[0]
            return jnp.all(signs[:2] == before[:2])

        # A turn of the parameter alone is none of the flow: that is the top of a pitchfork, or nothing.
        return lax.cond(
            jnp.any(before[:2] != after[:2]),
            lambda: _classify(function, before, after, halve(function, is_like, along, (low, high))),
            lambda: nothing,
        )

    return lax.map(look, (before, after, branch.tangents[:-1], places[:-1], places[1:]))


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


def carry_on(signs: Array, is_sure: Array) -> Array:
    """Replace signs that cannot be trusted by those of the point before; at the start, of the first one that can."""

    def keep(last: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen = jnp.where(now[1], now[0], last)
        return chosen, chosen

    return lax.scan(keep, signs[jnp.argmax(is_sure)], (signs, is_sure))[1]


def halve(function: Field, is_like: Callable[[Place], Array], along: Place, ends: tuple[Place, Place]) -> Place:
    """Find where a curve stops being like its place before, between two places."""

    def closer(_: int, ends: tuple[Place, Place]) -> tuple[Place, Place]:
        low, high = ends
        # Between places that draw closer, the guess does so faster: it stays on its curve where another one crosses.
        middle = correct(function, (low + high) / 2, along)
        stays = is_like(middle)
        return jnp.where(stays, middle, low), jnp.where(stays, high, middle)

    halvings = jnp.finfo(along.dtype).nmant + 1
    low, high = lax.fori_loop(0, halvings, closer, ends)
    return correct(function, (low + high) / 2, along)


def _classify(function: Field, before: Array, after: Array, place: Place) -> Bifurcations:
    point, parameter = place[:-1], place[-1]
    jacobian = jax.jacfwd(function)(point, parameter)
    values = jnp.linalg.eigvals(jacobian)
    is_turning = jnp.abs(jnp.imag(values[jnp.argmin(jnp.abs(jnp.real(values)))])) > axis_slack(jacobian)
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
