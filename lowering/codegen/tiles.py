"""Maps that read some arrays across their order (transposes), through squares of shared memory.

Neighbouring lanes read neighbours into a square, and after a barrier compute and write neighbours.
"""

from __future__ import annotations

from shaders.capabilities import Capabilities
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Graph, Node, Value
from ..passes.axes import Axes, reads
from ..schedule import Schedule
from . import maps, scalar
from .expression import Expression, parts, rebuild
from .index import Index, size_of

SIDE = 32
ROWS = 8
WORKGROUP = SIDE * ROWS
# One more column than the square has, so that a column's elements lie in different banks.
PITCH = SIDE + 1


def choose(fusion: Node, capabilities: Capabilities) -> Schedule | None:
    """Return the tiled schedule where it pays: on a GPU, for arrays read along another axis than results."""
    if capabilities.is_cpu or fusion.attributes["kind"] != "map":
        return None
    for crossing in range(len(fusion.attributes["domain"])):
        if crossed(fusion, crossing):
            return Schedule("map", WORKGROUP, mode="tile", axis=crossing)
    return None


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return the number of workgroups: one for each square."""
    domain, fast = fusion.attributes["domain"], _fast_axis(fusion)
    sides = [-(-extent // SIDE) if axis in (fast, schedule.axis) else extent for axis, extent in enumerate(domain)]
    return size_of(tuple(sides))


def crossed(fusion: Node, axis: int) -> dict[Value, Axes]:
    """Return the inputs whose fastest dimension follows `axis` of the domain, with their maps."""
    domain, fast = fusion.attributes["domain"], _fast_axis(fusion)
    if axis == fast or domain[axis] < SIDE or domain[fast] < SIDE:
        return {}
    body: Graph = fusion.attributes["body"]
    producers = body.producers()
    found: dict[Value, set[Axes | None]] = {}
    start = list(zip(body.outputs, fusion.attributes["output_axes"], strict=True))
    for value, row in reads(start, producers.get):
        found.setdefault(value, set()).add(row)
    result: dict[Value, Axes] = {}
    for value, rows in found.items():
        row = next(iter(rows))
        wide = [] if row is None else [a for a in row if a is not None]
        if len(rows) == 1 and row is not None and wide and wide[-1] == axis and fast in wide:
            result[value] = row
    return result


def emit(builder: Builder, expression: Expression, fusion: Node, schedule: Schedule) -> None:
    """Fill a square of each crossed input, lanes along its fastest dimension; then compute one of results."""
    inputs = crossed(fusion, schedule.axis)
    square = _Square(expression, fusion, schedule)
    memory = {value: [builder.shared(r, SIDE * PITCH) for r in _registers(value)] for value in inputs}
    for step in range(SIDE // ROWS):
        along, across = square.lanes(step)
        index, _ = square.position(fast=across, crossing=along)
        for value, row in inputs.items():
            with expression.scope():
                element = expression.at(value, maps.along(expression, index, value.shape, row))
            for place, register in zip(memory[value], parts(element), strict=True):
                place[across * builder.const("u32", PITCH) + along] = register
    builder.barrier()
    for step in range(SIDE // ROWS):
        along, across = square.lanes(step)
        index, inside = square.position(fast=along, crossing=across)
        held = {
            value: rebuild(value.dtype, [p[along * builder.const("u32", PITCH) + across] for p in places])
            for value, places in memory.items()
        }
        with expression.scope():
            expression.fixed.update(held)
            maps.write(expression, fusion, index, inside)
        for value in held:
            del expression.fixed[value]


class _Square:
    """The workgroup's square of the domain."""

    def __init__(self, expression: Expression, fusion: Node, schedule: Schedule) -> None:
        self.expression = expression
        self.domain: tuple[int, ...] = fusion.attributes["domain"]
        self.fast, self.crossing = _fast_axis(fusion), schedule.axis
        sides = (-(-n // SIDE) if a in (self.fast, self.crossing) else n for a, n in enumerate(self.domain))
        group = expression.builder.convert(expression.builder.group_id(0), expression.index_dtype)
        self.corner = expression.split(group, tuple(sides))

    def lanes(self, step: int) -> tuple[Register, Register]:
        """Return the lane's place in the square in step `step`: along neighbouring lanes, and across them."""
        builder = self.expression.builder
        side = builder.const("u32", SIDE)
        lane = builder.local_index
        return lane % side, lane // side + builder.const("u32", step * ROWS)

    def position(self, *, fast: Register, crossing: Register) -> tuple[Index, Register | None]:
        """Return a legal position of the domain, and whether the place in the square lies inside."""
        expression, builder = self.expression, self.expression.builder
        inside: Register | None = None
        dims = list(self.corner)
        for axis, offset in ((self.fast, fast), (self.crossing, crossing)):
            extent = self.domain[axis]
            place = dims[axis] * expression.number(SIDE) + builder.convert(offset, expression.index_dtype)
            if extent % SIDE:
                test = place < expression.number(extent)
                inside = test if inside is None else builder.logical_and(inside, test)
                place = builder.min(place, expression.number(extent - 1))
            dims[axis] = place
        return expression.index(self.domain, dims=tuple(dims)), inside


def _fast_axis(fusion: Node) -> int:
    wide = [axis for axis, extent in enumerate(fusion.attributes["domain"]) if extent != 1]
    return wide[-1] if wide else 0


def _registers(value: Value) -> list[str]:
    register = scalar.register_dtype(value.dtype)
    return [register, register] if value.dtype in ("c64", "c128") else [register]
