"""Positions of neighbouring elements that one lane computes, known as runs: what lies together moves together.

Positions of a run are ordinary ones, so that every expression is computed as ever. A load at a place that belongs to a
run reads the whole run at once and keeps it for the other elements; see `Expression.load`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shaders.spirv import Value as Register

from ..graph import Node, Value
from ..neighbours import fast_axis, is_plain, reads_of, runs_along
from . import scalar
from .expression import Expression, Scalar
from .index import Index


class Place(NamedTuple):
    """An element on its way to memory: the array, its number there, and what it is."""

    value: Value
    linear: Register
    element: Scalar


class Runs:
    """Makes the positions of runs of `count` neighbours in a kernel, and lets its expression know them."""

    def __init__(self, expression: Expression, fusion: Node, count: int) -> None:
        self.expression, self.count = expression, count
        self.domain: tuple[int, ...] = fusion.attributes["domain"]
        fast = fast_axis(self.domain)
        self.fast = 0 if fast is None else fast
        inputs = fusion.attributes["body"].inputs
        self.accesses = {
            (value.shape, axes): None
            for value, axes in reads_of(fusion)
            if value in inputs and axes is not None and runs_along(axes, fast)
        }

    def positions(self, dims: Sequence[Register], linear: Register | None = None) -> list[Index]:
        """Return the positions of a run whose first element is given; `linear`: its number in the domain, if known."""
        expression = self.expression
        if self.count == 1:
            return [expression.index(self.domain, dims=tuple(dims), linear=linear)]
        first = dims[self.fast]
        made: list[Index] = []
        for step in range(self.count):
            own = [*dims]
            own[self.fast] = first + step if step else first
            place = None if linear is None else (linear + step if step else linear)
            made.append(expression.index(self.domain, dims=tuple(own), linear=place))
        expression.enter_run(made, self.fast)
        for shape, axes in self.accesses:
            self._enter([self._place(shape, axes, index) for index in made])
        return made

    def _enter(self, places: list[Register]) -> None:
        for step, place in enumerate(places):
            self.expression.runs[place.id] = (places[0], step, self.count)

    def _place(self, shape: tuple[int, ...], axes: tuple[int | None, ...], index: Index) -> Register:
        """Return where an array is read, by the same arithmetic as a broadcast's."""
        dims = self.expression.dims(index)
        zero = self.expression.number(0)
        return self.expression.flatten([zero if axis is None else dims[axis] for axis in axes], shape)


def store_all(expression: Expression, columns: Sequence[Sequence[Place]]) -> None:
    """Write elements: each column holds those of one output at the positions of a run."""
    for column in columns:
        if is_run(expression, column):
            first = column[0]
            elements = [place.element for place in column]
            scalar.store_run(
                expression.builder, expression.buffers[first.value], first.linear, elements, first.value.dtype
            )
            continue
        for place in column:
            expression.store(*place)


def is_run(expression: Expression, column: Sequence[Place]) -> bool:
    """Tell whether places are those of one run of an array that runs divide."""
    value, first = column[0].value, column[0].linear
    count = len(column)
    if count == 1 or value.size % count or not is_plain(value):
        return False
    known = [expression.runs.get(place.linear.id) for place in column]
    return all(run is not None and (run[0].id, *run[1:]) == (first.id, k, count) for k, run in enumerate(known))
