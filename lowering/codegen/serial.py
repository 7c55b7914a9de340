"""Reductions with a rule of the user's own: nothing is known of its order, so each lane reduces its rows one by one."""

from __future__ import annotations

from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Node
from ..schedule import Schedule, extents
from . import maps
from .combine import Reduction
from .expression import Expression


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: kept elements over the workgroup."""
    node = fusion.attributes["body"].nodes[-1]
    kept, _ = extents(node.inputs[0].shape, node.attributes["dimensions"])
    return -(-kept // schedule.workgroup)


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A lane starts from the initial values and applies the rule to its row's elements in order."""
    node = fusion.attributes["body"].nodes[-1]
    reduction = Reduction(expression, node)
    domain, reduced = node.inputs[0].shape, node.attributes["dimensions"]
    kept, count = extents(domain, reduced)
    number = expression.number
    row = maps.global_index(expression, schedule.workgroup) + maps.local_index(expression)
    kept_shape = tuple(extent for axis, extent in enumerate(domain) if axis not in reduced)
    reduced_shape = tuple(domain[axis] for axis in reduced)

    def step(place: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            along = dict(zip(reduced, expression.split(place, reduced_shape), strict=True))
            rest = iter(expression.split(row, kept_shape))
            dims = tuple(along[axis] if axis in along else next(rest) for axis in range(len(domain)))
            index = expression.index(domain, dims=dims)
            return reduction.add(carries, [expression.at(operand, index) for operand in reduction.operands])

    def reduce_row() -> None:
        with expression.scope():
            state = reduction.identity()
            if count:
                state = builder.loop(number(0), number(count), number(1), state, step)
            for value, element in zip(node.outputs, reduction.finish(state), strict=True):
                if value in expression.buffers:
                    expression.store(value, row, element)

    builder.when(row < number(kept), reduce_row)
