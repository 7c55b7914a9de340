from __future__ import annotations

import numpy as np
import pytest

from lowering.errors import GraphError
from lowering.graph import Graph, Node, Value, regions, verify

X, Y, Z = (Value(i, "f32", (2, 3)) for i in range(3))


def chain() -> Graph:
    nodes = (Node("sine", (X,), (Y,), where="model.py:3 in f"), Node("add", (X, Y), (Z,)))
    return Graph("chain", (X,), nodes, (Z,), aliases=((0, 0),))


def test_value_knows_its_size_and_bytes() -> None:
    value = Value(0, "c64", (2, 3))
    assert (value.size, value.nbytes, value.text) == (6, 48, "c64[2,3]")


def test_text_prints_one_node_a_line() -> None:
    assert chain().text().splitlines() == [
        "graph chain(%0: f32[2,3]) {",
        "  %1 = sine(%0) : f32[2,3]  # model.py:3 in f",
        "  %2 = add(%0, %1) : f32[2,3]",
        "  return %2",
        "  alias input 0 -> output 0",
        "}",
    ]


def test_text_shortens_long_constants() -> None:
    node = Node("constant", (), (Value(0, "i32", (20,)),), {"value": np.arange(20, dtype=np.int32)})
    assert "[0, 1, 2, 3, 4, 5, 6, 7, ...]" in Graph("g", (), (node,), node.outputs).text()


def test_verify_accepts_a_graph_in_order() -> None:
    graph = chain()
    assert verify(graph) is graph


def test_verify_refuses_a_use_before_the_definition() -> None:
    graph = chain()
    with pytest.raises(GraphError, match="defined before it is used"):
        verify(Graph("g", graph.inputs, graph.nodes[::-1], graph.outputs))


def test_verify_refuses_a_number_defined_twice() -> None:
    nodes = (Node("sine", (X,), (Y,)), Node("cosine", (X,), (Y,)))
    with pytest.raises(GraphError, match="defined exactly once"):
        verify(Graph("g", (X,), nodes, (Y,)))


def test_verify_looks_into_regions() -> None:
    open_region = Graph("body", (), (), (X,))
    node = Node("case", (X,), (Y,), {"branches": (open_region,)})
    assert regions(node) == (open_region,)
    with pytest.raises(GraphError, match="used by return in body"):
        verify(Graph("g", (X,), (node,), (Y,)))


def test_users_lists_a_node_for_each_use() -> None:
    graph = chain()
    assert [node.op for node in graph.users()[X]] == ["sine", "add"]
    assert graph.producers()[Y].op == "sine"
