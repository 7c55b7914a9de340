"""The engine under normalise and simplify: build a graph anew, node by node, through local rules.

Operands are already rewritten when a rule sees a node, so one walk reaches the end of most chains.
Equal nodes become one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ..dtypes import NAMES
from ..errors import GraphError, message
from ..graph import EMPTY, Graph, Node, Value

# A rule returns what stands for the node's outputs, or None where it does not apply.
Rule = Callable[["Rewriter", Node], "tuple[Value, ...] | None"]
Rules = Mapping[str, Sequence[Rule]]

NO_CONSTANTS: Mapping[int, np.ndarray] = MappingProxyType({})

# Rules under this name are tried on every node, before its own.
EVERY = "*"
# Larger constants are compared by identity, so that a walk stays linear in the number of nodes.
_COMPARED_NBYTES = 4096
_KINDED = frozenset({"reduce", "reduce_window", "scatter"})


class Rewriter:
    """A graph under construction: emits nodes through the rules and finds what produced a value."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self.rules = rules
        self.nodes: list[Node] = []
        self._producers: dict[Value, Node] = {}
        self._replaced: dict[Value, Value] = {}
        self._shared: dict[object, tuple[Value, ...]] = {}
        self._next_id = 1 + max((value.id for value in _all_values(graph)), default=-1)

    def walk(self, graph: Graph, constants: Mapping[int, np.ndarray] = NO_CONSTANTS) -> tuple[Value, ...]:
        """Rewrite all nodes and return the new outputs.

        Args:
            graph: The graph to rewrite.
            constants: Constant values of some inputs, by position; they are made again inside.
        """
        for position, array in constants.items():
            value = graph.inputs[position]
            self._replaced[value] = self.constant(array, value.shape)
        for node in graph.nodes:
            inputs = tuple(map(self.resolve, node.inputs))
            if inputs != node.inputs:
                node = Node(node.op, inputs, node.outputs, node.attributes, node.where)
            for old, new in zip(node.outputs, self.add(node), strict=True):
                if old != new:
                    self._replaced[old] = new
        return tuple(map(self.resolve, graph.outputs))

    def resolve(self, value: Value) -> Value:
        """Return what stands for a value of the old graph."""
        return self._replaced.get(value, value)

    def producer(self, value: Value, *ops: str) -> Node | None:
        """Return the node that makes a value if it is one of the given operations (or any, if none is given)."""
        node = self._producers.get(value)
        return node if node is not None and (not ops or node.op in ops) else None

    def constant_value(self, value: Value) -> np.ndarray | None:
        """Return the array of a constant (0-d where one number fills it), or None."""
        node = self._producers.get(value)
        return node.attributes["value"] if node is not None and node.op == "constant" else None

    def splat(self, value: Value) -> np.ndarray | None:
        """Return the one number that fills a constant, or None."""
        array = self.constant_value(value)
        return array if array is not None and array.ndim == 0 else None

    def constant(self, array: np.ndarray, shape: tuple[int, ...], where: str = "") -> Value:
        """Return a constant of the given shape, filled if the array is 0-d."""
        return self.emit("constant", (), NAMES[array.dtype], shape, {"value": array}, where)

    def emit(
        self,
        op: str,
        inputs: tuple[Value, ...],
        dtype: str,
        shape: Sequence[int],
        attributes: Mapping[str, Any] = EMPTY,
        where: str = "",
    ) -> Value:
        """Return the single result of an operation, after the rules."""
        return self.add(Node(op, inputs, (self.new_value(dtype, shape),), attributes, where))[0]

    def new_value(self, dtype: str, shape: Sequence[int]) -> Value:
        """Return a value with a fresh number."""
        value = Value(self._next_id, dtype, tuple(shape))
        self._next_id += 1
        return value

    def add(self, node: Node) -> tuple[Value, ...]:
        """Append a node unless a rule or an equal node stands for it; return what stands for its outputs."""
        for name in (EVERY, node.op):
            for rule in self.rules.get(name, ()):
                found = rule(self, node)
                if found is not None:
                    return _same_types(node, found)
        key = _key(node)
        found = self._shared.get(key)
        if found is None:
            self.append(node)
            found = self._shared[key] = node.outputs
        return found

    def append(self, node: Node) -> None:
        """Append a node as it is, past rules and sharing."""
        self.nodes.append(node)
        for value in node.outputs:
            self._producers[value] = node


def _all_values(graph: Graph) -> list[Value]:
    return [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]


def _key(node: Node) -> object:
    """Return what two nodes must share to compute the same."""
    skipped = "body" if node.op in _KINDED and node.attributes["kind"] is not None else None
    attributes = tuple((name, _attribute_key(value)) for name, value in node.attributes.items() if name != skipped)
    types = tuple((value.dtype, value.shape) for value in node.outputs)
    return node.op, node.inputs, types, tuple(sorted(attributes, key=lambda item: item[0]))


def _attribute_key(value: object) -> object:
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes()) if value.nbytes <= _COMPARED_NBYTES else id(value)
    return id(value) if isinstance(value, Graph) else value


def _same_types(node: Node, found: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the values if they have the types of the node's outputs."""
    if [(v.dtype, v.shape) for v in found] != [(v.dtype, v.shape) for v in node.outputs]:
        raise GraphError(
            message(
                f"rewrite: a rule for {node.op} must keep the types of its results.",
                got=", ".join(value.text for value in found),
                want=", ".join(value.text for value in node.outputs),
                fix="report this defect with the program's StableHLO text.",
                at=node.where,
            )
        )
    return found
