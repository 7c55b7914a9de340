"""A graph under construction: values of one MLIR block, and what it captures from the blocks around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.mlir import ir

from ..graph import EMPTY, Graph, Node, Value, regions

# A value of a tuple type stands for several values.
Bundle = tuple[Value, ...]


class Scope:
    """The nodes copied so far. Values around the scope become captures, constants around it are made again inside."""

    def __init__(self, parent: Scope | None = None) -> None:
        self.parent = parent
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[Value, np.ndarray] = {}
        # value of the parent scope -> input of this one
        self.captures: dict[Value, Value] = {}
        self._values: dict[ir.Value, Value | Bundle] = {}
        self._made_again: list[Node] = []
        self._next_id = 0

    def new_value(self, dtype: str, shape: tuple[int, ...]) -> Value:
        """Return a value with a fresh number."""
        value = Value(self._next_id, dtype, shape)
        self._next_id += 1
        return value

    def add_input(self, mlir_value: ir.Value, dtype: str, shape: tuple[int, ...]) -> None:
        """Append an input that stands for a block argument."""
        value = self.new_value(dtype, shape)
        self.inputs.append(value)
        self._values[mlir_value] = value

    def bind(self, mlir_value: ir.Value, value: Value | Bundle) -> None:
        """Say which value stands for an MLIR value."""
        self._values[mlir_value] = value

    def look_up(self, mlir_value: ir.Value) -> Value | Bundle:
        """Return what stands for an MLIR value, capturing it from an enclosing scope if need be."""
        found = self._values.get(mlir_value)
        if found is None:
            if self.parent is None:
                raise KeyError("an operand is used before its definition")
            outer = self.parent.look_up(mlir_value)
            found = tuple(map(self._capture, outer)) if isinstance(outer, tuple) else self._capture(outer)
            self._values[mlir_value] = found
        return found

    def operands(self, mlir_values: Iterable[ir.Value]) -> tuple[Value, ...]:
        """Return the values of operands, tuples flattened."""
        result: list[Value] = []
        for mlir_value in mlir_values:
            found = self.look_up(mlir_value)
            if isinstance(found, tuple):
                result.extend(found)
            else:
                result.append(found)
        return tuple(result)

    def emit(
        self,
        op: str,
        inputs: tuple[Value, ...],
        types: Iterable[tuple[str, tuple[int, ...]]],
        attributes: Mapping[str, Any] = EMPTY,
        where: str = "",
    ) -> tuple[Value, ...]:
        """Append a node with results of the given types and return its results."""
        outputs = tuple(self.new_value(dtype, shape) for dtype, shape in types)
        self.nodes.append(Node(op, inputs, outputs, attributes, where))
        if op == "constant":
            self.constants[outputs[0]] = attributes["value"]
        return outputs

    def inline(self, graph: Graph, arguments: Sequence[Value], where: str) -> tuple[Value, ...]:
        """Append a copy of a graph's nodes and return what its outputs became; nodes without a line take `where`."""
        renamed = dict(zip(graph.inputs, arguments, strict=True))
        for node in graph.nodes:
            outputs = tuple(self.new_value(value.dtype, value.shape) for value in node.outputs)
            renamed.update(zip(node.outputs, outputs, strict=True))
            attributes = _with_lines(node.attributes, where) if regions(node) else node.attributes
            inputs = tuple(renamed[value] for value in node.inputs)
            self.nodes.append(Node(node.op, inputs, outputs, attributes, node.where or where))
            if node.op == "constant":
                self.constants[outputs[0]] = node.attributes["value"]
        return tuple(renamed[value] for value in graph.outputs)

    def close(self, name: str, outputs: tuple[Value, ...], captured: Sequence[Value] | None = None) -> Graph:
        """Return the finished graph; its trailing inputs stand for `captured` (default: what it captures)."""
        wanted = tuple(self.captures) if captured is None else captured
        trailing = tuple(
            self.captures[value] if value in self.captures else self.new_value(value.dtype, value.shape)
            for value in wanted
        )
        return Graph(name, (*self.inputs, *trailing), (*self._made_again, *self.nodes), outputs)

    def _capture(self, outer: Value) -> Value:
        """Return the inner twin of a value of the parent scope."""
        assert self.parent is not None
        constant = self.parent.constants.get(outer)
        if constant is not None:
            inner = self.new_value(outer.dtype, outer.shape)
            self._made_again.append(Node("constant", (), (inner,), {"value": constant}))
            self.constants[inner] = constant
            return inner
        if outer not in self.captures:
            self.captures[outer] = self.new_value(outer.dtype, outer.shape)
        return self.captures[outer]


def union_of_captures(scopes: Iterable[Scope]) -> tuple[Value, ...]:
    """Return every value of the parent that any of the scopes captures, each once, in order."""
    return tuple(dict.fromkeys(value for scope in scopes for value in scope.captures))


def _with_lines(attributes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Give the nodes of nested graphs a source line where they have none."""
    return {name: _relocate(value, where) for name, value in attributes.items()}


def _relocate(value: object, where: str) -> object:
    if isinstance(value, tuple):
        return tuple(_relocate(item, where) for item in value)
    if not isinstance(value, Graph) or all(node.where and not regions(node) for node in value.nodes):
        return value
    nodes = tuple(
        replace(node, where=node.where or where, attributes=_with_lines(node.attributes, where)) for node in value.nodes
    )
    return replace(value, nodes=nodes)
