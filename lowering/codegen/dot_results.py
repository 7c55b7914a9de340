"""What becomes of the sums of a matrix product: stored as they are by 16 bytes, or through the fusion's epilogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from shaders.spirv import Builder
from shaders.spirv import Value as Register
from shaders.spirv.dtypes import BITS

from ..graph import Graph, Node, Value
from ..passes.roots import COSTS
from . import maps, scalar
from .expression import Expression, Scalar
from .index import Index
from .runs import Place, Runs
from .sides import VECTOR_DTYPES, WIDTH, dot_node, layouts, offset
from .views import View, row_major

_WHOLE_BITS = 128
# Cost of an epilogue that is written out for each run of sums; see `COSTS`.
_SHORT_COST = 8
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
            dims, linear = _position(expression, fusion, (batch, row, column))
            index = expression.index(fusion.attributes["domain"], dims=tuple(dims), linear=linear)
            for place in _epilogue(expression, fusion, index, value):
                expression.store(*place)

    return store


def run_store(
    expression: Expression, fusion: Node
) -> Callable[[Builder, Register, Register, Register, Sequence[Scalar]], Callable[[], None]] | None:
    """Return the store of neighbouring columns, if they are neighbours in every output."""
    count = longest_run(fusion)
    if count == 1:
        return None
    runs = {size: Runs(expression, fusion, size) for size in (WIDTH, count)}

    def store(
        builder: Builder, batch: Register, row: Register, column: Register, sums: Sequence[Scalar]
    ) -> Callable[[], None]:
        del builder
        with expression.scope():
            positions = runs[len(sums)].positions(*_position(expression, fusion, (batch, row, column)))
            made = [_epilogue(expression, fusion, *each) for each in zip(positions, sums, strict=True)]
        return lambda: _store_runs(expression, list(zip(*made, strict=True)))

    return store


def _store_runs(expression: Expression, columns: Sequence[Sequence[Place]]) -> None:
    """Write runs of results; each column is one output's, whose first element lies at a multiple of the run."""
    for column in columns:
        output, linear, _ = column[0]
        elements = [place.element for place in column]
        scalar.store_run(expression.builder, expression.buffers[output], linear, elements, output.dtype)


def longest_run(fusion: Node) -> int:
    """Return how many neighbouring columns an epilogue may take at once: 8, 4 or 1."""
    for count in (2 * WIDTH, WIDTH):
        if all(_keeps_neighbours(fusion, output, axes, count) for output, axes in _followed(fusion)):
            return count
    return 1


def is_short(fusion: Node) -> bool:
    """Tell whether what becomes of a sum is a few instructions."""
    body: Graph = fusion.attributes["body"]
    return sum(COSTS.get(node.op, 1) for node in body.nodes) <= _SHORT_COST


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


def _keeps_neighbours(fusion: Node, output: Value, axes: Sequence[int], count: int) -> bool:
    """Tell whether runs of columns lie whole in an output."""
    node = dot_node(fusion.attributes["body"])
    shape = node.output.shape
    if output.dtype not in VECTOR_DTYPES or output.size != node.output.size:
        return False
    fast = max((axis for axis in _groups(node)[2] if shape[axis] != 1), default=None)
    wide = [axis for axis in axes if shape[axis] != 1]
    return fast is not None and wide[-1] == fast and shape[fast] % count == 0


def _position(
    expression: Expression, fusion: Node, where: tuple[Register, Register, Register]
) -> tuple[list[Register], Register]:
    """Return (batch, row, column) as the position along each dimension of the result, and as the element's number."""
    shape, counts = fusion.attributes["domain"], [expression.wide(count) for count in where]
    sizes = [tuple(shape[axis] for axis in axes) for axes in _groups(dot_node(fusion.attributes["body"]))]
    dims = [dim for size, place in zip(sizes, counts, strict=True) if size for dim in expression.split(place, size)]
    return dims, expression.flatten(counts, tuple(prod(size) for size in sizes))


def _epilogue(expression: Expression, fusion: Node, index: Index, total: Scalar) -> list[Place]:
    """Return what the fusion makes of one element of the product: the place in each output and the result."""
    node = dot_node(fusion.attributes["body"])
    element = convert(expression.builder, total, accumulator_dtype(node.output.dtype), node.output.dtype)
    before = expression.fixed.get(node.output)
    expression.fixed[node.output] = element
    places = maps.outputs_at(expression, fusion, index)
    made = [Place(output, expression.linear(place), expression.at(output, place)) for output, place in places]
    if before is None:
        del expression.fixed[node.output]
    return made
