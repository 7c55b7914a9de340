"""Scatters: into an array in memory, or into a tile that lies in shared memory meanwhile.

Updates that never meet are written side by side, those of integers that add up by atomics; all others are applied in
order by one invocation.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from shaders.spirv import Value as Register

from .. import scalar
from ..expression import Scalar
from ..scatter import ATOMIC_KINDS, Problem, batch_of, start_of
from .blocks import Step
from .expression import TileExpression
from .staging import Staging

Dims = tuple[Register, ...]
# (place, update element): apply one element of an update.
Apply = Callable[[Dims, Scalar], None]


def emit_scatter(expression: TileExpression, staging: Staging, step: Step) -> None:
    """Emit a scatter of one operand."""
    target, result = step.inputs[0], step.outputs[0]
    number = expression.roles.memory.arrays.get(result)
    if number is not None:
        # Others may still read the array, or write it.
        expression.builder.barrier()
        _apply_all(expression, step, lambda place, update: _into_memory(expression, step, number, place, update))
        return
    # A copy of its own: others may read the target where it is staged.
    staged = staging.copy_of(target, result)

    def into_tile(place: Dims, update: Scalar) -> None:
        where = expression.shared_place(staged, place)
        kind = step.node.attributes["kind"]
        if _is_atomic(expression, step):
            assert isinstance(update, Register)
            _ = staged.shared.atomic(kind, where, update)
            return
        current = None if kind == "set" else scalar.load(expression.builder, staged.shared, where, result.dtype)
        scalar.store(
            expression.builder, staged.shared, where, _combined(expression, step, current, update), result.dtype
        )

    _apply_all(expression, step, into_tile)
    expression.builder.barrier()
    elements = []
    for index in expression.slots(result):
        place = expression.shared_place(staged, expression.dims(index))
        elements.append(scalar.load(expression.builder, staged.shared, place, result.dtype))
    expression.settle(result, elements)
    staging.release(result)


def _is_atomic(expression: TileExpression, step: Step) -> bool:
    return (
        id(step.node) not in expression.roles.side_by_side
        and step.node.attributes["kind"] in ATOMIC_KINDS
        and step.outputs[0].dtype in ("i32", "u32")
    )


def _into_memory(expression: TileExpression, step: Step, number: int, place: Dims, update: Scalar) -> None:
    target = step.inputs[0]
    array, index = expression.arrays[number], expression.index(target.shape, dims=place)
    kind = step.node.attributes["kind"]
    if _is_atomic(expression, step):
        where, inside = expression.memory_place(array, target.shape, index)
        expression.builder.when(True if inside is None else inside, lambda: array.buffer.atomic(kind, where, update))
        return
    current = None if kind == "set" else expression.read(array, target, index)
    expression.write(array, target, index, _combined(expression, step, current, update))


def _combined(expression: TileExpression, step: Step, current: Scalar | None, update: Scalar) -> Scalar:
    kind = step.node.attributes["kind"]
    if kind == "set" or current is None:
        return update
    if kind is None:
        return expression.call(step.node.attributes["body"], [current, update])[0]
    return scalar.combine(expression.builder, kind, step.outputs[0].dtype, current, update)


def _apply_all(expression: TileExpression, step: Step, apply: Apply) -> None:
    problem = Problem(step.node)
    builder = expression.builder
    if id(step.node) in expression.roles.side_by_side or _is_atomic(expression, step):
        _each_its_own(expression, problem, step, apply)
        return

    def one(update: Register, _: list[Register]) -> None:
        with expression.scope():
            batch = batch_of(expression, problem, update // expression.number(prod(problem.window)))
            offsets = expression.split(update % expression.number(prod(problem.window)), problem.window)
            _apply(expression, problem, step, (batch, offsets), apply)

    def in_order() -> None:
        builder.loop(0, problem.updates * prod(problem.window), 1, [], one)

    builder.when(builder.local_index == expression.number(0), in_order)


def _each_its_own(expression: TileExpression, problem: Problem, step: Step, apply: Apply) -> None:
    update, window = step.inputs[problem.count + 1], step.node.attributes["update_window_dims"]
    for slot, index in zip(expression.unique(update), expression.slots(update), strict=True):
        dims = expression.dims(index)
        batch = tuple(place for axis, place in enumerate(dims) if axis not in window)
        offsets = tuple(place for axis, place in enumerate(dims) if axis in window)
        exists = True
        for axis, number in enumerate(slot):
            test = expression.exists(update, axis, number)
            if test is not None:
                exists = test if exists is True else builder_and(expression, exists, test)
        # Those that hold the same element write the same where they set it, but would add it as often as they are.
        alone = expression.alone(update) if step.node.attributes["kind"] != "set" else None
        if alone is not None:
            exists = alone if exists is True else builder_and(expression, exists, alone)

        def run(batch: Dims = batch, offsets: Dims = offsets) -> None:
            with expression.scope():
                _apply(expression, problem, step, (batch, offsets), apply)

        # Elements are computed outside of the branch, where others may use them too.
        expression.at(update, index)
        expression.builder.when(exists, run)


def builder_and(expression: TileExpression, first: object, second: Register) -> Register:
    """Return whether both conditions hold."""
    assert isinstance(first, Register)
    return expression.builder.logical_and(first, second)


def _apply(expression: TileExpression, problem: Problem, step: Step, where: tuple[Dims, Dims], apply: Apply) -> None:
    batch, offsets = where
    inside, start = start_of(expression, problem, batch)
    a = step.node.attributes
    hidden = {*a["inserted_window_dims"], *a["input_batching_dims"]}
    rest = iter(offsets)
    place = tuple(first if axis in hidden else first + next(rest) for axis, first in enumerate(start))
    inner, outer = iter(offsets), iter(batch)
    window = a["update_window_dims"]
    dims = tuple(next(inner) if i in window else next(outer) for i in range(len(problem.update_shape)))
    update = step.inputs[problem.count + 1]
    element = expression.at(update, expression.index(update.shape, dims=dims))
    expression.builder.when(inside, lambda: apply(place, element))
