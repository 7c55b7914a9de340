"""Matrix product on matrix units: KHR cooperative matrices of a subgroup, operands staged in shared memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...spirv import Builder, Value
from .pipeline import Work, sum_slabs
from .place import place
from .problem import MatmulAccess, MatmulProblem
from .results import store_fragments
from .slabs import Slab
from .staging import operands
from .tiles import MatmulTiles


def emit_matrix(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel; one workgroup computes a tile of `rows` x `columns` results.

    Operands are staged as they lie in memory, bytes along depth; a matrix is read row by row or column by column. Each
    subgroup multiplies `part_rows` x `part_columns` results out of fragments.
    """
    here = place(builder, problem, tiles)
    ragged = problem.depth % tiles.depth != 0
    rows, columns, depth = fragment_of(tiles)
    slabs = [
        Slab(builder, operand, tiles, here.stop, ragged=ragged)
        for operand in operands(builder, problem, tiles, access, here)
    ]
    first = _first_of_subgroup(builder, tiles)
    total = builder.matrix_type(problem.accumulator, rows, columns, "accumulator")
    count = (tiles.part_rows // rows) * (tiles.part_columns // columns)
    work = Work(slabs, _loads(builder, problem, tiles, slabs, first), _products(builder, tiles), depth)
    totals = sum_slabs(builder, (here.start, here.stop), tiles, work, [builder.const(total, 0)] * count)
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


def _loads(
    builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, slabs: list[Slab], first: tuple[Value, Value]
) -> Callable[[Value, int], list[Value]]:
    """Return what loads the fragments of this subgroup's part from a buffer, those of the left operand first."""
    rows, columns, depth = fragment_of(tiles)
    left = builder.matrix_type(problem.lhs, rows, depth, "a")
    right = builder.matrix_type(problem.rhs, depth, columns, "b")

    def load(slab: Slab, buffer: Value, outer: Value, along: int) -> Value:
        pointer = slab.array.pointer(slab.group_of(buffer, outer, builder.const("u32", along)))
        is_left = slab is slabs[0]
        # A matrix lies row by row where its last axis is the contiguous one: depth on the left, columns on the right.
        column_major = slab.held.along_depth != is_left
        return builder.matrix_load(left if is_left else right, pointer, slab.held.pitch, column_major=column_major)

    def load_all(buffer: Value, along: int) -> list[Value]:
        lhs = [load(slabs[0], buffer, first[0] + i, along) for i in range(0, tiles.part_rows, rows)]
        rhs = [load(slabs[1], buffer, first[1] + j, along) for j in range(0, tiles.part_columns, columns)]
        return [*lhs, *rhs]

    return load_all


def _products(builder: Builder, tiles: MatmulTiles) -> Callable[[Sequence[Value], Sequence[Value]], list[Value]]:
    """Return what adds the products of fragments to the totals, which lie row by row."""
    down = tiles.part_rows // fragment_of(tiles)[0]

    def multiply(fragments: Sequence[Value], totals: Sequence[Value]) -> list[Value]:
        lhs, rhs, sums = fragments[:down], fragments[down:], list(totals)
        for j, right in enumerate(rhs):
            for i, left in enumerate(lhs):
                at = i * len(rhs) + j
                sums[at] = builder.matrix_multiply_add(left, right, sums[at])
        return sums

    return multiply
