"""Windows of arrays, taken before arithmetic: what bands read of memory is always one.

window of (scale * q)   ->   scale * (window of q)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ...graph import Node, Value
from ..tile.blocks import Block, Memory, Step, without_dead
from ..tile.roles import is_elementwise

_WINDOWS = ("dynamic_slice", "slice")
_MOVES = (*_WINDOWS, "reshape", "transpose")


def sink_windows(cell: Block) -> Block:
    """Return the cell with windows taken before arithmetic, and without what nobody reads."""
    producers = {value: step for step, _ in cell.walk() for value in step.outputs}
    return without_dead(_Sinker(producers, 1 + max(value.id for value in _values(cell))).block(cell))


def _values(cell: Block) -> Iterator[Value]:
    yield from cell.inputs
    for step, block in cell.walk():
        yield from (*step.outputs, *block.inputs)
        for inner in step.blocks:
            yield from inner.inputs


def read_whole(cell: Block, memory: Memory) -> Block:
    """Return the cell with a step that takes the whole window of an array wherever one is read as a tile."""
    reader = _Reader(memory, 1 + max(value.id for value in _values(cell)))
    inner = reader.block(cell)
    return Block(cell.inputs, (*reader.made, *inner.steps), cell.outputs)


@dataclass
class _Reader:
    memory: Memory
    next_id: int
    windows: dict[Value, Value] = field(default_factory=dict)
    made: list[Step] = field(default_factory=list)

    def block(self, block: Block) -> Block:
        """Return a block whose arithmetic reads windows."""
        return Block(block.inputs, tuple(map(self._step, block.steps)), block.outputs)

    def _step(self, step: Step) -> Step:
        blocks = tuple(map(self.block, step.blocks))
        if blocks or step.op in (*_MOVES, "dynamic_update_slice"):
            return replace(step, blocks=blocks)
        inputs = tuple(map(self._window, step.inputs))
        return Step(Node(step.op, inputs, step.outputs, step.node.attributes, step.node.where), inputs, step.outputs)

    def _window(self, value: Value) -> Value:
        number = self.memory.arrays.get(value)
        if number is None or number in self.memory.written or value.size == 1:
            return value
        if value not in self.windows:
            self.windows[value] = window = Value(self.next_id, value.dtype, value.shape)
            self.next_id += 1
            self.made.append(_step(Node("reshape", (value,), (window,), {}, ""), (value,), window))
        return self.windows[value]


@dataclass
class _Sinker:
    producers: Mapping[Value, Step]
    next_id: int
    made: dict[Value, Step] = field(default_factory=dict)

    def block(self, block: Block) -> Block:
        """Return a block with its windows sunk, and those of its inner blocks."""
        steps: list[Step] = []
        for step in block.steps:
            if step.op in _WINDOWS and self._is_arithmetic(step.inputs[0]):
                self._window(step, step.inputs[0], step.outputs[0], steps)
            else:
                steps.append(replace(step, blocks=tuple(map(self.block, step.blocks))))
        return Block(block.inputs, tuple(steps), block.outputs)

    def _is_arithmetic(self, value: Value) -> bool:
        step = self.producers.get(value)
        if step is None or step.blocks or value.size == 1:
            return False
        spread = step.op == "broadcast_in_dim" and step.inputs[0].size == 1
        return (
            spread
            or step.op == "constant"
            or (is_elementwise(step) and all(each.shape in (value.shape, ()) for each in step.inputs))
        )

    def _window(self, window: Step, source: Value, result: Value, steps: list[Step]) -> None:
        """Append steps that compute the window of `source` as `result`."""
        step = self.producers.get(source)
        if step is None or not self._is_arithmetic(source):
            steps.append(_step(window.node, (source, *window.inputs[1:]), result))
            return
        if step.op in ("constant", "broadcast_in_dim"):
            steps.append(_step(step.node, step.inputs, result))
            return
        inputs: list[Value] = []
        for operand in step.inputs:
            if operand.shape != source.shape:
                inputs.append(operand)
                continue
            part = Value(self.next_id, operand.dtype, result.shape)
            self.next_id += 1
            self._window(window, operand, part, steps)
            inputs.append(part)
        steps.append(_step(step.node, tuple(inputs), result))


def _step(node: Node, inputs: tuple[Value, ...], result: Value) -> Step:
    return Step(Node(node.op, inputs, (result,), node.attributes, node.where), inputs, (result,))
