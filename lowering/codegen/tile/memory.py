"""Which values of a cell are arrays in memory, and where an array has to be read as a tile.

Arrays are values too: an update makes a new state of an array. It is written in place if nobody looks at the old state
afterwards, and only where the array is an output; everything else updates a tile.

    s1 = dynamic_update_slice(s0, ...)    s0 is read no more: s1 is the same memory
    s1 = dynamic_update_slice(s0, ...)    s0 is read below, or is an operand: s1 is a tile, made from what s0 holds
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from ...errors import UnsupportedError, message
from ...graph import Node, Value
from .blocks import Block, Memory, Step, captured, open_cell
from .branches import write_in_branches

WRITERS = ("dynamic_update_slice", "scatter")
# Whole arrays up to this size are reduced side by side, larger ones in order: a tile's elements are written out.
_REDUCED_AS_TILE = 16384


def prepare(node: Node) -> tuple[Block, Memory]:
    """Return the cell of a `tile` node with its regions opened, and its memory; see `find_memory` and `with_reads`.

    Raises:
        UnsupportedError: several workgroups would each write an output as a whole.
    """
    grid = node.attributes["grid"]
    cell = write_in_branches(open_cell(node.attributes["cell"]))
    memory = find_memory(cell, len(grid), node.attributes["updates"])
    if prod(grid) > 1:
        _require_parts(node, cell, memory)
    return with_reads(cell, memory), memory


def _require_parts(node: Node, cell: Block, memory: Memory) -> None:
    first = len(node.inputs)
    for number, value in enumerate(cell.outputs, first):
        if memory.arrays.get(value) != number:
            grid = node.attributes["grid"]
            raise UnsupportedError(
                message(
                    "Each workgroup of a kernel must write its own part of an output.",
                    got=f"{node.attributes['name']} over {' x '.join(map(str, grid))} workgroups, each of which makes "
                    f"the whole of output {number - first}, {value.text}",
                    want="blocks of out_specs, or stores with pl.ds, that are not read in an older state afterwards",
                    fix="give the output a block for each position of the grid, or leave out what makes the axes "
                    "parallel.",
                    at=node.where,
                    stage="codegen",
                )
            )


def find_memory(cell: Block, first: int, updates: int = 0) -> Memory:
    """Find the states of the cell's arrays: arguments from `first` on, and what updates, loops and branches hand on.

    The arrays are numbered as the arguments are: operands, then outputs. The first `updates` operands lie in the memory
    of the first outputs, so that they count as written.
    """
    arrays = {value: number for number, value in enumerate(cell.inputs[first:])}
    finder = _Finder(len(arrays) - len(cell.outputs))
    written: set[int] = set(range(updates))
    finder.block(cell, arrays, written, frozenset())
    return Memory(arrays, frozenset(written))


@dataclass(frozen=True)
class _Finder:
    """Follows arrays through blocks; `operands` are never written."""

    operands: int

    def block(self, block: Block, arrays: dict[Value, int], written: set[int], live: frozenset[Value]) -> None:
        """Follow a block; `live` values are read after it."""
        last = _last_reads(block)
        for place, step in enumerate(block.steps):
            after = live | {value for value, where in last.items() if where > place}
            if step.op in WRITERS and step.inputs[0] in arrays:
                number = arrays[step.inputs[0]]
                if number >= self.operands and not _is_seen(number, arrays, after) and len(step.outputs) == 1:
                    arrays[step.outputs[0]] = number
                    written.add(number)
            elif step.op == "while":
                self._loop(step, arrays, written, after)
            elif step.op == "case":
                for branch in step.blocks:
                    self.block(branch, arrays, written, after)
                for place_of_result, value in enumerate(step.outputs):
                    found = {arrays.get(branch.outputs[place_of_result]) for branch in step.blocks}
                    if len(found) == 1 and (number := found.pop()) is not None:
                        arrays[value] = number

    def _loop(self, step: Step, arrays: dict[Value, int], written: set[int], after: frozenset[Value]) -> None:
        """A carry is memory if it starts as an array, every round hands on the same one, and nobody misses the old."""
        condition, body = step.blocks
        outer = frozenset(captured(step.blocks))
        candidates = {place: arrays[value] for place, value in enumerate(step.inputs) if value in arrays}
        while True:
            trial, touched = dict(arrays), set[int]()
            for place, number in candidates.items():
                trial[body.inputs[place]] = trial[condition.inputs[place]] = number
            self.block(body, trial, touched, after | outer)
            numbers = list(candidates.values())
            kept = {
                place: number
                for place, number in candidates.items()
                if trial.get(body.outputs[place]) == number
                and not (number in touched and (numbers.count(number) > 1 or _is_seen(number, arrays, after | outer)))
            }
            if kept == candidates:
                break
            candidates = kept
        arrays.update(trial)
        written |= touched
        arrays.update({step.outputs[place]: number for place, number in candidates.items()})


def _is_seen(number: int, arrays: Mapping[Value, int], values: Iterable[Value]) -> bool:
    """Tell whether one of some values is a state of an array."""
    return any(arrays.get(value) == number for value in values)


def _last_reads(block: Block) -> dict[Value, int]:
    """Return the place of the last step that reads each value; what the block gives out is read after all steps."""
    last: dict[Value, int] = {}
    for place, step in enumerate(block.steps):
        last.update(dict.fromkeys((*step.inputs, *captured(step.blocks)), place))
    last.update(dict.fromkeys(block.outputs, len(block.steps)))
    return last


def with_reads(cell: Block, memory: Memory) -> Block:
    """Return the cell with a step that reads an array wherever one is handed on as a tile, or made one.

    These are the starts of loops, what rounds and branches hand on, updates, what is reduced, and outputs.
    """
    reader = _Reader(memory, 1 + max(value.id for value in _values(cell)))
    steps = reader.steps(cell)
    first = len([value for value in cell.inputs if value in memory.arrays]) - len(cell.outputs)
    outputs = [
        value if memory.arrays.get(value) == number else reader.read(value, steps)
        for number, value in enumerate(cell.outputs, first)
    ]
    return Block(cell.inputs, tuple(steps), tuple(outputs))


def _values(block: Block) -> Iterable[Value]:
    yield from block.inputs
    for step, _ in block.walk():
        yield from step.outputs
        for inner in step.blocks:
            yield from inner.inputs


@dataclass
class _Reader:
    """Writes steps that read arrays."""

    memory: Memory
    next_id: int
    places: dict[str, tuple[int, ...]] = field(
        default_factory=lambda: {"dynamic_update_slice": (1,), "scatter": (1, 2)}
    )

    def read(self, value: Value, steps: list[Step], where: str = "") -> Value:
        """Return a value as a tile; an array gets a step that reads it."""
        if value not in self.memory.arrays:
            return value
        tile = Value(self.next_id, value.dtype, value.shape)
        self.next_id += 1
        steps.append(Step(Node("reshape", (value,), (tile,), {}, where), (value,), (tile,)))
        return tile

    def steps(self, block: Block) -> list[Step]:
        """Return the steps of a block with those that read arrays before them."""
        made: list[Step] = []
        for step in block.steps:
            wanted = self._wanted(step)
            inputs = tuple(
                self.read(value, made, step.node.where) if place in wanted else value
                for place, value in enumerate(step.inputs)
            )
            blocks = tuple(self._region(step, number) for number in range(len(step.blocks)))
            made.append(Step(replace(step.node, inputs=inputs), inputs, step.outputs, blocks))
        return made

    def _wanted(self, step: Step) -> tuple[int, ...]:
        """Return the places of the operands that must be tiles."""
        if step.op == "while":
            return tuple(p for p, carry in enumerate(step.blocks[1].inputs) if carry not in self.memory.arrays)
        if step.op == "reduce" and step.inputs[0].size <= _REDUCED_AS_TILE:
            return tuple(range(len(step.outputs)))
        return self.places.get(step.op, ())

    def _region(self, step: Step, number: int) -> Block:
        block = step.blocks[number]
        steps = self.steps(block)
        if step.op == "while" and number == 0:
            return Block(block.inputs, tuple(steps), block.outputs)
        results = step.blocks[1].inputs if step.op == "while" else step.outputs
        outputs = tuple(
            value if result in self.memory.arrays else self.read(value, steps, step.node.where)
            for value, result in zip(block.outputs, results, strict=True)
        )
        return Block(block.inputs, tuple(steps), outputs)
