"""Which tiles are held as the matrices of a device's matrix units: products, and what they are added to.

Where an element of such a matrix lies is the driver's secret. A tile stays one only while it is added up, handed on
by loops and branches, or filled with one number; whoever needs its elements gets them through shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from shaders.capabilities import MatrixShape

from ...graph import Node, Value
from ..dot import layouts
from .blocks import Block, Memory, Step

# The largest array that is staged as a whole.
_STAGED_BYTES = 16384


@dataclass(frozen=True, slots=True)
class Partition:
    """How the subgroups of a workgroup share a tile: `down` x `across` parts, each cut into fragments.

    Attributes:
        down: parts along the rows.
        across: parts along the columns.
        unit: one operation of the matrix units.
        shape: of the tile.
    """

    down: int
    across: int
    unit: MatrixShape
    shape: tuple[int, int]

    @property
    def fragment(self) -> tuple[int, int, int]:
        """Rows, columns and depth of one operation."""
        return self.unit.m, self.unit.n, self.unit.k

    @property
    def rows(self) -> int:
        """Fragments below one another in a part."""
        return self.shape[0] // self.down // self.fragment[0]

    @property
    def columns(self) -> int:
        """Fragments side by side in a part."""
        return self.shape[1] // self.across // self.fragment[1]


@dataclass(frozen=True, slots=True, eq=False)
class Matrices:
    """The tiles that are held as matrices, and the products that make them.

    Attributes:
        partitions: how each such tile is shared out.
        operands: of the products.
        only: operands that nobody else reads.
        opened: tiles held as matrices whose elements somebody wants.
        added: products that are only added to something else, with the addition.
    """

    partitions: Mapping[Value, Partition] = field(default_factory=dict)
    operands: frozenset[Value] = frozenset()
    only: frozenset[Value] = frozenset()
    opened: frozenset[Value] = frozenset()
    added: Mapping[Value, Step] = field(default_factory=dict)

    @property
    def used(self) -> frozenset[MatrixShape]:
        """The operations of the matrix units."""
        return frozenset(partition.unit for partition in self.partitions.values())


def find_matrices(cell: Block, memory: Memory, shapes: Sequence[MatrixShape], subgroups: int) -> Matrices:
    """Find the products that matrix units can compute, and the values that can stay in them.

    Args:
        cell: what to emit.
        memory: which values are arrays; a whole array is an operand only if it is small and never written.
        shapes: the products of the device's matrix units.
        subgroups: of a workgroup.
    """
    products: dict[Value, Partition] = {}
    operands: set[Value] = set()
    for step, _ in cell.walk():
        can_stage = step.op == "dot_general" and all(_can_stage(value, memory) for value in step.inputs)
        found = _partition(step, shapes, subgroups) if can_stage else None
        if found is not None:
            products[step.outputs[0]] = found
            operands.update(step.inputs)
    held = dict(products)
    filled = {step.outputs[0] for step, _ in cell.walk() if _is_filled(step)}
    candidates = _candidates(cell, products)
    while True:
        kept = {
            value: partition
            for value, partition in candidates.items()
            if all(source in candidates or source in filled or source in products for source in _sources(cell, value))
        }
        if len(kept) == len(candidates):
            break
        candidates = kept
    held.update(_reached(cell, kept, products))
    others = {value for value, reader in _readers(cell) if reader is None or reader.outputs[0] not in products}
    opened = frozenset(value for value, reader in _readers(cell) if value in held and not _keeps(reader, value, held))
    return Matrices(held, frozenset(operands), frozenset(operands - others), opened, _added(cell, products, held))


def _readers(cell: Block) -> Iterator[tuple[Value, Step | None]]:
    """Yield every value with a step that reads it; None where the cell gives it out.

    What a block hands on is read by the loop or branch that it belongs to.
    """
    yield from ((value, None) for value in cell.outputs)
    for step, _ in cell.walk():
        yield from ((value, step) for value in step.inputs)
        for block in step.blocks:
            yield from ((value, step) for value in block.outputs)


def _keeps(reader: Step | None, value: Value, held: Mapping[Value, Partition]) -> bool:
    """Tell whether a reader takes a tile as a matrix."""
    if reader is None:
        return False
    if reader.op == "while":
        body = reader.blocks[1]
        sources = (*zip(reader.inputs, body.inputs, strict=True), *zip(body.outputs, body.inputs, strict=True))
        return all(carry in held for source, carry in sources if source == value)
    if reader.op == "case":
        pairs = [pair for block in reader.blocks for pair in zip(block.outputs, reader.outputs, strict=True)]
        return all(result in held for source, result in pairs if source == value)
    return reader.op == "add" and reader.outputs[0] in held


def _added(cell: Block, products: Mapping[Value, Partition], held: Mapping[Value, Partition]) -> dict[Value, Step]:
    """Return the products that one addition of the same block takes, and nobody else."""
    readers: dict[Value, list[Step | None]] = {}
    for value, reader in _readers(cell):
        readers.setdefault(value, []).append(reader)
    blocks = {id(step): block for step, block in cell.walk()}
    found: dict[Value, Step] = {}
    for step, block in cell.walk():
        for value in step.outputs:
            reader = readers.get(value, [None])[0]
            alone = len(readers.get(value, [])) == 1 and value in products
            if not alone or reader is None or reader.op != "add" or blocks[id(reader)] is not block:
                continue
            if reader.outputs[0] in held:
                found[value] = reader
    # Of two products that are added to each other, one is made first.
    return {value: step for value, step in found.items() if step.inputs[1] == value or step.inputs[1] not in found}


def _can_stage(value: Value, memory: Memory) -> bool:
    number = memory.arrays.get(value)
    return number is None or (number not in memory.written and value.nbytes <= _STAGED_BYTES)


def _partition(step: Step, shapes: Sequence[MatrixShape], subgroups: int) -> Partition | None:
    left, right = layouts(step.node)
    operand, result = step.inputs[0], step.outputs[0]
    if left.batch or len(left.contract) != 1 or len(left.free) != 1 or len(right.free) != 1:
        return None
    if step.inputs[1].dtype != operand.dtype or result.dtype not in ("f32", "i32", "u32"):
        return None
    rows, columns = result.shape
    depth = left.extent(left.contract)
    wanted = (operand.dtype, operand.dtype, result.dtype, result.dtype)
    fitting = [
        shape
        for shape in shapes
        if (shape.a, shape.b, shape.c, shape.result) == wanted
        and rows % shape.m == columns % shape.n == depth % shape.k == 0
    ]
    unit = max(fitting, key=lambda shape: shape.m * shape.n * shape.k, default=None)
    if unit is None:
        return None
    choices = [
        Partition(down, subgroups // down, unit, (rows, columns))
        for down in range(1, subgroups + 1)
        if subgroups % down == 0 and rows % (down * unit.m) == columns % (subgroups // down * unit.n) == 0
    ]
    # What a subgroup reads of both operands: the squarer its part, the less.
    return min(choices, key=lambda each: rows // each.down + columns // each.across, default=None)


def _is_filled(step: Step) -> bool:
    node: Node = step.node
    return step.op == "constant" and node.attributes["value"].ndim == 0


def _candidates(cell: Block, products: Mapping[Value, Partition]) -> dict[Value, Partition]:
    """Return every value of a product's type that an addition, a loop or a branch makes."""
    by_type = {(value.dtype, value.shape): partition for value, partition in products.items()}
    found: dict[Value, Partition] = {}
    for step, _ in cell.walk():
        values: list[Value] = []
        if step.op in ("add", "case"):
            values = list(step.outputs)
        elif step.op == "while":
            values = [*step.outputs, *step.blocks[1].inputs]
        for value in values:
            partition = by_type.get((value.dtype, value.shape))
            if partition is not None:
                found[value] = partition
    return found


def _sources(cell: Block, value: Value) -> Iterator[Value]:
    """Yield the values that a candidate must be of one kind with."""
    for step, _ in cell.walk():
        if step.op == "while":
            body = step.blocks[1]
            for place, (result, carry) in enumerate(zip(step.outputs, body.inputs, strict=True)):
                if value in (result, carry):
                    yield from (step.inputs[place], body.outputs[place], carry)
        elif value in step.outputs:
            if step.op == "case":
                place = step.outputs.index(value)
                yield from (branch.outputs[place] for branch in step.blocks)
            else:
                yield from step.inputs


def _reached(
    cell: Block, candidates: Mapping[Value, Partition], products: Mapping[Value, Partition]
) -> dict[Value, Partition]:
    """Return the candidates that a product flows into; others gain nothing."""
    reached: dict[Value, Partition] = {}
    while True:
        fresh = {
            value: partition
            for value, partition in candidates.items()
            if value not in reached and any(source in products or source in reached for source in _sources(cell, value))
        }
        if not fresh:
            return reached
        reached.update(fresh)
