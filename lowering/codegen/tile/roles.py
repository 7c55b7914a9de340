"""How each value of a cell is held: in memory, computed anywhere, in registers, or staged in shared memory.

| role | what |
| --- | --- |
| memory | an array of the call in one of its states |
| anywhere | cheap arithmetic over arrays that are only read, constants and scalars: computed wherever it is needed |
| registers | a tile whose elements lie with the invocations that its layout names |
| staged | also written to shared memory, because somebody reads it at other places than its own |
"""

from __future__ import annotations

from dataclasses import dataclass

from ... import ops
from ...graph import Value
from ...passes.roots import COSTS
from .. import moves
from .blocks import Block, Memory, Step
from .indices import is_injective

# An expression over memory is computed again for each use up to this cost.
CHEAP = 8
# Operands that an operation reads at places of its own choosing; "*" stands for all.
_ELSEWHERE = {
    "slice": "*", "reverse": "*", "pad": "0", "concatenate": "*", "gather": "*", "dynamic_slice": "0", "reshape": "*",
    "dynamic_update_slice": "1", "scatter": "1", "dot_general": "*", "reduce_window": "*", "transpose": "*",
    "broadcast_in_dim": "0",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """What the emitter must know of each value."""

    memory: Memory
    anywhere: frozenset[Value]
    staged: frozenset[Value]
    settled: frozenset[Value]
    side_by_side: frozenset[int]

    def is_tile(self, value: Value) -> bool:
        """Tell whether a value lies in registers by a layout."""
        return value not in self.memory.arrays and value.shape != ()


def find_roles(
    cell: Block,
    memory: Memory,
    joined: frozenset[tuple[Value, Value]],
    matrices: frozenset[Value] = frozenset(),
    *,
    stage_reads: bool = True,
) -> Roles:
    """Decide the role of every value.

    Args:
        cell: what to emit.
        memory: which values are arrays.
        joined: pairs (operand, result) of movements that the layout makes free.
        matrices: operands of matrix units, which read shared memory only.
        stage_reads: stage the operands of products whole; else they are read from memory again and again, or pass
            through shared memory in slabs.
    """
    anywhere = _anywhere(cell, memory)
    staged: set[Value] = set()
    apart = find_side_by_side(cell)
    home: dict[Value, Block] = {}
    for step, block in cell.walk():
        home.update(dict.fromkeys(step.outputs, block))
        for inner in step.blocks:
            home.update(dict.fromkeys(inner.inputs, inner))
        for value in _read_elsewhere(step, memory, joined, apart):
            free = value in memory.arrays or value.shape == () or (value, step.outputs[0]) in joined
            passes = step.op == "dot_general" and not stage_reads and can_pass(step)
            if not free and not passes and (value not in anywhere or (stage_reads and step.op == "dot_general")):
                staged.add(value)
    staged |= matrices
    settled = set(staged)
    for step, block in cell.walk():
        # What an inner block reads must be there before it starts.
        reads = (*step.inputs, *(value for inner in step.blocks for value in inner.outputs))
        for value in reads:
            if value in home and home[value] is not block and value not in anywhere:
                settled.add(value)
        if _reads_written(step, memory):
            settled.update(step.outputs)
    return Roles(memory, frozenset(anywhere), frozenset(staged), frozenset(settled), apart)


def is_serial(step: Step, joined: frozenset[tuple[Value, Value]]) -> bool:
    """Tell whether each result of a reduction is made by one invocation, in order.

    That is so where the rule is the user's own, and where the result lies elsewhere than what is reduced.
    """
    return step.node.attributes["kind"] is None or (step.inputs[0], step.outputs[0]) not in joined


def _read_elsewhere(
    step: Step, memory: Memory, joined: frozenset[tuple[Value, Value]], apart: frozenset[int]
) -> tuple[Value, ...]:
    """Return the operands that a step reads at other places than its result's."""
    if step.op == "dynamic_update_slice" and step.outputs[0] in memory.arrays:
        return ()
    if step.op == "scatter":
        return step.inputs[1:2] if id(step.node) in apart else step.inputs[1:]
    which = _ELSEWHERE.get(step.op)
    if which == "*":
        return step.inputs
    if step.op == "reduce":
        return step.inputs[: len(step.outputs)] if is_serial(step, joined) else ()
    return () if which is None else (step.inputs[int(which)],)


def can_pass(step: Step) -> bool:
    """Tell whether a product's operands can pass through shared memory in slabs of one axis: one operand, one axis."""
    left, right = step.node.attributes["lhs_contract"], step.node.attributes["rhs_contract"]
    return len(left) == 1 and (step.inputs[0] != step.inputs[1] or left == right)


def find_side_by_side(cell: Block) -> frozenset[int]:
    """Return the identities of the scatters whose updates never meet."""
    producers = {value: step.node for step, _ in cell.walk() for value in step.outputs if not step.blocks}
    return frozenset(
        id(step.node)
        for step, _ in cell.walk()
        if step.op == "scatter" and (step.node.attributes["unique"] or is_injective(step.node, producers))
    )


def _reads_written(step: Step, memory: Memory) -> bool:
    """Tell whether a step looks into an array that the cell also writes: it must look now, not later."""
    return (
        any(memory.arrays.get(value) in memory.written for value in step.inputs)
        and (step.outputs[0] not in memory.arrays if step.outputs else False)
        and not step.blocks
    )


def _anywhere(cell: Block, memory: Memory) -> set[Value]:
    """Return the values that can be computed at any place: cheap, over what never changes while the kernel runs."""
    cost: dict[Value, int] = {value: 0 for value, number in memory.arrays.items() if number not in memory.written}
    found: set[Value] = set()
    for step, _ in cell.walk():
        value = step.outputs[0] if len(step.outputs) == 1 else None
        if value is None or value in memory.arrays or not (step.op in moves.RULES or is_elementwise(step)):
            continue
        if not all(operand.shape == () or operand in cost for operand in step.inputs):
            continue
        total = COSTS.get(step.op, 1) + sum(cost.get(operand, 0) for operand in set(step.inputs))
        if total <= CHEAP and value.shape != ():
            cost[value] = total
            found.add(value)
    return found


def is_elementwise(step: Step) -> bool:
    """Tell whether each element of a step's result is made of its operands' at the same place."""
    is_cast = step.op == "bitcast_convert" and step.inputs[0].shape == step.outputs[0].shape
    return is_cast or ops.is_elementwise(step.node)
