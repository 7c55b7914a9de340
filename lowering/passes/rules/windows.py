"""Windows at places that are found at run time, taken before cheap arithmetic: fewer elements are computed.

Only where nothing else reads the arithmetic's result is that always less: these rules are for cells of tile kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from ... import ops
from ...graph import Node, Value
from ..rewriting import Rewriter, Rule
from .folding import zeros
from .movement import broadcast, reshape


def _window(rewriter: Rewriter, value: Value, starts: Sequence[Value], sizes: Sequence[int], where: str) -> Value:
    if not sizes:
        return value
    return rewriter.emit("dynamic_slice", (value, *starts), value.dtype, sizes, {"sizes": tuple(sizes)}, where)


def window_of_arithmetic(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dynamic_slice(add(x, y)) -> add(dynamic_slice(x), dynamic_slice(y))."""
    value, *starts = node.inputs
    inner = rewriter.producer(value)
    if inner is None or not ops.is_elementwise(inner) or len(inner.outputs) != 1:
        return None
    sizes = node.attributes["sizes"]
    read = (
        _window(rewriter, each, starts, sizes, node.where) if each.shape == value.shape else each
        for each in inner.inputs
    )
    return (rewriter.emit(inner.op, tuple(read), value.dtype, sizes, inner.attributes, inner.where),)


def window_of_reshape(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dynamic_slice(reshape(x)) -> reshape(dynamic_slice(x)) where axes of one element come and go."""
    value, *starts = node.inputs
    inner = rewriter.producer(value, "reshape")
    if inner is None or not starts or not moves_unit_axes(inner):
        return None
    sizes, (source,) = node.attributes["sizes"], inner.inputs
    kept = iter([(start, size) for start, size, all_ in zip(starts, sizes, value.shape, strict=True) if all_ != 1])
    first = zeros(rewriter, Value(0, starts[0].dtype, ()), node.where)
    placed = [(first, 1) if extent == 1 else next(kept) for extent in source.shape]
    read = _window(rewriter, source, [start for start, _ in placed], [size for _, size in placed], node.where)
    return (reshape(rewriter, read, sizes, node.where),)


def window_of_broadcast(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dynamic_slice(broadcast(x)) -> broadcast(dynamic_slice(x)); of a constant that one number fills, a constant."""
    value, *starts = node.inputs
    sizes, inner = node.attributes["sizes"], rewriter.producer(value, "broadcast_in_dim")
    number = rewriter.splat(value)
    if number is not None:
        return (rewriter.constant(number, sizes, node.where),)
    if inner is None:
        return None
    dimensions = inner.attributes["dimensions"]
    chosen = [starts[i] for i in dimensions]
    read = _window(rewriter, inner.inputs[0], chosen, [sizes[i] for i in dimensions], node.where)
    return (broadcast(rewriter, read, sizes, dimensions, node.where),)


def moves_unit_axes(node: Node) -> bool:
    """Tell whether a reshape does nothing but add and remove axes of one element."""
    before, after = ([size for size in value.shape if size != 1] for value in (node.inputs[0], node.output))
    return before == after


RULES: dict[str, tuple[Rule, ...]] = {
    "dynamic_slice": (window_of_broadcast, window_of_reshape, window_of_arithmetic),
}
