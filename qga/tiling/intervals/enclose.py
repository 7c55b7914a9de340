"""All values that a traced function takes while its arguments range over intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import ShapeError, describe, refuse
from ..mass import Interval
from .box import Box, is_real, point
from .evaluate import Evaluation
from .graph import Graph, graph_of


def enclose(function: Callable[..., Any], *arguments: Any) -> Any:
    """Bound all values of a function while each interval argument ranges over its interval, independently.

    f(x) lies in enclose(f, X) for every x in X; X in Y implies enclose(f, X) in enclose(f, Y)

    The function is traced, and every primitive bounded in turn: what is monotone at its ends, what turns at its
    turning points, a choice by the cases that are possible, an element of a table between two places by the least and
    the largest of those between. A primitive without a rule has no bound, nor has what depends on it
    (``unbounded_primitives``).

    Args:
        function: of arrays; may hold others, which are points.
        arguments: pytrees of ``Interval`` and of arrays, which are points. Intervals of integers hold integers; those
            of truths are (certain, possible).

    Returns:
        What the function returns, with an ``Interval`` for each array. Without a bound it is (-inf, inf), of integers
        all that there are; a function that may return NaN has none.

    Raises:
        ShapeError: the ends of an interval differ in shape or dtype.

    Error: holds for the function as computed in its dtypes by any device whose sums and products are rounded to
        nearest, in any order, fused or not, whose quotients and roots are off by at most 3 units in the last place,
        exp by 5, log by 3, tanh and erf by 10, expm1 by 8, others by 4. Numbers below the least normal one count as
        zeros. A variable that occurs twice counts as two: x - x is not zero. What is computed from points alone by a
        primitive without a rule counts as exact.
    Cost: about ten operations for each one of the function; a table of n elements that is read between two places
        takes n log2 n operations and numbers.
    Source: Moore 1966; Bender and Farach-Colton 2000 (the least element between two places).

    Example:
        >>> import jax.numpy as jnp
        >>> from qga.tiling import Interval, enclose
        >>> query, key = Interval(jnp.int32(64), jnp.int32(127)), Interval(jnp.int32(0), jnp.int32(31))
        >>> enclose(lambda query, key: query - key < 48, query, key)  # certain, possible
        Interval(low=Array(False, dtype=bool), high=Array(True, dtype=bool))
    """
    found, shape = evaluated(function, arguments, set())
    return jax.tree.unflatten(jax.tree.structure(shape), [interval_of(found(root)) for root in found.graph.roots])


def unbounded_primitives(function: Callable[..., Any], *arguments: Any) -> tuple[str, ...]:
    """List the primitives of a function that ``enclose`` has no bound for, at such arguments.

    Args:
        function: of arrays.
        arguments: as ``enclose`` takes them.

    Returns:
        Their names, sorted.

    Example:
        >>> import jax
        >>> from qga.tiling import Interval, unbounded_primitives
        >>> unbounded_primitives(jax.lax.erf_inv, Interval(0.0, 0.5))
        ('erf_inv',)
    """
    missed: set[str] = set()

    def run() -> Any:
        found, _ = evaluated(function, arguments, missed)
        return [interval_of(found(root)) for root in found.graph.roots]

    jax.eval_shape(run)
    return tuple(sorted(missed))


def evaluated(function: Callable[..., Any], arguments: Any, missed: set[str]) -> tuple[Evaluation, Any]:
    """Trace a function and return what is known of its values, with the tree of its results."""
    leaves, tree = jax.tree.flatten(arguments, is_leaf=lambda each: isinstance(each, Interval))
    boxes = [_box(each) for each in leaves]
    like = [jax.ShapeDtypeStruct(box.low.shape, box.low.dtype) for box in boxes]
    closed, shape = jax.make_jaxpr(lambda *flat: function(*jax.tree.unflatten(tree, flat)), return_shape=True)(*like)
    graph: Graph = graph_of(closed)
    return Evaluation(graph, boxes, missed), shape


def _box(argument: Any) -> Box:
    if not isinstance(argument, Interval):
        return point(jnp.asarray(argument))
    low, high = map(jnp.asarray, argument)
    if low.shape != high.shape or low.dtype != high.dtype:
        refuse(
            ShapeError,
            "enclose: both ends of an interval must have one shape and one dtype.",
            got=f"low {describe(low)}, high {describe(high)}",
            want=f"high {describe(low)}",
            fix="broadcast and convert one end to the other.",
        )
    return Box(low, high)


def interval_of(box: Box) -> Interval:
    """Return a box as a user sees it: without a bound, all that there is."""
    if box.low is None:
        return Interval(jnp.asarray(-jnp.inf), jnp.asarray(jnp.inf))
    low, high = map(jnp.asarray, (box.low, box.high))
    if not is_real(box):
        return Interval(low, high)
    unknown = jnp.isnan(low) | jnp.isnan(high)
    far = np.asarray(np.inf, low.dtype)
    return Interval(jnp.where(unknown, -far, low), jnp.where(unknown, far, high))
