"""Operations over nothing become constants, initial values or their operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.graph import Graph, verify
from lowering.passes.degenerate import degenerate

from ..programs import graph_of, leaves, normal

EMPTY = np.zeros((4, 0), np.float32)
NO_INDEX = np.zeros((0, 1), np.int32)
REMOVED = {"reduce", "reduce_window", "dot_general", "scatter"}
X = normal(4, 3)


def ops(graph: Graph) -> set[str]:
    return {node.op for node in graph.nodes}


def no_updates(x: Any, index: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    return lax.scatter_add(x, index, jnp.zeros((0, 3)), dims)


CASES: list[tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = [
    (lambda x: lax.reduce(x, np.float32(3), lax.add, (1,)), (EMPTY,)),
    (lambda x: lax.reduce((x, x), (np.float32(3), np.float32(4)), lambda a, b: (a[0] + b[1], a[1]), (1,)), (EMPTY,)),
    (lambda x, y: x @ y, (EMPTY, np.zeros((0, 5), np.float32))),
    (lambda x, y: x @ y, (EMPTY.astype(np.int32), np.zeros((0, 5), np.int32))),
    (no_updates, (X, NO_INDEX)),
    (lambda x: lax.reduce_window(x, np.float32(2), lax.add, (1, 2), (1, 1), ((0, 0), (2, 1))), (EMPTY,)),
]


@pytest.mark.parametrize(("function", "arguments"), CASES)
def test_nothing_is_computed_over_nothing(function: Callable[..., Any], arguments: tuple[np.ndarray, ...]) -> None:
    graph = graph_of(function, *arguments)
    clean = verify(degenerate(graph))
    assert ops(graph) & REMOVED
    assert not ops(clean) & REMOVED
    want = reference.run(graph, *leaves(arguments))
    for got, expected in zip(reference.run(clean, *leaves(arguments)), want, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda x: x.sum(1), (X,)),
        (lambda x, y: x @ y, (X, X.T)),
        (lambda x: x.at[0, 0].add(1.0), (X,)),
        (lambda x: x.at[...].set(0.0) + x.sum(), (X,)),
    ],
)
def test_what_has_elements_stays(function: Callable[..., Any], arguments: tuple[np.ndarray, ...]) -> None:
    graph = graph_of(function, *arguments)
    assert [node.op for node in degenerate(graph).nodes] == [node.op for node in graph.nodes]


def test_regions_are_cleaned_too() -> None:
    graph = graph_of(
        lambda x, y: lax.while_loop(lambda c: c.sum() < 9, lambda c: c + (x @ y), jnp.ones((4, 4))), EMPTY, EMPTY.T
    )
    (loop,) = [node for node in degenerate(graph).nodes if node.op == "while"]
    assert "dot_general" not in ops(loop.attributes["body"])
