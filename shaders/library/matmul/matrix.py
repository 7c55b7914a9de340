"""Matrix product on matrix units: KHR cooperative matrices of a subgroup, operands staged in shared memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

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
    if tiles.strip > 1:
        emit_strip(builder, problem, tiles, access)
        return
    here = place(builder, problem, tiles)
    ragged = problem.depth % tiles.depth != 0
    depth = fragment_of(tiles)[2]
    slabs = [
        Slab(builder, operand, tiles, here.stop, ragged=ragged)
        for operand in operands(builder, problem, tiles, access, here)
    ]
    first = _first_of_subgroup(builder, tiles)
    work = Work(slabs, _loads(builder, problem, tiles, slabs, first), _products(builder, tiles), depth)
    totals = sum_slabs(builder, (here.start, here.stop), tiles, work, _zeros(builder, problem, tiles))
    store_fragments(builder, problem, tiles, access, here, (*first, totals), slabs[0].array)


def emit_strip(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles, access: MatmulAccess) -> None:
    """Emit the kernel of a product whose depth is one slab: a workgroup makes `strip` tiles side by side.

    With a tile for each workgroup nothing is under way while the first operands come or results leave. Here the left
    slab stays, and the right one of the next tile is fetched before this tile is multiplied and stored. Results pass
    through the right slab's memory.
    """
    here = place(builder, problem, tiles)
    ragged, depth = problem.depth % tiles.depth != 0, fragment_of(tiles)[2]
    lhs, rhs = operands(builder, problem, tiles, access, here)
    left = Slab(builder, lhs, tiles, here.stop, ragged=ragged)
    right = Slab(builder, rhs, tiles, here.stop, ragged=ragged)
    first, multiply = _first_of_subgroup(builder, tiles), _products(builder, tiles)
    load, buffer = _loads(builder, problem, tiles, [left, right], first), builder.const("u32", 0)
    fetched = [left.fetch(here.start), right.fetch(here.start)]
    left.put(0, fetched[0])
    right.put(0, fetched[1])
    builder.barrier(shared_only=True)

    def one(tile: Value, _: list[Value]) -> None:
        column = here.column + tile * tiles.columns
        # After the last tile its own slab once more: cheaper than a branch.
        following = here.column + builder.min(tile + 1, tiles.strip - 1) * tiles.columns
        after = Slab(builder, replace(rhs, first=following), tiles, here.stop, ragged=ragged, array=right.array)
        fetched = after.fetch(here.start)
        totals = _zeros(builder, problem, tiles)
        for along in range(0, tiles.depth, depth):
            totals = multiply(load(buffer, along), totals)
        builder.barrier(shared_only=True)
        store_fragments(builder, problem, tiles, access, here._replace(column=column), (*first, totals), right.array)
        builder.barrier(shared_only=True)
        after.put(0, fetched)
        builder.barrier(shared_only=True)

    builder.loop(0, tiles.strip, 1, [], one)


def _zeros(builder: Builder, problem: MatmulProblem, tiles: MatmulTiles) -> list[Value]:
    """Return the totals of this subgroup's part before anything is added."""
    rows, columns, _ = fragment_of(tiles)
    total = builder.matrix_type(problem.accumulator, rows, columns, "accumulator")
    return [builder.const(total, 0)] * ((tiles.part_rows // rows) * (tiles.part_columns // columns))


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
