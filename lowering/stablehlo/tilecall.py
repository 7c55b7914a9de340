"""Read the custom call of a tile kernel: its cell becomes a graph inside a `tile` node."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jax.extend.mlir import ir

from ..graph import Graph
from ..tilecall import TARGET


def _integers(attribute: Any) -> tuple[int, ...]:
    """Read an array of integers, which a portable artifact turns into dense elements."""
    return tuple(map(int, attribute))


def is_tile(operation: ir.Operation) -> bool:
    """Tell whether a custom call is a tile kernel."""
    return ir.StringAttr(operation.attributes["call_target_name"]).value == TARGET


def read_tile(
    operation: ir.Operation, read_module: Callable[[bytes], Graph]
) -> tuple[dict[str, Any], list[int], list[int]]:
    """Return the node's attributes, and the order in which operands and outputs stand: those that are updated first.

    An updated operand and the output that takes its memory have the same place in the two orders.
    """
    found = ir.DictAttr(operation.attributes["mhlo.backend_config"])
    grid, numbers = _integers(found["grid"]), list(_integers(found["aliases"]))
    operands, outputs = numbers[::2], numbers[1::2]
    operands += [number for number in range(len(operation.operands)) if number not in operands]
    outputs += [number for number in range(len(operation.results)) if number not in outputs]
    graph = read_module(ir.StringAttr(found["cell"]).value_bytes)
    first, second = len(grid), len(grid) + len(operands)
    inputs = (
        *graph.inputs[:first],
        *(graph.inputs[first + number] for number in operands),
        *(graph.inputs[second + number] for number in outputs),
    )
    cell = replace(graph, name="cell", inputs=inputs, outputs=tuple(graph.outputs[number] for number in outputs))
    attributes = {
        "name": ir.StringAttr(found["name"]).value,
        "grid": grid,
        "updates": len(numbers) // 2,
        "options": tuple(json.loads(ir.StringAttr(found["options"]).value).items()),
        "cell": replace(cell, input_names=()),
    }
    return attributes, operands, outputs
