"""Which steps a cell in bands may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaders.capabilities import MatrixShape

from ... import dtypes
from ...graph import Value
from ..dot import layouts
from ..tile.blocks import Memory, Step, captured
from ..tile.roles import is_elementwise
from ..tile.vectors import GROUP_BYTES
from .views import View

NARROW = ("f16", "bf16")
INTEGERS = ("i32", "u32")
_REDUCTIONS = ("max", "add", "min")


class UnfitError(Exception):
    """A cell cannot be written in bands; the words say why."""


@dataclass(frozen=True, slots=True, eq=False)
class Checks:
    """Refuses what bands do not have.

    Attributes:
        memory: which values are arrays.
        views: values that are windows of arrays.
        unit: one operation of the matrix units.
        read: values that some step reads, or a block hands on.
    """

    memory: Memory
    views: Mapping[Value, View]
    unit: MatrixShape
    read: frozenset[Value]

    def step(self, step: Step) -> None:
        """Check one step.

        Raises:
            UnfitError: it cannot be written.
        """
        if step.op == "constant" and step.node.attributes["value"].ndim:
            raise UnfitError("a constant of several numbers")
        if step.op == "while":
            self._loop(step)
        if step.op == "case":
            self._branch(step)
        if step.op in ("while", "case", "constant", "iota"):
            return
        if any(value.dtype in dtypes.COMPLEX for value in step.outputs):
            raise UnfitError("complex numbers")
        self._reads(step)
        if len(step.outputs) == 1 and step.outputs[0] in self.views:
            return
        if len(step.outputs) == 1 and step.outputs[0].size == 1:
            self._number(step)
            return
        rule = {"dot_general": self._product, "reduce": self._reduction, "dynamic_update_slice": self._update}
        rule.get(step.op, self._arithmetic)(step)

    def _reads(self, step: Step) -> None:
        """Refuse arrays that are read as tiles: what is read of an array must be a window that a step takes of it."""
        if step.op == "dynamic_update_slice" or step.outputs[0] in self.views:
            return
        for place, value in enumerate(step.inputs):
            is_copied = step.op == "dot_general" and place == 1
            if value in self.memory.arrays and value.size > 1 and not is_copied:
                raise UnfitError("an array that is read as a whole")

    def _loop(self, step: Step) -> None:
        """Refuse loops inside of loops that hand numbers on: what a round brings is found before the round is run."""
        for inner in step.blocks[1].steps:
            if inner.op == "while" and any(value.size == 1 for value in inner.outputs if value in self.read):
                raise UnfitError("a number that an inner loop makes")

    def _branch(self, step: Step) -> None:
        """Refuse branches that tiles go into or come out of: matrices do not live through one."""
        if any(value not in self.memory.arrays for value in step.outputs):
            raise UnfitError("a branch that gives out tiles or numbers")
        tiles = [value for value in captured(step.blocks) if value.size > 1 and value not in self.memory.arrays]
        if any(value not in self.views for value in tiles):
            raise UnfitError("a branch that reads a tile")

    def _number(self, step: Step) -> None:
        moves = step.op in ("reshape", "broadcast_in_dim")
        if any(value.size > 1 for value in step.inputs) or not (moves or is_elementwise(step)):
            raise UnfitError("a number made of a tile")

    def _product(self, step: Step) -> None:
        sides = layouts(step.node)
        left, right = step.inputs
        (result,) = step.outputs
        if any(side.batch or len(side.contract) != 1 or len(side.free) != 1 for side in sides):
            raise UnfitError("a product over several axes")
        if (left.dtype, right.dtype, result.dtype) != (self.unit.a, self.unit.b, self.unit.result):
            raise UnfitError("a product of other dtypes")
        if sides[0].contract != (1,) or len(left.shape) != 2 or len(right.shape) != 2:
            raise UnfitError("a first factor that is transposed")
        view = self.views.get(right)
        if view is None or not _is_copied(view, right):
            raise UnfitError("a second factor that is not read from memory by rows")
        depth = left.shape[1]
        if result.shape[0] % self.unit.m or result.shape[1] % self.unit.n or depth % self.unit.k:
            raise UnfitError("a product that the matrix units' sizes do not divide")

    def _reduction(self, step: Step) -> None:
        if step.node.attributes["kind"] not in _REDUCTIONS or len(step.outputs) != 1:
            raise UnfitError("a reduction by a rule of its own")
        if step.inputs[0].dtype != "f32" or step.outputs[0].dtype != "f32":
            raise UnfitError("a reduction of other numbers than f32")

    def _update(self, step: Step) -> None:
        if step.outputs[0] not in self.memory.arrays:
            raise UnfitError("an update of a tile")

    def _arithmetic(self, step: Step) -> None:
        if step.op not in ("reshape", "broadcast_in_dim") and not is_elementwise(step):
            raise UnfitError(step.op)
        if step.op == "broadcast_in_dim" and step.inputs[0].dtype in NARROW and step.inputs[0].size > 1:
            raise UnfitError("16-bit numbers that are spread")
        if step.op == "reshape" and not _is_squeeze(step):
            raise UnfitError("a reshape that mixes axes")
        if any(value.dtype == "f64" for value in (*step.inputs, *step.outputs)):
            raise UnfitError("a dtype that matrices do not have")


def _is_squeeze(step: Step) -> bool:
    before, after = step.inputs[0].shape, step.outputs[0].shape
    return [n for n in before if n != 1] == [n for n in after if n != 1]


def _is_copied(view: View, value: Value) -> bool:
    """Tell whether a window can be copied in groups of 16 bytes: its rows lie whole in memory."""
    group = GROUP_BYTES // dtypes.itemsize(value.dtype)
    last = len(view.shape) - 1
    begins_whole = all(isinstance(start, int) and start % group == 0 for start, _ in view.starts[last])
    return (
        view.axes[1] == last
        and begins_whole
        and view.axes[0] is not None
        and view.shape[last] % group == 0
        and view.sizes[last] % group == 0
    )
