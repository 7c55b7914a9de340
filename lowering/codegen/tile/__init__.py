"""Tile kernels: one workgroup runs one cell of a Pallas call.

In order: `blocks` opens the cell's regions, `memory` tells arrays from tiles, `layout` says where tiles lie, `roles`
what is held how, `emit` walks the steps; `expression`, `staging`, `dot` and `reduce` do the work.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from shaders.capabilities import Capabilities
from shaders.kernel import Parameter
from shaders.spirv import Builder

from ... import dtypes
from ...errors import UnsupportedError, message
from ...graph import Node, Value
from ...schedule import MOST_SUBGROUPS, Schedule
from ..expression import Expression
from .emit import Emitter
from .expression import Array, TileExpression
from .layout import infer
from .matrices import find_matrices
from .memory import prepare
from .roles import find_roles

__all__ = ["choose", "emit", "groups", "require_shared"]

# Elements of the largest tile that one invocation holds, where the workgroup may be that large.
SHARE = 16
MOST_THREADS = 256
UNSTAGED = "unstaged"
"""Mode of a schedule: products read their operands from memory again and again."""


def _node(fusion: Node) -> Node:
    return fusion.attributes["body"].nodes[-1]


def choose(fusion: Node, capabilities: Capabilities) -> Schedule:
    """Return the schedule of a tile kernel: as many invocations as its largest tile keeps busy.

    Operands of products are staged in shared memory if it is large enough; else the matrix units are left out, and then
    the staging of what can be read from memory again and again.
    """
    node = _node(fusion)
    cell, memory = prepare(node)
    largest = max((v.size for step, _ in cell.walk() for v in step.outputs if v not in memory.arrays), default=1)
    size = capabilities.subgroup_size
    limit = min(MOST_THREADS, capabilities.max_invocations, MOST_SUBGROUPS * size)
    threads = size
    while threads < limit and threads * SHARE < largest:
        threads *= 2
    shapes = tuple(shape for shape in capabilities.matrices if shape.scope == "subgroup" and not shape.saturating)
    used = find_matrices(cell, memory, shapes, threads // size).used
    plain = Schedule("tile", threads, subgroup=size)
    choices = [plain, replace(plain, mode=UNSTAGED)]
    if used:
        choices.insert(0, replace(plain, fragments=tuple(shape for shape in shapes if shape in used)))
    for schedule in choices[:-1]:
        if _shared_bytes(node, schedule) <= capabilities.max_shared_bytes:
            return schedule
    return choices[-1]


@functools.lru_cache(maxsize=64)
def _shared_bytes(node: Node, schedule: Schedule) -> int:
    """Return the shared memory that a kernel takes, by writing it; nodes are equal only to themselves."""
    held = (*node.inputs, *node.outputs)
    parameters = [Parameter(f"p{i}", dtypes.real_part(value.dtype), "rw") for i, value in enumerate(held)]
    builder = Builder(
        "trial", workgroup=(schedule.workgroup, 1, 1), parameters=parameters, subgroup_size=schedule.subgroup
    )
    buffers = {value: builder.buffer(parameter.name) for value, parameter in zip(held, parameters, strict=True)}
    _emit(builder, buffers, node, schedule)
    return builder.shared_bytes


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: the cells of the grid."""
    del schedule
    return prod(_node(fusion).attributes["grid"])


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A workgroup runs the cell at its position of the grid."""
    _emit(builder, expression.buffers, _node(fusion), schedule)


def _emit(builder: Builder, buffers: Mapping[Value, Any], node: Node, schedule: Schedule) -> None:
    grid = node.attributes["grid"]
    cell, memory = prepare(node)
    layout = infer(cell, memory, schedule.workgroup, schedule.subgroup)
    matrices = find_matrices(cell, memory, schedule.fragments, schedule.workgroup // schedule.subgroup)
    roles = find_roles(cell, memory, layout.joined, matrices.operands, stage_reads=schedule.mode != UNSTAGED)
    held = [*node.inputs, *node.outputs]
    updates = node.attributes["updates"]
    # An updated operand is the memory of its output.
    held[:updates] = node.outputs[:updates]
    arrays = {number: Array(buffers[value], value.shape) for number, value in enumerate(held)}
    tiles = TileExpression(builder, cell, roles, layout, arrays)
    position = tiles.split(builder.group_id(0), grid)
    for value, place in zip(cell.inputs, position, strict=False):
        tiles.fixed[value] = builder.bitcast(place, "i32")
    Emitter(builder, tiles, matrices, cell, schedule.subgroup).cell(cell)


def require_shared(fusion: Node, needed: int, capabilities: Capabilities) -> None:
    """Refuse a kernel that asks for more shared memory than a workgroup has: some drivers lose the device instead.

    Raises:
        UnsupportedError: it does.
    """
    if needed > capabilities.max_shared_bytes:
        raise UnsupportedError(
            message(
                "The blocks that a kernel works on must fit into shared memory.",
                got=f"{needed:,} bytes for {_node(fusion).attributes['name']}",
                want=f"at most {capabilities.max_shared_bytes:,} bytes on {capabilities.device_name}",
                fix="make the blocks, or the chunks that are read with pl.ds, smaller.",
                at=fusion.where,
                stage="codegen",
            )
        )
