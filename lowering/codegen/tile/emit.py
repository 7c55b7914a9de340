"""Emit a cell: its steps in order, tiles in registers, loops and branches as they stand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ...errors import UnsupportedError, message
from ...graph import Value
from .. import moves
from ..expression import parts, rebuild
from ..index import SCALAR
from ..moves import start_positions
from .blocks import Block, Step
from .dot import emit_dot
from .dot_matrix import add, filled, multiply_add, to_registers
from .expression import TileExpression
from .matrices import Matrices
from .order import in_exchanges
from .reduce import emit_reduce, emit_together, emit_window
from .roles import is_elementwise
from .scatter import emit_scatter
from .staging import Staging


class Emitter:
    """Writes one cell into a kernel."""

    def __init__(
        self, builder: Builder, expression: TileExpression, matrices: Matrices, cell: Block, subgroup: int
    ) -> None:
        self.builder = builder
        self.expression = expression
        self.roles = expression.roles
        self.memory = expression.roles.memory
        self.matrices = matrices
        self.fragments: dict[Value, list[Register]] = {}
        self.dying: list[Value] = []
        self.late: set[Value] = set()
        self.producers = {value: step for step, _ in cell.walk() for value in step.outputs}
        self.staging = Staging(expression, matrices)
        self.subgroup = subgroup

    def cell(self, cell: Block) -> None:
        """Emit the whole cell; an output that is no state of its array is stored as a whole."""
        self._steps(cell)
        first = len(self.memory_inputs(cell)) - len(cell.outputs)
        whole = {n: v for n, v in enumerate(cell.outputs, first) if self.memory.arrays.get(v) != n}
        # All are computed before the first is stored: they may be made of what lies there now.
        elements = {number: self.expression.elements(value) for number, value in whole.items()}
        if self._reads(cell, whole):
            self.builder.barrier()
        for number, value in whole.items():
            for index, element in zip(self.expression.slots(value), elements[number], strict=True):
                self.expression.write(self.expression.arrays[number], value, index, element)

    def _reads(self, cell: Block, numbers: Collection[int]) -> bool:
        """Tell whether a cell reads some of its arrays, or an operand in the memory of an output."""
        arrays = self.memory.arrays
        read = {arrays[value] for step, _ in cell.walk() for value in step.inputs if value in arrays}
        first = len(self.memory_inputs(cell)) - len(cell.outputs)
        return bool(numbers) and any(n in numbers or (n < first and n in self.memory.written) for n in read)

    def memory_inputs(self, cell: Block) -> list[Value]:
        """Return the arguments of a cell that are arrays."""
        return [value for value in cell.inputs if value in self.memory.arrays]

    # -- blocks ------------------------------------------------------------------------------------------------------
    def _steps(self, block: Block) -> None:
        """Emit the steps of a block; shared memory is given back after the last step that reads it."""
        for value in block.inputs:
            self._ask(value)
        last, place = self._last_uses(block), 0
        for steps in in_exchanges(block.steps, self.expression.layout, self.subgroup):
            self._bring([value for step in steps for value in _reads(step)])
            self.dying = [value for number in range(place, place + len(steps)) for value in last.get(number, ())]
            if len(steps) > 1:
                emit_together(self.expression, self.staging, steps, self.subgroup)
            else:
                self._step(steps[0])
            for step in steps:
                for value in step.outputs:
                    self._ask(value)
            for value in self.dying:
                self.staging.release(value)
            place += len(steps)
        self._bring(block.outputs)

    def _last_uses(self, block: Block) -> dict[int, list[Value]]:
        """Return, by the place of a step, the values that nothing reads after it, directly or through others."""
        last: dict[Value, int] = dict.fromkeys(block.outputs, len(block.steps))
        for place, step in enumerate(block.steps):
            for value in _reads(step):
                last[value] = max(last.get(value, 0), place)
        # A value that is computed where it is needed reads its operands there.
        for step in reversed(block.steps):
            if not self._is_made_at_once(step):
                until = max((last.get(value, -1) for value in step.outputs), default=-1)
                for operand in step.inputs:
                    last[operand] = max(last.get(operand, -1), until)
        own = {*block.inputs, *(value for step in block.steps for value in step.outputs)}
        found: dict[int, list[Value]] = {}
        for value, place in last.items():
            if value in own and place < len(block.steps):
                found.setdefault(place, []).append(value)
        return found

    def _is_made_at_once(self, step: Step) -> bool:
        """Tell whether a step has read its operands when it has been emitted."""
        if step.blocks:
            return True
        if self._special(step) is not None:
            return step.outputs[0] not in self.matrices.added
        return all(value in self.roles.settled and value not in self.roles.anywhere for value in step.outputs)

    def _ask(self, value: Value) -> None:
        """Ask for a value that is made now to be staged; what memory gives is staged when it is read, not before."""
        if value in self.roles.staged:
            if value in self.roles.anywhere or value in self.memory.arrays:
                self.late.add(value)
            else:
                self.staging.wait(value)

    def _bring(self, values: Sequence[Value]) -> None:
        """See to it that values which a step reads are in shared memory, if that is where they belong."""
        for value in dict.fromkeys(values):
            if value in self.late and value not in self.expression.shared and value not in self.staging.asked:
                self.staging.wait(value)
        if any(value in self.staging.asked for value in values):
            self.staging.flush()

    def _step(self, step: Step) -> None:
        if step.node.where:
            file, _, line = step.node.where.split(" in ")[0].rpartition(":")
            if line.isdigit():
                self.builder.source(file, int(line))
        emit = self._special(step)
        if emit is not None and not step.blocks:
            self._see_stores(step)
        if step.op in ("dot_general", "add") and step.outputs[0] in self.matrices.partitions:
            self._matrix_step(step)
        elif emit is not None:
            emit(step)
        elif step.op in moves.RULES or is_elementwise(step):
            self._settle(step)
        else:
            raise _unsupported(step)

    def _special(self, step: Step) -> Callable[[Step], None] | None:
        """Return how a step is emitted that is no expression of its operands."""
        if step.op == "dynamic_update_slice":
            return self._store if step.outputs[0] in self.memory.arrays else None
        if step.op == "scatter" and len(step.outputs) > 1:
            return None
        return {
            "while": self._loop,
            "case": self._case,
            "reduce": lambda step: emit_reduce(self.expression, self.staging, step, self.subgroup),
            "reduce_window": lambda step: emit_window(self.expression, step),
            "dot_general": lambda step: emit_dot(self.expression, self.staging, step),
            "scatter": lambda step: emit_scatter(self.expression, self.staging, step),
        }.get(step.op)

    def _settle(self, step: Step) -> None:
        """Compute a value now if somebody relies on it; others are computed where they are needed."""
        value = step.outputs[0]
        if value in self.memory.arrays:
            return
        if value in self.roles.settled and value not in self.roles.anywhere:
            self._see_stores(step)
            elements = self.expression.elements(value) if value.shape else [self.expression.at(value, SCALAR)]
            self.expression.settle(value, elements)

    # -- matrices ----------------------------------------------------------------------------------------------------
    def _matrix_step(self, step: Step) -> None:
        """Emit a product, or an addition of tiles of which at least one is held as a matrix."""
        value = step.outputs[0]
        if value in self.matrices.added:
            return
        if step.op == "dot_general":
            partition = self.matrices.partitions[value]
            zero = filled(self.builder, partition, value.dtype, 0)
            self.fragments[value] = multiply_add(self.expression, step, partition, zero)
        else:
            left, right = step.inputs
            for first, second in ((left, right), (right, left)):
                if self.matrices.added.get(second) is step:
                    product = self.producers[second]
                    partition = self.matrices.partitions[value]
                    self.fragments[value] = multiply_add(self.expression, product, partition, self._held(first, value))
                    break
            else:
                self.fragments[value] = add(self.builder, self._held(left, value), self._held(right, value))
        for operand in self.dying:
            self.staging.release(operand)
        self._open(value)

    def _held(self, value: Value, like: Value) -> list[Register]:
        """Return the fragments of a value that is held as a matrix, or filled with one number."""
        if value in self.fragments:
            return self.fragments[value]
        number = self.producers[value].node.attributes["value"]
        return filled(self.builder, self.matrices.partitions[like], value.dtype, number.item())

    def _open(self, value: Value) -> None:
        """Give the invocations the elements of a matrix that somebody wants."""
        if value in self.matrices.opened:
            partition = self.matrices.partitions[value]
            elements = to_registers(self.expression, self.staging, value, partition, self.fragments[value])
            self.expression.settle(value, elements)

    # -- memory ------------------------------------------------------------------------------------------------------
    def _store(self, step: Step) -> None:
        """Write a tile into an array, at a place that is known now."""
        expression = self.expression
        target, update, *starts = step.inputs
        array = expression.arrays[self.memory.arrays[target]]
        elements = [(index, expression.at(update, index)) for index in expression.slots(update)]
        begin = start_positions(expression, step.node, starts, target.shape, update.shape)
        self.builder.barrier()
        for index, element in elements:
            dims = tuple(place + first for place, first in zip(expression.dims(index), begin, strict=True))
            expression.write(array, target, expression.index(target.shape, dims=dims), element)

    def _see_stores(self, step: Step) -> None:
        """Wait for what other invocations wrote to an array that is about to be read."""
        is_update = bool(step.outputs) and step.outputs[0] in self.memory.arrays
        read = step.inputs[1:] if is_update else step.inputs
        if any(self.memory.arrays.get(value) in self.memory.written for value in read):
            self.builder.barrier()

    # -- control -----------------------------------------------------------------------------------------------------
    def _loop(self, step: Step) -> None:
        condition, body = step.blocks
        carried = [value for value in body.inputs if value not in self.memory.arrays]
        places = [i for i, value in enumerate(body.inputs) if value not in self.memory.arrays]
        start = self._registers([step.inputs[i] for i in places], carried)
        count = step.node.attributes["trip_count"]
        self.staging.was_used = True

        def round_of(values: Sequence[Register]) -> list[Register]:
            with self.expression.scope():
                self._bind(carried, values)
                self._steps(body)
                return self._registers([body.outputs[i] for i in places], carried)

        def goes_on(values: list[Register]) -> Register:
            with self.expression.scope():
                self._bind(carried, values)
                self._steps(condition)
                return self._registers(condition.outputs, condition.outputs)[0]

        if count is not None:
            ended = self.builder.loop(0, count, 1, start, lambda _, values: round_of(values))
        else:
            ended = self.builder.while_loop(goes_on, round_of, start)
        self._bind([step.outputs[i] for i in places], ended)

    def _case(self, step: Step) -> None:
        outputs = [i for i, value in enumerate(step.outputs) if value not in self.memory.arrays]
        index = self.expression.at(step.inputs[0], SCALAR)
        self.staging.was_used = True

        def branch(block: Block) -> list[Register]:
            with self.expression.scope():
                self._steps(block)
                return self._registers([block.outputs[i] for i in outputs], [step.outputs[i] for i in outputs])

        *first, last = step.blocks
        arms = {number: lambda block=block: branch(block) for number, block in enumerate(first)}
        assert isinstance(index, Register)
        ended = self.builder.switch(index, arms, lambda: branch(last)) if arms else branch(last)
        self._bind([step.outputs[i] for i in outputs], ended)

    def _registers(self, values: Sequence[Value], targets: Sequence[Value]) -> list[Register]:
        """Return the registers of this invocation's share of several values, as their targets are held."""
        found: list[Register] = []
        for value, target in zip(values, targets, strict=True):
            if target in self.matrices.partitions:
                found.extend(self._held(value, target))
                continue
            # An array may stand where a tile is wanted: the target says where its elements lie.
            places = self.expression.slots(target) if target.shape else [SCALAR]
            for place in places:
                found.extend(parts(self.expression.at(value, place)))
        return found

    def _bind(self, values: Sequence[Value], registers: Sequence[Register]) -> None:
        """Say which registers hold the elements of several values."""
        rest = list(registers)
        for value in values:
            partition = self.matrices.partitions.get(value)
            if partition is not None:
                count = partition.rows * partition.columns
                self.fragments[value], rest = rest[:count], rest[count:]
                self._open(value)
                continue
            count = len(self.expression.slots(value)) if value.shape else 1
            width = 2 if value.dtype in ("c64", "c128") else 1
            taken, rest = rest[: count * width], rest[count * width :]
            self.expression.settle(
                value, [rebuild(value.dtype, taken[i : i + width]) for i in range(0, len(taken), width)]
            )


def _reads(step: Step) -> list[Value]:
    """Return everything that a step reads, also inside its blocks."""
    found = list(step.inputs)
    for block in step.blocks:
        found.extend(block.outputs)
        for inner in block.steps:
            found.extend(_reads(inner))
    return found


def _unsupported(step: Step) -> UnsupportedError:
    return UnsupportedError(
        message(
            "A tile kernel must consist of operations that work on tiles.",
            got=f"{step.op} of {', '.join(value.text for value in step.inputs)}",
            want="elementwise operations, movements, reductions, products, loops, branches, loads and stores",
            fix="compute this part outside of the kernel.",
            at=step.node.where,
            stage="codegen",
        )
    )
