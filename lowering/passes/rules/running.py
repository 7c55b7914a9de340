"""Running reductions along long lines, in parts: within each part, then over the parts' totals."""

from __future__ import annotations

from math import isqrt

import numpy as np

from ... import dtypes
from ...bodies import accumulator, binary_body, identity
from ...graph import Node, Value
from ...windows import running_axis
from ..rewriting import Rewriter
from .folding import changes_nothing

# Shorter lines stay whole: two more trips through memory cost more than a longer walk.
SHORTEST = 1 << 13


def cut_running(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Cumulative reduce_window -> one within each part, joined with what the parts before add up to.

    The parts' totals are kept in 32 bits where 16-bit ones run in 32 bits. The initial value must change nothing.
    """
    axis = running_axis(node)
    if axis is None or node.output.shape[axis] < SHORTEST:
        return None
    kind, dtype = node.attributes["kind"], node.output.dtype
    if not changes_nothing(rewriter, node.inputs[1], kind):
        return None
    cut = _Cut(rewriter, node, axis)
    result = cut.joined(cut.within(node.inputs[0]))
    return (result if cut.dtype == dtype else rewriter.emit("convert", (result,), dtype, result.shape, {}, node.where),)


class _Cut:
    """One running reduction in parts; `axis` counts the parts, the next one the places in a part."""

    def __init__(self, rewriter: Rewriter, node: Node, axis: int) -> None:
        self.rewriter, self.axis, self.where = rewriter, axis, node.where
        self.kind: str = node.attributes["kind"]
        self.dtype = accumulator(self.kind, node.output.dtype)
        self.is_backward = node.attributes["low"][axis] == 0
        self.shape = node.output.shape
        self.part = 1 << isqrt(self.shape[axis] - 1).bit_length()
        self.parts = -(-self.shape[axis] // self.part)
        neutral = np.asarray(identity(self.kind, self.dtype)).astype(dtypes.NUMPY[self.dtype])
        self.neutral = rewriter.constant(neutral, ())

    def within(self, array: Value) -> Value:
        """Return the running values of each part."""
        if array.dtype != self.dtype:
            array = self.rewriter.emit("convert", (array,), self.dtype, array.shape, {}, self.where)
        before, after = self.shape[: self.axis], self.shape[self.axis + 1 :]
        missing = self.parts * self.part - self.shape[self.axis]
        # What fills up the last part stands where no other place's window reaches.
        low, high = (0, missing)
        if self.is_backward:
            low, high = (missing, 0)
        array = self._pad(array, self.axis, low, high)
        folded = self.rewriter.emit("reshape", (array,), self.dtype, (*before, self.parts, self.part, *after))
        return self._running(folded, self.axis + 1)

    def joined(self, inner: Value) -> Value:
        """Return the running values of the whole line from those of its parts."""
        last = 0 if self.is_backward else self.part - 1
        ends = self._slice(inner, self.axis + 1, last, last + 1)
        shape = (*inner.shape[: self.axis + 1], *inner.shape[self.axis + 2 :])
        totals = self._running(self.rewriter.emit("reshape", (ends,), self.dtype, shape), self.axis)
        if self.is_backward:
            others = self._pad(self._slice(totals, self.axis, 1, self.parts), self.axis, 0, 1)
        else:
            others = self._pad(self._slice(totals, self.axis, 0, self.parts - 1), self.axis, 1, 0)
        places = tuple(place for place in range(len(inner.shape)) if place != self.axis + 1)
        wide = self.rewriter.emit("broadcast_in_dim", (others,), self.dtype, inner.shape, {"dimensions": places})
        op = binary_body(self.kind, self.dtype).nodes[0].op
        whole = self.rewriter.emit(op, (wide, inner), self.dtype, inner.shape, {}, self.where)
        long = (*self.shape[: self.axis], self.parts * self.part, *self.shape[self.axis + 1 :])
        flat = self.rewriter.emit("reshape", (whole,), self.dtype, long)
        first = self.parts * self.part - self.shape[self.axis] if self.is_backward else 0
        return self._slice(flat, self.axis, first, first + self.shape[self.axis])

    def _running(self, array: Value, axis: int) -> Value:
        ones, none = (1,) * len(array.shape), (0,) * len(array.shape)
        reach = (*none[:axis], array.shape[axis] - 1, *none[axis + 1 :])
        found = {
            "window": (*ones[:axis], array.shape[axis], *ones[axis + 1 :]),
            "strides": ones,
            "base_dilation": ones,
            "window_dilation": ones,
            "low": none if self.is_backward else reach,
            "high": reach if self.is_backward else none,
            "kind": self.kind,
            "body": binary_body(self.kind, self.dtype),
        }
        return self.rewriter.emit("reduce_window", (array, self.neutral), self.dtype, array.shape, found, self.where)

    def _pad(self, array: Value, axis: int, low: int, high: int) -> Value:
        if low == high == 0:
            return array
        none = (0,) * len(array.shape)
        shape = (*array.shape[:axis], array.shape[axis] + low + high, *array.shape[axis + 1 :])
        found = {
            "low": (*none[:axis], low, *none[axis + 1 :]),
            "high": (*none[:axis], high, *none[axis + 1 :]),
            "interior": none,
        }
        return self.rewriter.emit("pad", (array, self.neutral), self.dtype, shape, found)

    def _slice(self, array: Value, axis: int, start: int, limit: int) -> Value:
        starts, limits = [0] * len(array.shape), list(array.shape)
        starts[axis], limits[axis] = start, limit
        found = {"start": tuple(starts), "limit": tuple(limits), "stride": (1,) * len(starts)}
        shape = (*array.shape[:axis], limit - start, *array.shape[axis + 1 :])
        return self.rewriter.emit("slice", (array,), self.dtype, shape, found)
