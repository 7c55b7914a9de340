"""Where the elements of a tile lie: each axis of each value follows one axis of the workgroup, or none.

The invocations of a workgroup form a rectangle of `rows` x `columns`; consecutive ones are consecutive columns, and a
row of the rectangle lies in one subgroup. Values that are computed together share positions: their axes fall into
classes, and a class follows the rectangle's rows, its columns, all invocations, or stays inside each invocation. Along
an axis of the rectangle with t invocations, the one at place c holds elements c, c + t, c + 2t, ... A last
axis of an array that is as long as one load stays inside: lines of 8 or 16 bytes.

    scores[64, 32]    axis 0 -> rows, axis 1 -> columns
    maximum[64]       axis 0 -> rows: the same in all columns
    output[64, 128]   axis 0 -> rows, axis 1 -> columns
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

from ... import dtypes
from ...errors import UnsupportedError, message
from ...graph import Value
from .blocks import Block, Memory, Step

Axis = tuple[Value, int]
ROWS, COLUMNS, ALL, INSIDE = "rows", "columns", "all", "inside"
# Operations whose result lies where no operand does.
_ELSEWHERE = frozenset(
    {
        "slice", "reverse", "pad", "concatenate", "gather", "dynamic_slice", "dot_general", "iota", "reduce_window",
        "scatter",
    }
)  # fmt: skip
# Operations that only rename axes; where two axes of a value would fall together they go through shared memory.
_RENAMING = ("broadcast_in_dim", "transpose", "reshape", "reduce")


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The layout of a whole cell.

    Attributes:
        rows: of the rectangle of invocations.
        columns: of it.
        classes: the class of each axis that has more than one element.
        follows: what each class follows: ROWS, COLUMNS, ALL or INSIDE.
        joined: (operand, result) of the movements that the layout makes free.
    """

    rows: int
    columns: int
    classes: Mapping[Axis, int]
    follows: Mapping[int, str]
    joined: frozenset[tuple[Value, Value]]

    @property
    def threads(self) -> int:
        """Invocations in the workgroup."""
        return self.rows * self.columns

    def spread(self, follows: str) -> int:
        """Return how many invocations an axis that follows this is spread over."""
        return {ROWS: self.rows, COLUMNS: self.columns, ALL: self.threads, INSIDE: 1}[follows]

    def axis(self, value: Value, axis: int) -> str:
        """Return what an axis of a value follows."""
        found = self.classes.get((value, axis))
        return INSIDE if found is None else self.follows[found]

    def text(self, value: Value) -> str:
        """Print where a tile lies."""
        return f"{value.text} ({', '.join(self.axis(value, axis) for axis in range(len(value.shape)))})"


@dataclass
class _Classes:
    """Axes joined step by step; a join that would put two axes of one value together is refused."""

    parent: dict[Axis, Axis] = field(default_factory=dict)
    members: dict[Axis, set[Axis]] = field(default_factory=dict)

    def find(self, axis: Axis) -> Axis:
        while self.parent.setdefault(axis, axis) != axis:
            axis = self.parent[axis]
        self.members.setdefault(axis, {axis})
        return axis

    def can_join(self, first: Axis, second: Axis) -> bool:
        one, two = self.find(first), self.find(second)
        if one == two:
            return True
        values = {value for value, _ in self.members[one]}
        return not any(value in values for value, _ in self.members[two])

    def join(self, first: Axis, second: Axis) -> None:
        one, two = self.find(first), self.find(second)
        if one != two:
            self.parent[two] = one
            self.members[one] |= self.members.pop(two)


def infer(cell: Block, memory: Memory, threads: int, subgroup: int) -> Layout:
    """Return the layout of a cell on workgroups of `threads` invocations."""
    classes, joined = _Classes(), set[tuple[Value, Value]]()
    tiles = [value for value in _values(cell) if value not in memory.arrays and value.shape]
    for value in tiles:
        for axis in _wide(value):
            classes.find((value, axis))
    for step, _ in cell.walk():
        for first, second in _same_positions(step, memory):
            _join_all(classes, first, second, step)
    # Renamings come last: they are the ones that can do without.
    for step, _ in cell.walk():
        pairs = _renamed(step) if step.op in _RENAMING and step.inputs[0] not in memory.arrays else None
        if pairs is not None and all(classes.can_join(*pair) for pair in pairs):
            for first, second in pairs:
                classes.join(first, second)
            joined.add((step.inputs[0], step.outputs[0]))
    numbers: dict[Axis, int] = {}
    named = {axis: numbers.setdefault(classes.find(axis), len(numbers)) for value in tiles for axis in _axes(value)}
    lines = {named[value, len(value.shape) - 1] for value in _lines(cell, memory)}
    follows = _assign(tiles, named, lines)
    columns = _columns(tiles, named, follows, lines, threads, subgroup)
    return Layout(threads // columns, columns, named, follows, frozenset(joined))


def is_line(value: Value) -> bool:
    """Tell whether the last axis of an array is as long as one load: 8 or 16 bytes."""
    is_short = value.dtype in ("f32", "i32", "u32", "f16", "bf16") and bool(value.shape)
    return is_short and value.shape[-1] * dtypes.itemsize(value.dtype) in (8, 16)


def _lines(cell: Block, memory: Memory) -> Iterable[Value]:
    """Yield the tiles that are windows of an array in whole lines."""
    for step, _ in cell.walk():
        if step.op == "dynamic_slice" and step.inputs[0] in memory.arrays:
            array, window = step.inputs[0], step.outputs[0]
            if is_line(array) and window.shape[-1] == array.shape[-1]:
                yield window


def _values(cell: Block) -> Iterable[Value]:
    for step, _ in cell.walk():
        yield from step.outputs
        if step.op == "while":
            yield from step.blocks[0].inputs


def _wide(value: Value) -> list[int]:
    return [axis for axis, extent in enumerate(value.shape) if extent != 1]


def _axes(value: Value) -> list[Axis]:
    return [(value, axis) for axis in _wide(value)]


def _join_all(classes: _Classes, first: Value, second: Value, step: Step) -> None:
    if first.shape != second.shape:
        return
    for axis in _wide(first):
        if not classes.can_join((first, axis), (second, axis)):
            raise UnsupportedError(
                message(
                    "A tile must not be handed on as its own transpose.",
                    got=f"{step.op} that takes {first.text} for a value whose other axis lies there",
                    want="values whose axes keep their order through loops and branches",
                    fix="transpose where the tile is used, not where it is carried.",
                    at=step.node.where,
                    stage="codegen",
                )
            )
        classes.join((first, axis), (second, axis))


def _same_positions(step: Step, memory: Memory) -> Iterable[tuple[Value, Value]]:
    """Yield pairs of values of one shape whose elements must lie in the same places."""
    if step.op == "while":
        for first, carry, last, result in zip(
            step.inputs, step.blocks[1].inputs, step.blocks[1].outputs, step.outputs, strict=True
        ):
            if carry not in memory.arrays:
                yield from ((first, carry), (last, carry), (result, carry))
    elif step.op == "case":
        for branch in step.blocks:
            yield from ((a, b) for a, b in zip(branch.outputs, step.outputs, strict=True) if b not in memory.arrays)
    elif step.op == "reduce":
        yield from _reduced_pairs(step)
    elif step.op == "dynamic_update_slice":
        if step.inputs[0] not in memory.arrays:
            yield step.inputs[0], step.outputs[0]
    elif step.op not in _ELSEWHERE and step.op not in _RENAMING:
        yield from ((operand, step.outputs[0]) for operand in step.inputs if operand not in memory.arrays)


def _reduced_pairs(step: Step) -> Iterable[tuple[Value, Value]]:
    count = len(step.outputs)
    yield from ((operand, step.inputs[0]) for operand in step.inputs[1:count])
    yield from ((result, step.outputs[0]) for result in step.outputs[1:])


def _renamed(step: Step) -> list[tuple[Axis, Axis]] | None:
    """Return which axes of operand and result are the same, or None where a reshape mixes them."""
    operand, result = step.inputs[0], step.outputs[0]
    if step.op == "reduce":
        kept = [axis for axis in range(len(operand.shape)) if axis not in step.node.attributes["dimensions"]]
        return [((operand, axis), (result, place)) for place, axis in enumerate(kept) if operand.shape[axis] != 1]
    if step.op == "broadcast_in_dim":
        dimensions = step.node.attributes["dimensions"]
        return [((operand, axis), (result, dimensions[axis])) for axis in _wide(operand)]
    if step.op == "transpose":
        permutation = step.node.attributes["permutation"]
        return [
            ((operand, axis), (result, place)) for place, axis in enumerate(permutation) if operand.shape[axis] != 1
        ]
    if [operand.shape[axis] for axis in _wide(operand)] != [result.shape[axis] for axis in _wide(result)]:
        return None
    return [((operand, a), (result, b)) for a, b in zip(_wide(operand), _wide(result), strict=True)]


def _assign(tiles: list[Value], classes: Mapping[Axis, int], inside: Collection[int]) -> dict[int, str]:
    """Give each class what it follows: the largest tiles choose first, their last axis takes the columns."""
    together: dict[int, set[int]] = defaultdict(set)
    rows_of: list[list[int]] = []
    for value in sorted(tiles, key=lambda value: -value.size):
        own = [classes[value, axis] for axis in _wide(value)]
        rows_of.append(own)
        for each in own:
            together[each].update(own)
    follows = dict.fromkeys(inside, INSIDE)
    for own in rows_of:
        for each in reversed(own):
            if each in follows:
                continue
            others = together[each] - {each}
            if not others:
                follows[each] = ALL
                continue
            taken = {follows[other] for other in others if other in follows}
            follows[each] = next((place for place in (COLUMNS, ROWS) if place not in taken), INSIDE)
    return follows


def _columns(
    tiles: list[Value],
    classes: Mapping[Axis, int],
    follows: Mapping[int, str],
    lines: Collection[int],
    threads: int,
    subgroup: int,
) -> int:
    """Return how many columns the rectangle has: each invocation's share of the largest tile is nearly square.

    A line of an array is as wide as it is long.
    """
    best = max((v for v in tiles if len(_wide(v)) > 1), key=lambda value: value.size, default=None)
    if best is None:
        return min(subgroup, threads)
    extents = {follows[classes[best, axis]]: best.shape[axis] for axis in _wide(best)}
    high, wide = extents.get(ROWS, 1), extents.get(COLUMNS, 1)
    line = prod(best.shape[axis] for axis in _wide(best) if classes[best, axis] in lines)
    choices = [
        1 << power for power in range(min(subgroup, threads).bit_length()) if 1 << power <= min(subgroup, threads)
    ]

    def share(columns: int) -> tuple[int, int]:
        down, across = -(-high // (threads // columns)), -(-wide // columns)
        return (down * across, abs(down - across * line))

    return min(choices, key=share)
