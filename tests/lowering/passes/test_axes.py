"""How operands' dimensions follow those of a result."""

from __future__ import annotations

from typing import Any

import pytest

from lowering.graph import Graph, Node, Value
from lowering.passes.axes import OPAQUE, identity, operand_axes, reads


def node(op: str, shapes: tuple[tuple[int, ...], ...], result: tuple[int, ...], **attributes: Any) -> Node:
    inputs = tuple(Value(i, "f32", shape) for i, shape in enumerate(shapes))
    return Node(op, inputs, (Value(9, "f32", result),), attributes)


def test_identity_leaves_out_axes_of_one() -> None:
    assert identity((4, 1, 3)) == (0, None, 2)
    assert identity(()) == ()


@pytest.mark.parametrize(
    ("operation", "axes", "expected"),
    [
        (node("add", ((4, 3), (4, 3)), (4, 3)), (5, 7), (5, 7)),
        (node("select", ((), (4, 3), (4, 3)), (4, 3)), (5, 7), ()),
        (node("transpose", ((3, 4),), (4, 3), permutation=(1, 0)), (5, 7), (7, 5)),
        (node("broadcast_in_dim", ((3,),), (4, 3), dimensions=(1,)), (5, 7), (7,)),
        (node("broadcast_in_dim", ((1, 3),), (4, 3), dimensions=(0, 1)), (5, 7), (None, 7)),
        (node("broadcast_in_dim", ((),), (4, 3), dimensions=()), (5, 7), ()),
        (node("reshape", ((4, 3),), (4, 1, 3)), (5, None, 7), (5, 7)),
        (node("reshape", ((1, 4, 3),), (4, 3)), (5, 7), (None, 5, 7)),
        (node("reshape", ((12,),), (4, 3)), (5, 7), None),
        (node("reverse", ((4, 3),), (4, 3), dimensions=(0,)), (5, 7), None),
        (node("dynamic_update_slice", ((4, 3), (1, 1), (), ()), (4, 3)), (5, 7), (5, 7)),
    ],
)
def test_operand_axes(operation: Node, axes: tuple[int | None, ...], expected: tuple[int | None, ...] | None) -> None:
    assert operand_axes(operation, 0, axes) == expected


def test_the_piece_of_an_update_is_opaque() -> None:
    update = node("dynamic_update_slice", ((4, 3), (1, 1), (), ()), (4, 3))
    assert operand_axes(update, 1, (0, 1)) is None


@pytest.mark.parametrize("op", sorted(OPAQUE - {"dynamic_update_slice"}))
def test_opaque_operations_have_no_map(op: str) -> None:
    assert operand_axes(node(op, ((4, 3),), (4, 3)), 0, (0, 1)) is None


def test_reads_yields_each_pair_once_through_everything_inlined() -> None:
    x, y, z, w = (Value(i, "f32", (4, 4)) for i in range(4))
    turned = Node("transpose", (x,), (y,), {"permutation": (1, 0)})
    both = Node("add", (x, y), (z,))
    again = Node("multiply", (z, x), (w,))
    producers = Graph("g", (x,), (turned, both, again), (w,)).producers()
    assert set(reads([(w, (0, 1))], producers.get)) == {(x, (0, 1)), (x, (1, 0))}
    assert len(list(reads([(w, (0, 1))], producers.get))) == 2
    kept = {value: made for value, made in producers.items() if value is not z}
    assert set(reads([(w, (0, 1))], kept.get)) == {(z, (0, 1)), (x, (0, 1))}


def test_reads_through_an_opaque_access_have_no_map() -> None:
    x, y, z = (Value(i, "f32", (4,)) for i in range(3))
    nodes = (Node("negate", (x,), (y,)), Node("reverse", (y,), (z,), {"dimensions": (0,)}))
    assert list(reads([(z, (0,))], Graph("g", (x,), nodes, (z,)).producers().get)) == [(x, None)]
