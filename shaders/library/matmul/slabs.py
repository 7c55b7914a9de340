"""Bring slabs of the operands of a matrix kernel from memory through registers into shared memory, bits as they lie.

A slab is what one tile needs of an operand for `tiles.depth` steps of depth. Shared memory holds it as groups of up to
16 bytes; what an element is matters only where one cannot be read whole from memory and is put together instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from ...spirv import Builder, Shared, Value
from ...spirv.dtypes import REGISTERS
from ..complex import convert
from .layout import MOST_WORDS, slab_layout
from .packing import pack, turn_bytes
from .problem import Plain
from .staging import Operand
from .tiles import MatmulTiles

BANK_GROUPS = 8
"""Groups of 16 bytes that all banks of shared memory hand out at once."""
TURNED = 4
"""Depths whose bytes an invocation exchanges with those of as many outer indices: the bytes of a word."""


class Spot(NamedTuple):
    """A group of a slab that one invocation brings: its place in the lines of memory, and whether it exists."""

    line: Value
    along: Value
    exists: Value | None


class Slab:
    """One operand on its way into `tiles.buffers` buffers of shared memory.

    A line of memory is one outer index with its groups along depth where depth is contiguous, else one depth with its
    groups along the outer axis; `held` says how they lie in shared memory. Where that turns them, an invocation brings
    groups of `together` neighbouring depths, whose bytes it exchanges.
    """

    def __init__(
        self,
        builder: Builder,
        operand: Operand,
        tiles: MatmulTiles,
        stop: Value,
        *,
        ragged: bool,
        array: Shared | None = None,
    ) -> None:
        """Describe the slabs of `operand`; with `ragged`, the last one may reach past depth `stop`.

        `array`: shared memory of another slab that this one follows.
        """
        self.builder = builder
        self.operand = operand
        self.stop = stop
        self.ragged = ragged
        self.along_depth = operand.depth_contiguous
        self.held = slab_layout(operand.dtype, tiles, operand.tile, depth_contiguous=self.along_depth)
        self.words, self.width = self.held.words, self.held.width
        length, self.lines = (tiles.depth, operand.tile) if self.along_depth else (operand.tile, tiles.depth)
        self.line_groups = length // self.width
        self.threads = tiles.threads
        self.together = TURNED if self.held.is_turned else 1
        element = "u32" if self.words == 1 else ("u32", self.words)
        self.array = array if array is not None else builder.shared(element, tiles.buffers * self.held.groups)
        units = self.lines * self.line_groups // self.together
        self.spots = [spot for start in range(0, units, tiles.threads) for spot in self._spots(start, units)]
        self._places = self._plain_places()

    def _spots(self, start: int, count: int) -> list[Spot]:
        """Deal out the groups `start` units after this invocation's first: neighbours read neighbouring memory."""
        unit, exists = self.builder.local_index + start, None
        if start + self.threads > count:
            exists = unit < count
            unit = self.builder.min(unit, count - 1)
        line, along = unit // self.line_groups, unit % self.line_groups
        if self.together == 1:
            return [Spot(self._mix(line), along, exists)]
        return [Spot(line * self.together + i, along, exists) for i in range(self.together)]

    def _mix(self, line: Value) -> Value:
        """Reorder lines by eights, so that invocations that write at once reach different banks."""
        together = BANK_GROUPS // self.line_groups
        if together < 2 or BANK_GROUPS % self.line_groups or self.lines % BANK_GROUPS or self.words < MOST_WORDS:
            return line
        within = line % BANK_GROUPS
        mixed = within % together * self.line_groups + within // together
        return line - within + mixed

    # -- memory to registers -----------------------------------------------------------------------------------------
    def fetch(self, first_depth: Value) -> list[Value]:
        """Load this invocation's groups of the slab that starts at a depth."""
        if self._places is None:
            pieces = self.operand.pieces
            bring = self._piece if pieces is not None and pieces.run % self.width == 0 else self._gather
            return [bring(spot, first_depth) for spot in self.spots]
        plain = self.operand.plain
        assert plain is not None
        advance = first_depth * plain.depth if plain.depth > 1 else first_depth
        advance = self.builder.divide_exactly(advance, self.width)
        loaded = [plain.buffer.load_words(place + advance, self.words) for place in self._places]
        return [self._masked(spot, first_depth, value) for spot, value in zip(self.spots, loaded, strict=True)]

    def _plain_places(self) -> list[Value] | None:
        """Return where this invocation's groups of the slab at depth 0 lie, None where they are not whole in memory."""
        operand, plain = self.operand, self.operand.plain
        if plain is None or not self._is_whole(plain):
            return None
        stride = plain.outer if self.along_depth else plain.depth
        start = operand.start + operand.first * plain.outer
        if operand.extent % operand.tile or self.spots[-1].exists is not None or not self._is_regular():
            return [self._place(plain, spot) for spot in self.spots]
        first = self.spots[0]
        base = (start + first.line * stride) // self.width + first.along
        lines = self.threads // self.line_groups * self.together
        steps = [i // self.together * lines + i % self.together for i in range(len(self.spots))]
        return [base + step * (stride // self.width) for step in steps]

    def _place(self, plain: Plain, spot: Spot) -> Value:
        """Return where a group lies, kept in range along the outer axis: what is loaded there is never stored."""
        operand, builder = self.operand, self.builder
        along = spot.along * self.width
        outer, depth = (spot.line, along) if self.along_depth else (along, spot.line)
        outer = builder.min(operand.first + outer, operand.extent - (1 if self.along_depth else self.width))
        return (operand.start + outer * plain.outer + depth * plain.depth) // self.width

    def _is_whole(self, plain: Plain) -> bool:
        """Say whether every group is one piece of memory that starts at a multiple of its size."""
        contiguous, other = (plain.depth, plain.outer) if self.along_depth else (plain.outer, plain.depth)
        return contiguous == 1 and other % self.width == 0 and plain.alignment % self.width == 0

    def _is_regular(self) -> bool:
        """Say whether an invocation's groups lie in one column of the slab, a fixed number of lines apart."""
        return self.threads % (self.line_groups * (1 if self.held.is_turned else BANK_GROUPS)) == 0

    def _masked(self, spot: Spot, first_depth: Value, value: Value) -> Value:
        """Replace what lies past the last depth by zero."""
        if not self.ragged:
            return value
        depth = first_depth + (spot.along * self.width if self.along_depth else spot.line)
        return self.builder.select(depth < self.stop, value, self.builder.const(value.dtype, 0))

    def _piece(self, spot: Spot, first_depth: Value) -> Value:
        """Load a group that is whole in memory, but not evenly far from the next."""
        operand, builder = self.operand, self.builder
        assert operand.words is not None
        along = spot.along * self.width
        outer, depth = (spot.line, along) if self.along_depth else (along, spot.line)
        outer, depth = operand.first + outer, first_depth + depth
        if operand.extent % operand.tile:
            outer = builder.min(outer, operand.extent - (1 if self.along_depth else self.width))
        if self.ragged:
            depth = builder.min(depth, self.stop - (self.width if self.along_depth else 1))
        return self._masked(spot, first_depth, operand.words(outer, depth, self.words))

    # -- groups that must be put together ----------------------------------------------------------------------------
    def _gather(self, spot: Spot, first_depth: Value) -> Value:
        """Load a group element by element, or by vectors of 4 where the operand has them."""
        operand, builder = self.operand, self.builder
        piece = 4 if operand.vector is not None and self.width % 4 == 0 else 1
        elements: list[Value] = []
        for offset in range(0, self.width, piece):
            along = spot.along * self.width + offset
            outer, depth = (spot.line, along) if self.along_depth else (along, spot.line)
            elements += self._load(operand.first + outer, first_depth + depth, piece)
        words = pack(builder, elements, operand.dtype)
        return words[0] if len(words) == 1 else builder.vector(words)

    def _load(self, outer: Value, depth: Value, piece: int) -> list[Value]:
        """Load neighbours in range: outside, along the outer axis anything will do, along depth they must be zero."""
        builder, operand = self.builder, self.operand
        register = REGISTERS.get(operand.dtype, operand.dtype)
        load = operand.load if piece == 1 or operand.vector is None else operand.vector
        if operand.extent % operand.tile:
            outer = builder.min(outer, operand.extent - (1 if self.along_depth else piece))
        reachable = depth
        if self.ragged:
            reachable = builder.min(depth, self.stop - (piece if self.along_depth else 1))
        value = convert(builder, load(outer, reachable), register)
        assert isinstance(value, Value), "matrix units know no complex numbers"
        if self.ragged:
            value = builder.select(depth < self.stop, value, builder.const(value.dtype, 0))
        return [value] if piece == 1 else [value[i] for i in range(piece)]

    # -- registers to shared memory ----------------------------------------------------------------------------------
    def put(self, buffer: Value | int, values: Sequence[Value]) -> None:
        """Write what `fetch` brought to shared memory."""
        write = self._write_turned if self.held.is_turned else self._write
        for first in range(0, len(values), self.together):
            spot = self.spots[first]
            action = partial(write, buffer, spot, values[first : first + self.together])
            if spot.exists is None:
                action()
            else:
                self.builder.when(spot.exists, action)

    def _write(self, buffer: Value | int, spot: Spot, values: Sequence[Value]) -> None:
        self.array[self.index(buffer, spot.line, spot.along)] = values[0]

    def _write_turned(self, buffer: Value | int, spot: Spot, values: Sequence[Value]) -> None:
        """Write bytes of a few depths as one word for each outer index."""
        word = spot.line // TURNED
        for i in range(self.words):
            for j, bits in enumerate(turn_bytes([value[i] for value in values])):
                line = spot.along * self.width + (i * TURNED + j)
                self.array.set_component(self.index(buffer, line, word // self.words), word % self.words, bits)

    def index(self, buffer: Value | int, line: Value, along: Value) -> Value:
        """Return the place of a group of a line of shared memory."""
        return self.held.index(line, along) + buffer * self.held.groups

    def group_of(self, buffer: Value | int, outer: Value, depth: Value) -> Value:
        """Return the place of the group that starts at an element of the slab."""
        line, along = (outer, depth) if self.held.along_depth else (depth, outer)
        return self.index(buffer, line, along // self.width)
