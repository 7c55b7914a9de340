"""Scatter, in place over its operand: in an order that does not depend on the device's timing.

unique   one lane for each update element; the program promises that no two meet
atomic   the same with integer atomics, whose order cannot be seen
owned    updates of single places: a lane owns every `owners`-th place and applies the updates to it in order
pull     any windows: a lane owns one output element and looks through all updates in order
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from shaders.capabilities import Capabilities
from shaders.library.complex import Complex
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from .. import dtypes
from ..graph import Node
from ..schedule import Schedule
from . import maps, scalar
from .expression import Expression, Scalar
from .index import Index
from .moves import component

# Work (places looked at) up to which lanes may look through all updates.
PATIENCE = 2**31
# Lanes that keep a device busy.
BUSY_LANES = {True: 64, False: 262144}
ATOMIC_KINDS = frozenset({"add", "max", "min", "and", "or", "xor"})


@dataclass(frozen=True)
class Problem:
    """The sizes of a scatter: `updates` index vectors, each with a `window` of elements over `places` starts."""

    node: Node

    @property
    def count(self) -> int:
        """Number of operands, each with its own updates."""
        return len(self.node.outputs)

    @property
    def update_shape(self) -> tuple[int, ...]:
        """Shape of the updates."""
        return self.node.inputs[self.count + 1].shape

    @property
    def scatter_dims(self) -> tuple[int, ...]:
        """Dimensions of the updates that count index vectors."""
        window = self.node.attributes["update_window_dims"]
        return tuple(i for i in range(len(self.update_shape)) if i not in window)

    @property
    def updates(self) -> int:
        """Number of index vectors."""
        return prod(self.update_shape[i] for i in self.scatter_dims)

    @property
    def window(self) -> tuple[int, ...]:
        """Shape of one update."""
        return tuple(self.update_shape[i] for i in self.node.attributes["update_window_dims"])

    @property
    def operand_window(self) -> tuple[int, ...]:
        """The window's extent along each dimension of the operand."""
        hidden = {*self.node.attributes["inserted_window_dims"], *self.node.attributes["input_batching_dims"]}
        rest = iter(self.window)
        return tuple(1 if axis in hidden else next(rest) for axis in range(len(self.node.inputs[0].shape)))

    @property
    def single_places(self) -> bool:
        """Whether windows either coincide or are disjoint: they have extent one wherever they can be moved to."""
        shape, window = self.node.inputs[0].shape, self.operand_window
        moved = self.node.attributes["scatter_dims_to_operand_dims"]
        return all(window[axis] == 1 or window[axis] == shape[axis] for axis in moved)

    @property
    def places(self) -> int:
        """Number of places a window can start at, where windows are disjoint."""
        shape, window = self.node.inputs[0].shape, self.operand_window
        moved = {*self.node.attributes["scatter_dims_to_operand_dims"], *self.node.attributes["input_batching_dims"]}
        return prod(shape[axis] if window[axis] == 1 else 1 for axis in moved)


def choose(fusion: Node, capabilities: Capabilities) -> Schedule:
    """Return the schedule: deterministic wherever lanes have the patience, atomics only for integers."""
    problem = Problem(fusion.attributes["body"].nodes[-1])
    node = problem.node
    dtype = node.outputs[0].dtype
    workgroup = capabilities.subgroup_size if capabilities.is_cpu else 64
    if node.attributes["unique"] and problem.single_places:
        return Schedule("scatter", workgroup, mode="unique")
    wide_atomics = dtype in ("i32", "u32") or (dtype in ("i64", "u64") and capabilities.atomic_i64)
    if problem.count == 1 and node.attributes["kind"] in ATOMIC_KINDS and wide_atomics:
        return Schedule("scatter", workgroup, mode="atomic")
    window = prod(problem.window)
    if not problem.single_places:
        return Schedule("scatter", workgroup, mode="pull")
    busy = BUSY_LANES[capabilities.is_cpu]
    owners = max(1, min(problem.places, -(-busy // max(window, 1))))
    while owners > 1 and owners * window * problem.updates > PATIENCE:
        owners //= 2
    return Schedule("scatter", workgroup, mode="owned", owners=owners)


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups."""
    return -(-_lanes(Problem(fusion.attributes["body"].nodes[-1]), schedule) // schedule.workgroup)


def _lanes(problem: Problem, schedule: Schedule) -> int:
    if schedule.mode == "pull":
        return problem.node.outputs[0].size
    if schedule.mode == "owned":
        return schedule.owners * prod(problem.window)
    return problem.updates * prod(problem.window)


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """Lanes apply the updates that are theirs; see the head of this file."""
    problem = Problem(fusion.attributes["body"].nodes[-1])
    lane = maps.global_index(expression, schedule.workgroup) + maps.local_index(expression)
    total = _lanes(problem, schedule)
    run = {"pull": _pull, "owned": _owned}.get(schedule.mode, _each)

    def guarded() -> None:
        with expression.scope():
            run(expression, problem, lane, schedule)

    if total:
        builder.when(lane < expression.number(total), guarded)


def _each(expression: Expression, problem: Problem, lane: Register, schedule: Schedule) -> None:
    number = expression.number
    window = prod(problem.window)
    update, element = (lane // number(window), lane % number(window)) if window > 1 else (lane, number(0))
    offsets = expression.split(element, problem.window)
    inside, start = start_of(expression, problem, batch_of(expression, problem, update))

    def apply() -> None:
        with expression.scope():
            place = _flatten(expression, problem, start, offsets)
            if schedule.mode == "atomic":
                (fresh,) = _updates(expression, problem, update, offsets)
                output = problem.node.outputs[0]
                _ = expression.buffers[output].atomic(problem.node.attributes["kind"], place, fresh)
            else:
                _combine(expression, problem, place, update, offsets)

    expression.builder.when(inside, apply)


def _owned(expression: Expression, problem: Problem, lane: Register, schedule: Schedule) -> None:
    number, builder = expression.number, expression.builder
    window = prod(problem.window)
    owner, element = (lane // number(window), lane % number(window)) if window > 1 else (lane, number(0))
    offsets = expression.split(element, problem.window)

    def step(update: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            inside, start = start_of(expression, problem, batch_of(expression, problem, update))
            place = _flatten(expression, problem, start, offsets)
            if schedule.owners > 1:
                mine = (_start_number(expression, problem, start) % number(schedule.owners)) == owner
                inside = builder.logical_and(inside, mine)

            def apply() -> None:
                with expression.scope():
                    _combine(expression, problem, place, update, offsets)

            builder.when(inside, apply)
        return carries

    builder.loop(number(0), number(problem.updates), number(1), [], step)


def _pull(expression: Expression, problem: Problem, lane: Register, schedule: Schedule) -> None:
    number, builder = expression.number, expression.builder
    shape = problem.node.outputs[0].shape
    mine = expression.split(lane, shape)

    def step(update: Register, carries: list[Register]) -> list[Register]:
        with expression.scope():
            inside, start = start_of(expression, problem, batch_of(expression, problem, update))
            offsets = []
            for axis, extent in enumerate(problem.operand_window):
                offset = mine[axis] - start[axis]
                inside = builder.logical_and(inside, offset < number(extent))
                offsets.append(offset)
            hidden = {
                *problem.node.attributes["inserted_window_dims"], *problem.node.attributes["input_batching_dims"]
            }  # fmt: skip
            shown = tuple(offset for axis, offset in enumerate(offsets) if axis not in hidden)

            def apply() -> None:
                with expression.scope():
                    _combine(expression, problem, lane, update, shown)

            builder.when(inside, apply)
        return carries

    builder.loop(number(0), number(problem.updates), number(1), [], step)


def batch_of(expression: Expression, problem: Problem, update: Register) -> tuple[Register, ...]:
    """Return the position of an update among the index vectors."""
    return expression.split(update, tuple(problem.update_shape[i] for i in problem.scatter_dims))


def start_of(
    expression: Expression, problem: Problem, batch: tuple[Register, ...]
) -> tuple[Register, tuple[Register, ...]]:
    """Return whether the whole window of an update lies inside the operand, and where it starts."""
    node, a, builder, number = problem.node, problem.node.attributes, expression.builder, expression.number
    indices = node.inputs[problem.count]
    shape, window = node.inputs[0].shape, problem.operand_window
    start = [number(0) for _ in shape]
    inside = builder.const("bool", True)
    for part, axis in enumerate(a["scatter_dims_to_operand_dims"]):
        element = expression.at(indices, component(expression, indices.shape, list(batch), a["index_vector_dim"], part))
        room = shape[axis] - window[axis]
        place, legal = _legal(expression, element, indices.dtype, room)
        inside = legal if inside.constant is True else builder.logical_and(inside, legal)
        start[axis] = place
    batch_axes = [i for i in range(len(indices.shape)) if i != a["index_vector_dim"]]
    for axis, source in zip(a["input_batching_dims"], a["scatter_batching_dims"], strict=True):
        start[axis] = batch[batch_axes.index(source)]
    return inside, tuple(start)


def _legal(expression: Expression, element: Scalar, dtype: str, room: int) -> tuple[Register, Register]:
    """Return a run-time index as a position, and whether it lies in [0, room]."""
    builder = expression.builder
    place = scalar.emit(builder, "convert", [element], [dtype], expression.index_dtype, {})
    assert not isinstance(element, Complex)
    assert not isinstance(place, Complex)
    if dtype in dtypes.UNSIGNED:
        wide = scalar.emit(builder, "convert", [element], [dtype], "u64" if dtype == "u64" else "u32", {})
        assert not isinstance(wide, Complex)
        return place, wide <= builder.const(wide.dtype, room)
    signed = "i64" if dtype == "i64" else "i32"
    low = element >= builder.const(signed, 0)
    high = element <= builder.const(signed, min(room, 2**31 - 1) if signed == "i32" else room)
    return place, builder.logical_and(low, high)


def _start_number(expression: Expression, problem: Problem, start: tuple[Register, ...]) -> Register:
    """Return a number that tells apart any two windows that do not coincide."""
    return expression.flatten(start, problem.node.inputs[0].shape)


def _flatten(
    expression: Expression, problem: Problem, start: tuple[Register, ...], offsets: tuple[Register, ...]
) -> Register:
    a = problem.node.attributes
    hidden = {*a["inserted_window_dims"], *a["input_batching_dims"]}
    rest = iter(offsets)
    dims = [place if axis in hidden else place + next(rest) for axis, place in enumerate(start)]
    return expression.flatten(dims, problem.node.inputs[0].shape)


def _updates(expression: Expression, problem: Problem, update: Register, offsets: tuple[Register, ...]) -> list[Scalar]:
    """Return the update elements that one window element receives."""
    batch = iter(expression.split(update, tuple(problem.update_shape[i] for i in problem.scatter_dims)))
    rest = iter(offsets)
    window = problem.node.attributes["update_window_dims"]
    dims = tuple(next(rest) if i in window else next(batch) for i in range(len(problem.update_shape)))
    index: Index = expression.index(problem.update_shape, dims=dims)
    return [expression.at(value, index) for value in problem.node.inputs[problem.count + 1 :]]


def _combine(
    expression: Expression, problem: Problem, place: Register, update: Register, offsets: tuple[Register, ...]
) -> None:
    node = problem.node
    fresh = _updates(expression, problem, update, offsets)
    kind = node.attributes["kind"]
    if kind == "set":
        result = fresh
    else:
        current = [expression.load(value, place) for value in node.outputs]
        if kind is None:
            result = expression.call(node.attributes["body"], [*current, *fresh])
        else:
            (value,) = node.outputs
            result = [scalar.combine(expression.builder, kind, value.dtype, current[0], fresh[0])]
    for value, element in zip(node.outputs, result, strict=True):
        expression.store(value, place, element)
