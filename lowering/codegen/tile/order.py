"""Order of steps: reductions of a workgroup that do not wait for each other stand side by side, and share barriers.

Before                          After
  %1 = reduce(%0)                 %3 = multiply(%0, %0)
  %2 = exponential(%1)            %1 = reduce(%0)
  %3 = multiply(%0, %0)           %4 = reduce(%3)
  %4 = reduce(%3)                 %2 = exponential(%1)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...graph import Value
from .blocks import Block, Memory, Step
from .layout import Layout
from .reduce import is_exchanged

# What writes memory, or reads shared memory, stays where it is, with everything before it.
_FIXED = frozenset({"dynamic_update_slice", "scatter", "dot_general", "reduce_window"})


def gather_reductions(block: Block, memory: Memory, layout: Layout, subgroup: int) -> Block:
    """Return a block, and those inside it, whose steps are ordered by how many exchanges they wait for."""
    if layout.threads <= subgroup:
        return block
    steps: list[Step] = []
    free: list[Step] = []
    for step in block.steps:
        if step.blocks:
            inner = tuple(gather_reductions(each, memory, layout, subgroup) for each in step.blocks)
            step = replace(step, blocks=inner)
        if step.blocks or step.op in _FIXED or _sees_stores(step, memory):
            steps += [*_ordered(free, layout, subgroup), step]
            free = []
        else:
            free.append(step)
    return replace(block, steps=(*steps, *_ordered(free, layout, subgroup)))


def in_exchanges(steps: Sequence[Step], layout: Layout, subgroup: int) -> Iterator[list[Step]]:
    """Cut steps, in order, into reductions that can share an exchange and single others."""
    some: list[Step] = []
    for step in steps:
        known = {value for each in some for value in each.outputs}
        is_shared = step.op == "reduce" and is_exchanged(layout, step, subgroup)
        if some and not (is_shared and known.isdisjoint(step.inputs)):
            yield some
            some = []
        some.append(step)
        if not is_shared:
            yield some
            some = []
    if some:
        yield some


def _sees_stores(step: Step, memory: Memory) -> bool:
    return any(memory.arrays.get(value) in memory.written for value in step.inputs)


def _ordered(steps: Sequence[Step], layout: Layout, subgroup: int) -> list[Step]:
    """Sort steps by the exchanges that they wait for, those that exchange last; equals keep their order."""
    waits: dict[Value, int] = {}
    keys: dict[int, tuple[int, bool]] = {}
    for number, step in enumerate(steps):
        is_shared = step.op == "reduce" and is_exchanged(layout, step, subgroup)
        count = max((waits.get(value, 0) for value in step.inputs), default=0)
        keys[number] = count, is_shared
        waits.update(dict.fromkeys(step.outputs, count + is_shared))
    return [steps[number] for number in sorted(keys, key=keys.__getitem__)]
