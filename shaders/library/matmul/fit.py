"""Which schedules a device can run, decided before anything is created."""

from __future__ import annotations

from ...capabilities import Capabilities, MatrixShape
from ...spirv.dtypes import BITS
from ..complex import part_count, part_dtype
from . import tiled
from .layout import slab_layout
from .problem import MatmulProblem, transpose_problem
from .staging import WIDTH
from .tiles import MatmulTiles, split_depth

_GROUP_BITS = 128
"""Shared variables are rounded up to 16 bytes each."""


def shared_bytes(problem: MatmulProblem, tiles: MatmulTiles) -> int:
    """Return the shared memory that a kernel takes, at most: operands may lie either way."""
    if tiles.transposed:
        problem = transpose_problem(problem)
    if tiles.kernel == "slices":
        slices = tiles.threads // (tiles.columns // tiles.part_columns)
        return _rounded(slices * tiles.rows * tiles.columns, problem.accumulator)
    if tiles.kernel == "tiled":
        lines = sum(outer // WIDTH + tiled.PADDING for outer in (tiles.rows, tiles.columns))
        return _rounded(2 * WIDTH * lines * tiles.depth, problem.accumulator)
    if tiles.kernel == "matrix" and tiles.fragment is not None and tiles.subgroup is not None:
        staged = _staged_bytes(problem.lhs, tiles, tiles.rows) + _staged_bytes(problem.rhs, tiles, tiles.columns)
        fragments = tiles.threads // tiles.subgroup
        return staged + _rounded(fragments * tiles.fragment[0] * tiles.fragment[1], problem.accumulator)
    return 0


def _staged_bytes(dtype: str, tiles: MatmulTiles, outer: int) -> int:
    """Return the bytes of one operand's slabs, lines along depth or along the outer axis, whichever needs more."""
    layouts = [slab_layout(dtype, tiles, outer, depth_contiguous=lies) for lies in (True, False)]
    return max(_rounded(tiles.buffers * each.groups * each.words, "u32") for each in layouts)


def _rounded(count: int, dtype: str) -> int:
    bits = -(-count * BITS[part_dtype(dtype)] // _GROUP_BITS) * _GROUP_BITS
    return bits // 8 * part_count(dtype)


def find_fragment(
    problem: MatmulProblem, capabilities: Capabilities, part: tuple[int, int], depth: int
) -> tuple[int, int, int] | None:
    """Return the largest matrix product of the device for these dtypes that divides a subgroup's part, or None."""

    def applies(shape: MatrixShape) -> bool:
        dtypes = (shape.a, shape.b, shape.c, shape.result)
        wanted = (problem.lhs, problem.rhs, problem.accumulator, problem.accumulator)
        divides = part[0] % shape.m == 0 and part[1] % shape.n == 0 and depth % shape.k == 0
        # Fragments are read from memory by vectors.
        aligned = all(size % WIDTH == 0 for size in (shape.m, shape.n, shape.k))
        return shape.scope == "subgroup" and not shape.saturating and dtypes == wanted and divides and aligned

    shapes = [(shape.m, shape.n, shape.k) for shape in capabilities.matrices if applies(shape)]
    return max(shapes, key=lambda shape: (shape[0] * shape[1] * shape[2], shape), default=None)


def misfit(problem: MatmulProblem, tiles: MatmulTiles, capabilities: Capabilities) -> str | None:
    """Return why a device cannot run a schedule, or None if it can."""
    if tiles.threads > capabilities.max_invocations:
        return f"{tiles.threads} invocations of at most {capabilities.max_invocations}"
    if (tiles.splits - 1) * split_depth(problem, tiles) >= problem.depth:
        return f"{tiles.splits} parts of a depth of {problem.depth}, some of them empty"
    if tiles.strip > 1 and (tiles.kernel != "matrix" or tiles.splits > 1 or problem.depth > tiles.depth):
        return f"{tiles.strip} tiles with one slab of the left operand, where a slab is not all the depth"
    needed = shared_bytes(problem, tiles)
    if needed > capabilities.max_shared_bytes:
        return f"{needed} bytes of shared memory of at most {capabilities.max_shared_bytes}"
    if tiles.subgroup is not None:
        smallest, largest = capabilities.min_subgroup_size, capabilities.max_subgroup_size
        if not smallest <= tiles.subgroup <= largest:
            return f"subgroups of {tiles.subgroup}, the device has {smallest} to {largest}"
    operation = {"registers": "ballot", "vector": "arithmetic"}.get(tiles.kernel, "basic")
    if operation not in capabilities.subgroup_operations:
        return f"the subgroup operations {operation!r}, which the device lacks"
    if tiles.kernel == "matrix":
        return _matrix_misfit(problem, tiles, capabilities)
    return None


def _matrix_misfit(problem: MatmulProblem, tiles: MatmulTiles, capabilities: Capabilities) -> str | None:
    if tiles.transposed:
        problem = transpose_problem(problem)
    if "bf16" in (problem.lhs, problem.rhs) and not capabilities.has_bf16_matrix:
        return "matrices of bf16, which the device lacks"
    shapes = {
        (shape.m, shape.n, shape.k)
        for shape in capabilities.matrices
        if (shape.a, shape.b, shape.c) == (problem.lhs, problem.rhs, problem.accumulator)
    }
    if tiles.fragment not in shapes:
        return f"a matrix product {tiles.fragment}, the device has {sorted(shapes) or 'none'} for these dtypes"
    return None
