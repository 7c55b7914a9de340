"""How the values of a cell are held in bands, and how that reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from shaders.capabilities import MatrixShape

from ...graph import Node, Value
from ...schedule import Schedule
from ..tile.blocks import Block, Memory, Step
from ..tile.memory import prepare
from .checks import Checks, UnfitError
from .follow import ALONG, Follows, find_follows, rows_of
from .held import Uses
from .sink import read_whole, sink_windows
from .views import View, find_views, given_views
from .windows import check_given, check_windows

# Elements of an array that places of 32 bits reach.
_REACHED = 2**31


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """A cell whose tiles are shared out by rows.

    Attributes:
        cell: what to write.
        memory: which values are arrays.
        views: values that are windows of arrays.
        follows: what each axis of more than one element follows, by tile.
        rows: of a program's tiles.
        unit: one operation of the matrix units.
        thin: columns of the matrices that hold a number for each row.
        settled: tiles that are held as matrices; the others are computed where they are needed.
        staged: windows that pass through shared memory: second factors of products.
        factors: tiles that are nothing but first factors of products.
        added: products that one addition takes, and nobody else.
        given: tiles that fill outputs at the end, with the windows that they fill.
    """

    cell: Block
    memory: Memory
    views: Mapping[Value, View]
    follows: Follows
    rows: int
    unit: MatrixShape
    thin: int
    settled: frozenset[Value]
    staged: frozenset[Value]
    factors: frozenset[Value]
    added: Mapping[Value, Step]
    given: tuple[tuple[Value, View], ...]

    def columns(self, value: Value) -> int:
        """Return the columns of the matrix that holds a tile."""
        along = [size for size, each in zip(value.shape, self.follows[value], strict=True) if each == ALONG]
        return along[0] if along else self.thin


@lru_cache(maxsize=64)
def find_bands(node: Node, unit: MatrixShape, thin: MatrixShape) -> Bands:
    """Plan a cell; nodes are equal only to themselves.

    Raises:
        UnfitError: it cannot be written in bands.
    """
    cell, memory = prepare(node)
    for value, array in zip(cell.inputs[len(node.attributes["grid"]) :], (*node.inputs, *node.outputs), strict=True):
        if value.shape != array.shape or array.size > _REACHED:
            raise UnfitError("an array is padded, or too large for 32-bit places")
    return _plan(sink_windows(read_whole(cell, memory)), memory, unit, thin)


def _plan(cell: Block, memory: Memory, unit: MatrixShape, thin: MatrixShape) -> Bands:
    steps = [step for step, _ in cell.walk()]
    views = find_views(steps, cell.inputs, memory)
    staged = frozenset(step.inputs[1] for step in steps if step.op == "dot_general")
    if not staged:
        raise UnfitError("no product")
    uses = Uses(cell)
    checks = Checks(memory, views, unit, frozenset(uses.readers) | uses.handed)
    for step in steps:
        checks.step(step)
    follows = find_follows(steps, memory, views, staged)
    check_windows(steps, memory, views, follows, staged)
    given = given_views(cell, memory)
    check_given(given, follows)
    rows = rows_of(follows, unit.m, unit.n)
    added = uses.added()
    settled = uses.settled(follows, views) | {step.outputs[0] for step in added.values()}
    factors = uses.factors((settled | set(views)) - staged)
    return Bands(cell, memory, views, follows, rows, unit, thin.n, frozenset(settled), staged, factors, added, given)


def describe(fusion: Node, schedule: Schedule) -> list[str]:
    """Return lines that say where the tiles of a kernel live."""
    node: Node = fusion.attributes["body"].nodes[-1]
    bands = find_bands(node, *schedule.fragments[:2])
    subgroups = schedule.workgroup // schedule.subgroup
    grid = " x ".join(map(str, node.attributes["grid"])) or "1"
    high = bands.rows // subgroups
    lines = [
        f"tile kernel {node.attributes['name']}: {grid} workgroups of {subgroups} subgroups, "
        f"each with a band of {high} rows in matrices of {bands.unit}"
    ]
    for step, _ in bands.cell.walk():
        for value in step.outputs:
            if value in bands.staged:
                lines.append(f"  {step.op}: {value.text} through shared memory")
            elif value in bands.settled:
                lines.append(f"  {step.op}: {value.text} in {high} x {bands.columns(value)} a subgroup")
    return lines
