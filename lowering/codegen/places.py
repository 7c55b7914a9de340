"""What a scatter's updates are and where they go: positions of index vectors, windows, combined elements."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from shaders.library.complex import Complex
from shaders.spirv import Value as Register

from .. import dtypes
from ..graph import Node, Value
from . import scalar
from .expression import Expression, Scalar
from .index import Index
from .moves import component


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


def flatten(
    expression: Expression, problem: Problem, start: tuple[Register, ...], offsets: tuple[Register, ...]
) -> Register:
    """Return the element number in the operand of one element of a window."""
    a = problem.node.attributes
    hidden = {*a["inserted_window_dims"], *a["input_batching_dims"]}
    rest = iter(offsets)
    dims = [place if axis in hidden else place + next(rest) for axis, place in enumerate(start)]
    return expression.flatten(dims, problem.node.inputs[0].shape)


def updates_at(
    expression: Expression, problem: Problem, update: Register, offsets: tuple[Register, ...]
) -> list[Scalar]:
    """Return the update elements that one window element receives."""
    batch = iter(expression.split(update, tuple(problem.update_shape[i] for i in problem.scatter_dims)))
    rest = iter(offsets)
    window = problem.node.attributes["update_window_dims"]
    dims = tuple(next(rest) if i in window else next(batch) for i in range(len(problem.update_shape)))
    index: Index = expression.index(problem.update_shape, dims=dims)
    return [expression.at(value, index) for value in problem.node.inputs[problem.count + 1 :]]


def combine(
    expression: Expression, problem: Problem, place: Register, update: Register, offsets: tuple[Register, ...]
) -> list[tuple[Value, Scalar]]:
    """Return each output with its element at a place after an update."""
    node = problem.node
    fresh = updates_at(expression, problem, update, offsets)
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
    return list(zip(node.outputs, result, strict=True))
