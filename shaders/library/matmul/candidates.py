"""List the schedules that a tuner may measure for a matrix product: rows that apply, then those of whole sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from ...capabilities import Capabilities
from ...tuning import device_family, read_rows
from .choose import tiles_where_meant
from .fit import misfit
from .problem import MatmulProblem
from .tiles import MatmulTiles, ceil_divide, tile_counts

ALTERNATIVES = ("depth", "buffers", "tile", "part", "subgroups", "lanes", "slices", "band", "transposed")
"""What a sweep may list alternatives of; the last varies fastest."""

THREADS = range(64, 513)
"""Invocations of a workgroup of a GPU that a sweep tries."""

MOST_WASTE = 4
"""Tiles that stick out of a result by more than this factor are not tried: most of their work is for nothing."""


def candidates(
    problem: MatmulProblem,
    capabilities: Capabilities,
    *,
    lhs_depth_contiguous: bool = True,
    rhs_column_contiguous: bool = True,
) -> tuple[MatmulTiles, ...]:
    """Return the schedules worth measuring, each once; all of them fit the device.

    Args:
        problem: what to compute.
        capabilities: of the device.
        lhs_depth_contiguous: as in `MatmulAccess`.
        rhs_column_contiguous: as in `MatmulAccess`.
    """
    lies, family = (lhs_depth_contiguous, rhs_column_contiguous), device_family(capabilities)
    found: dict[MatmulTiles, None] = {}
    for row in read_rows(family, "matmul"):
        tiles = tiles_where_meant(row, problem, capabilities, lies)
        if tiles is not None:
            found.setdefault(tiles)
    for sweep in read_rows(family, "sweep"):
        for row in sweep_rows(sweep):
            tiles = tiles_where_meant(row, problem, capabilities, lies)
            if tiles is not None and (capabilities.is_cpu or tiles.threads in THREADS):
                found.setdefault(tiles)
    return tuple(tiles for tiles in found if _is_sound(problem, tiles, capabilities))


def sweep_rows(sweep: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every combination of a sweep's alternatives as a row of the tuning data."""
    named = [name for name in ALTERNATIVES if name in sweep]
    kept = {name: value for name, value in sweep.items() if name not in ALTERNATIVES}
    for values in product(*(sweep[name] for name in named)):
        row = dict(zip(named, values, strict=True))
        if "depth" in row:
            row["tile"] = [*row["tile"], row.pop("depth")]
        yield kept | row


def _is_sound(problem: MatmulProblem, tiles: MatmulTiles, capabilities: Capabilities) -> bool:
    """Tell whether parts fill their tile, tiles do not make much more than the result, and the device can run them."""
    if tiles.rows % tiles.part_rows or tiles.columns % tiles.part_columns:
        return False
    rounds = problem.depth if tiles.kernel != "vector" else ceil_divide(problem.depth, tiles.subgroup or 1)
    if capabilities.loop_rounds is not None and rounds > capabilities.loop_rounds:
        return False
    down, across = tile_counts(problem, tiles)
    made = down * tiles.rows * across * tiles.columns
    return made <= MOST_WASTE * problem.rows * problem.columns and misfit(problem, tiles, capabilities) is None
