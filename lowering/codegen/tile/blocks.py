"""A cell with its regions opened: every value has a number of its own, and regions read outer values directly.

    graph body(%c, %captured) inside while(%x, %y)   ->   a Block over its carry that reads %y

A loop's condition and body share their carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ...graph import Graph, Node, Value


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Nodes in order. `inputs` are the carries of a loop, or the arguments of the cell."""

    inputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Value, ...]

    def walk(self) -> Iterator[tuple[Step, Block]]:
        """Yield every step with the block it stands in, those of nested blocks after their own."""
        for step in self.steps:
            yield step, self
            for block in step.blocks:
                yield from block.walk()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node of a cell.

    `inputs` of a `while` are its first carries, those of a `case` its index; `blocks` are condition and body, or the
    branches.
    """

    node: Node
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    blocks: tuple[Block, ...] = ()

    @property
    def op(self) -> str:
        """The operation's name."""
        return self.node.op


@dataclass
class _Opener:
    count: int = 0

    def fresh(self, value: Value) -> Value:
        self.count += 1
        return Value(self.count - 1, value.dtype, value.shape)

    def block(self, graph: Graph, names: dict[Value, Value], inputs: tuple[Value, ...]) -> Block:
        """Open a graph whose inputs have names already; `inputs` are those that belong to the block."""
        steps = tuple(self.step(node, names) for node in graph.nodes)
        return Block(inputs, steps, tuple(names[value] for value in graph.outputs))

    def step(self, node: Node, names: dict[Value, Value]) -> Step:
        inputs = tuple(names[value] for value in node.inputs)
        blocks: tuple[Block, ...] = ()
        if node.op == "while":
            count = len(node.outputs)
            carry, captured = tuple(map(self.fresh, node.outputs)), inputs[count:]
            regions = (node.attributes["cond"], node.attributes["body"])
            blocks = tuple(self._region(region, (*carry, *captured), carry) for region in regions)
            inputs = inputs[:count]
        elif node.op == "case":
            blocks = tuple(self._region(region, inputs[1:], ()) for region in node.attributes["branches"])
            inputs = inputs[:1]
        outputs = tuple(map(self.fresh, node.outputs))
        names.update(zip(node.outputs, outputs, strict=True))
        # The rules of the code generator take nodes: this one speaks of the new values.
        return Step(Node(node.op, inputs, outputs, node.attributes, node.where), inputs, outputs, blocks)

    def _region(self, graph: Graph, values: tuple[Value, ...], inputs: tuple[Value, ...]) -> Block:
        return self.block(graph, dict(zip(graph.inputs, values, strict=True)), inputs)


def open_cell(cell: Graph) -> Block:
    """Return the cell as a block whose inputs are its arguments."""
    opener = _Opener()
    inputs = tuple(map(opener.fresh, cell.inputs))
    return opener.block(cell, dict(zip(cell.inputs, inputs, strict=True)), inputs)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Which values are arrays in memory, in one of their states; each maps to the number of its array.

    Attributes:
        arrays: value -> number.
        written: numbers of the arrays that the cell writes.
    """

    arrays: Mapping[Value, int]
    written: frozenset[int] = field(default_factory=frozenset)


WRITERS = ("dynamic_update_slice", "scatter")


def find_memory(cell: Block, first: int) -> Memory:
    """Find the states of the cell's arrays: arguments from `first` on, and what updates, loops and branches hand on."""
    arrays = {value: number for number, value in enumerate(cell.inputs[first:])}
    written: set[int] = set()
    _follow(cell, arrays, written)
    return Memory(arrays, frozenset(written))


def _follow(block: Block, arrays: dict[Value, int], written: set[int]) -> None:
    for step in block.steps:
        if step.op in WRITERS and step.inputs[0] in arrays:
            arrays[step.outputs[0]] = arrays[step.inputs[0]]
            written.add(arrays[step.inputs[0]])
        elif step.op == "while":
            _follow_loop(step, arrays, written)
        elif step.op == "case":
            for branch in step.blocks:
                _follow(branch, arrays, written)
            for place, value in enumerate(step.outputs):
                found = {arrays.get(branch.outputs[place]) for branch in step.blocks}
                if len(found) == 1 and (number := found.pop()) is not None:
                    arrays[value] = number


def _follow_loop(step: Step, arrays: dict[Value, int], written: set[int]) -> None:
    """A carry is memory if it starts as an array and every round hands on the same one."""
    body = step.blocks[1]
    candidates = {place: arrays[value] for place, value in enumerate(step.inputs) if value in arrays}
    while True:
        trial, touched = dict(arrays), set[int]()
        trial.update({body.inputs[place]: number for place, number in candidates.items()})
        _follow(body, trial, touched)
        kept = {p: n for p, n in candidates.items() if trial.get(body.outputs[p]) == n}
        if kept == candidates:
            break
        candidates = kept
    arrays.update(trial)
    written |= touched
    arrays.update({step.outputs[place]: number for place, number in candidates.items()})
