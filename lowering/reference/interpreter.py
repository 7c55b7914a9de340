"""Run graphs on NumPy arrays, one node after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import dtypes
from ..errors import GraphError, InputError, UnsupportedError, message
from ..graph import Graph, Node, Value
from . import control, dot, elementwise, fused, gather, reduce, shape, tile
from .meaning import Arrays, Meaning

MEANINGS: dict[str, Meaning] = {
    **elementwise.MEANINGS,
    **shape.MEANINGS,
    **reduce.MEANINGS,
    **dot.MEANINGS,
    **gather.MEANINGS,
    **control.MEANINGS,
    **fused.MEANINGS,
    **tile.MEANINGS,
}


def run(graph: Graph, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the outputs of a graph for the given inputs, each a contiguous array.

    Args:
        graph: Any verified graph.
        arrays: One array for each input, of its dtype and shape.

    Raises:
        InputError: An array does not fit its input.
        GraphError: A result does not have the type the graph says.
    """
    if len(arrays) != len(graph.inputs):
        raise InputError(_input_text(graph, f"{len(arrays)} arrays", f"{len(graph.inputs)} arrays"))
    for value, array in zip(graph.inputs, arrays, strict=True):
        if not _fits(value, array):
            raise InputError(_input_text(graph, f"{array.dtype}{list(array.shape)}", f"{value.text} for %{value.id}"))
    with np.errstate(all="ignore"):
        # `order="C"` copies only what is not contiguous, and keeps 0-d arrays 0-d.
        return tuple(np.asarray(array, order="C") for array in _run(graph, arrays))


def evaluate(node: Node, inputs: Arrays) -> tuple[np.ndarray, ...]:
    """Return the outputs of one node for the given inputs.

    Raises:
        UnsupportedError: The operation has no meaning.
        GraphError: A result does not have the type the node says.
    """
    with np.errstate(all="ignore"):
        outputs = _meaning(node)(node, inputs, _run)
    for value, array in zip(node.outputs, outputs, strict=True):
        if not _fits(value, array):
            raise GraphError(_result_text(node, value, array))
    return outputs


def _run(graph: Graph, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Run a graph; each array is dropped after its last use. Arrays may have more dimensions than scalar values."""
    environment = dict(zip(graph.inputs, arrays, strict=True))
    is_body = any(array.shape != value.shape for value, array in environment.items())
    last_uses = _last_uses(graph)
    for position, node in enumerate(graph.nodes):
        inputs = [environment[value] for value in node.inputs]
        outputs = _meaning(node)(node, inputs, _run) if is_body else evaluate(node, inputs)
        environment.update(zip(node.outputs, outputs, strict=True))
        for value in last_uses.get(position, ()):
            del environment[value]
    return tuple(environment[value] for value in graph.outputs)


def _last_uses(graph: Graph) -> dict[int, Sequence[Value]]:
    """Map positions of nodes to the values that nobody reads after them."""
    last: dict[Value, int] = {}
    for position, node in enumerate(graph.nodes):
        for value in (*node.inputs, *node.outputs):
            last[value] = position
    for value in graph.outputs:
        last.pop(value, None)
    result: dict[int, list[Value]] = {}
    for value, position in last.items():
        result.setdefault(position, []).append(value)
    return {position: values for position, values in result.items()}


def _meaning(node: Node) -> Meaning:
    meaning = MEANINGS.get(node.op)
    if meaning is None:
        raise UnsupportedError(
            message(
                "run: every operation must have a meaning in NumPy.",
                got=node.op,
                want=f"one of the {len(MEANINGS)} operations of lowering.reference.MEANINGS",
                fix="add the operation to lowering/reference and to lowering/ops/table.py.",
                at=node.where,
            )
        )
    return meaning


def _fits(value: Value, array: np.ndarray) -> bool:
    return array.shape == value.shape and dtypes.NAMES.get(array.dtype) == value.dtype


def _input_text(graph: Graph, got: str, want: str) -> str:
    return message(
        "run: arrays must fit the inputs of the graph.",
        got=got,
        want=want,
        fix="convert and reshape the arrays first.",
        at=graph.name,
    )


def _result_text(node: Node, value: Value, array: np.ndarray) -> str:
    return message(
        f"evaluate: {node.op} must give the type the graph says.",
        got=f"{array.dtype}{list(array.shape)}",
        want=value.text,
        fix="report this defect with the program's StableHLO text.",
        at=node.where,
    )
