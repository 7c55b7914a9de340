"""The compiler's own program: a Graph of Nodes over typed Values, in order of execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from . import dtypes
from .errors import GraphError, message

EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Value:
    """One array: its number (unique in its graph), dtype and static shape."""

    id: int
    dtype: str
    shape: tuple[int, ...]

    def __hash__(self) -> int:
        """Hash the number: values are the keys of every table in the compiler."""
        return self.id

    @property
    def size(self) -> int:
        """Number of elements."""
        result = 1
        for extent in self.shape:
            result *= extent
        return result

    @property
    def nbytes(self) -> int:
        """Bytes in memory, dense and row-major."""
        return self.size * dtypes.itemsize(self.dtype)

    @property
    def text(self) -> str:
        """dtype[shape], as error messages and listings show it."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation: results = op(inputs; attributes), and the user's source line it came from.

    Attributes hold plain data, NumPy arrays (`constant`) or nested graphs (`body`, `cond`, `branches`).
    """

    op: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    where: str = ""

    @property
    def output(self) -> Value:
        """The single result."""
        (value,) = self.outputs
        return value


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A whole program or a region of one. Regions capture nothing: what they need are inputs.

    `aliases` holds (input, output) positions: the caller gives up that input and the output takes its memory.
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    aliases: tuple[tuple[int, int], ...] = ()
    input_names: tuple[str, ...] = ()

    def text(self, *, with_places: bool = True) -> str:
        """Print the graph, one node a line, with the user's source lines unless told otherwise."""
        return "\n".join(_graph_lines(self, "", with_places))

    def producers(self) -> dict[Value, Node]:
        """Map each result to the node that makes it."""
        return {value: node for node in self.nodes for value in node.outputs}

    def free_id(self) -> int:
        """Return the first number that no value of the graph or any later one has."""
        return 1 + max((v.id for v in (*self.inputs, *(v for n in self.nodes for v in n.outputs))), default=-1)

    def users(self) -> dict[Value, list[Node]]:
        """Map each value to the nodes that read it, in order, each node once for each use."""
        result: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                result.setdefault(value, []).append(node)
        return result


def verify(graph: Graph) -> Graph:
    """Return the graph if every value is defined once and before its use; raise `GraphError` otherwise."""
    defined: set[Value] = set()
    ids: set[int] = set()
    for value in graph.inputs:
        _define(graph, value, defined, ids, "input")
    for node in graph.nodes:
        for value in node.inputs:
            _require(graph, value, defined, node.op)
        for value in node.outputs:
            _define(graph, value, defined, ids, node.op)
        for region in regions(node):
            verify(region)
    for value in graph.outputs:
        _require(graph, value, defined, "return")
    return graph


def regions(node: Node) -> tuple[Graph, ...]:
    """Return the graphs nested in a node, in the order of its attributes."""
    found: list[Graph] = []
    for value in node.attributes.values():
        if isinstance(value, Graph):
            found.append(value)
        elif isinstance(value, tuple):
            found.extend(item for item in value if isinstance(item, Graph))
    return tuple(found)


def map_regions(node: Node, change: Callable[[Graph], Graph]) -> Node:
    """Return the node with each graph nested in its attributes replaced by what `change` makes of it."""

    def inside(value: object) -> object:
        if isinstance(value, Graph):
            return change(value)
        if isinstance(value, tuple):
            return tuple(inside(item) for item in value)
        return value

    return replace(node, attributes={key: inside(value) for key, value in node.attributes.items()})


def _define(graph: Graph, value: Value, defined: set[Value], ids: set[int], op: str) -> None:
    if value.id in ids:
        raise GraphError(
            message(
                "verify: every value must be defined exactly once.",
                got=f"%{value.id} {value.text} defined again by {op} in {graph.name}",
                want="a fresh number for each value",
                fix="report this defect with the program's StableHLO text.",
            )
        )
    ids.add(value.id)
    defined.add(value)


def _require(graph: Graph, value: Value, defined: set[Value], op: str) -> None:
    if value not in defined:
        raise GraphError(
            message(
                "verify: every value must be defined before it is used.",
                got=f"%{value.id} {value.text} used by {op} in {graph.name}",
                want="a graph input or the result of an earlier node",
                fix="report this defect with the program's StableHLO text.",
            )
        )


def _graph_lines(graph: Graph, indent: str, with_places: bool) -> list[str]:
    arguments = ", ".join(f"%{value.id}: {value.text}" for value in graph.inputs)
    lines = [f"{indent}graph {graph.name}({arguments}) {{"]
    for node in graph.nodes:
        lines.extend(_node_lines(node, indent + "  ", with_places))
    results = ", ".join(f"%{value.id}" for value in graph.outputs)
    lines.append(f"{indent}  return {results}")
    if graph.aliases:
        lines.append(f"{indent}  alias {', '.join(f'input {i} -> output {o}' for i, o in graph.aliases)}")
    lines.append(f"{indent}}}")
    return lines


def _node_lines(node: Node, indent: str, with_places: bool) -> list[str]:
    results = ", ".join(f"%{value.id}" for value in node.outputs)
    operands = ", ".join(f"%{value.id}" for value in node.inputs)
    plain = [f"{key}={_attribute_text(value)}" for key, value in node.attributes.items() if not _holds_graph(value)]
    types = ", ".join(value.text for value in node.outputs)
    tail = f"  # {node.where}" if node.where and with_places else ""
    options = f" {{{', '.join(plain)}}}" if plain else ""
    lines = [f"{indent}{results} = {node.op}({operands}){options} : {types}{tail}"]
    for region in regions(node):
        lines.extend(_graph_lines(region, indent + "    ", with_places))
    return lines


def _holds_graph(value: object) -> bool:
    return isinstance(value, Graph) or (isinstance(value, tuple) and any(isinstance(item, Graph) for item in value))


def _attribute_text(value: object) -> str:
    if isinstance(value, np.ndarray):
        flat = value.reshape(-1)
        shown = ", ".join(str(item) for item in flat[:8])
        return f"[{shown}{', ...' if flat.size > 8 else ''}]"
    if isinstance(value, tuple):
        return "(" + ",".join(_attribute_text(item) for item in value) + ")"
    return str(value)
