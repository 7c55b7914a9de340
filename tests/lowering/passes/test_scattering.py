"""Scatters into arrays of one number become selections where no two updates can meet, and only there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.graph import Graph, verify
from lowering.ops import verify_types
from lowering.passes.normalise import normalise
from lowering.passes.simplify import simplify

from ..programs import graph_of

ROW_PLACES = np.array([0, 4, -1, 5, 4, 99, -99], np.int32)
UPDATES = np.arange(1, 8, dtype=np.float32)


def picked(i: Any, u: Any) -> Any:
    """The derivative of picking one number of each row."""
    return jax.vjp(lambda x: jnp.take_along_axis(x, i[:, None], 1), jnp.zeros((7, 5)))[1](u[:, None])[0]


def batched(update: Callable[..., Any], filler: float) -> Callable[..., Any]:
    numbers = lax.ScatterDimensionNumbers((), (1,), (1,), (0,), (0,))

    def function(i: Any, u: Any) -> Any:
        return update(jnp.full((7, 5), filler, u.dtype), i[:, None], u, numbers)

    return function


def one_window(i: Any, u: Any) -> Any:
    """One update of a whole column, at a place that is known at run time."""
    numbers = lax.ScatterDimensionNumbers((0,), (1,), (1,))
    return lax.scatter_add(jnp.full((7, 5), 2.0), i[1:2], u, numbers)


def window_of_one(i: Any, u: Any) -> Any:
    numbers = lax.ScatterDimensionNumbers((0, 1), (), (1,))
    return lax.scatter_add(jnp.full((7, 5), 2.0), i[1:2], u[:, None], numbers)


def two_numbers(i: Any, u: Any) -> Any:
    numbers = lax.ScatterDimensionNumbers((), (0, 1), (0, 1))
    return lax.scatter_add(jnp.zeros((7, 5)), i[jnp.array([1, 0])], u[0], numbers)


SELECTED = {
    "picked": picked,
    "add": batched(lax.scatter_add, 0.5),
    "set": batched(lax.scatter, 0.5),
    "min": batched(lax.scatter_min, 2.5),
    "max": batched(lax.scatter_max, 2.5),
    "mul": batched(lax.scatter_mul, 2.5),
    "one window": one_window,
    "window of one": window_of_one,
    "two numbers": two_numbers,
}


def part_of_a_column(i: Any, u: Any) -> Any:
    """A window that is moved along one axis and begins at zero of another, which it does not fill."""
    numbers = lax.ScatterDimensionNumbers((0,), (1,), (1,))
    return lax.scatter_add(jnp.zeros((7, 5)), i[1:2], u[:3], numbers)


def columns_side_by_side(i: Any, u: Any) -> Any:
    numbers = lax.ScatterDimensionNumbers((0, 1), (), (1,))
    return lax.scatter_add(jnp.zeros((7, 5)), i[:1], jnp.stack([u, u], 1), numbers)


SCATTERED = {
    "several rows": lambda i, u: jnp.zeros((7,)).at[i].add(u),
    "into an argument": lambda i, u: u.at[i[1]].add(2.0),
    "part of a column": part_of_a_column,
    "columns side by side": columns_side_by_side,
}


def simple(function: Callable[..., Any]) -> tuple[Graph, Graph]:
    graph = graph_of(function, ROW_PLACES, UPDATES)
    return graph, verify_types(verify(simplify(normalise(graph))))


@pytest.mark.parametrize("name", SELECTED)
def test_updates_that_cannot_meet_are_selected(name: str) -> None:
    graph, rewritten = simple(SELECTED[name])
    assert not [node for node in rewritten.nodes if node.op == "scatter"]
    for got, want in zip(
        reference.run(rewritten, ROW_PLACES, UPDATES), reference.run(graph, ROW_PLACES, UPDATES), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", SCATTERED)
def test_updates_that_may_meet_or_stick_out_are_scattered(name: str) -> None:
    graph, rewritten = simple(SCATTERED[name])
    assert [node for node in rewritten.nodes if node.op == "scatter"]
    for got, want in zip(
        reference.run(rewritten, ROW_PLACES, UPDATES), reference.run(graph, ROW_PLACES, UPDATES), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_the_sign_of_a_zero_is_that_of_the_sum() -> None:
    _, rewritten = simple(batched(lax.scatter_add, 0.0))
    (got,) = reference.run(rewritten, ROW_PLACES, np.full_like(UPDATES, -0.0))
    assert not np.signbit(got).any()
