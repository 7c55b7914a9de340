"""How the result of a chain of moves lies in the memory that it is made from: an offset, and a stride for each axis.

reshape, transpose, slice and broadcast are views where each axis still steps evenly; anything else is none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd, prod

from ..graph import Node, Value


@dataclass(frozen=True, slots=True)
class View:
    """A value that lies in memory: element i is element offset + sum(i * strides) of `source`, counted row by row."""

    source: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def step(self, axes: Sequence[int]) -> int | None:
        """Return the stride of several axes walked as one, the last fastest; None where they do not step evenly."""
        wide = [axis for axis in axes if self.shape[axis] != 1]
        for outer, inner in pairwise(wide):
            if self.strides[outer] != self.strides[inner] * self.shape[inner]:
                return None
        return self.strides[wide[-1]] if wide else 0

    def contiguous(self) -> int | None:
        """Return the axis along which neighbours lie side by side; None where there is none."""
        return next((i for i, n in enumerate(self.shape) if n != 1 and self.strides[i] == 1), None)

    def run(self) -> int:
        """Return the elements of a piece: every as many along the contiguous axis lie together, at a multiple of that.

        0 where nothing is contiguous.
        """
        along = self.contiguous()
        if along is None:
            return 0
        others = (s for i, s in enumerate(self.strides) if i != along and self.shape[i] != 1)
        return gcd(self.offset, self.shape[along], *others)


def view_of(value: Value, producers: Mapping[Value, Node], memory: Collection[Value]) -> View | None:
    """Return how a value lies in memory; None where it is computed, or its axes do not step evenly.

    Args:
        value: what is read.
        producers: the node that makes each value.
        memory: the values that lie in memory, row by row.
    """
    chain: list[Node] = []
    while value not in memory:
        node = producers.get(value)
        if node is None or node.op not in _RULES:
            return None
        chain.append(node)
        value = node.inputs[0]
    view: View | None = View(value, 0, value.shape, row_major(value.shape))
    for node in reversed(chain):
        view = _RULES[node.op](view, node) if view is not None else None
    return view


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an array that lies row by row."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _transpose(view: View, node: Node) -> View:
    order = node.attributes["permutation"]
    shape, strides = (tuple(each[axis] for axis in order) for each in (view.shape, view.strides))
    return replace(view, shape=shape, strides=strides)


def _slice(view: View, node: Node) -> View:
    a = node.attributes
    offset = view.offset + sum(start * stride for start, stride in zip(a["start"], view.strides, strict=True))
    strides = tuple(mine * theirs for mine, theirs in zip(view.strides, a["stride"], strict=True))
    return View(view.source, offset, node.output.shape, strides)


def _broadcast(view: View, node: Node) -> View:
    strides = [0] * len(node.output.shape)
    for axis, place in enumerate(node.attributes["dimensions"]):
        strides[place] = view.strides[axis] if view.shape[axis] != 1 else 0
    return replace(view, shape=node.output.shape, strides=tuple(strides))


def _reshape(view: View, node: Node) -> View | None:
    """Cut both shapes into pieces of equal size: what is put together must step evenly, what is cut always does."""
    target, strides = node.output.shape, [0] * len(node.output.shape)
    if 0 in target:
        return None
    old, new = list(_wide(view.shape)), list(_wide(target))
    while old:
        left, right = [old.pop()], [new.pop()]
        while (mine := prod(view.shape[i] for i in left)) != (theirs := prod(target[i] for i in right)):
            if mine < theirs:
                left.insert(0, old.pop())
            else:
                right.insert(0, new.pop())
        step = view.step(left)
        if step is None:
            return None
        for axis in reversed(right):
            strides[axis] = step
            step *= target[axis]
    return replace(view, shape=target, strides=tuple(strides))


def _wide(shape: Sequence[int]) -> list[int]:
    return [axis for axis, extent in enumerate(shape) if extent != 1]


_RULES: dict[str, Callable[[View, Node], View | None]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "broadcast_in_dim": _broadcast,
}
