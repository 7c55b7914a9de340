"""Where a flow rests: zeros of a field, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import OptionError, ShapeError, describe, refuse
from .linear import solve

Point = Float[Array, " states"]


class CriticalPoints(NamedTuple):
    """Zeros of a field, one for each start that led to a new one.

    Attributes:
        points: in the order of the starts; NaN where a start led to no new one.
        errors: how far Newton's method would still move each, its distance from the zero to first order.
        is_found: which starts led to a new one.
    """

    points: Float[Array, "starts states"]
    errors: Float[Array, " starts"]
    is_found: Bool[Array, " starts"]


@partial(jax.jit, static_argnames=("function", "iterations"))
def critical_points(
    function: Callable[[Point], Point],
    starts: Float[Array, "starts states"],
    *,
    iterations: int = 40,
    separation: float = 1e-3,
) -> CriticalPoints:
    """Find different zeros of a field by Newton's method with deflation.

    Once r_1, ..., r_k are known, zeros of M(x) F(x) are sought, M(x) = prod_i (1 + 1 / |x - r_i|^2): a search does not
    end where another did, so a start may be repeated to look for more. Its step is Newton's for F, times

    1 / (1 - <grad log M, step>)

    and at most 1 + |x| long. Two steps for F alone follow.

    Args:
        function: F, the right-hand side of a flow, the gradient of an energy, or x -> next x - x of a map.
        starts: where to begin. One that is a zero itself finds it once; to look for more, repeat one beside it.
        iterations: of each search, at least 1.
        separation: zeros closer than this times 1 + |x| count as one.

    Returns:
        What was found, not all there is: no start proves that there is no other zero. Derivatives are the zeros' own.

    Raises:
        ShapeError: ``starts`` is no table of floats, is empty, or F changes the shape or dtype of a point.
        OptionError: ``iterations`` is below 1.

    Error: within twice ``errors`` where the Jacobian changes slowly enough: |J^-1| errors max|F''| <= 1 / 2.
    Cost: starts iterations (states evaluations of F + states^3).
    Source: Farrell, Birkisson and Funke 2015; Kantorovich 1948 for the error.

    Example:
        >>> found = critical_points(lambda x: x - x**3, jnp.full((3, 1), 0.4))
        >>> sorted(found.points.ravel().round(4).tolist())
        [-1.0, 0.0, 1.0]
    """
    _check(function, starts, iterations)
    close = jnp.sqrt(jnp.finfo(starts.dtype).eps).astype(starts.dtype)

    def search(known: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        zeros, is_found = known
        point = lax.scan(
            lambda x, _: (_deflated(function, x, zeros, is_found), None), starts[number], length=iterations
        )[0]
        # From here the derivative is that of Newton's method at a zero, which is the zero's own.
        point = lax.stop_gradient(point)
        for _ in range(2):
            point = point + _newton(function, point)
        size = 1 + _length(lax.stop_gradient(point))
        error = _length(lax.stop_gradient(_newton(function, point)))
        apart = jnp.sqrt(jnp.sum(jnp.square(lax.stop_gradient(zeros - point[None])), axis=1))
        is_new = (error <= close * size) & ~jnp.any(is_found & (apart <= separation * size))
        known = zeros.at[number].set(jnp.where(is_new, point, 0)), is_found.at[number].set(is_new)
        return known, (jnp.where(is_new, point, jnp.nan), jnp.where(is_new, error, jnp.nan), is_new)

    count = starts.shape[0]
    none = jnp.zeros_like(starts), jnp.zeros(count, bool)
    return CriticalPoints(*lax.scan(search, none, jnp.arange(count))[1])


def _newton(function: Callable[[Point], Point], point: Point) -> Point:
    return -solve(jax.jacfwd(function)(point), function(point)[:, None])[:, 0]


def _deflated(function: Callable[[Point], Point], point: Point, zeros: Array, is_found: Array) -> Point:
    step = _newton(function, point)
    away = point[None] - zeros
    squares = jnp.maximum(jnp.sum(jnp.square(away), axis=1), jnp.finfo(point.dtype).tiny ** 0.5)
    # grad log (1 + 1 / r^2) = -2 (x - r) / (r^2 (1 + r^2)).
    pull = jnp.sum(jnp.where(is_found, -2 * (away @ step) / (squares * (1 + squares)), 0))
    step = step / (1 - pull)
    longest = 1 + _length(point)
    return point + step * jnp.minimum(1, longest / jnp.maximum(_length(step), longest))


def _length(vector: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(vector)))


def _check(function: Callable[[Point], Point], starts: Array, iterations: int) -> None:
    if starts.ndim != 2 or 0 in starts.shape or not jnp.issubdtype(starts.dtype, jnp.floating):
        refuse(
            ShapeError,
            "critical_points: each search starts at a point.",
            got=describe(starts),
            want="floats [starts, states], at least one of each",
            fix="pass one point as point[None].",
        )
    value = jax.eval_shape(function, starts[0])
    if value.shape != starts.shape[1:] or value.dtype != starts.dtype:
        refuse(
            ShapeError,
            "critical_points: a field has one rate for each state.",
            got=f"a point {describe(starts[0])}, its rates {describe(value)}",
            want="rates like the point",
            fix="return an array of the point's shape and dtype from the function.",
        )
    if iterations < 1:
        refuse(
            OptionError,
            "critical_points: a search takes a step at least.",
            got=f"iterations={iterations}",
            want="iterations >= 1",
            fix="raise iterations.",
        )
