"""How operations that only move data find their operand's position: the inlined half of the shape operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from shaders.library.complex import Complex
from shaders.spirv import Value as Register

from ..graph import Node
from . import scalar
from .index import SCALAR, Index

if TYPE_CHECKING:
    from .expression import Expression

Scalar = scalar.Scalar


def _constant(expression: Expression, node: Node, index: Index) -> Scalar:
    value = node.attributes["value"]
    return scalar.constant(expression.builder, node.output.dtype, value.reshape(-1)[0])


def _iota(expression: Expression, node: Node, index: Index) -> Scalar:
    place = expression.dims(index)[node.attributes["dimension"]]
    builder = expression.builder
    return scalar.emit(builder, "convert", [place], [expression.index_dtype], node.output.dtype, {})


def _broadcast(expression: Expression, node: Node, index: Index) -> Scalar:
    operand = node.inputs[0]
    if operand.size == 1:
        return expression.at(operand, origin(expression, operand.shape))
    source = node.attributes["dimensions"]
    if operand.shape == node.output.shape:
        return expression.at(operand, index)

    def move() -> Index:
        dims = expression.dims(index)
        zero = expression.number(0)
        return expression.index(
            operand.shape, dims=tuple(zero if n == 1 else dims[source[i]] for i, n in enumerate(operand.shape))
        )

    return expression.at(operand, expression.derived(("broadcast", source, operand.shape), index, move))


def origin(expression: Expression, shape: tuple[int, ...]) -> Index:
    """Return the position of the first element."""
    if not shape:
        return SCALAR
    zero = expression.number(0)
    return expression.remember(
        ("origin", shape), lambda: expression.index(shape, dims=(zero,) * len(shape), linear=zero)
    )


def _reshape(expression: Expression, node: Node, index: Index) -> Scalar:
    operand = node.inputs[0]
    return expression.at(operand, reshaped(expression, index, operand.shape))


def reshaped(expression: Expression, index: Index, shape: tuple[int, ...]) -> Index:
    """Return the same place in an array of another shape; dimensions of extent one come and go without arithmetic."""
    if shape == index.shape:
        return index
    if not shape:
        return SCALAR
    wide = [i for i, extent in enumerate(index.shape) if extent != 1]
    same = [index.shape[i] for i in wide] == [extent for extent in shape if extent != 1]

    def move() -> Index:
        if not same or index.dims is None:
            return expression.index(shape, like=index)
        zero, left = expression.number(0), iter(wide)
        dims = tuple(zero if extent == 1 else index.dims[next(left)] for extent in shape)
        return expression.index(shape, dims=dims, like=index)

    return expression.derived(("reshape", shape), index, move)


def _transpose(expression: Expression, node: Node, index: Index) -> Scalar:
    operand = node.inputs[0]
    permutation = node.attributes["permutation"]

    def move() -> Index:
        dims = expression.dims(index)
        source: list[Register | None] = [None] * len(dims)
        for place, axis in enumerate(permutation):
            source[axis] = dims[place]
        return expression.index(operand.shape, dims=tuple(source))

    return expression.at(operand, expression.derived(("transpose", permutation), index, move))


def _slice(expression: Expression, node: Node, index: Index) -> Scalar:
    operand = node.inputs[0]
    start, stride = node.attributes["start"], node.attributes["stride"]

    def move() -> Index:
        number = expression.number
        dims = [d * number(s) + number(b) for d, s, b in zip(expression.dims(index), stride, start, strict=True)]
        return expression.index(operand.shape, dims=tuple(dims))

    return expression.at(operand, expression.derived(("slice", start, stride, operand.shape), index, move))


def _reverse(expression: Expression, node: Node, index: Index) -> Scalar:
    operand = node.inputs[0]
    turned = node.attributes["dimensions"]

    def move() -> Index:
        dims = expression.dims(index)
        number = expression.number
        return expression.index(
            operand.shape,
            dims=tuple(number(n - 1) - dims[i] if i in turned else dims[i] for i, n in enumerate(operand.shape)),
        )

    return expression.at(operand, expression.derived(("reverse", turned), index, move))


def _pad(expression: Expression, node: Node, index: Index) -> Scalar:
    """Read the operand or the filler; a run that lies on the same side of every edge decides once for all."""
    operand, filler = node.inputs
    if operand.size == 0:
        return expression.at(filler, SCALAR)
    low, interior, padded = node.attributes["low"], node.attributes["interior"], node.output.shape

    def keeps(axis: int) -> bool:
        return operand.shape[axis] == padded[axis] and low[axis] == 0 and interior[axis] == 0

    members, number, fast = _run_of(expression, index, keeps)

    def all_of_run() -> list[Scalar]:
        places = [_unpad(expression, expression.dims(i), operand.shape, low, interior, padded) for i in members]
        positions = [expression.index(operand.shape, dims=tuple(dims)) for _, dims in places]
        if len(positions) > 1:
            expression.enter_run(positions, fast)

        def read() -> list[Scalar]:
            return [expression.at(operand, position) for position in positions]

        inside = places[0][0]
        if inside is None:
            return read()
        return expression.choose_all(
            inside, read, lambda: [expression.at(filler, SCALAR)] * len(members), node.output.dtype
        )

    return expression.remember(("pad", node.output, id(members[0])), all_of_run)[number]


def _run_of(expression: Expression, index: Index, is_kept: Callable[[int], bool]) -> tuple[Sequence[Index], int, int]:
    """Return the run of a position if an operation keeps the axis it runs along, else the position alone."""
    run = expression.siblings.get(id(index))
    return run if run is not None and is_kept(run[2]) else ([index], 0, 0)


def _unpad(
    expression: Expression,
    dims: tuple[Register, ...],
    shape: tuple[int, ...],
    low: tuple[int, ...],
    interior: tuple[int, ...],
    padded: tuple[int, ...],
) -> tuple[Register | None, list[Register]]:
    """Return the condition for lying on an element, and its position; unsigned wrap-around makes one test of two."""
    number = expression.number
    inside: Register | None = None
    places: list[Register] = []
    for position, extent, before, gap, total in zip(dims, shape, low, interior, padded, strict=True):
        place = position - number(before) if before >= 0 else position + number(-before)
        tests: list[Register] = []
        if gap:
            tests.append((place % number(gap + 1)) == number(0))
            tests.append(place < number((extent - 1) * (gap + 1) + 1))
            place = place // number(gap + 1)
        elif before > 0 or before + extent < total:
            tests.append(place < number(extent))
        for test in tests:
            inside = test if inside is None else expression.builder.logical_and(inside, test)
        places.append(place)
    return inside, places


def _concatenate(expression: Expression, node: Node, index: Index) -> Scalar:
    """Read the operand that holds the position; a run along another axis lies in one of them and decides once."""
    axis = node.attributes["dimension"]
    operands = [operand for operand in node.inputs if operand.shape[axis] > 0]
    members, number, fast = _run_of(expression, index, lambda along: along != axis)
    rows = [expression.dims(member) for member in members]

    def piece(position: int, offset: int) -> list[Scalar]:
        operand = operands[position]

        def load() -> list[Scalar]:
            moved = [(*dims[:axis], dims[axis] - expression.number(offset), *dims[axis + 1 :]) for dims in rows]
            places = [expression.index(operand.shape, dims=dims) for dims in moved]
            if len(places) > 1:
                expression.enter_run(places, fast)
            return [expression.at(operand, place) for place in places]

        if position == len(operands) - 1:
            return load()
        end = offset + operand.shape[axis]
        here = rows[0][axis] < expression.number(end)
        return expression.choose_all(here, load, lambda: piece(position + 1, end), node.output.dtype)

    return expression.remember(("concatenate", node.output, id(members[0])), lambda: piece(0, 0))[number]


def start_position(expression: Expression, element: Scalar, dtype: str, room: int) -> Register:
    """Return a run-time start index clamped to [0, room], as an index register."""
    builder = expression.builder
    low = scalar.constant(builder, dtype, 0)
    # An index dtype too narrow for `room` cannot reach it: clamping to its own largest value changes nothing.
    high = scalar.constant(builder, dtype, min(room, _largest(dtype)))
    clamped = scalar.emit(builder, "clamp", [low, element, high], [dtype] * 3, dtype, {})
    place = scalar.emit(builder, "convert", [clamped], [dtype], expression.index_dtype, {})
    assert not isinstance(place, Complex)
    return place


def _largest(dtype: str) -> int:
    bits = int(dtype[1:])
    return (1 << bits) - 1 if dtype.startswith("u") else (1 << (bits - 1)) - 1


def _dynamic_slice(expression: Expression, node: Node, index: Index) -> Scalar:
    operand, *starts = node.inputs
    begin = start_positions(expression, node, starts, operand.shape, node.output.shape)
    dims = [place + first for place, first in zip(expression.dims(index), begin, strict=True)]
    return expression.at(operand, expression.index(operand.shape, dims=tuple(dims)))


def start_positions(
    expression: Expression, node: Node, starts: list, shape: tuple[int, ...], window: tuple[int, ...]
) -> list[Register]:
    """Return the clamped start of a window along each dimension; computed once for each block."""

    def make() -> list[Register]:
        return [
            expression.number(0)
            if extent == size
            else start_position(expression, expression.at(start, SCALAR), start.dtype, extent - size)
            for start, extent, size in zip(starts, shape, window, strict=True)
        ]

    return expression.remember(("starts", id(node)), make)


def _dynamic_update_slice(expression: Expression, node: Node, index: Index) -> Scalar:
    operand, update, *starts = node.inputs
    if update.size == 0:
        return expression.at(operand, index)
    begin = start_positions(expression, node, starts, operand.shape, update.shape)
    dims = expression.dims(index)
    inside: Register | None = None
    places: list[Register] = []
    for position, first, extent, size in zip(dims, begin, operand.shape, update.shape, strict=True):
        place = position - first
        places.append(place)
        if size < extent:
            test = place < expression.number(size)
            inside = test if inside is None else expression.builder.logical_and(inside, test)
    target = expression.index(update.shape, dims=tuple(places))
    if inside is None:
        return expression.at(update, target)
    return expression.choose(
        inside, lambda: expression.at(update, target), lambda: expression.at(operand, index), node.output.dtype
    )


def _gather(expression: Expression, node: Node, index: Index) -> Scalar:
    operand, starts = node.inputs
    a = node.attributes
    dims = expression.dims(index)
    offsets = a["offset_dims"]
    batch = [dims[i] for i in range(len(dims)) if i not in offsets]
    window = [dims[i] for i in offsets]
    hidden = set(a["collapsed_slice_dims"]) | set(a["operand_batching_dims"])
    places: list[Register] = []
    for axis in range(len(operand.shape)):
        places.append(expression.number(0) if axis in hidden else window.pop(0))
    for part, axis in enumerate(a["start_index_map"]):
        room = operand.shape[axis] - a["slice_sizes"][axis]
        element = expression.at(starts, component(expression, starts.shape, batch, a["index_vector_dim"], part))
        places[axis] = places[axis] + start_position(expression, element, starts.dtype, room)
    batch_axes = [i for i in range(len(starts.shape)) if i != a["index_vector_dim"]]
    for axis, source in zip(a["operand_batching_dims"], a["start_batching_dims"], strict=True):
        places[axis] = batch[batch_axes.index(source)]
    return expression.at(operand, expression.index(operand.shape, dims=tuple(places)))


def component(
    expression: Expression, shape: tuple[int, ...], batch: list[Register], vector_dim: int, part: int
) -> Index:
    """Return the position of one component of an index vector."""
    dims = list(batch)
    if vector_dim < len(shape):
        dims.insert(vector_dim, expression.number(part))
    return expression.index(shape, dims=tuple(dims)) if shape else SCALAR


RULES: Mapping[str, Callable[[Expression, Node, Index], Scalar]] = {
    "constant": _constant,
    "iota": _iota,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "reverse": _reverse,
    "pad": _pad,
    "concatenate": _concatenate,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
}
