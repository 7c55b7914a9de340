"""One element of each output per lane: what elementwise expressions and moves become."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Node, Value
from ..schedule import Schedule
from .expression import Expression, Scalar
from .guess import is_guessed, store_guessed
from .index import Index, size_of
from .runs import Place, Runs, store_all


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: the domain over what one workgroup covers."""
    return -(-size_of(fusion.attributes["domain"]) // (schedule.workgroup * schedule.per_lane))


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A workgroup computes workgroup * per_lane consecutive elements, neighbours in neighbouring lanes."""
    domain = fusion.attributes["domain"]
    total = size_of(domain)
    number = expression.number
    first = global_index(expression, schedule.workgroup * schedule.per_lane) + local_index(expression)
    ragged = total % (schedule.workgroup * schedule.per_lane) != 0
    if schedule.run > 1:
        _emit_runs(builder, expression, fusion, schedule)
        return
    if schedule.per_lane == 1:
        if not ragged:
            write(expression, fusion, expression.index(domain, linear=first), None)
            return

        def guarded() -> None:
            with expression.scope():
                write(expression, fusion, expression.index(domain, linear=first), None)

        builder.when(first < number(total), guarded)
        return
    places = [first + number(step * schedule.workgroup) for step in range(schedule.per_lane)]
    # Every lane computes at a legal place, so that the loads of all its elements are in flight before the first store.
    computed = [_values(expression, fusion, _clamp(expression, place, total, ragged)) for place in places]
    for place, elements in zip(places, computed, strict=True):
        _store_all(expression, elements, place, total, ragged)


def _emit_runs(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A lane computes one run of neighbours: loads and stores are as wide as the device has them."""
    domain, count = fusion.attributes["domain"], schedule.run
    runs = Runs(expression, fusion, count)
    lane = global_index(expression, schedule.workgroup) + local_index(expression)
    lanes = size_of(domain) // count

    def write_run() -> None:
        with expression.scope():
            linear = lane * count
            positions = runs.positions(expression.split(linear, domain), linear)
            compute = partial(columns, expression, fusion, positions)
            if is_guessed(fusion, schedule):
                store_guessed(expression, compute)
            else:
                store_all(expression, compute())

    if lanes % schedule.workgroup:
        builder.when(lane < expression.number(lanes), write_run)
    else:
        write_run()


def columns(
    expression: Expression, fusion: Node, indices: Sequence[Index], outputs: Sequence[Value] | None = None
) -> list[list[Place]]:
    """Compute outputs at positions of the domain; return the elements of each output together."""
    computed = [
        [
            Place(output, expression.linear(where), expression.at(output, where))
            for output, where in outputs_at(expression, fusion, index)
            if outputs is None or output in outputs
        ]
        for index in indices
    ]
    return [list(column) for column in zip(*computed, strict=True)]


def _clamp(expression: Expression, place: Register, total: int, ragged: bool) -> Register:
    return expression.builder.min(place, expression.number(total - 1)) if ragged else place


def _values(expression: Expression, fusion: Node, place: Register) -> list[tuple[Value, Register, Scalar]]:
    index = expression.index(fusion.attributes["domain"], linear=place)
    result = []
    for output, where in outputs_at(expression, fusion, index):
        result.append((output, expression.linear(where), expression.at(output, where)))
    return result


def _store_all(
    expression: Expression, elements: list[tuple[Value, Register, Scalar]], place: Register, total: int, ragged: bool
) -> None:
    def store() -> None:
        for output, where, element in elements:
            expression.store(output, where, element)

    if ragged:
        expression.builder.when(place < expression.number(total), store)
    else:
        store()


def write(expression: Expression, fusion: Node, index: Index, inside: Register | None) -> None:
    """Compute every output at a position of the domain, and store it if the condition holds."""
    elements = [(o, expression.linear(w), expression.at(o, w)) for o, w in outputs_at(expression, fusion, index)]

    def store() -> None:
        for output, where, element in elements:
            expression.store(output, where, element)

    if inside is None:
        store()
    else:
        expression.builder.when(inside, store)


def outputs_at(expression: Expression, fusion: Node, index: Index) -> list[tuple[Value, Index]]:
    """Return each output with its own position for a position in the domain."""
    body = fusion.attributes["body"]
    axes = fusion.attributes["output_axes"]
    return [(value, along(expression, index, value.shape, row)) for value, row in zip(body.outputs, axes, strict=True)]


def along(expression: Expression, index: Index, shape: tuple[int, ...], axes: tuple[int | None, ...]) -> Index:
    """Return the position in an array whose dimensions follow `axes` of the domain."""
    plain = tuple(None if extent == 1 else axis for axis, extent in enumerate(shape))
    if shape == index.shape and axes == plain:
        return index

    def move() -> Index:
        dims = expression.dims(index)
        zero = expression.number(0)
        same_order = size_of(shape) == size_of(index.shape) and sorted(a for a in axes if a is not None) == [
            a for a in axes if a is not None
        ]
        own = tuple(zero if axis is None else dims[axis] for axis in axes)
        return expression.index(shape, dims=own, like=index if same_order else None)

    return expression.derived(("along", shape, axes), index, move)


def global_index(expression: Expression, stride: int) -> Register:
    """Return workgroup number times stride, in the expression's index dtype."""
    group = expression.builder.convert(expression.builder.group_id(0), expression.index_dtype)
    return group * expression.number(stride)


def local_index(expression: Expression) -> Register:
    """Return the invocation's number inside its workgroup, in the expression's index dtype."""
    return expression.builder.convert(expression.builder.local_index, expression.index_dtype)
