"""Write a cell in bands: its steps in order, tiles in matrices, loops as they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shaders.spirv import Builder, MatrixType, Shared
from shaders.spirv import Value as Register
from shaders.spirv.functions import Callee

from ...graph import Node, Value
from ...schedule import Schedule
from .. import scalar
from ..dot import layouts
from ..expression import Expression
from ..tile.blocks import Block, Step
from ..tile.expression import Array
from ..tile.kernel import position_of
from .checks import INTEGERS
from .copies import Copy, make_copy, words_of
from .elements import compute
from .follow import ALONG, DOWN
from .held import held_as
from .loop import Loop
from .plan import Bands, find_bands
from .scalars import Scalars, single
from .views import View, updated_view


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A workgroup runs the cell at its position of the grid, each subgroup its band of rows."""
    del builder
    write(expression, fusion.attributes["body"].nodes[-1], schedule)


def write(expression: Expression, node: Node, schedule: Schedule) -> None:
    """Write the kernel of a `tile` node; the expression's buffers hold its inputs and outputs."""
    held = [*node.inputs, *node.outputs]
    updates = node.attributes["updates"]
    held[:updates] = node.outputs[:updates]
    arrays = {number: Array(expression.buffers[value], value.shape) for number, value in enumerate(held)}
    options = dict(node.attributes.get("options", ()))
    builder = expression.builder
    emitter = Emitter(builder, find_bands(node, *schedule.fragments), arrays, schedule, options)
    position = expression.split(position_of(builder, node), node.attributes["grid"])
    emitter.run([builder.bitcast(place, "i32") for place in position])


class Emitter:
    """Writes one cell."""

    def __init__(
        self,
        builder: Builder,
        bands: Bands,
        arrays: Mapping[int, Array],
        schedule: Schedule,
        options: Mapping[str, int],
    ) -> None:
        self.builder = builder
        self.bands = bands
        self.skips_nan = not options.get("nan_in_extrema", 1)
        self.takes_driver_exp = bool(options.get("driver_exp", 0))
        self.arrays = arrays
        self.threads = schedule.workgroup
        self.high = bands.rows // (schedule.workgroup // schedule.subgroup)
        self.producers = {value: step for step, _ in bands.cell.walk() for value in step.outputs}
        self.scalars = Scalars(builder, self.producers, bands.views, arrays)
        self.first_row = builder.subgroup_id * builder.const("u32", self.high)
        self.held: dict[Value, Register] = {}
        self.spread: dict[tuple[Value, int], Register] = {}
        self.copies: dict[Value, Copy] = {}
        self.combiners: dict[str, Callee] = {}
        self.free: list[Shared] = []
        self.passage: Shared | None = None

    def run(self, position: Sequence[Register]) -> None:
        """Write the cell for a position of the grid."""
        self.scalars.known.update(zip(self.bands.cell.inputs, position, strict=False))
        self.block(self.bands.cell)
        for value, view in self.bands.given:
            self._write(value, view)

    # -- what is held --------------------------------------------------------------------------------------------------
    def matrix_type(self, value: Value) -> MatrixType:
        """Return the type of the matrix that holds a tile."""
        use = "a" if value in self.bands.factors else "accumulator"
        return self.builder.matrix_type(held_as(value), self.high, self.bands.columns(value), use)

    def matrix(self, value: Value, columns: int) -> Register:
        """Return a tile as a matrix of so many columns: a number for each row is spread along it."""
        source = value
        while source not in self.held:
            step = self.producers[source]
            moves = step.op in ("broadcast_in_dim", "reshape") and step.inputs[0].size > 1
            if not moves or source in self.bands.settled:
                return self._fill(source, columns)
            source = step.inputs[0]
        found = self.held[source]
        assert isinstance(found.dtype, MatrixType)
        if found.dtype.columns == columns:
            return found
        key = (source, columns)
        if key not in self.spread and source.dtype in INTEGERS:
            # A maximum would not keep the bits of an integer.
            self.spread[key] = self._load(source, columns)
        if key not in self.spread:
            wide = self.builder.matrix_type(found.dtype.dtype, self.high, columns, "accumulator")
            self.spread[key] = self.builder.matrix_reduce(found, wide, "row", self.combiner("spread"))
        return self.spread[key]

    def _fill(self, value: Value, columns: int) -> Register:
        """Return a matrix of one number, or compute one."""
        step = self.producers[value]
        if step.op == "constant":
            return self._filled(step, self.builder.matrix_type(value.dtype, self.high, columns, "accumulator"))
        self.held[value] = compute(self, value)
        return self.matrix(value, columns)

    def _filled(self, step: Step, dtype: MatrixType) -> Register:
        return self.builder.const(dtype, step.node.attributes["value"].item())

    def combiner(self, kind: str) -> Callee:
        """Return the function that combines two elements of a reduction."""
        if kind not in self.combiners:
            builder = self.builder

            def body(left: Register, right: Register) -> Register:
                if kind == "spread" or (self.skips_nan and kind == "max"):
                    return builder.max(left, right)
                if self.skips_nan and kind == "min":
                    return builder.min(left, right)
                op = {"max": "maximum", "min": "minimum"}.get(kind, kind)
                return single(scalar.emit(builder, op, [left, right], ["f32", "f32"], "f32", {}))

            self.combiners[kind] = builder.function(kind, "f32", ["f32", "f32"], body)
        return self.combiners[kind]

    # -- steps ---------------------------------------------------------------------------------------------------------
    def block(self, block: Block) -> None:
        """Write the steps of a block."""
        for step in block.steps:
            self._step(step)

    def _step(self, step: Step) -> None:
        if step.node.where:
            file, _, line = step.node.where.split(" in ")[0].rpartition(":")
            if line.isdigit():
                self.builder.source(file, int(line))
        bands = self.bands
        rule = {
            "while": self._loop, "case": self._branch, "reduce": self._reduce, "dynamic_update_slice": self._store
        }.get(step.op)  # fmt: skip
        if rule is not None:
            rule(step)
        elif step.op == "dot_general":
            if step.outputs[0] not in bands.added:
                zero = self.builder.const(self.matrix_type(step.outputs[0]), 0.0)
                self.held[step.outputs[0]] = self._product(step, zero)
        elif step.op == "add" and (product := self._product_of(step)) is not None:
            other = step.inputs[1] if product.outputs[0] == step.inputs[0] else step.inputs[0]
            total = self.matrix(other, bands.columns(step.outputs[0]))
            self.held[step.outputs[0]] = self._product(product, total)
        elif step.outputs[0] in bands.settled:
            self._settle(step)

    def _settle(self, step: Step) -> None:
        (value,) = step.outputs
        if value in self.bands.views:
            self.held[value] = self._load(value)
        elif step.op == "convert" and value.dtype != "f32":
            wide = self.matrix(step.inputs[0], self.bands.columns(value))
            self.held[value] = self.builder.matrix_convert(wide, self.matrix_type(value))
        elif step.op == "constant":
            self.held[value] = self._filled(step, self.matrix_type(value))
        elif step.op in ("reshape", "broadcast_in_dim") and step.inputs[0].size > 1:
            self.held[value] = self.matrix(step.inputs[0], self.bands.columns(value))
        else:
            self.held[value] = compute(self, value)

    def _product_of(self, step: Step) -> Step | None:
        for value in step.inputs:
            if self.bands.added.get(value) is step:
                return self.producers[value]
        return None

    def _product(self, step: Step, total: Register) -> Register:
        left, right = step.inputs
        (result,) = step.outputs
        along = layouts(step.node)[1].contract == (1,)
        copy, is_brought = self.copies.get(right), right in self.copies
        copy = copy or self._copy_now(right)
        first = self.held[left]
        assert isinstance(first.dtype, MatrixType)
        if first.dtype.use != "a":
            first = self.builder.matrix_convert(first, first.dtype._replace(use="a"))
        dtype = self.builder.matrix_type(right.dtype, left.shape[1], self.bands.columns(result), "b")
        second = copy.factor(self.builder, dtype, is_transposed=along)
        if not is_brought:
            # Whoever copies next waits for all invocations first.
            self.free.append(self.copies.pop(right).memory)
        return self.builder.matrix_multiply_add(first, second, total)

    def _reduce(self, step: Step) -> None:
        (value,) = step.outputs
        kind = step.node.attributes["kind"]
        whole = self.matrix(step.inputs[0], self.bands.columns(step.inputs[0]))
        narrow = self.builder.matrix_reduce(whole, self.matrix_type(value), "row", self.combiner(kind))
        start = self.scalars.at(step.inputs[1])
        neutral = {"max": float("-inf"), "min": float("inf"), "add": 0.0}[kind]
        if start.constant != neutral:
            called = self.builder.function(
                "start", "f32", ["u32", "u32", "f32", "f32"],
                lambda _, __, element, first: self.combiner(kind)(element, first),
            )  # fmt: skip
            narrow = self.builder.matrix_per_element(narrow, called, start)
        self.held[value] = narrow

    # -- loops ---------------------------------------------------------------------------------------------------------
    def _loop(self, step: Step) -> None:
        loop = Loop(self, step)
        last = loop.write()
        for place, register in zip(loop.carried, last, strict=False):
            self.bind(step.outputs[place], register)
        # Whoever copies next waits for all invocations first.
        self.free.extend(self.copies.pop(value).memory for value in loop.taken)

    def _branch(self, step: Step) -> None:
        """Write the branches: all that one of them gives out is in memory."""
        index = self.scalars.at(step.inputs[0])
        for number, block in enumerate(step.blocks):
            outer = dict(self.held), dict(self.spread), dict(self.scalars.known)
            is_taken = index == number if number + 1 < len(step.blocks) else index >= number
            if block.steps:
                self.builder.when(is_taken, lambda block=block: self.block(block))
            self.held, self.spread, self.scalars.known = outer

    def bind(self, value: Value, register: Register) -> None:
        """Say which register holds a carried value."""
        if isinstance(register.dtype, MatrixType):
            self.held[value] = register
        else:
            self.scalars.known[value] = register

    def carry(self, value: Value, carry: Value) -> Register:
        """Return a value as a loop carries it."""
        if carry.size == 1:
            return self.scalars.at(value)
        return self.matrix(value, self.bands.columns(carry))

    def copy_of(self, value: Value) -> Copy:
        """Return how a window is copied, with memory of its own."""
        if value not in self.copies:
            needed = words_of(value)
            memory = next((each for each in self.free if each.count == needed), None)
            if memory is None:
                memory = self.builder.shared(("u32", 4), needed)
            else:
                self.free.remove(memory)
            self.copies[value] = make_copy(self.bands.views[value], value, self.threads, memory)
        return self.copies[value]

    def _copy_now(self, value: Value) -> Copy:
        """Bring a window into shared memory that no loop brings."""
        copy = self.copy_of(value)
        self.builder.barrier()
        copy.store(self.builder, copy.load(self.scalars, self.arrays[copy.view.number]))
        self.builder.barrier()
        return copy

    # -- memory --------------------------------------------------------------------------------------------------------
    def _window(self, view: View, follows: Sequence[str | None]) -> tuple[Register, int, int]:
        """Return the first element of this subgroup's part of a window, and the distance of rows and of columns."""
        steps = {DOWN: 0, ALONG: 0}
        for axis, place in zip(view.axes, follows, strict=True):
            if place is not None and axis is not None:
                steps[place] = view.strides[axis]
        start = self.scalars.start(view)
        if steps[DOWN]:
            start = start + self.first_row * self.builder.const("u32", steps[DOWN])
        return start, steps[DOWN], steps[ALONG]

    def _load(self, value: Value, columns: int | None = None) -> Register:
        """Read a window; a number for each row into so many columns."""
        view = self.bands.views[value]
        start, down, along = self._window(view, self.bands.follows[value])
        pointer = self.arrays[view.number].buffer.pointer(start)
        dtype = self.matrix_type(value)
        dtype = dtype if columns is None else dtype._replace(columns=columns)
        if down == 1:
            # Columns that lie whole in memory, or a number for each row, the same in all columns.
            return self.builder.matrix_load(dtype, pointer, along, column_major=True)
        return self.builder.matrix_load(dtype, pointer, down)

    def _store(self, step: Step) -> None:
        self._write(step.inputs[1], updated_view(step, self.bands.memory))

    def _write(self, update: Value, view: View) -> None:
        array = self.arrays[view.number]
        start, down, along = self._window(view, self.bands.follows[update])
        held = self.matrix(update, self.bands.columns(update))
        if along == 1:
            self.builder.matrix_store(array.buffer.pointer(start), held, down)
            return
        if not along:
            self._store_column(array, start, held, update.dtype)
        else:
            self.builder.matrix_store(array.buffer.pointer(start), held, along, column_major=True)

    def _store_column(self, array: Array, start: Register, held: Register, dtype: str) -> None:
        """Write a number for each row: the matrix passes through shared memory, since each row has copies of it."""
        builder = self.builder
        wide = self.bands.thin
        assert isinstance(held.dtype, MatrixType)
        if held.dtype.dtype != "f32":
            held = builder.matrix_convert(held, held.dtype._replace(dtype="f32"))
        scratch = self._scratch(self.bands.rows * wide)
        place = self.first_row * builder.const("u32", wide)
        builder.barrier()
        builder.matrix_store(scratch.pointer(place), held, wide)
        builder.barrier()
        size = self.threads // (self.bands.rows // self.high)
        for offset in range(0, self.high, size):
            row = builder.lane + builder.const("u32", offset)

            def write(row: Register = row) -> None:
                number = scratch[place + row * builder.const("u32", wide)]
                scalar.store(builder, array.buffer, start + row, number, dtype)

            if offset + size > self.high:
                builder.when(row < builder.const("u32", self.high), write)
            else:
                write()

    def _scratch(self, count: int) -> Shared:
        if self.passage is None:
            self.passage = self.builder.shared("f32", count)
        return self.passage
