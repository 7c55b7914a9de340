"""Matrix products: dot_general with any dimensions becomes batch x rows x columns x depth."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from shaders.capabilities import Capabilities
from shaders.library import matmul
from shaders.library.matmul import MatmulAccess, MatmulProblem, MatmulTiles
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Graph, Node, Value
from ..schedule import Schedule
from .dot_results import accumulator_dtype, convert, is_short, longest_run, run_store, scalar_store, words_store
from .expression import Expression, Scalar
from .index import Index
from .sides import WIDTH, Layout, Side, dot_node, layouts, sides


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


def choose(fusion: Node, capabilities: Capabilities) -> Schedule:
    """Return the tiles of the product on a device."""
    body: Graph = fusion.attributes["body"]
    return _schedule(matmul.choose(problem(dot_node(body)), capabilities, **_lies(body)))


def candidates(fusion: Node, capabilities: Capabilities) -> Iterator[Schedule]:
    """Yield the schedules worth measuring; all of them fit the device."""
    body: Graph = fusion.attributes["body"]
    for tiles in matmul.candidates(problem(dot_node(body)), capabilities, **_lies(body)):
        yield _schedule(tiles)


def _lies(body: Graph) -> dict[str, bool]:
    lhs, rhs = sides(body)
    return {"lhs_depth_contiguous": lhs.depth_is_minor, "rhs_column_contiguous": not rhs.depth_is_minor}


def _schedule(tiles: MatmulTiles) -> Schedule:
    return Schedule("dot", matmul.workgroup(tiles)[0], subgroup=matmul.subgroup_size(tiles) or 0, tiles=tiles)


def shape_class(fusion: Node) -> str:
    """Return what products share that one schedule is best for: dtypes, how operands lie, sizes within a quarter.

    An operand's fastest axis stands last; "moved" ones are reversed, sliced or put together on the way.
    """
    body: Graph = fusion.attributes["body"]
    node, sizes = dot_node(body), problem(dot_node(body))
    lhs, rhs = sides(body)
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
    body: Graph = fusion.attributes["body"]
    lhs, rhs = sides(body)
    sizes = problem(dot_node(body))

    def load(side: Side, batch: Register, free: Register, depth: Register) -> Scalar:
        with expression.scope():
            given = {"batch": batch, "free": free, "contract": depth}
            index = place(expression, side.layout, {name: expression.wide(count) for name, count in given.items()})
            element = expression.at(side.operand, index)
            return convert(builder, element, side.operand.dtype, sizes.accumulator)

    left, right = lhs.vector(expression), rhs.vector(expression)
    access = MatmulAccess(
        load_lhs=lambda _, batch, row, depth: load(lhs, batch, row, depth),
        load_rhs=lambda _, batch, depth, column: load(rhs, batch, column, depth),
        store=scalar_store(expression, fusion),
        lhs_depth_contiguous=lhs.depth_is_minor,
        rhs_column_contiguous=not rhs.depth_is_minor,
        lhs_vector=None if left is None else lambda _, batch, row, depth: left(batch, row, depth),
        rhs_vector=None if right is None else lambda _, batch, depth, column: right(batch, column, depth),
        store_run=run_store(expression, fusion),
        longest_run=max(longest_run(fusion), WIDTH),
        is_short=is_short(fusion),
        store_words=words_store(expression, fusion),
        lhs_plain=lhs.plain(expression),
        rhs_plain=rhs.plain(expression),
        lhs_pieces=lhs.pieces(expression),
        rhs_pieces=rhs.pieces(expression),
    )
    matmul.emit(builder, sizes, schedule.tiles, access)


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
