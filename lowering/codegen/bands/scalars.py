"""Numbers of which a program has one: indices of loops, starts of windows, and arrays of one element."""

from __future__ import annotations

from collections.abc import Mapping

from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ...graph import Value
from .. import scalar
from ..tile.blocks import Step
from ..tile.expression import Array
from .views import View


class Scalars:
    """Computes single numbers where they are needed, and remembers them for the block they were computed in."""

    def __init__(
        self,
        builder: Builder,
        producers: Mapping[Value, Step],
        views: Mapping[Value, View],
        arrays: Mapping[int, Array],
    ) -> None:
        self.builder = builder
        self.producers = producers
        self.views = views
        self.arrays = arrays
        self.known: dict[Value, Register] = {}

    def at(self, value: Value, known: dict[Value, Register] | None = None) -> Register:
        """Return a number; `known` holds those that differ from what is remembered, and grows."""
        known = self.known if known is None else known
        found = known.get(value)
        if found is None:
            found = known[value] = self._make(value, known)
        return found

    def start(self, view: View, known: dict[Value, Register] | None = None) -> Register:
        """Return the element of its array that a window starts with."""
        builder, total = self.builder, None
        for starts, stride in zip(view.starts, view.strides, strict=True):
            for start, limit in starts:
                place = self._clamped(start, limit, known)
                if place.constant == 0:
                    continue
                offset = place * builder.const("u32", stride) if stride != 1 else place
                total = offset if total is None else total + offset
        return builder.const("u32", 0) if total is None else total

    def _clamped(self, start: Value | int, limit: int, known: dict[Value, Register] | None) -> Register:
        builder = self.builder
        if isinstance(start, int):
            return builder.const("u32", min(max(start, 0), limit))
        place = self.at(start, known)
        if start.dtype in ("i32", "i16", "i8"):
            place = builder.bitcast(builder.max(place, builder.const(place.dtype, 0)), "u32")
        return builder.min(place, builder.const("u32", limit))

    def _make(self, value: Value, known: dict[Value, Register]) -> Register:
        view = self.views.get(value)
        if view is not None:
            return single(
                scalar.load(self.builder, self.arrays[view.number].buffer, self.start(view, known), value.dtype)
            )
        step = self.producers[value]
        if step.op == "constant":
            return single(scalar.constant(self.builder, value.dtype, step.node.attributes["value"].reshape(-1)[0]))
        if step.op in ("reshape", "broadcast_in_dim"):
            return self.at(step.inputs[0], known)
        operands = [self.at(operand, known) for operand in step.inputs]
        given = [operand.dtype for operand in step.inputs]
        return single(scalar.emit(self.builder, step.op, operands, given, value.dtype, step.node.attributes))


def single(element: scalar.Scalar) -> Register:
    """Return the register that holds a number, which is not complex: plans have no such numbers."""
    assert isinstance(element, Register)
    return element
