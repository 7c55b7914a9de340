"""What becomes of the sums of a matrix product: stored as they are by 16 bytes, or through the fusion's epilogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from shaders.library.complex import Complex
from shaders.spirv import Builder
from shaders.spirv import Value as Register
from shaders.spirv.dtypes import BITS

from ..graph import Graph, Node, Value
from . import maps, scalar
from .expression import Expression, Scalar
from .sides import VECTOR_DTYPES, WIDTH, dot_node, layouts, offset
from .views import View, row_major

_WHOLE_BITS = 128
_MOVES = frozenset({"reshape", "transpose"})


def accumulator_dtype(dtype: str) -> str:
    """Return the dtype that sums of products are kept in."""
    return {"f16": "f32", "bf16": "f32", "i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32", "bool": "u32"}.get(
        dtype, dtype
    )


def convert(builder: Builder, element: Scalar, source: str, target: str) -> Scalar:
    """Return an element as another dtype; 16-bit floats are f32 in registers already."""
    same_register = target == "f32" and source in ("f16", "bf16")
    if source == target or same_register:
        return element
    return scalar.emit(builder, "convert", [element], [source], target, {})


def scalar_store(
    expression: Expression, fusion: Node
) -> Callable[[Builder, Register, Register, Register, Scalar], None]:
    """Return the store of one sum at (batch, row, column)."""

    def store(_: Builder, batch: Register, row: Register, column: Register, value: Scalar) -> None:
        with expression.scope():
            for output, linear, result in _epilogue(expression, fusion, (batch, row, column), value):
                expression.store(output, linear, result)

    return store


def vector_store(
    expression: Expression, fusion: Node
) -> Callable[[Builder, Register, Register, Register, Scalar], None] | None:
    """Return the store of neighbouring columns, if they are neighbours in every output."""
    if not all(_keeps_neighbours(fusion, output, axes) for output, axes in _followed(fusion)):
        return None

    def store(builder: Builder, batch: Register, row: Register, column: Register, value: Scalar) -> None:
        assert not isinstance(value, Complex)
        made = []
        for i in range(WIDTH):
            with expression.scope():
                made.append(_epilogue(expression, fusion, (batch, row, column + i), value[i]))
        for each in zip(*made, strict=True):
            output, linear, _ = each[0]
            neighbours = [element for _, _, element in each]
            expression.buffers[output].store(linear, builder.vector(neighbours))

    return store


def words_store(
    expression: Expression, fusion: Node
) -> Callable[[Builder, Register, Register, Register, Register], None] | None:
    """Return the store of 16 bytes of neighbouring columns, if the only output holds the sums themselves, moved."""
    node = dot_node(fusion.attributes["body"])
    output = _moved_product(fusion)
    if output is None or output.dtype not in VECTOR_DTYPES or expression.index_dtype != "u32":
        return None
    lies = _view_of_product(fusion, output)
    group = _WHOLE_BITS // BITS[output.dtype]
    axes = _groups(node)
    wide = [axis for axis in axes[2] if lies.shape[axis] != 1]
    if not wide or lies.contiguous() != wide[-1] or lies.run() % group:
        return None

    def store(builder: Builder, batch: Register, row: Register, column: Register, words: Register) -> None:
        place = expression.number(0)
        for each, index in zip(axes, (batch, row, column), strict=True):
            place = place + offset(expression, lies, each, index)
        expression.buffers[output].store_words(builder.divide_exactly(place, group), words)

    return store


def _groups(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the dimensions of a product that batch, rows and columns walk."""
    lhs, rhs = layouts(node)
    batch, rows = len(lhs.batch), len(lhs.batch) + len(lhs.free)
    return tuple(range(batch)), tuple(range(batch, rows)), tuple(range(rows, rows + len(rhs.free)))


def _moved_product(fusion: Node) -> Value | None:
    """Return the only output, if it is the product in another order or shape."""
    body: Graph = fusion.attributes["body"]
    product, producers = dot_node(body).output, body.producers()
    if len(body.outputs) != 1:
        return None
    value = body.outputs[0]
    while value != product:
        node = producers.get(value)
        if node is None or node.op not in _MOVES:
            return None
        value = node.inputs[0]
    return body.outputs[0]


def _view_of_product(fusion: Node, output: Value) -> View:
    """Return how the product lies in the memory of the output that holds it."""
    shape = fusion.attributes["domain"]
    strides = [0] * len(shape)
    (axes,) = fusion.attributes["output_axes"]
    for axis, stride in zip(axes, row_major(output.shape), strict=True):
        if axis is not None:
            strides[axis] = stride
    return View(output, 0, shape, tuple(strides))


def _followed(fusion: Node) -> list[tuple[Value, list[int]]]:
    """Return each output with the dimensions of the product that its own follow."""
    body: Graph = fusion.attributes["body"]
    rows = zip(body.outputs, fusion.attributes["output_axes"], strict=True)
    return [(output, [axis for axis in axes if axis is not None]) for output, axes in rows]


def _keeps_neighbours(fusion: Node, output: Value, axes: Sequence[int]) -> bool:
    """Tell whether vectors of columns lie whole in an output."""
    node = dot_node(fusion.attributes["body"])
    shape = node.output.shape
    if output.dtype not in VECTOR_DTYPES or output.size != node.output.size:
        return False
    columns = _groups(node)[2]
    if list(axes) == sorted(axes):
        return prod(shape[axis] for axis in columns) % WIDTH == 0
    return axes[-1] in columns and axes[-1] == max(axes) and shape[axes[-1]] % WIDTH == 0


def _epilogue(
    expression: Expression, fusion: Node, where: tuple[Register, Register, Register], value: Scalar
) -> list[tuple[Value, Register, Scalar]]:
    """Return what the fusion makes of one element of the product: each output, the place in it and the result."""
    node = dot_node(fusion.attributes["body"])
    shape = node.output.shape
    lhs, rhs = layouts(node)
    extents = (lhs.extent(lhs.batch), lhs.extent(lhs.free), rhs.extent(rhs.free))
    flat = expression.index(extents, dims=where)
    if all(len(axes) <= 1 for axes in (lhs.batch, lhs.free, rhs.free)):
        dims = [d for d, axes in zip(where, (lhs.batch, lhs.free, rhs.free), strict=True) if axes]
        index = expression.index(shape, dims=tuple(dims), like=flat)
    else:
        index = expression.index(shape, like=flat)
    element = convert(expression.builder, value, accumulator_dtype(node.output.dtype), node.output.dtype)
    before = expression.fixed.get(node.output)
    expression.fixed[node.output] = element
    places = maps.outputs_at(expression, fusion, index)
    made = [(output, expression.linear(place), expression.at(output, place)) for output, place in places]
    if before is None:
        del expression.fixed[node.output]
    return made
