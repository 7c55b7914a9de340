"""Matrix products: dot_general with any dimensions becomes batch x rows x columns x depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod

from shaders.capabilities import Capabilities
from shaders.library import matmul
from shaders.library.complex import Complex
from shaders.library.matmul import MatmulAccess, MatmulProblem, MatmulTiles, Plain
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Graph, Node, Value
from ..schedule import Schedule
from . import maps, scalar
from .expression import Expression, Scalar
from .index import Index


@dataclass(frozen=True)
class Layout:
    """Which dimensions of an operand are batch, free and contracted, in the order the product walks them."""

    shape: tuple[int, ...]
    batch: tuple[int, ...]
    free: tuple[int, ...]
    contract: tuple[int, ...]

    def extent(self, axes: tuple[int, ...]) -> int:
        """Return the number of positions along a group of dimensions."""
        return prod(self.shape[axis] for axis in axes)

    @property
    def depth_is_minor(self) -> bool:
        """Whether neighbours in depth are neighbours in the operand."""
        wide = [axis for axis, extent in enumerate(self.shape) if extent != 1]
        return not wide or wide[-1] in self.contract


def dot_node(body: Graph) -> Node:
    """Return the matrix product inside a fusion's body."""
    return next(node for node in body.nodes if node.op == "dot_general")


def layouts(node: Node) -> tuple[Layout, Layout]:
    """Return how the two operands are walked."""
    a = node.attributes
    result = []
    for side, operand in zip(("lhs", "rhs"), node.inputs, strict=True):
        batch, contract = tuple(a[f"{side}_batch"]), tuple(a[f"{side}_contract"])
        free = tuple(i for i in range(len(operand.shape)) if i not in batch and i not in contract)
        result.append(Layout(operand.shape, batch, free, contract))
    return result[0], result[1]


def problem(node: Node) -> MatmulProblem:
    """Return the sizes and dtypes of a matrix product."""
    lhs, rhs = layouts(node)
    accumulator = accumulator_dtype(node.output.dtype)
    return MatmulProblem(
        batch=lhs.extent(lhs.batch),
        rows=lhs.extent(lhs.free),
        columns=rhs.extent(rhs.free),
        depth=lhs.extent(lhs.contract),
        lhs=node.inputs[0].dtype,
        rhs=node.inputs[1].dtype,
        accumulator=accumulator,
        result=node.output.dtype,
    )


def accumulator_dtype(dtype: str) -> str:
    """Return the dtype that sums of products are kept in."""
    return {"f16": "f32", "bf16": "f32", "i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32", "bool": "u32"}.get(
        dtype, dtype
    )


def choose(fusion: Node, capabilities: Capabilities) -> Schedule:
    """Return the tiles of the product on a device."""
    node = dot_node(fusion.attributes["body"])
    return _schedule(matmul.choose(problem(node), capabilities, **_lies(node)))


def candidates(fusion: Node, capabilities: Capabilities) -> Iterator[Schedule]:
    """Yield the schedules worth measuring; all of them fit the device."""
    node = dot_node(fusion.attributes["body"])
    for tiles in matmul.candidates(problem(node), capabilities, **_lies(node)):
        yield _schedule(tiles)


def _lies(node: Node) -> dict[str, bool]:
    lhs, rhs = layouts(node)
    return {"lhs_depth_contiguous": lhs.depth_is_minor, "rhs_column_contiguous": not rhs.depth_is_minor}


def _schedule(tiles: MatmulTiles) -> Schedule:
    return Schedule("dot", matmul.workgroup(tiles)[0], subgroup=matmul.subgroup_size(tiles) or 0, tiles=tiles)


def shape_class(fusion: Node) -> str:
    """Return what products share that one schedule is best for: dtypes, how operands lie, sizes within a quarter.

    An operand's fastest axis stands last; "moved" ones are reversed, sliced or put together on the way.
    """
    body: Graph = fusion.attributes["body"]
    node, sizes = dot_node(body), problem(dot_node(body))
    lhs, rhs = layouts(node)
    left = f"{sizes.lhs}[{'rows,depth' if lhs.depth_is_minor else 'depth,rows'}]"
    right = f"{sizes.rhs}[{'columns,depth' if rhs.depth_is_minor else 'depth,columns'}]"
    operands = [
        text if _is_plain(body, operand) else f"moved {text}"
        for operand, text in zip(node.inputs, (left, right), strict=True)
    ]
    names = ("batch", "rows", "columns", "depth")
    extents = " ".join(f"{name}<={round_up(getattr(sizes, name))}" for name in names)
    return f"dot {' '.join(operands)} -> {sizes.accumulator} -> {sizes.result} {extents}"


def round_up(extent: int) -> int:
    """Return the next of eight sizes between one power of two and the next but one: 4096 for 3585 to 4096."""
    step = 1 << max((extent - 1).bit_length() - 3, 0)
    return -(-extent // step) * step


def _is_plain(body: Graph, operand: Value) -> bool:
    """Tell whether an operand lies in memory, perhaps under another shape."""
    producers = body.producers()
    while operand in producers and producers[operand].op == "reshape":
        operand = producers[operand].inputs[0]
    return operand not in producers


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups."""
    assert schedule.tiles is not None
    return matmul.groups(problem(dot_node(fusion.attributes["body"])), schedule.tiles)[0]


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """The kernel library walks the tiles; loads evaluate the operands' expressions, stores the epilogue."""
    assert schedule.tiles is not None
    node = dot_node(fusion.attributes["body"])
    lhs, rhs = layouts(node)
    sizes = problem(node)

    def load(operand: Value, layout: Layout, batch: Register, free: Register, depth: Register) -> Scalar:
        with expression.scope():
            index = place(expression, layout, {"batch": batch, "free": free, "contract": depth})
            element = expression.at(operand, index)
            return _convert(builder, element, operand.dtype, sizes.accumulator)

    def store(_: Builder, batch: Register, row: Register, column: Register, value: Scalar) -> None:
        with expression.scope():
            for output, linear, result in _epilogue(expression, fusion, node, (lhs, rhs), (batch, row, column), value):
                expression.store(output, linear, result)

    access = MatmulAccess(
        load_lhs=lambda _, batch, row, depth: load(node.inputs[0], lhs, batch, row, depth),
        load_rhs=lambda _, batch, depth, column: load(node.inputs[1], rhs, batch, column, depth),
        store=store,
        lhs_depth_contiguous=lhs.depth_is_minor,
        rhs_column_contiguous=not rhs.depth_is_minor,
        lhs_vector=_vector_load(expression, node.inputs[0], lhs),
        rhs_vector=_vector_load(expression, node.inputs[1], rhs, depth_first=True),
        store_vector=_vector_store(expression, fusion, node, (lhs, rhs)),
        lhs_plain=_plain(expression, node.inputs[0], lhs),
        rhs_plain=_plain(expression, node.inputs[1], rhs),
    )
    matmul.emit(builder, sizes, schedule.tiles, access)


# Elements that a kernel loads or stores at once.
WIDTH = 4


def _vector_load(
    expression: Expression, operand: Value, layout: Layout, *, depth_first: bool = False
) -> Callable[[Builder, Register, Register, Register], Register] | None:
    """Return the load of neighbours along the operand's fastest group, if they lie side by side in memory."""
    source = _plain_source(expression, operand)
    runs = _runs(layout)
    if source is None or not runs or operand.dtype not in _VECTOR_DTYPES:
        return None
    group, axes = runs[-1]
    if group == "batch" or axes != tuple(getattr(layout, group)) or layout.extent(axes) % WIDTH:
        return None

    def load(_: Builder, batch: Register, first: Register, second: Register) -> Register:
        free, depth = (second, first) if depth_first else (first, second)
        with expression.scope():
            index = place(expression, layout, {"batch": batch, "free": free, "contract": depth})
            return expression.buffers[source].load(expression.linear(index), WIDTH)

    return load


def _plain(expression: Expression, operand: Value, layout: Layout) -> Plain | None:
    """Return how an operand lies in memory, if its free and its contracted dimensions each step evenly through it."""
    source = _plain_source(expression, operand)
    runs = _runs(layout)
    whole = all(tuple(axes) == tuple(getattr(layout, group)) for group, axes in runs if group != "batch")
    if source is None or not whole or expression.index_dtype != "u32":
        return None
    strides = [prod(layout.shape[axis + 1 :]) for axis in range(len(layout.shape))]
    batch_strides = tuple(strides[axis] for axis in layout.batch)

    def step(axes: tuple[int, ...]) -> int:
        wide = [axis for axis in axes if layout.shape[axis] != 1]
        return strides[wide[-1]] if wide else 0

    def start(batch: Register) -> Register:
        along = expression.split(batch, tuple(layout.shape[axis] for axis in layout.batch))
        total = expression.number(0)
        for index, stride in zip(along, batch_strides, strict=True):
            total = total + index * stride
        return total

    alignment = gcd(*batch_strides) or operand.size
    return Plain(expression.buffers[source], start, step(layout.free), step(layout.contract), alignment)


# Real types that buffers can hand out four at a time.
_VECTOR_DTYPES = frozenset({"f32", "f16", "bf16", "i32", "u32"})


def _plain_source(expression: Expression, operand: Value) -> Value | None:
    """Return the memory value that an operand is, perhaps under another shape."""
    while operand not in expression.buffers:
        node = expression.producers.get(operand)
        if node is None or node.op != "reshape":
            return None
        operand = node.inputs[0]
    return operand


def _vector_store(
    expression: Expression, fusion: Node, node: Node, sides: tuple[Layout, Layout]
) -> Callable[[Builder, Register, Register, Register, Scalar], None] | None:
    """Return the store of neighbouring columns, if they are neighbours in every output."""
    _, rhs = sides
    body: Graph = fusion.attributes["body"]
    if rhs.extent(rhs.free) % WIDTH or not all(
        output.dtype in _VECTOR_DTYPES and output.size == node.output.size and list(axes) == sorted(axes)
        for output, axes in _followed(fusion, body)
    ):
        return None

    def store(builder: Builder, batch: Register, row: Register, column: Register, value: Scalar) -> None:
        assert not isinstance(value, Complex)
        made = []
        for i in range(WIDTH):
            with expression.scope():
                made.append(_epilogue(expression, fusion, node, sides, (batch, row, column + i), value[i]))
        for each in zip(*made, strict=True):
            output, linear, _ = each[0]
            neighbours = [element for _, _, element in each]
            expression.buffers[output].store(linear, builder.vector(neighbours))

    return store


def _followed(fusion: Node, body: Graph) -> list[tuple[Value, list[int]]]:
    """Return each output with the dimensions of the product that its own follow."""
    rows = zip(body.outputs, fusion.attributes["output_axes"], strict=True)
    return [(output, [axis for axis in axes if axis is not None]) for output, axes in rows]


def place(expression: Expression, layout: Layout, given: dict[str, Register]) -> Index:
    """Return an operand's position; neighbouring dimensions of one group are walked as one, without divisions."""
    runs = _runs(layout)
    collapsed_shape = tuple(prod(layout.shape[axis] for axis in axes) for _, axes in runs)
    dims: list[Register] = []
    for group, axes in runs:
        whole = tuple(getattr(layout, group))
        if axes == whole:
            dims.append(given[group])
            continue
        along = dict(zip(whole, expression.split(given[group], tuple(layout.shape[i] for i in whole)), strict=True))
        dims.append(expression.flatten([along[i] for i in axes], tuple(layout.shape[i] for i in axes)))
    collapsed = expression.index(collapsed_shape, dims=tuple(dims))
    if collapsed_shape == layout.shape:
        return collapsed
    return expression.index(layout.shape, like=collapsed)


def _runs(layout: Layout) -> list[tuple[str, tuple[int, ...]]]:
    """Cut the operand's dimensions into runs that belong to one group in that group's own order."""
    group_of = {axis: group for group in ("batch", "free", "contract") for axis in getattr(layout, group)}
    runs: list[tuple[str, tuple[int, ...]]] = []
    for axis in range(len(layout.shape)):
        group = group_of[axis]
        order = getattr(layout, group)
        if runs and runs[-1][0] == group and order.index(axis) == order.index(runs[-1][1][-1]) + 1:
            runs[-1] = (group, (*runs[-1][1], axis))
        else:
            runs.append((group, (axis,)))
    return runs


def _epilogue(
    expression: Expression,
    fusion: Node,
    node: Node,
    sides: tuple[Layout, Layout],
    where: Sequence[Register],
    value: Scalar,
) -> list[tuple[Value, Register, Scalar]]:
    """Return what the fusion makes of one element of the product: each output, the place in it and the result."""
    shape = node.output.shape
    batch, row, column = where
    lhs, rhs = sides
    extents = [lhs.extent(lhs.batch), lhs.extent(lhs.free), rhs.extent(rhs.free)]
    flat = expression.index(tuple(extents), dims=(batch, row, column))
    single = [len(lhs.batch) <= 1, len(lhs.free) <= 1, len(rhs.free) <= 1]
    if all(single):
        dims = [d for d, axes in zip(where, (lhs.batch, lhs.free, rhs.free), strict=True) if axes]
        index = expression.index(shape, dims=tuple(dims), like=flat)
    else:
        index = expression.index(shape, like=flat)
    element = _convert(expression.builder, value, accumulator_dtype(node.output.dtype), node.output.dtype)
    before = expression.fixed.get(node.output)
    expression.fixed[node.output] = element
    places = maps.outputs_at(expression, fusion, index)
    made = [(output, expression.linear(place), expression.at(output, place)) for output, place in places]
    if before is None:
        del expression.fixed[node.output]
    return made


def _convert(builder: Builder, element: Scalar, source: str, target: str) -> Scalar:
    same_register = target == "f32" and source in ("f16", "bf16")
    if source == target or same_register:
        return element
    return scalar.emit(builder, "convert", [element], [source], target, {})
