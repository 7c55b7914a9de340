from __future__ import annotations

from dataclasses import replace

import pytest

from lowering import reference
from lowering.errors import GraphError
from lowering.graph import Graph, Node, Value
from lowering.ops import TABLE, verify_types

from ..programs import PROGRAMS, graph_of


def test_every_operation_of_the_table_has_a_meaning() -> None:
    assert set(TABLE) <= set(reference.MEANINGS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_verify_types_accepts_imported_programs(name: str) -> None:
    function, arguments = PROGRAMS[name]
    graph = graph_of(function, *arguments)
    assert verify_types(graph) is graph


def one(op: str, inputs: str, output: str, **attributes: object) -> Graph:
    """Return a graph of one node from texts such as "f32[2,3] f32"."""
    values = [_value(i, text) for i, text in enumerate([*inputs.split(), output])]
    return Graph("g", tuple(values[:-1]), (Node(op, tuple(values[:-1]), (values[-1],), attributes),), (values[-1],))


def _value(number: int, text: str) -> Value:
    dtype, _, extents = text.rstrip("]").partition("[")
    return Value(number, dtype, tuple(int(n) for n in extents.split(",") if n))


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (one("add", "f32[2] f32[3]", "f32[2]"), r"f32\[3\] is not f32\[2\]"),
        (one("add", "f32[2]", "f32[2]"), "1 inputs, not 2"),
        (one("sine", "i32[2]", "i32[2]"), "dtype i32 is not allowed"),
        (one("reshape", "f32[2,3]", "f32[5]"), "number of elements"),
        (one("transpose", "f32[2,3]", "f32[2,3]", permutation=(1, 0)), r"is not f32\[3,2\]"),
        (one("broadcast_in_dim", "f32[2]", "f32[3,4]", dimensions=(0,)), "dimensions"),
        (one("select", "i32[2] f32[2] f32[2]", "f32[2]"), "predicate"),
        (one("compare", "f32[2] f32[2]", "f32[2]", direction="LT"), r"is not bool\[2\]"),
        (one("slice", "f32[4]", "f32[2]", start=(1,), limit=(5,), stride=(1,)), "bounds"),
        (one("concatenate", "f32[2,3] f32[2,4]", "f32[4,3]", dimension=0), "part"),
        (one("sort", "f32[2]", "f32[2]"), "no such operation"),
    ],
)
def test_verify_types_names_what_is_wrong(graph: Graph, problem: str) -> None:
    with pytest.raises(GraphError, match=problem):
        verify_types(graph)


def test_verify_types_looks_into_regions() -> None:
    inner = one("sine", "i32[2]", "i32[2]")
    index = Value(7, "i32", ())
    node = Node("case", (index, inner.inputs[0]), inner.outputs, {"branches": (replace(inner, name="branch"),)})
    with pytest.raises(GraphError, match="dtype i32 is not allowed"):
        verify_types(Graph("g", node.inputs, (node,), node.outputs))
