"""Running reductions along few or long lines on a GPU: a workgroup walks each line in chunks that its lanes share.

chunk    each lane reduces neighbours, lanes of a subgroup pass prefixes on, subgroups meet in shared memory
carry    what all chunks so far add up to
"""

from __future__ import annotations

from shaders.capabilities import Capabilities
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Node
from ..schedule import MOST_SUBGROUPS, Schedule
from ..windows import running_axis
from .combine import Reduction, State
from .expression import Expression
from .index import Index, size_of

WORKGROUP = 256
PER_LANE = 4
# With more lines than this, a lane for each line fills a device; neighbours must then lie in neighbouring lines.
MANY_LINES = 4096


def choose(fusion: Node, capabilities: Capabilities) -> Schedule | None:
    """Return the schedule where lines are worth a workgroup each."""
    if capabilities.is_cpu or fusion.attributes["kind"] != "window":
        return None
    axis = running_axis(fusion.attributes["body"].nodes[-1])
    shape = fusion.attributes["body"].nodes[-1].outputs[0].shape
    if axis is None or shape[axis] < WORKGROUP:
        return None
    is_minor = all(extent == 1 for extent in shape[axis + 1 :])
    if not is_minor and size_of(shape) // shape[axis] >= MANY_LINES:
        return None
    size = capabilities.subgroup_size
    lanes = min(WORKGROUP, MOST_SUBGROUPS * size)
    return Schedule("window", lanes, per_lane=PER_LANE, lanes=lanes, subgroup=size, mode="scan", axis=axis)


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: one for each line."""
    shape = fusion.attributes["body"].nodes[-1].outputs[0].shape
    return size_of(shape) // shape[schedule.axis]


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """A workgroup computes one line, chunk after chunk."""
    line = _Line(expression, fusion.attributes["body"].nodes[-1], schedule)
    number = expression.number

    def step(base: Register, carry: list[Register]) -> list[Register]:
        with expression.scope():
            return line.chunk(base, carry)

    chunk = schedule.workgroup * schedule.per_lane
    builder.loop(number(0), number(line.extent), number(chunk), line.reduction.identity(), step)


class _Line:
    """The line of a workgroup."""

    def __init__(self, expression: Expression, node: Node, schedule: Schedule) -> None:
        self.expression, self.node, self.schedule = expression, node, schedule
        self.reduction = Reduction(expression, node)
        builder, axis = expression.builder, schedule.axis
        shape = node.outputs[0].shape
        self.extent = shape[axis]
        self.is_backward = node.attributes["low"][axis] == 0
        group = builder.convert(builder.group_id(0), expression.index_dtype)
        self.rest = expression.split(group, tuple(n for place, n in enumerate(shape) if place != axis))
        self.subgroups = schedule.workgroup // schedule.subgroup
        self.shared = [builder.shared(register.dtype, self.subgroups) for register in self.reduction.identity()]

    def chunk(self, base: Register, carry: State) -> State:
        """Compute and store one chunk; return the carry after it."""
        places = self._places(base)
        prefixes = self._own_prefixes(places)
        before, total = self._across_lanes(prefixes[-1])
        offset, everything = self._across_subgroups(total)
        start = self.reduction.merge(carry, self.reduction.merge(offset, before))
        for (index, inside), prefix in zip(places, prefixes, strict=True):
            self._store(index, inside, self.reduction.merge(start, prefix))
        self.expression.builder.barrier()
        return self.reduction.merge(carry, everything)

    def _places(self, base: Register) -> list[tuple[Index, Register]]:
        """Return the positions of this lane's elements, and whether they lie on the line."""
        expression, builder, number = self.expression, self.expression.builder, self.expression.number
        lane = builder.subgroup_id * builder.const("u32", self.schedule.subgroup) + builder.lane
        first = base + builder.convert(lane, expression.index_dtype) * number(self.schedule.per_lane)
        result: list[tuple[Index, Register]] = []
        for step in range(self.schedule.per_lane):
            place = first + number(step)
            inside = place < number(self.extent)
            place = builder.min(place, number(self.extent - 1))
            along = number(self.extent - 1) - place if self.is_backward else place
            axis = self.schedule.axis
            shape = self.node.outputs[0].shape
            result.append((expression.index(shape, dims=(*self.rest[:axis], along, *self.rest[axis:])), inside))
        return result

    def _own_prefixes(self, places: list[tuple[Index, Register]]) -> list[State]:
        """Return the running states over this lane's elements alone."""
        state = self.reduction.identity()
        result: list[State] = []
        for index, inside in places:
            element = self.expression.at(self.node.inputs[0], index)
            state = self.reduction.keep_if(inside, self.reduction.add(state, [element]), state)
            result.append(state)
        return result

    def _across_lanes(self, own: State) -> tuple[State, State]:
        """Return the state of the lanes below this one, and that of the whole subgroup, which its last lane has."""
        builder, reduction = self.expression.builder, self.reduction
        running, step = own, 1
        while step < self.schedule.subgroup:
            below = [builder.shuffle_up(register, step) for register in running]
            reaches = builder.lane >= builder.const("u32", step)
            running = reduction.keep_if(reaches, reduction.merge(below, running), running)
            step *= 2
        below = [builder.shuffle_up(register, 1) for register in running]
        has_lower = builder.lane >= builder.const("u32", 1)
        return reduction.keep_if(has_lower, below, reduction.identity()), running

    def _across_subgroups(self, total: State) -> tuple[State, State]:
        """Return the state of the subgroups below this one, and that of the whole chunk."""
        builder, reduction = self.expression.builder, self.reduction

        def publish() -> None:
            for memory, register in zip(self.shared, total, strict=True):
                memory[builder.subgroup_id] = register

        builder.when(builder.lane == builder.const("u32", self.schedule.subgroup - 1), publish)
        builder.barrier()
        offset = everything = reduction.identity()
        for place in range(self.subgroups):
            part = [memory[builder.const("u32", place)] for memory in self.shared]
            is_below = builder.subgroup_id > builder.const("u32", place)
            offset = reduction.keep_if(is_below, reduction.merge(offset, part), offset)
            everything = reduction.merge(everything, part)
        return offset, everything

    def _store(self, index: Index, inside: Register, state: State) -> None:
        expression, output = self.expression, self.node.outputs[0]
        (element,) = self.reduction.finish(state)
        linear = expression.linear(index)
        expression.builder.when(inside, lambda: expression.store(output, linear, element))
