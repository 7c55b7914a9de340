"""What becomes one kernel and what does not, and that the fused graph means what the graph means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.bodies import binary_body
from lowering.compiler import clean
from lowering.graph import Graph, Node, Value, verify
from lowering.passes.fuse import LABEL_LENGTH, fuse

from ..corpus import CASES
from ..programs import graph_of, normal
from ..running import arguments_of, assert_close, case_graph, leaves, names_of

X, Y = normal(8, 6), normal(8, 6, seed=1)


def fused(function: Callable[..., Any], *arguments: Any) -> Graph:
    return verify(fuse(clean(graph_of(function, *arguments))))


def kinds(function: Callable[..., Any], *arguments: Any) -> list[str]:
    return [node.attributes["kind"] for node in fused(function, *arguments).nodes if node.op == "fusion"]


@pytest.mark.parametrize("name", names_of("value"))
def test_fusion_keeps_the_meaning(name: str) -> None:
    graph = case_graph(name)
    arrays = leaves(arguments_of(CASES[name], "value"))
    assert_close(reference.run(verify(fuse(clean(graph))), *arrays), reference.run(graph, *arrays), CASES[name])


# --- along edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: jnp.sin(x) * 2 + 1, ["map"]),
        (lambda x: jax.nn.softmax(x), ["rows"]),
        (lambda x: (x - x.mean(0)[None]) * 2, ["rows"]),
        (lambda x: (jnp.sin(x.sum(1)), x.max(1)), ["rows"]),
        (lambda x: jnp.sin(x).sum(1), ["rows"]),
        (lambda x: (jnp.sin(x), jnp.sin(x).sum(1)), ["rows"]),
        (lambda x: x @ x.T + 1, ["dot"]),
        (lambda x: jnp.maximum(x @ x.T, 0).T, ["dot", "map"]),
        (lambda x: x.sum(1) @ x, ["rows", "dot"]),
        (lambda x: x.at[0].add(1.0), ["scatter"]),
        (lambda x: x.at[0].set(1.0), ["update"]),
        (lambda x: (x * 2).at[0].set(1.0) + 1, ["map"]),
        (lambda x: x[::-1] * 2 + x.T.reshape(8, 6), ["map"]),
    ],
)
def test_neighbours_become_one_kernel(function: Callable[..., Any], expected: list[str]) -> None:
    assert kinds(function, X) == expected


def test_two_reductions_over_different_axes_stay_apart() -> None:
    assert kinds(lambda x: (x - x.sum(0)[None], x - x.sum(1)[:, None]), X).count("rows") == 2


def test_a_transposed_consumer_of_rows_stays_apart() -> None:
    assert kinds(lambda x: (x - x.max(1, keepdims=True)).T.reshape(-1) * 2, X)[0] == "rows"


def test_a_consumer_that_reads_two_ways_stays_apart() -> None:
    square = normal(6, 6)
    assert len(kinds(lambda x: (lambda y: y + y.T)(jnp.tan(jnp.tan(x))), square)) == 2


def test_a_merge_never_makes_a_cycle() -> None:
    """The sum needs the product, the product needs the rows: rows and sum may not become one."""

    def diamond(x: Any) -> Any:
        rows = jnp.tan(x) - x.max(1, keepdims=True)
        return rows + (rows @ normal(6, 6))

    graph = fused(diamond, X)
    place = {value: i for i, node in enumerate(graph.nodes) for value in node.outputs}
    for i, node in enumerate(graph.nodes):
        assert all(place.get(value, -1) < i for value in node.inputs)


# --- beside each other ----------------------------------------------------------------------------------------------


def test_siblings_that_read_one_array_are_one_kernel() -> None:
    assert kinds(lambda x, y: (x + 1, x * y, jnp.sin(x)), X, Y) == ["map"]
    assert kinds(lambda x, y: (x.sum(1), (x * y).max(1)), X, Y) == ["rows"]


def test_strangers_stay_apart() -> None:
    # Of results this small, the last kernel would write both.
    assert kinds(lambda x, y: (jnp.sin(x + 1) @ x.T, jnp.sin(y * 2) @ y.T), X, Y) == ["map", "dot", "map", "dot"]


def test_siblings_of_other_shapes_stay_apart() -> None:
    assert kinds(lambda x: (x.sum(1), x.sum(0)), X) == ["rows", "rows"]


# --- what a fusion holds ---------------------------------------------------------------------------------------------


def test_equal_computations_have_equal_bodies() -> None:
    graph = fused(lambda x, y: (jnp.tan(x).sum(1) @ x, jnp.tan(y).sum(1) @ y), X, Y)
    rows = [node for node in graph.nodes if node.attributes.get("kind") == "rows"]
    first, second = (node.attributes["body"].text(with_places=False) for node in rows)
    assert first == second


def test_labels_name_the_operations_and_stay_short() -> None:
    (node,) = [node for node in fused(jax.nn.softmax, X).nodes if node.op == "fusion"]
    assert node.attributes["label"] == "reduce+subtract+exponential+divide"
    assert len(node.attributes["label"]) <= LABEL_LENGTH


def test_fusions_keep_a_source_line() -> None:
    (node,) = [node for node in fused(lambda x: jnp.tan(x) * 2, X).nodes if node.op == "fusion"]
    assert node.where.startswith("test_fuse.py:")


def test_only_what_is_needed_outside_is_an_output() -> None:
    (node,) = [node for node in fused(lambda x: (jnp.tan(x) * 2).sum(1) + 1, X).nodes if node.op == "fusion"]
    assert [value.shape for value in node.outputs] == [(8,)]


def test_regions_are_fused_too() -> None:
    graph = fused(lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: jnp.sin(c) * 2 + 1, x), X)
    (loop,) = [node for node in graph.nodes if node.op == "while"]
    assert [node.attributes["kind"] for node in loop.attributes["body"].nodes if node.op == "fusion"] == ["map"]


# --- in-place kernels -------------------------------------------------------------------------------------------------


def scatter_of_two(*, uses_both: bool) -> Graph:
    """Return a scatter over two operands whose second result is read or not; JAX makes none, StableHLO may."""
    x, y, index, u, v = (
        Value(i, dtype, shape)
        for i, (dtype, shape) in enumerate(
            (("f32", (4,)), ("f32", (4,)), ("i32", (2, 1)), ("f32", (2,)), ("f32", (2,)))
        )
    )
    a, b, c, d, s, p = (Value(i, "f32", ()) for i in range(6))
    body = Graph("body", (a, b, c, d), (Node("add", (a, d), (s,)), Node("multiply", (b, c), (p,))), (s, p))
    attributes = {
        "update_window_dims": (), "inserted_window_dims": (0,), "input_batching_dims": (), "scatter_batching_dims": (),
        "scatter_dims_to_operand_dims": (0,), "index_vector_dim": 1, "unique": False, "kind": None, "body": body,
    }  # fmt: skip
    first, second = Value(10, "f32", (4,)), Value(11, "f32", (4,))
    node = Node("scatter", (x, y, index, u, v), (first, second), attributes)
    return Graph("two", (x, y, index, u, v), (node,), (first, second) if uses_both else (first,))


@pytest.mark.parametrize("uses_both", [True, False])
def test_a_scatter_gives_out_all_it_works_on(uses_both: bool) -> None:
    graph = scatter_of_two(uses_both=uses_both)
    (node,) = [node for node in verify(fuse(graph)).nodes if node.op == "fusion"]
    assert len(node.outputs) == 2
    arrays = [normal(4), normal(4), np.array([[1], [1]], np.int32), normal(2), normal(2)]
    for got, want in zip(reference.run(fuse(graph), *arrays), reference.run(graph, *arrays), strict=True):
        np.testing.assert_array_equal(got, want)


def test_an_operand_that_is_also_read_is_two_inputs() -> None:
    """The plan gives the two different memory, because one of them is overwritten."""
    (node,) = [node for node in fuse(case_graph("scatter_updated_by_itself")).nodes if node.op == "fusion"]
    assert node.inputs.count(node.inputs[0]) == 2
    assert node.attributes["body"].inputs[0] is node.attributes["body"].nodes[-1].inputs[0]


def test_an_operand_that_is_not_read_is_one_input() -> None:
    (node,) = [node for node in fused(lambda x, y: x.at[0].set(y), X, Y[0]).nodes if node.op == "fusion"]
    assert len(set(node.inputs)) == len(node.inputs)


def test_binary_body_is_what_fusion_expects() -> None:
    assert binary_body("add", "f32").nodes[0].op == "add"
