"""Write a cell in bands: its steps in order, tiles in matrices, loops as they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shaders.spirv import Builder, MatrixType, Shared
from shaders.spirv import Value as Register

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
from .fragments import Fragments
from .held import held_as
from .lanes import Lanes
from .loop import Loop
from .matrices import NEUTRAL, Band, Matrices, Pieces, Tile, matrix_of
from .partial import compute_partial, find_partial
from .plan import Bands, find_bands
from .scalars import Scalars
from .views import View, is_grouped, updated_view
from .whole import Whole

BANDS, FRAGMENTS, LANES = MODES = "bands", "fragments", "lanes"
"""Modes of a schedule: tiles live in matrices of subgroups, whole ones or cut into what the matrix units take, or in
registers of lanes."""


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
    emitter = Emitter(builder, find_bands(node, *schedule.fragments[:2]), arrays, schedule, options)
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
        self.takes_driver_exp, self.takes_driver_tanh = (bool(options.get(f"driver_{f}", 0)) for f in ("exp", "tanh"))
        self.arrays = arrays
        self.threads = schedule.workgroup
        self.waits = schedule.mode == LANES
        self.high = bands.rows // (schedule.workgroup // schedule.subgroup)
        self.producers = {value: step for step, _ in bands.cell.walk() for value in step.outputs}
        self.scalars = Scalars(builder, self.producers, bands.views, arrays)
        self.first_row = builder.subgroup_id * builder.const("u32", self.high)
        self.skips_nan = not options.get("nan_in_extrema", 1)
        self.matrices, self.partials = self._matrices(schedule)
        self.held: dict[Value, Tile] = {}
        self.spread: dict[tuple[Value, int], Tile] = {}
        self.copies: dict[Value, Copy] = {}
        self.free: list[Shared] = []

    def _matrices(self, schedule: Schedule) -> tuple[Matrices, frozenset[Value]]:
        """Return the matrices that tiles live in, and the numbers for rows that may stay sums of parts."""
        bands, size = self.bands, schedule.subgroup
        band = Band(self.high, bands.thin, self.first_row, schedule.workgroup // size, size, self.skips_nan)
        if schedule.mode == BANDS:
            return Whole(self.builder, band), frozenset()
        if schedule.mode == LANES:
            return Lanes(self.builder, band), find_partial(bands.cell, bands.follows)
        fragments = Fragments(self.builder, band, bands.unit, natives=schedule.fragments[2:])
        fragments.prepare(asks_places=any(step.op == "iota" for step in self.producers.values()))
        return fragments, find_partial(bands.cell, bands.follows)

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

    def matrix(self, value: Value, columns: int) -> Tile:
        """Return a tile as a matrix of so many columns: a number for each row is spread along it."""
        source = value
        while source not in self.held:
            step = self.producers[source]
            moves = step.op in ("broadcast_in_dim", "reshape") and step.inputs[0].size > 1
            if not moves or source in self.bands.settled:
                return self._fill(source, columns)
            source = step.inputs[0]
        found = self._joined(source)
        if matrix_of(found).columns == columns:
            return found
        key = (source, columns)
        if key not in self.spread and source.dtype in INTEGERS:
            # A maximum would not keep the bits of an integer.
            self.spread[key] = self._load(source, columns)
        if key not in self.spread:
            self.spread[key] = self.matrices.spread(found, columns)
        return self.spread[key]

    def _joined(self, value: Value) -> Tile:
        """Return what holds a value; sums of parts are taken, once in each block that asks for them."""
        found, key = self.held[value], (value, 0)
        if not isinstance(found, Pieces) or not found.is_partial:
            return found
        if key not in self.spread:
            self.spread[key] = self.matrices.joined(found)
        return self.spread[key]

    def _fill(self, value: Value, columns: int) -> Tile:
        """Return a matrix of one number, or compute one."""
        step = self.producers[value]
        if step.op == "constant":
            return self._filled(step, self.builder.matrix_type(value.dtype, self.high, columns, "accumulator"))
        self.held[value] = self.computed(value)
        return self.matrix(value, columns)

    def _filled(self, step: Step, dtype: MatrixType) -> Tile:
        return self.matrices.filled(dtype, step.node.attributes["value"].item())

    def computed(self, value: Value) -> Tile:
        """Return the matrix of a value that is arithmetic over others."""
        return compute_partial(self, value) if value in self.partials else compute(self, value)

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
                zero = self.matrices.filled(self.matrix_type(step.outputs[0]), 0.0)
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
            self.held[value] = self.matrices.convert(wide, self.matrix_type(value))
        elif step.op == "constant":
            self.held[value] = self._filled(step, self.matrix_type(value))
        elif step.op in ("reshape", "broadcast_in_dim") and step.inputs[0].size > 1:
            self.held[value] = self.matrix(step.inputs[0], self.bands.columns(value))
        else:
            self.held[value] = self.computed(value)

    def _product_of(self, step: Step) -> Step | None:
        for value in step.inputs:
            if self.bands.added.get(value) is step:
                return self.producers[value]
        return None

    def _product(self, step: Step, total: Tile) -> Tile:
        left, right = step.inputs
        (result,) = step.outputs
        along = layouts(step.node)[1].contract == (1,)
        copy, is_brought = self.copies.get(right), right in self.copies
        copy = copy or self._copy_now(right)
        first = self.held[left]
        if matrix_of(first).use != "a":
            first = self.matrices.convert(first, matrix_of(first)._replace(use="a"))
        dtype = self.builder.matrix_type(right.dtype, left.shape[1], self.bands.columns(result), "b")
        if not is_brought:
            # Whoever copies next waits for all invocations first.
            self.free.append(self.copies.pop(right).memory)
        return self.matrices.product(first, copy, dtype, total, is_transposed=along)

    def _reduce(self, step: Step) -> None:
        (value,) = step.outputs
        kind = step.node.attributes["kind"]
        whole = self.matrix(step.inputs[0], self.bands.columns(step.inputs[0]))
        narrow = self.matrices.reduced(whole, self.matrix_type(value), kind, is_partial=value in self.partials)
        start = self.scalars.at(step.inputs[1])
        self.held[value] = narrow if start.constant == NEUTRAL[kind] else self.matrices.combined(narrow, kind, start)

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

    def bind(self, value: Value, tile: Tile) -> None:
        """Say what holds a carried value."""
        if isinstance(tile, Register) and not isinstance(tile.dtype, MatrixType):
            self.scalars.known[value] = tile
        else:
            self.held[value] = tile

    def carry(self, value: Value, carry: Value) -> Tile:
        """Return a value as a loop carries it."""
        if carry.size == 1:
            return self.scalars.at(value)
        if carry in self.partials:
            return compute_partial(self, value)
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

    def _load(self, value: Value, columns: int | None = None) -> Tile:
        """Read a window; a number for each row into so many columns."""
        view = self.bands.views[value]
        start, down, along = self._window(view, self.bands.follows[value])
        buffer = self.arrays[view.number].buffer
        dtype = self.matrix_type(value)
        dtype = dtype if columns is None else dtype._replace(columns=columns)
        # Columns that lie whole in memory, or a number for each row, the same in all columns.
        is_turned = down == 1
        stride = along if is_turned else down
        return self.matrices.load(dtype, buffer, start, stride, column_major=is_turned, is_grouped=is_grouped(view))

    def _store(self, step: Step) -> None:
        self._write(step.inputs[1], updated_view(step, self.bands.memory))

    def _write(self, update: Value, view: View) -> None:
        array = self.arrays[view.number]
        start, down, along = self._window(view, self.bands.follows[update])
        held = self.matrix(update, self.bands.columns(update))
        if along:
            self.matrices.store(array.buffer, start, held, down if along == 1 else along, column_major=along != 1)
            return

        def write(row: Register, number: Register) -> None:
            scalar.store(self.builder, array.buffer, start + row, number, update.dtype)

        self.matrices.each_row(held, write)
