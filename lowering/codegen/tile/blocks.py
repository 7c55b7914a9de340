"""A cell with its regions opened: every value has a number of its own, and regions read outer values directly.

    graph body(%c, %captured) inside while(%x, %y)   ->   a Block over its carry that reads %y

A loop's condition and body share their carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

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


def captured(blocks: Iterable[Block]) -> set[Value]:
    """Return what blocks read of the values around them."""
    found: set[Value] = set()
    for block in blocks:
        own = set(block.inputs)
        for step in block.steps:
            found |= {*step.inputs, *captured(step.blocks)} - own
            own.update(step.outputs)
        found |= set(block.outputs) - own
    return found


def without_dead(cell: Block) -> Block:
    """Return the cell without the steps whose results nobody reads."""
    while True:
        read = set(cell.outputs)
        for step, _ in cell.walk():
            read.update(step.inputs)
            for block in step.blocks:
                read.update(block.outputs)
        thin = _kept(cell, read)
        if sum(1 for _ in thin.walk()) == sum(1 for _ in cell.walk()):
            return thin
        cell = thin


def _kept(block: Block, read: set[Value]) -> Block:
    steps = tuple(
        replace(step, blocks=tuple(_kept(inner, read) for inner in step.blocks))
        for step in block.steps
        if step.blocks or any(value in read for value in step.outputs)
    )
    return Block(block.inputs, steps, block.outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Which values are arrays in memory, in one of their states; each maps to the number of its array.

    Attributes:
        arrays: value -> number.
        written: numbers of the arrays that the cell writes.
    """

    arrays: Mapping[Value, int]
    written: frozenset[int] = field(default_factory=frozenset)
