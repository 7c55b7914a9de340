"""Write a tile kernel."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod
from typing import Any, TypeVar

from shaders.capabilities import Capabilities
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ...errors import UnsupportedError, message
from ...graph import Node, Value
from ...schedule import Schedule
from ..expression import Expression
from .emit import Emitter
from .expression import Array, TileExpression
from .plan import make_plan

Number = TypeVar("Number", int, Register)


def node_of(fusion: Node) -> Node:
    """Return the `tile` node of a fusion."""
    return fusion.attributes["body"].nodes[-1]


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: the cells of the grid."""
    del schedule
    return prod(node_of(fusion).attributes["grid"])


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A workgroup runs the cell at its position of the grid."""
    write(builder, expression.buffers, node_of(fusion), schedule)


def write(builder: Builder, buffers: Mapping[Value, Any], node: Node, schedule: Schedule) -> None:
    """Write the kernel of a `tile` node; `buffers` holds its inputs and outputs."""
    plan = make_plan(node, schedule)
    held = [*node.inputs, *node.outputs]
    updates = node.attributes["updates"]
    # An updated operand is the memory of its output.
    held[:updates] = node.outputs[:updates]
    arrays = {number: Array(buffers[value], value.shape) for number, value in enumerate(held)}
    tiles = TileExpression(builder, plan.cell, plan.roles, plan.layout, arrays)
    options = dict(node.attributes.get("options", ()))
    tiles.takes_driver_exp, tiles.skips_nan = bool(options.get("driver_exp", 0)), not options.get("nan_in_extrema", 1)
    position = tiles.split(position_of(builder, node), node.attributes["grid"])
    for value, place in zip(plan.cell.inputs, position, strict=False):
        tiles.fixed[value] = builder.bitcast(place, "i32")
    Emitter(builder, tiles, plan.matrices, plan.cell, schedule.subgroup).cell(plan.cell)


def position_of(builder: Builder, node: Node) -> Register:
    """Return which position of the grid a workgroup has, counted along it; workgroups are started in their order."""
    group, together = builder.group_id(0), dict(node.attributes.get("options", ())).get("last_first", 0)
    return from_the_end(group, node.attributes["grid"], together) if together else group


def from_the_end(number: Number, grid: tuple[int, ...], together: int) -> Number:
    """Return which position of the grid is started as this one: the last first, along its last axis.

    So many places along the other axes are started together, or as many as divide them: all their long programs before
    any short one.
    """
    *others, last = grid
    some, left = gcd(prod(others), together), prod(grid) - 1 - number
    step, inside = left // some, left % some
    return (step // last * some + inside) * last + step % last


def require_shared(fusion: Node, needed: int, capabilities: Capabilities) -> None:
    """Refuse a kernel that asks for more shared memory than a workgroup has: some drivers lose the device instead.

    Raises:
        UnsupportedError: it does.
    """
    if needed > capabilities.max_shared_bytes:
        raise UnsupportedError(
            message(
                "The blocks that a kernel works on must fit into shared memory.",
                got=f"{needed:,} bytes for {node_of(fusion).attributes['name']}",
                want=f"at most {capabilities.max_shared_bytes:,} bytes on {capabilities.device_name}",
                fix="make the blocks, or the chunks that are read with pl.ds, smaller.",
                at=fusion.where,
                stage="codegen",
            )
        )
