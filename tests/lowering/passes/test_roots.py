"""Which values get memory: results of anchors, outputs, what is dear to repeat, what an update would destroy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering.compiler import clean
from lowering.graph import Graph, Node, Value
from lowering.passes.roots import choose_roots, is_large_constant, is_view

from ..programs import graph_of, normal

X = normal(8, 6)


def rooted(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """Return the operations whose results live in memory, constants left out."""
    graph = clean(graph_of(function, *arguments))
    roots = choose_roots(graph)
    return [node.op for node in graph.nodes if node.op != "constant" and any(v in roots for v in node.outputs)]


def test_an_expression_is_one_root() -> None:
    assert rooted(lambda x: jnp.sin(x) * 2 + x, X) == ["add"]


def test_anchors_are_roots() -> None:
    assert rooted(lambda x: jnp.sin((x * 2).sum(1)) @ X, X) == ["reduce", "sine", "dot_general"]


def test_cheap_values_are_repeated_for_each_use() -> None:
    assert rooted(lambda x: (jnp.exp(x + 1), jnp.sin(x + 1)), X) == ["exponential", "sine"]


def test_dear_values_are_kept_for_several_uses() -> None:
    assert rooted(lambda x: (jnp.exp(jnp.tan(x)), jnp.sin(jnp.tan(x))), X) == ["tan", "exponential", "sine"]


def test_sums_of_arrays_are_kept_for_several_uses() -> None:
    assert rooted(lambda x, y: (jnp.exp(x + y), jnp.sin(x + y)), X, X) == ["add", "exponential", "sine"]
    # One array and what is small beside it, or a piece of a larger one, is read again.
    assert rooted(lambda x, y: (jnp.exp(x + y), jnp.sin(x + y)), X, X[:1]) == ["exponential", "sine"]
    assert rooted(lambda x: (jnp.exp(x[:3]), jnp.sin(x[:3])), X) == ["exponential", "sine"]


def test_dear_values_are_kept_before_a_wide_broadcast() -> None:
    wide = rooted(lambda x: jnp.tan(x)[:, None] + np.ones((6, 64), np.float32), X[0])
    assert "tan" in wide
    assert "tan" not in rooted(lambda x: jnp.tan(x)[:, None] + np.ones((6, 2), np.float32), X[0])


def test_long_expressions_are_cut() -> None:
    def tower(x: Any) -> Any:
        for _ in range(30):
            x = jnp.tan(x) + 1
        return x

    assert 1 < len(rooted(tower, X)) < 30


def test_an_update_of_an_input_is_in_place() -> None:
    assert rooted(lambda x: x.at[0].set(1.0) * 2, X)[:1] == ["dynamic_update_slice"]


def test_an_update_of_an_expression_is_computed_whole() -> None:
    assert rooted(lambda x: (x * 2).at[0].set(1.0) + 1, X) == ["add"]


def test_what_reads_an_overwritten_array_is_computed_before() -> None:
    roots = rooted(lambda x: lax.dynamic_update_slice(x, x[1:] * 2, (0, 0)), X)
    assert roots == ["multiply", "dynamic_update_slice"]
    assert rooted(lambda x, y: lax.dynamic_update_slice(x, y[1:] * 2, (0, 0)), X, X) == ["dynamic_update_slice"]


def test_indices_of_a_scatter_are_computed_in_its_kernel() -> None:
    index = np.array([1, 2], np.int32)
    assert rooted(lambda x, i: x.at[i + 1].add(1.0, mode="drop"), X, index) == ["scatter"]


def test_products_load_moved_operands_and_store_computed_ones() -> None:
    assert rooted(lambda x: x.T @ x, X) == ["dot_general"]
    assert rooted(lambda x: jnp.sin(x).T @ x, X)[-1] == "dot_general"
    assert len(rooted(lambda x: jnp.sin(x).T @ x, X)) == 2


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.reshape(-1), ["reshape"]),
        (lambda x: lax.bitcast_convert_type(x, jnp.int32), ["bitcast_convert"]),
    ],
)
def test_views_are_roots_only_where_someone_asks(function: Callable[..., Any], expected: list[str]) -> None:
    assert rooted(function, X) == expected
    assert rooted(lambda x: jnp.sin(function(x).astype(jnp.float32)), X) == ["sine"]


def test_is_view_and_is_large_constant() -> None:
    graph: Graph = graph_of(lambda x: x.reshape(-1) + np.arange(48, dtype=np.float32) * 1.0, X)
    assert [node.op for node in graph.nodes if is_view(node)] == ["reshape"]
    assert [node.output.size for node in graph.nodes if is_large_constant(node)] == [48]


def test_what_an_update_destroys_is_rooted_where_a_view_looks_at_it() -> None:
    x, y = Value(0, "f32", (8, 6)), Value(1, "f32", (8, 6))
    start = Value(2, "i32", ())
    row, row_after, view = Value(3, "f32", (6,)), Value(4, "f32", (6,)), Value(5, "f32", (1, 6))
    nodes = (
        Node("reshape", (slice_of(x),), (row,)),
        Node("sine", (row,), (row_after,)),
        Node("reshape", (row_after,), (view,)),
        Node("dynamic_update_slice", (x, view, start, start), (y,)),
    )
    first = Node("slice", (x,), (slice_of(x),), {"start": (0, 0), "limit": (1, 6), "stride": (1, 1)})
    roots = choose_roots(Graph("update", (x, start), (first, *nodes), (y,)))
    assert row_after in roots
    assert view not in roots


def slice_of(x: Value) -> Value:
    return Value(9, x.dtype, (1, x.shape[1]))
