"""Everything that is decided about a tile kernel before it is written, and how that reads."""

from __future__ import annotations

from dataclasses import dataclass

from ...graph import Node, Value
from ...schedule import Schedule
from .blocks import Block, Memory
from .layout import Layout, infer
from .matrices import Matrices, find_matrices
from .memory import prepare
from .order import gather_reductions
from .roles import Roles, find_roles

UNSTAGED = "unstaged"
"""Mode of a schedule: products read their operands from memory again and again, or in slabs."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A cell and how its values are held."""

    cell: Block
    memory: Memory
    layout: Layout
    matrices: Matrices
    roles: Roles


def make_plan(node: Node, schedule: Schedule) -> Plan:
    """Return the plan that a schedule leads to; a pure function of its arguments."""
    cell, memory = prepare(node)
    layout = infer(cell, memory, schedule.workgroup, schedule.subgroup)
    cell = gather_reductions(cell, memory, layout, schedule.subgroup)
    matrices = find_matrices(cell, memory, schedule.fragments, schedule.workgroup // schedule.subgroup)
    stage_reads = schedule.mode != UNSTAGED
    roles = find_roles(cell, memory, layout.joined, matrices.operands, stage_reads=stage_reads)
    return Plan(cell, memory, layout, matrices, roles)


def describe(fusion: Node, schedule: Schedule) -> list[str]:
    """Return lines that say where the tiles of a kernel live: those that are held, not those computed on the way."""
    node: Node = fusion.attributes["body"].nodes[-1]
    plan = make_plan(node, schedule)
    grid = " x ".join(map(str, node.attributes["grid"])) or "1"
    lines = [
        f"tile kernel {node.attributes['name']}: {grid} workgroups of "
        f"{plan.layout.rows} rows x {plan.layout.columns} columns of invocations"
    ]
    for step, _ in plan.cell.walk():
        for value in step.outputs:
            text = _held(plan, step.op, value)
            if text:
                lines.append(f"  {step.op}: {text}")
    return lines


def _held(plan: Plan, op: str, value: Value) -> str:
    """Return how a value is held, empty where it is nothing that lasts."""
    if value in plan.memory.arrays or value.shape == ():
        return ""
    where: list[str] = []
    partition = plan.matrices.partitions.get(value)
    if partition is not None:
        where.append(f"matrix units, {partition.down} x {partition.across} subgroups, {partition.unit}")
    elif op in ("dot_general", "reduce", "while", "case") or value in plan.roles.settled - plan.roles.anywhere:
        where.append("registers")
    if value in plan.roles.staged:
        where.append("shared memory")
    return f"{plan.layout.text(value)} in {' and '.join(where)}" if where else ""
