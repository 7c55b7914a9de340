"""What a `tile` node means in NumPy: a cell at each position, padded arrays, updated operands first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lowering import reference
from lowering.errors import GraphError
from lowering.graph import Graph, Node, Value
from lowering.ops import verify_types


def cell(rows: int, *, updates: bool = False) -> Graph:
    """Return a cell that writes, at its position, twice one operand's row, or that row plus what the output holds."""
    place, operand, output = Value(0, "i32", ()), Value(1, "f32", (rows, 3)), Value(2, "f32", (rows, 3))
    zero, row, twice, result = (
        Value(3, "i32", ()),
        Value(4, "f32", (1, 3)),
        Value(5, "f32", (1, 3)),
        Value(6, "f32", (rows, 3)),
    )
    other = Value(7, "f32", (1, 3))
    nodes = (
        Node("constant", (), (zero,), {"value": np.asarray(0, np.int32)}),
        Node("dynamic_slice", (operand, place, zero), (row,), {"sizes": (1, 3)}),
        Node("dynamic_slice", (output, place, zero), (other,), {"sizes": (1, 3)}),
        Node("add", (row, other if updates else row), (twice,), {}),
        Node("dynamic_update_slice", (output, twice, place, zero), (result,), {}),
    )
    return Graph("cell", (place, operand, output), nodes, (result,))


def tile(rows: int, *, grid: int, inside: int, updates: int = 0) -> Graph:
    """Return a graph of one tile node over arrays of `rows` rows, of which the cell sees `inside`."""
    x, y = Value(0, "f32", (rows, 3)), Value(1, "f32", (rows, 3))
    attributes = {"name": "kernel", "grid": (grid,), "updates": updates, "cell": cell(inside, updates=bool(updates))}
    return Graph("f", (x,), (Node("tile", (x,), (y,), attributes),), (y,))


X = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_cell_runs_at_every_position() -> None:
    (got,) = reference.run(verify_types(tile(4, grid=4, inside=4)), X)
    np.testing.assert_array_equal(got, 2 * X)


def test_rows_that_nobody_writes_are_zero() -> None:
    (got,) = reference.run(tile(4, grid=2, inside=4), X)
    np.testing.assert_array_equal(got, np.concatenate([2 * X[:2], np.zeros((2, 3))]))


def test_padding_is_cut_off() -> None:
    (got,) = reference.run(verify_types(tile(4, grid=6, inside=6)), X)
    np.testing.assert_array_equal(got, 2 * X)


def test_updated_operand_is_what_the_output_holds_first() -> None:
    (got,) = reference.run(verify_types(tile(4, grid=2, inside=4, updates=1)), X)
    np.testing.assert_array_equal(got, np.concatenate([2 * X[:2], X[2:]]))


def test_operand_is_not_overwritten() -> None:
    before = X.copy()
    reference.run(tile(4, grid=4, inside=4, updates=1), X)
    np.testing.assert_array_equal(X, before)


def changed(**attributes: object) -> Graph:
    graph = tile(4, grid=4, inside=4)
    (node,) = graph.nodes
    return replace(graph, nodes=(replace(node, attributes={**node.attributes, **attributes}),))


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (changed(grid=(4, 1)), "a position of the grid is not i32"),
        (changed(grid=()), "a cell of 3 inputs and 1 outputs"),
        (changed(cell=cell(3)), r"f32\[4,3\] does not fit into the cell's f32\[3,3\]"),
    ],
)
def test_wrong_cell_is_named(graph: Graph, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        verify_types(graph)
