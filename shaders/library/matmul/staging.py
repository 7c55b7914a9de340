"""Bring tiles of the operands from memory through registers into shared memory.

Both operands look alike here: an outer axis (rows of the left one, columns of the right one) and depth. All shared
arrays hold vectors of 4 elements. A tile is fetched into registers early and put down late, so that the fetch overlaps
the work on the tile before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from ...spirv import Builder, Value
from ...spirv.dtypes import REGISTERS
from ..complex import Number, convert, from_parts, map_parts, part_count, part_dtype, parts
from .place import Place
from .problem import MatmulAccess, MatmulProblem, Pieces, Plain
from .tiles import MatmulTiles

WIDTH = 4
"""Elements in a vector of shared memory."""


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of a workgroup, seen along its outer axis and depth.

    Attributes:
        load: (outer, depth) -> element.
        vector: (outer, depth) -> vector of 4 along the contiguous axis, or None.
        depth_contiguous: depth is the contiguous axis.
        extent: size of the outer axis in memory.
        tile: size of the outer axis in a tile.
        first: outer index of the tile's first element.
        dtype: what a staged element is held as.
        plain: where the operand lies, if it is plain memory.
        start: where this workgroup's matrix starts in it.
        pieces: where the operand lies, if it is plain in pieces.
        words: (outer, depth, words) -> bits as they lie, where there are pieces.
    """

    load: Callable[[Value, Value], Number]
    vector: Callable[[Value, Value], Value] | None
    depth_contiguous: bool
    extent: int
    tile: int
    first: Value
    dtype: str
    plain: Plain | None = None
    start: Value | int = 0
    pieces: Pieces | None = None
    words: Callable[[Value, Value, int], Value] | None = None


def operands(
    builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess, here: Place
) -> tuple[Operand, Operand]:
    """Return the two operands with their batch bound; they are staged as `problem.lhs` and `problem.rhs`."""
    lhs_vector, rhs_vector = access.lhs_vector, access.rhs_vector
    lhs = Operand(
        load=partial(access.load_lhs, builder, here.batch),
        vector=partial(lhs_vector, builder, here.batch) if lhs_vector else None,
        depth_contiguous=access.lhs_depth_contiguous,
        extent=problem.rows,
        tile=tiles.rows,
        first=here.row,
        dtype=problem.lhs,
        plain=access.lhs_plain,
        start=access.lhs_plain.start(here.batch) if access.lhs_plain else 0,
        pieces=access.lhs_pieces,
        words=partial(access.lhs_pieces.load, here.batch) if access.lhs_pieces else None,
    )
    rhs = Operand(
        load=lambda outer, depth: access.load_rhs(builder, here.batch, depth, outer),
        vector=(lambda outer, depth: rhs_vector(builder, here.batch, depth, outer)) if rhs_vector else None,
        depth_contiguous=not access.rhs_column_contiguous,
        extent=problem.columns,
        tile=tiles.columns,
        first=here.column,
        dtype=problem.rhs,
        plain=access.rhs_plain,
        start=access.rhs_plain.start(here.batch) if access.rhs_plain else 0,
        pieces=access.rhs_pieces,
        words=partial(access.rhs_pieces.load, here.batch) if access.rhs_pieces else None,
    )
    return lhs, rhs


class Spot(NamedTuple):
    """A vector of a tile that one invocation brings: its first element's place in the tile, and whether it exists."""

    outer: Value
    depth: Value
    exists: Value | None


def spots(
    builder: Builder, operand: Operand, tiles: MatmulTiles, *, along_depth: bool, depth_fastest: bool
) -> list[Spot]:
    """Deal the vectors of a tile out to the invocations of the workgroup.

    Args:
        builder: the kernel.
        operand: whose tile it is.
        tiles: its depth and the number of invocations.
        along_depth: the vectors lie along depth, else along the outer axis.
        depth_fastest: neighbouring invocations are neighbours in depth, so that they read neighbouring memory.
    """
    depth_units = tiles.depth // (WIDTH if along_depth else 1)
    outer_units = operand.tile // (1 if along_depth else WIDTH)
    units = depth_units * outer_units
    found: list[Spot] = []
    for start in range(0, units, tiles.threads):
        unit = builder.local_index + start
        exists = None
        if start + tiles.threads > units:
            exists = unit < units
            unit = builder.min(unit, units - 1)
        if depth_fastest:
            outer, depth = unit // depth_units, unit % depth_units
        else:
            outer, depth = unit % outer_units, unit // outer_units
        if along_depth:
            depth = depth * WIDTH
        else:
            outer = outer * WIDTH
        found.append(Spot(outer, depth, exists))
    return found


class Stage:
    """One operand on its way from memory through registers into two buffers of shared memory.

    A line of shared memory is one outer index with its vectors along depth (`along_depth`), or one depth with its
    vectors along the outer axis; `padding` vectors end each line, so that a column of them falls on all banks. `pitch`
    counts the vectors of a line.
    """

    def __init__(
        self,
        builder: Builder,
        operand: Operand,
        tiles: MatmulTiles,
        stop: Value,
        *,
        along_depth: bool,
        padding: int,
        ragged: bool,
    ) -> None:
        """Take shared memory for a tile of `operand`; with `ragged`, tiles may reach past depth `stop`."""
        self.builder = builder
        self.operand = operand
        self.stop = stop
        self.register = REGISTERS.get(operand.dtype, operand.dtype)
        self.along_depth = along_depth
        self.ragged = ragged
        self.spots = spots(builder, operand, tiles, along_depth=along_depth, depth_fastest=operand.depth_contiguous)
        length, lines = (tiles.depth, operand.tile) if along_depth else (operand.tile, tiles.depth)
        self.pitch = length // WIDTH + padding
        self.tile_vectors = self.pitch * lines
        dtype = (part_dtype(operand.dtype), WIDTH)
        self.arrays = [builder.shared(dtype, 2 * self.tile_vectors) for _ in range(part_count(operand.dtype))]

    def fetch(self, first_depth: Value) -> list[Number]:
        """Load this invocation's vectors of the tile that starts at a depth."""
        return [self._vector(self.operand.first + spot.outer, first_depth + spot.depth) for spot in self.spots]

    def _vector(self, outer: Value, depth: Value) -> Number:
        if self.operand.vector is not None and self.operand.depth_contiguous == self.along_depth:
            return self._load(self.operand.vector, outer, depth, WIDTH)
        outers = [outer if self.along_depth else outer + i for i in range(WIDTH)]
        depths = [depth + i if self.along_depth else depth for i in range(WIDTH)]
        elements = [self._load(self.operand.load, x, y, 1) for x, y in zip(outers, depths, strict=True)]
        columns = zip(*(parts(element) for element in elements), strict=True)
        return from_parts([self.builder.vector(column) for column in columns])

    def _load(self, load: Callable[[Value, Value], Number], outer: Value, depth: Value, width: int) -> Number:
        """Load in range: outside, along the outer axis anything will do, along depth the element must be zero."""
        builder, operand = self.builder, self.operand
        if operand.extent % operand.tile:
            outer = builder.min(outer, operand.extent - (1 if self.along_depth else width))
        if not self.ragged:
            return convert(builder, load(outer, depth), self.register)
        inside = depth < self.stop
        reachable = builder.min(depth, self.stop - (width if self.along_depth else 1))
        value = convert(builder, load(outer, reachable), self.register)
        return map_parts(lambda part: builder.select(inside, part, builder.const(part.dtype, 0)), value)

    def put(self, buffer: Value | int, values: Sequence[Number]) -> None:
        """Write what `fetch` brought to shared memory."""
        for spot, value in zip(self.spots, values, strict=True):
            write = partial(self._write, self.index(buffer, spot.outer, spot.depth), value)
            if spot.exists is None:
                write()
            else:
                self.builder.when(spot.exists, write)

    def _write(self, index: Value, value: Number) -> None:
        for array, part in zip(self.arrays, parts(value), strict=True):
            array[index] = part

    def index(self, buffer: Value | int, outer: Value, depth: Value) -> Value:
        """Return the place of the vector that starts at an element of a tile."""
        line, along = (outer, depth) if self.along_depth else (depth, outer)
        start = buffer * self.tile_vectors
        return line * self.pitch + along // WIDTH + start

    def read(self, buffer: Value | int, outer: Value, depth: Value) -> list[Number]:
        """Return the 4 elements of a vector."""
        index = self.index(buffer, outer, depth)
        vectors = [array[index] for array in self.arrays]
        return [from_parts([vector[i] for vector in vectors]) for i in range(WIDTH)]


Multiply = Callable[[Value, list[Value]], list[Value]]


def pipeline(
    builder: Builder,
    bounds: tuple[Value, Value],
    step: int,
    stages: Sequence[Stage],
    carries: Sequence[Value],
    multiply: Multiply,
) -> list[Value]:
    """Run `multiply(buffer, carries) -> carries` for every slab of depth that the stages bring.

        fetch(0) put(0) barrier | loop: fetch(t + 1)  multiply(t)  put(t + 1)  barrier

    The slab after the one in work is fetched before the work and put down after it; it goes to the other buffer, so
    that one barrier a slab is enough.
    """
    start, stop = bounds
    for stage in stages:
        stage.put(0, stage.fetch(start))
    builder.barrier()

    def slab(first: Value, carried: list[Value]) -> list[Value]:
        buffer, following = (first - start) // step % 2, first + step
        fetched = _fetch_where(builder, following < stop, following, stages)
        carried = multiply(buffer, carried)

        def put_all() -> None:
            for stage, values in zip(stages, fetched, strict=True):
                stage.put(buffer ^ 1, values)

        builder.when(following < stop, put_all)
        builder.barrier()
        return carried

    return builder.loop(start, stop, step, list(carries), slab)


def _fetch_where(builder: Builder, condition: Value, first: Value, stages: Sequence[Stage]) -> list[list[Number]]:
    """Fetch the slab at `first` where there is one; elsewhere the result is zero, and nothing is loaded."""
    shapes: list[list[list[Value]]] = []

    def fetch() -> list[Value]:
        shapes[:] = [[list(parts(value)) for value in stage.fetch(first)] for stage in stages]
        return [part for stage in shapes for value in stage for part in value]

    def blank() -> list[Value]:
        return [builder.const(part.dtype, 0) for stage in shapes for value in stage for part in value]

    joined = iter(builder.branch(condition, fetch, blank))
    return [[from_parts([next(joined) for _ in value]) for value in stage] for stage in shapes]
