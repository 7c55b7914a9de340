"""Scatters whose updates never meet are told from those whose updates may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from lowering import lower
from lowering.codegen.tile.indices import is_injective
from lowering.compiler import clean

X = jax.ShapeDtypeStruct((40, 30), jnp.float32)
V = jax.ShapeDtypeStruct((40,), jnp.float32)
Places = jax.ShapeDtypeStruct((12,), jnp.int32)


def counts(function: Callable[..., Any], *arguments: Any) -> bool:
    """Tell whether a function's one scatter is found to be injective."""
    graph = clean(lower(function)(*arguments).graph)
    (node,) = (node for node in graph.nodes if node.op == "scatter")
    return is_injective(node, graph.producers())


def windows(size: int, stride: int) -> Callable[..., Any]:
    """Return a scatter of windows of `size` elements that start `stride` apart."""

    def function(x: Any) -> Any:
        starts = (
            lax.iota(jnp.int32, 6)[:, None]
            if stride == 1
            else (lax.iota(jnp.int32, 6) + lax.iota(jnp.int32, 6))[:, None]
        )
        numbers = lax.ScatterDimensionNumbers((1,), (), (0,))
        return lax.scatter_add(x, starts, jnp.ones((6, size), jnp.float32), numbers)

    return function


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.at[jnp.arange(12)].add(1.0),
        lambda x: x.at[jnp.arange(12) + 7].add(1.0),
        lambda x: x.at[20 - jnp.arange(12)].add(1.0),
        lambda x: x.at[jnp.arange(12)[:, None], jnp.arange(7)[None, :]].add(1.0),
    ],
    ids=["counted", "moved", "backwards", "both axes"],
)
def test_counted_places_never_meet(function: Callable[..., Any]) -> None:
    assert counts(function, X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, i: x.at[i].add(1.0),
        lambda x, i: x.at[jnp.arange(12) * 0].add(1.0),
        lambda x, i: x.at[jnp.arange(12) // 2].add(1.0),
        lambda x, i: x.at[jnp.arange(12) - jnp.arange(12)].add(1.0),
        lambda x, i: x.at[jnp.arange(12)[:, None] + jnp.arange(7)[None, :]].add(1.0),
        lambda x, i: x.at[i[:, None], jnp.arange(7)[None, :]].add(1.0),
    ],
    ids=["unknown", "nought", "halved", "cancelled", "diagonals", "one axis unknown"],
)
def test_other_places_may_meet(function: Callable[..., Any]) -> None:
    assert not counts(function, X, Places)


@pytest.mark.parametrize(("size", "stride", "apart"), [(1, 1, True), (2, 1, False), (2, 2, True), (3, 2, False)])
def test_windows_that_overlap_meet(size: int, stride: int, apart: bool) -> None:
    assert counts(windows(size, stride), V) is apart


def test_narrow_counters_wrap() -> None:
    long = jax.ShapeDtypeStruct((300,), jnp.float32)

    def function(x: Any, dtype: Any) -> Any:
        numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
        return lax.scatter_add(x, lax.iota(dtype, 300)[:, None], jnp.ones(300, jnp.float32), numbers)

    assert counts(lambda x: function(x, jnp.int32), long)
    assert not counts(lambda x: function(x, jnp.uint8), long)
