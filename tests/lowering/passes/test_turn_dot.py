"""Products that are only read transposed exchange their operands, where rows would come to lie side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.graph import Graph, verify
from lowering.passes.fuse import fuse
from lowering.passes.turn_dot import turn_dot

from ..programs import graph_of, leaves, normal

WEIGHTS, VALUES = normal(2, 3, 5, 7), normal(2, 7, 3, 4, seed=1)


def attended(weights: Any, values: Any) -> Any:
    return jnp.einsum("bhqk,bkhd->bqhd", weights, values)


def chosen(values: Any, weights: Any) -> Any:
    product = lax.dot_general(values, weights, (((1,), (3,)), ((0, 2), (0, 1))))
    return product.transpose(0, 3, 1, 2)


def nested(a: Any, b: Any) -> Any:
    return lax.fori_loop(0, 3, lambda _, x: (a @ x @ b).T, jnp.zeros((5, 5)) + a)


def both(a: Any, b: Any) -> Any:
    product = a @ b
    return product.T, product


TURNED: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "attention": (chosen, (VALUES, WEIGHTS)),
    "transposed": (lambda a, b: (a @ b).T + 1, (normal(4, 5), normal(5, 6, seed=1))),
    "outer": (lambda a, b: lax.dot_general(a, b, (((), ()), ((), ()))).transpose(2, 1, 0), (normal(3), normal(4, 5))),
    "in a loop": (nested, (normal(5, 5), normal(5, 5, seed=1))),
    "precise": (
        lambda a, b: lax.dot(a, b, precision=(lax.Precision.HIGHEST, lax.Precision.DEFAULT)).T,
        (normal(4, 5), normal(5, 6, seed=1)),
    ),
}
KEPT: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "columns stay last": (lambda a, b: (a @ b).reshape(4, 3, 2), (normal(4, 5), normal(5, 6, seed=1))),
    "rows exchanged": (
        lambda a, b: lax.dot_general(a, b, (((2,), (0,)), ((), ()))).transpose(1, 0, 2),
        (normal(3, 4, 5), normal(5, 6, seed=1)),
    ),
    "batch last": (
        lambda a, b: lax.dot_general(a, b, (((2,), (1,)), ((0,), (0,)))).transpose(1, 2, 0),
        (normal(3, 4, 5), normal(3, 5, 6, seed=1)),
    ),
    "read as it is as well": (both, (normal(4, 5), normal(5, 6, seed=1))),
}


def dots(graph: Graph) -> list[tuple[int, ...]]:
    return [node.output.shape for node in graph.nodes if node.op == "dot_general"]


@pytest.mark.parametrize("name", TURNED | KEPT)
def test_results_stay(name: str) -> None:
    function, arrays = (TURNED | KEPT)[name]
    graph = graph_of(function, *arrays)
    turned = verify(turn_dot(graph))
    assert (str(turned.text()) == str(graph.text())) == (name in KEPT)
    for got, want in zip(reference.run(turned, *arrays), reference.run(graph, *arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    for got, want in zip(reference.run(turned, *arrays), leaves(function(*arrays)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_transpose_that_becomes_the_identity_is_gone() -> None:
    turned = turn_dot(graph_of(lambda a, b: (a @ b).T, normal(4, 5), normal(5, 6, seed=1)))
    assert [node.op for node in turned.nodes] == ["dot_general"]


def test_the_product_writes_its_transpose() -> None:
    fused = fuse(turn_dot(graph_of(chosen, VALUES, WEIGHTS)))
    (node,) = fused.nodes
    assert node.attributes["kind"] == "dot"
    assert node.attributes["domain"] == (2, 3, 5, 4)
    assert node.attributes["output_axes"] == ((0, 2, 1, 3),)
    assert node.output.shape == (2, 5, 3, 4)


def test_a_transpose_that_separates_columns_is_left_to_its_readers() -> None:
    def separated(a: Any, b: Any) -> Any:
        product = lax.dot_general(a, b, (((2,), (1,)), ((0,), (0,)))).transpose(1, 2, 0)
        return product + 1

    fused = fuse(turn_dot(graph_of(separated, normal(3, 4, 5), normal(3, 5, 6, seed=1))))
    assert [node.attributes["kind"] for node in fused.nodes] == ["dot", "map"]
    assert fused.nodes[0].output.shape == (3, 4, 6)


def test_dots_are_as_many_as_before() -> None:
    for function, arrays in (TURNED | KEPT).values():
        graph = graph_of(function, *arrays)
        assert len(dots(turn_dot(graph))) == len(dots(graph))
