"""Following a state of rest while a parameter moves, round folds and through crossings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse
from .linear import solve

Point = Float[Array, " states"]
Scalar = float | Float[Array, ""]
Field = Callable[[Point, Float[Array, ""]], Point]
# A state of rest with its parameter, or a direction in that space: states + 1 numbers, the parameter last.
Place = Float[Array, " places"]

# Newton's method doubles the digits of a step that is not too long: six steps are more than double precision has.
CORRECTIONS = 6
# A chord of a step is as long as the step where the curve is straight; a longer one has left the curve.
LONGEST_CHORD = 1.5


class Branch(NamedTuple):
    """A curve of states of rest, from its start on.

    Attributes:
        points: states on the curve. NaN from where a step failed on: take shorter steps.
        parameters: of each point.
        tangents: of length one, the parameter last; they all point the way that is walked.
        eigenvalues: of the Jacobian in the states, largest real part first; no columns without ``spectrum``.
        residuals: the largest rate |F| that is left.
        errors: how far Newton's method would still move each point, its distance from the curve to first order.
    """

    points: Float[Array, "steps states"]
    parameters: Float[Array, " steps"]
    tangents: Float[Array, "steps places"]
    eigenvalues: Complex[Array, "steps states"]
    residuals: Float[Array, " steps"]
    errors: Float[Array, " steps"]


@partial(jax.jit, static_argnames=("function", "steps", "spectrum"))
def continuation(
    function: Field,
    point: Point,
    parameter: Scalar,
    *,
    steps: int,
    length: Scalar,
    tangent: Place | None = None,
    spectrum: bool = True,
) -> Branch:
    """Follow the solutions of F(x, lambda) = 0 by pseudo-arclength.

    predict y + h t, y = (x, lambda);   correct F(y') = 0, <t, y' - y> = h by Newton's method;   [F_y; t] t' = (0, 1)

    The curve is walked by its length and not by lambda, so it may turn back. Where another curve crosses, it goes
    straight on.

    Args:
        function: (x, lambda) -> F, the right-hand side of a flow; of a map x -> M(x), M - x.
        point: near a state of rest at ``parameter``; it is corrected first.
        parameter: lambda at the start.
        steps: at least 1; all of the same length.
        length: h, of a step. Negative to walk the other way.
        tangent: the way to go from the start, where lambda cannot tell: at a fold, or from a crossing into the curve
            that crosses. Left out: along the curve, with lambda growing.
        spectrum: whether to compute the eigenvalues.

    Returns:
        The start and as many points as steps. A step that ends where three curves or more meet may go on along any.

    Raises:
        ShapeError: the point is no vector of floats, F changes its shape or dtype, or the tangent does not fit.
        OptionError: ``steps`` is below 1.

    Needs a general eigenvalue solver, which the CPU has, unless ``spectrum`` is False.

    Error: within twice ``errors`` where the Jacobian changes slowly enough: |J^-1| errors max|F''| <= 1 / 2.
    Cost: 7 steps (states evaluations of F + states^3). Derivatives go through the steps.
    Source: Keller 1977; Kuznetsov 2004, chapter 10.

    Example:
        >>> fold = continuation(lambda x, p: p - x**2, jnp.ones(1), 1.0, steps=30, length=-0.1)
        >>> fold.points[-1, 0] < 0, fold.parameters.min().round(2).tolist()
        (Array(True, dtype=bool), 0.0)
    """
    _check(function, point, parameter, tangent, steps)
    start = jnp.append(point, jnp.asarray(parameter, point.dtype))
    length = jnp.asarray(length, point.dtype)
    way = jnp.zeros_like(start).at[-1].set(1) if tangent is None else tangent / _length(tangent)

    # The first step has no length: it puts the start onto the curve.
    def step(carry: tuple[Array, Array, Array], number: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
        place, along, is_on = carry
        is_start = number == 0
        there = correct(function, place + jnp.where(is_start, 0, length) * along, along)
        after, error = improve(function, there, along)
        # Where curves cross, the tangent that was asked for is the only one there is.
        after = after if tangent is None else jnp.where(is_start, along, after)
        near = jnp.sqrt(jnp.finfo(start.dtype).eps).astype(start.dtype) * (1 + _length(there))
        is_straight = is_start | (_length(lax.stop_gradient(there - place)) <= LONGEST_CHORD * jnp.abs(length))
        is_on = is_on & (error <= near) & is_straight
        return (there, after, is_on), (there, after, error, is_on)

    _, (places, along, errors, is_on) = lax.scan(step, (start, way, jnp.asarray(True)), jnp.arange(steps + 1))
    states, parameters = places[:, :-1], places[:, -1]
    rates = jax.vmap(function)(states, parameters)
    none = jnp.zeros((steps + 1, 0), lax.complex(length, length).dtype)
    values = _spectra(function, places, is_on) if spectrum else none
    found = states, parameters, along, values, jnp.max(jnp.abs(rates), axis=1), errors
    return Branch(*(jnp.where(is_on.reshape(-1, *[1] * (each.ndim - 1)), each, jnp.nan) for each in found))


def improve(function: Field, place: Place, along: Place) -> tuple[Place, Float[Array, ""]]:
    """Compute the tangent at a place of the curve, and how far a step of Newton's method would move it."""
    columns = jnp.stack([jnp.zeros_like(place).at[-1].set(1), jnp.append(_rates(function, place), 0)], axis=1)
    solved = solve(bordered(function, place, along), columns)
    return solved[:, 0] / _length(solved[:, 0]), _length(lax.stop_gradient(solved[:, 1]))


def bordered(function: Field, place: Place, along: Place) -> Float[Array, "places places"]:
    """Return the derivative of F in states and parameter with a direction below: regular but where curves cross."""
    return jnp.concatenate([jax.jacfwd(partial(_rates, function))(place), along[None]])


def correct(function: Field, place: Place, along: Place) -> Place:
    """Go to the curve at right angles to a direction."""

    def newton(place: Place, _: None) -> tuple[Place, None]:
        value = jnp.append(_rates(function, place), 0)
        return place - solve(bordered(function, place, along), value[:, None])[:, 0], None

    return lax.scan(newton, place, None, length=CORRECTIONS)[0]


def _rates(function: Field, place: Place) -> Point:
    return function(place[:-1], place[-1])


def _spectra(function: Field, places: Array, is_on: Array) -> Complex[Array, "steps states"]:
    jacobians = jax.vmap(jax.jacfwd(function))(places[:, :-1], places[:, -1])
    values = jnp.linalg.eigvals(jnp.where(is_on[:, None, None], jacobians, 0))
    return jnp.take_along_axis(values, jnp.argsort(-jnp.real(values), axis=1), axis=1)


def _length(vector: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(jnp.square(vector)))


def _check(function: Field, point: Array, parameter: Scalar, tangent: Array | None, steps: int) -> None:
    if point.ndim != 1 or point.shape[0] < 1 or not jnp.issubdtype(point.dtype, jnp.floating):
        refuse(
            ShapeError,
            "continuation: a curve starts at one point.",
            got=describe(point),
            want="floats [states], at least one",
            fix="map over starts with jax.vmap.",
        )
    value = jax.eval_shape(function, point, jnp.asarray(parameter, point.dtype))
    if value.shape != point.shape or value.dtype != point.dtype:
        refuse(
            ShapeError,
            "continuation: a field has one rate for each state.",
            got=f"a point {describe(point)}, its rates {describe(value)}",
            want="rates like the point",
            fix="return an array of the point's shape and dtype from the function.",
        )
    if tangent is not None and (tangent.shape != (point.shape[0] + 1,) or tangent.dtype != point.dtype):
        refuse(
            ShapeError,
            "continuation: a tangent has one number for each state, and one for the parameter.",
            got=f"a point {describe(point)}, a tangent {describe(tangent)}",
            want=f"{point.dtype}[{point.shape[0] + 1}]",
            fix="append the parameter's part to the direction of the states, such as 0.",
        )
    if steps < 1:
        refuse(
            OptionError,
            "continuation: a curve has a step at least.",
            got=f"steps={steps}",
            want="steps >= 1",
            fix="raise steps.",
        )
