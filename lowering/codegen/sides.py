"""The two operands of a matrix product: which of their dimensions are walked together, and how they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd, prod

from shaders.library.matmul import Pieces, Plain
from shaders.spirv import Value as Register
from shaders.spirv.dtypes import BITS

from ..graph import Graph, Node, Value
from .expression import Expression
from .views import View, view_of

# Elements that a kernel loads or stores at once.
WIDTH = 4
# Real types that buffers can hand out four at a time.
VECTOR_DTYPES = frozenset({"f32", "f16", "bf16", "i32", "u32"})


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


@dataclass(frozen=True)
class Side:
    """An operand of a product; `view` says how it lies in the memory of an input, None where it must be computed."""

    operand: Value
    layout: Layout
    view: View | None

    @property
    def depth_is_minor(self) -> bool:
        """Whether neighbours in depth are neighbours in memory."""
        inner = self._inner()
        if inner is not None:
            return inner == "contract"
        wide = [axis for axis, extent in enumerate(self.layout.shape) if extent != 1]
        return not wide or wide[-1] in self.layout.contract

    @property
    def is_vector(self) -> bool:
        """Whether vectors along the faster of its groups lie whole in memory."""
        return self.operand.dtype in VECTOR_DTYPES and self._run() % WIDTH == 0 and self._inner() is not None

    def _inner(self) -> str | None:
        """Return the group, free or contract, along which neighbours lie side by side."""
        along = self.view.contiguous() if self.view is not None else None
        for group in ("free", "contract"):
            wide = [axis for axis in getattr(self.layout, group) if self.layout.shape[axis] != 1]
            if along is not None and wide and wide[-1] == along:
                return group
        return None

    def _run(self) -> int:
        return self.view.run() if self.view is not None else 0

    def plain(self, expression: Expression) -> Plain | None:
        """Return where the operand lies, if its free and its contracted dimensions each step evenly through memory."""
        view, layout = self.view, self.layout
        if view is None or expression.index_dtype != "u32":
            return None
        outer, depth = view.step(layout.free), view.step(layout.contract)
        if outer is None or depth is None:
            return None

        def start(batch: Register) -> Register:
            return offset(expression, view, layout.batch, batch) + view.offset

        strides = (view.strides[axis] for axis in layout.batch if layout.shape[axis] != 1)
        alignment = gcd(view.offset, *strides) or self.operand.size
        return Plain(expression.buffers[view.source], start, outer, depth, alignment)

    def pieces(self, expression: Expression) -> Pieces | None:
        """Return where the operand lies, if it does in pieces along the faster of its groups."""
        run = self._run()
        if self.view is None or not run or self._inner() is None or expression.index_dtype != "u32":
            return None

        def load(batch: Register, outer: Register, depth: Register, words: int) -> Register:
            assert self.view is not None
            place = self._place(expression, batch, outer, depth)
            group = expression.builder.divide_exactly(place, words * 32 // BITS[self.operand.dtype])
            return expression.buffers[self.view.source].load_words(group, words)

        return Pieces(load, run)

    def vector(self, expression: Expression) -> Callable[[Register, Register, Register], Register] | None:
        """Return the load of neighbours along the faster group at (batch, free, depth), where they lie together."""
        if not self.is_vector or expression.index_dtype != "u32":
            return None

        def load(batch: Register, outer: Register, depth: Register) -> Register:
            assert self.view is not None
            return expression.buffers[self.view.source].load(self._place(expression, batch, outer, depth), WIDTH)

        return load

    def _place(self, expression: Expression, batch: Register, outer: Register, depth: Register) -> Register:
        assert self.view is not None
        groups = ((self.layout.batch, batch), (self.layout.free, outer), (self.layout.contract, depth))
        place = expression.number(self.view.offset)
        for axes, index in groups:
            place = place + offset(expression, self.view, axes, index)
        return place


def offset(expression: Expression, view: View, axes: tuple[int, ...], index: Register) -> Register:
    """Return how far several axes that are walked as one lead into memory; without divisions where they step evenly."""
    step = view.step(axes)
    if step is not None:
        return index * step
    total = expression.number(0)
    along = expression.split(index, tuple(view.shape[axis] for axis in axes))
    for axis, place in zip(axes, along, strict=True):
        total = total + place * view.strides[axis]
    return total


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


def sides(body: Graph) -> tuple[Side, Side]:
    """Return the operands of a body's product with their layouts and views."""
    node, producers = dot_node(body), body.producers()
    left, right = (
        Side(operand, layout, view_of(operand, producers, body.inputs))
        for operand, layout in zip(node.inputs, layouts(node), strict=True)
    )
    return left, right
