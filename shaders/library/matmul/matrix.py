"""Matrix product on matrix units: KHR cooperative matrices of a subgroup, operands staged in shared memory."""

from __future__ import annotations

from collections.abc import Callable

from ...spirv import Builder, Value
from .place import place
from .problem import MatmulAccess, MatmulProblem
from .results import store_fragments
from .slabs import Slab, pipeline
from .staging import operands
from .tiles import MatmulTiles


def emit_matrix(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel; one workgroup computes a tile of `rows` x `columns` results.

    Operands are staged as they lie in memory, bytes along depth; a matrix is read row by row or column by column. Each
    subgroup multiplies `part_rows` x `part_columns` results out of fragments.
    """
    here = place(builder, problem, tiles)
    ragged = problem.depth % tiles.depth != 0
    rows, columns, _ = fragment_of(tiles)
    slabs = [
        Slab(builder, operand, tiles, here.stop, ragged=ragged)
        for operand in operands(builder, problem, tiles, access, here)
    ]
    first = _first_of_subgroup(builder, tiles)

    def multiply(buffer: Value, totals: list[Value], meanwhile: Callable[[], None]) -> list[Value]:
        return _multiply(builder, problem, tiles, slabs, first, (buffer, totals, meanwhile))

    total = builder.matrix_type(problem.accumulator, rows, columns, "accumulator")
    count = (tiles.part_rows // rows) * (tiles.part_columns // columns)
    totals = [builder.const(total, 0)] * count
    totals = pipeline(builder, (here.start, here.stop), tiles, slabs, totals, multiply)
    store_fragments(builder, problem, tiles, access, here, (*first, totals), slabs[0].array)


def fragment_of(tiles: MatmulTiles) -> tuple[int, int, int]:
    """Return rows, columns and depth of one matrix operation."""
    assert tiles.fragment is not None
    return tiles.fragment


def _first_of_subgroup(builder: Builder, tiles: MatmulTiles) -> tuple[Value, Value]:
    """Return the first row and column of this subgroup's part, within the tile."""
    down = tiles.rows // tiles.part_rows
    part = builder.subgroup_id
    return part % down * tiles.part_rows, part // down * tiles.part_columns


def _multiply(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    slabs: list[Slab],
    first: tuple[Value, Value],
    state: tuple[Value, list[Value], Callable[[], None]],
) -> list[Value]:
    """Multiply what lies in a buffer into the totals, one fragment's depth after the other."""
    buffer, totals, meanwhile = state
    rows, columns, depth = fragment_of(tiles)
    left = builder.matrix_type(problem.lhs, rows, depth, "a")
    right = builder.matrix_type(problem.rhs, depth, columns, "b")
    down, across = tiles.part_rows // rows, tiles.part_columns // columns

    def load(slab: Slab, outer: Value, along: int, *, is_left: bool) -> Value:
        pointer = slab.array.pointer(slab.group_of(buffer, outer, builder.const("u32", along)))
        # A matrix lies row by row where its last axis is the contiguous one: depth on the left, columns on the right.
        column_major = slab.held.along_depth != is_left
        return builder.matrix_load(left if is_left else right, pointer, slab.held.pitch, column_major=column_major)

    def load_lhs(along: int) -> list[Value]:
        return [load(slabs[0], first[0] + i * rows, along, is_left=True) for i in range(down)]

    def load_rhs(along: int, j: int) -> Value:
        return load(slabs[1], first[1] + j * columns, along, is_left=False)

    for along in range(0, tiles.depth, depth):
        lhs = load_lhs(along)
        for j in range(across):
            rhs = load_rhs(along, j)
            if along == j == 0:
                meanwhile()
            for i in range(down):
                at = i * across + j
                totals = [*totals[:at], builder.matrix_multiply_add(lhs[i], rhs, totals[at]), *totals[at + 1 :]]
    return totals
