"""Dynamic update of a slice in place: only the window is written."""

from __future__ import annotations

from shaders.spirv import Builder

from ..graph import Node
from ..schedule import Schedule
from . import maps
from .expression import Expression
from .moves import start_positions


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: the window's elements over the workgroup."""
    return -(-fusion.attributes["body"].nodes[-1].inputs[1].size // schedule.workgroup)


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A lane writes one element of the window at its place in the operand, which is the output's memory."""
    node = fusion.attributes["body"].nodes[-1]
    operand, update, *starts = node.inputs
    lane = maps.global_index(expression, schedule.workgroup) + maps.local_index(expression)

    def write() -> None:
        with expression.scope():
            begin = start_positions(expression, node, starts, operand.shape, update.shape)
            index = expression.index(update.shape, linear=lane)
            dims = [place + first for place, first in zip(expression.dims(index), begin, strict=True)]
            element = expression.at(update, index)
            expression.store(node.output, expression.flatten(dims, operand.shape), element)

    builder.when(lane < expression.number(update.size), write)
