"""Choose a schedule: the first row of the device family's tuning data that applies and fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...capabilities import Capabilities
from ...errors import ShaderError
from ...tuning import device_family, read_rows
from .fit import find_fragment, misfit
from .problem import MatmulProblem, transpose_problem
from .tiles import DEFAULT_BAND, KERNELS, MatmulTiles, ceil_divide, groups, split_depth

KEYS = {
    "kernel", "transposed", "tile", "part", "subgroups", "lanes", "slices", "split_to", "buffers", "strip", "band",
    "operands", "accumulators", "least_rows", "most_rows", "least_columns", "most_columns", "least_depth", "most_depth",
    "most_operations", "least_groups", "lhs_depth_contiguous", "rhs_column_contiguous",
}  # fmt: skip
"""What a row may say: a schedule, and the problems it is for."""

LEAST_SPLIT_DEPTH = 512
"""A part of a split depth shorter than this costs more to add up than it saves."""


def choose(
    problem: MatmulProblem,
    capabilities: Capabilities,
    *,
    lhs_depth_contiguous: bool = True,
    rhs_column_contiguous: bool = True,
    may_split: bool = False,
) -> MatmulTiles:
    """Return the schedule for a problem on a device; a pure function of its arguments.

    Args:
        problem: what to compute.
        capabilities: of the device.
        lhs_depth_contiguous: as in `MatmulAccess`.
        rhs_column_contiguous: as in `MatmulAccess`.
        may_split: the caller can add up partial sums, so that depth may be split where the result is small.

    Raises:
        ShaderError: no row of the tuning data applies and fits.
    """
    family, reasons = device_family(capabilities), []
    for row in read_rows(family, "matmul"):
        tiles = tiles_where_meant(row, problem, capabilities, (lhs_depth_contiguous, rhs_column_contiguous))
        if tiles is None or groups(problem, tiles)[0] < row.get("least_groups", 0):
            continue
        reason = misfit(problem, tiles, capabilities)
        if reason is None:
            return _split(problem, tiles, row.get("split_to", 0)) if may_split else tiles
        reasons.append(f"{tiles}: {reason}")
    raise ShaderError(
        "A matrix product must have a schedule that fits the device.",
        got="; ".join(reasons) or f"no row for {problem}",
        want=f"a row of shaders/tuning/{family}.toml that applies",
        fix="add a row with smaller tiles.",
    )


def tiles_where_meant(
    row: Mapping[str, Any], problem: MatmulProblem, capabilities: Capabilities, lies: tuple[bool, bool]
) -> MatmulTiles | None:
    """Return the schedule that a row describes, or None where it is not meant for the problem or the device lacks it.

    Args:
        row: of the tuning data.
        problem: what to compute.
        capabilities: of the device.
        lies: `lhs_depth_contiguous` and `rhs_column_contiguous`, as in `MatmulAccess`.
    """
    if row.get("transposed", False):
        lhs, rhs = lies
        problem, lies = transpose_problem(problem), (not rhs, not lhs)
    return tiles_of_row(row, problem, capabilities) if _applies(row, problem, lies) else None


def _applies(row: Mapping[str, Any], problem: MatmulProblem, lies: tuple[bool, bool]) -> bool:
    """Say whether a row is meant for a problem, as the row views it."""
    sizes = {"rows": problem.rows, "columns": problem.columns, "depth": problem.depth, "operations": problem.operations}
    within = all(
        row.get(f"least_{name}", 0) <= size and size <= row.get(f"most_{name}", size) for name, size in sizes.items()
    )
    named = "operands" not in row or (problem.lhs == problem.rhs and problem.lhs in row["operands"])
    summed = problem.accumulator in row.get("accumulators", (problem.accumulator,))
    lhs, rhs = lies
    placed = row.get("lhs_depth_contiguous", lhs) == lhs and row.get("rhs_column_contiguous", rhs) == rhs
    return within and named and summed and placed


def tiles_of_row(row: Mapping[str, Any], problem: MatmulProblem, capabilities: Capabilities) -> MatmulTiles | None:
    """Return the schedule that a row describes, or None where it needs a matrix product that the device lacks.

    Parts of the kernels without tiles shrink to a small problem, and split a larger one evenly.

    Args:
        row: of the tuning data.
        problem: as the row views it: transposed, if the row says so.
        capabilities: of the device.
    """
    assert row.keys() <= KEYS, f"unknown words in a tuning row: {sorted(row.keys() - KEYS)}"
    assert row["kernel"] in KERNELS, f"unknown kernel in a tuning row: {row['kernel']}"
    kernel, (part_rows, part_columns), lanes = row["kernel"], row["part"], capabilities.subgroup_size
    turned = row.get("transposed", False)
    if kernel in ("tiled", "matrix"):
        rows, columns, depth = row["tile"]
        parts = (rows // part_rows) * (columns // part_columns)
        band = row.get("band", DEFAULT_BAND)
        tiles = MatmulTiles(kernel, rows, columns, depth, part_rows, part_columns, parts, band=band, transposed=turned)
        if kernel == "tiled":
            return tiles
        fragment = find_fragment(problem, capabilities, (part_rows, part_columns), depth)
        if fragment is None:
            return None
        buffers, across = row.get("buffers", 2), ceil_divide(problem.columns, columns)
        strip = next(count for count in range(row.get("strip", 1), 0, -1) if across % count == 0)
        return replace(tiles, threads=parts * lanes, subgroup=lanes, fragment=fragment, buffers=buffers, strip=strip)
    part_rows = _even(problem.rows, part_rows)
    if kernel == "vector":
        subgroups, part_columns = row.get("subgroups", 1), _even(problem.columns, part_columns)
        tile = (part_rows, part_columns * subgroups, 1)
        return MatmulTiles(kernel, *tile, part_rows, part_columns, subgroups * lanes, lanes, transposed=turned)
    if kernel == "slices":
        tile, threads = (part_rows, row["lanes"] * part_columns, 1), row["lanes"] * row["slices"]
        return MatmulTiles(kernel, *tile, part_rows, part_columns, threads, transposed=turned)
    part_columns = _even(ceil_divide(problem.columns, lanes), part_columns)
    tile = (part_rows, part_columns * lanes, 1)
    return MatmulTiles(kernel, *tile, part_rows, part_columns, lanes, lanes, transposed=turned)


def _even(count: int, size: int) -> int:
    """Return the size of even pieces, no larger than `size`, that cover a count."""
    return ceil_divide(count, ceil_divide(count, size))


def _split(problem: MatmulProblem, tiles: MatmulTiles, wanted: int) -> MatmulTiles:
    """Split depth so that about `wanted` workgroups run, none of them without work."""
    splits = min(wanted // groups(problem, tiles)[0], problem.depth // LEAST_SPLIT_DEPTH)
    if splits < 2:
        return tiles
    size = split_depth(problem, replace(tiles, splits=splits))
    return replace(tiles, splits=ceil_divide(problem.depth, size))
