"""Updates that follow a branch are made inside of it: who takes the other branch neither reads nor writes.

w = window of s at p                        s1 = case(c): no -> s,  yes -> update of s at p by f(w)
t = case(c): no -> w, yes -> f(w)     ->
s1 = update of s at p by t
"""

from __future__ import annotations

from dataclasses import replace

from ...graph import Node, Value
from .blocks import Block, Step, captured, without_dead


def write_in_branches(cell: Block) -> Block:
    """Return the cell with updates of its arguments moved into the branches that give what they write."""
    for step in cell.steps:
        if step.op == "case":
            cell = _Mover(cell, step).moved()
    return without_dead(cell)


class _Mover:
    """Moves the updates behind one branch."""

    def __init__(self, cell: Block, case: Step) -> None:
        self.cell = cell
        self.case = case
        self.producers = {value: step for step in cell.steps for value in step.outputs}
        place = cell.steps.index(case)
        self.known = {*cell.inputs, *(value for step in cell.steps[:place] for value in step.outputs)}
        self.later = cell.steps[place + 1 :]
        self.next_id = 1 + max(value.id for step, block in cell.walk() for value in (*step.outputs, *block.inputs))

    def moved(self) -> Block:
        """Return the cell."""
        updates = [self._update_of(value) for value in self.case.outputs]
        gone = {update for update in updates if update is not None}
        if not gone:
            return self.cell
        blocks = tuple(self._with_updates(block, updates) for block in self.case.blocks)
        outputs = tuple(
            value if update is None else update.outputs[0]
            for value, update in zip(self.case.outputs, updates, strict=True)
        )
        case = Step(replace(self.case.node, outputs=outputs), self.case.inputs, outputs, blocks)
        steps = tuple(case if step is self.case else step for step in self.cell.steps if step not in gone)
        return replace(self.cell, steps=steps)

    def _update_of(self, value: Value) -> Step | None:
        """Return the update of an argument that alone reads a value, perhaps in another shape."""
        step = self._reader(value)
        while step is not None and step.op == "reshape":
            step = self._reader(step.outputs[0])
        if step is None or step.op != "dynamic_update_slice":
            return None
        target, _, *starts = step.inputs
        # Who looks at the argument between the branch and its update sees what it held before.
        is_last = _readers(target, self.later) == [step]
        return step if target in self.cell.inputs and is_last and self.known.issuperset(starts) else None

    def _reader(self, value: Value) -> Step | None:
        readers = _readers(value, self.cell.steps)
        is_single = len(readers) == 1 and not readers[0].blocks and value not in self.cell.outputs
        return readers[0] if is_single else None

    def _with_updates(self, block: Block, updates: list[Step | None]) -> Block:
        steps, outputs = list(block.steps), list(block.outputs)
        for place, update in enumerate(updates):
            if update is None:
                continue
            target, written, *starts = update.inputs
            if self._is_window(outputs[place], update):
                outputs[place] = target
                continue
            if outputs[place].shape != written.shape:
                outputs[place] = self._add(steps, "reshape", (outputs[place],), written)
            outputs[place] = self._add(steps, update.op, (target, outputs[place], *starts), target, update)
        return Block(block.inputs, tuple(steps), tuple(outputs))

    def _is_window(self, value: Value, update: Step) -> bool:
        """Tell whether a value is what lies where an update writes."""
        target, written, *starts = update.inputs
        step = self.producers.get(value)
        while step is not None and step.op == "reshape":
            step = self.producers.get(step.inputs[0])
        if step is None or step.op != "dynamic_slice":
            return False
        return step.inputs == (target, *starts) and step.outputs[0].shape == written.shape

    def _add(
        self, steps: list[Step], op: str, inputs: tuple[Value, ...], like: Value, model: Step | None = None
    ) -> Value:
        made = Value(self.next_id, like.dtype, like.shape)
        self.next_id += 1
        attributes, where = ({}, "") if model is None else (model.node.attributes, model.node.where)
        steps.append(Step(Node(op, inputs, (made,), attributes, where), inputs, (made,)))
        return made


def _readers(value: Value, steps: tuple[Step, ...]) -> list[Step]:
    return [step for step in steps if value in step.inputs or value in captured(step.blocks)]
