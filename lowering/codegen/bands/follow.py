"""What each axis of a tile follows: the rows that subgroups share out, or the columns that each has all of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ...graph import Value
from ..tile.blocks import Memory, Step
from ..tile.roles import is_elementwise
from .checks import UnfitError
from .views import View

DOWN, ALONG = "down", "along"

Follows = Mapping[Value, tuple[str | None, ...]]
_Key = tuple[Value, int] | str


def find_follows(
    steps: Sequence[Step], memory: Memory, views: Mapping[Value, View], staged: frozenset[Value]
) -> dict[Value, tuple[str | None, ...]]:
    """Return what the axes of each tile follow; None for axes of one element.

    Raises:
        UnfitError: an axis would follow both, or nobody says which.
    """
    classes = _Classes()
    readers: dict[Value, list[Step]] = {}
    for step in steps:
        for one, two in _pairs(step, views):
            classes.join(one, two)
        for value in step.inputs:
            readers.setdefault(value, []).append(step)
    found: dict[Value, tuple[str | None, ...]] = {}
    for value in _values(steps):
        if value in memory.arrays or value.size == 1:
            continue
        # A window that is only cut further, or that passes through shared memory, is no tile.
        passes = all(step.outputs and step.outputs[0] in views for step in readers.get(value, []))
        if value not in views or not (passes or value in staged):
            found[value] = _places(value, classes)
    return found


def rows_of(follows: Follows, height: int, width: int) -> int:
    """Return the rows of all tiles, of which the matrix units take `height` at a time, and `width` columns.

    Raises:
        UnfitError: there is no such number.
    """
    extents: dict[str | None, set[int]] = {DOWN: set(), ALONG: set(), None: set()}
    for value, places in follows.items():
        for size, place in zip(value.shape, places, strict=True):
            extents[place].add(size)
    if len(extents[DOWN]) != 1 or any(size % width for size in extents[ALONG]):
        raise UnfitError("tiles of several heights, or of odd widths")
    (rows,) = extents[DOWN]
    if rows % height:
        raise UnfitError("rows that the matrix units' sizes do not divide")
    return rows


def wide_axes(value: Value) -> list[int]:
    """Return the axes of more than one element."""
    return [axis for axis, extent in enumerate(value.shape) if extent > 1]


def _values(steps: Sequence[Step]) -> Iterator[Value]:
    for step in steps:
        yield from step.outputs
        if step.op == "while":
            yield from step.blocks[1].inputs


def _places(value: Value, classes: _Classes) -> tuple[str | None, ...]:
    wide = wide_axes(value)
    places: list[str | None] = [None] * len(value.shape)
    for axis in wide:
        root = classes.root((value, axis))
        if isinstance(root, str):
            places[axis] = root
        elif len(wide) == 2:
            places[axis] = DOWN if axis == wide[0] else ALONG
        else:
            raise UnfitError(f"nobody says what the axis of {value.text} follows")
    kinds = [place for place in places if place is not None]
    if kinds not in ([DOWN], [ALONG], [DOWN, ALONG]):
        raise UnfitError(f"a tile {value.text} of other axes than rows and columns")
    return tuple(places)


class _Classes:
    """Axes that follow the same."""

    def __init__(self) -> None:
        self.parents: dict[_Key, _Key] = {}

    def root(self, key: _Key) -> _Key:
        while key in self.parents:
            key = self.parents[key]
        return key

    def join(self, one: _Key, two: _Key) -> None:
        first, second = self.root(one), self.root(two)
        if first == second:
            return
        if isinstance(first, str) and isinstance(second, str):
            raise UnfitError("an axis that is both down and along")
        if isinstance(first, str):
            first, second = second, first
        self.parents[first] = second


def _pairs(step: Step, views: Mapping[Value, View]) -> Iterator[tuple[_Key, _Key]]:
    """Yield axes that follow the same, or what one follows."""
    rule = _RULES.get(step.op)
    if rule is not None:
        yield from rule(step)
    elif step.op == "reshape" and step.outputs[0] not in views:
        for one, two in zip(wide_axes(step.inputs[0]), wide_axes(step.outputs[0]), strict=True):
            yield (step.inputs[0], one), (step.outputs[0], two)
    elif step.outputs and step.outputs[0].size > 1 and is_elementwise(step):
        for value in step.inputs:
            if value.shape == step.outputs[0].shape:
                yield from _same(value, step.outputs[0])


def _looped(step: Step) -> Iterator[tuple[_Key, _Key]]:
    body = step.blocks[1]
    for first, carry, last, result in zip(step.inputs, body.inputs, body.outputs, step.outputs, strict=True):
        for other in (first, last, result):
            yield from _same(other, carry)


def _multiplied(step: Step) -> Iterator[tuple[_Key, _Key]]:
    for value in (step.inputs[0], step.outputs[0]):
        yield from (((value, 0), DOWN), ((value, 1), ALONG))


def _spread(step: Step) -> Iterator[tuple[_Key, _Key]]:
    for axis, place in enumerate(step.node.attributes["dimensions"]):
        if step.inputs[0].shape[axis] > 1:
            yield (step.inputs[0], axis), (step.outputs[0], place)


def _same(one: Value, two: Value) -> Iterator[tuple[_Key, _Key]]:
    for axis in range(len(one.shape)):
        yield (one, axis), (two, axis)


def _reduced(step: Step) -> Iterator[tuple[_Key, _Key]]:
    operand, result = step.inputs[0], step.outputs[0]
    kept = [axis for axis in range(len(operand.shape)) if axis not in step.node.attributes["dimensions"]]
    yield from (((operand, axis), (result, place)) for place, axis in enumerate(kept))
    yield from (((operand, axis), ALONG) for axis in step.node.attributes["dimensions"] if operand.shape[axis] > 1)


_RULES: Mapping[str, Callable[[Step], Iterator[tuple[_Key, _Key]]]] = {
    "while": _looped,
    "dot_general": _multiplied,
    "reduce": _reduced,
    "broadcast_in_dim": _spread,
}
