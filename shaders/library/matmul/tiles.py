"""The schedule of one matrix product: which kernel, and how it cuts the work."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Literal

from ...capabilities import Capabilities
from .problem import MatmulProblem

KernelName = Literal["registers", "tiled", "matrix", "vector", "slices"]
KERNELS: tuple[KernelName, ...] = ("registers", "tiled", "matrix", "vector", "slices")

DEFAULT_BAND = 8
"""Rows of tiles in a band; the value that the first measurements on an H100 used."""


@dataclass(frozen=True, slots=True)
class MatmulTiles:
    """How a kernel cuts a product; every size counts elements unless its name says otherwise.

    Attributes:
        kernel: which of the kernels runs.
        rows: rows of the result that one workgroup makes.
        columns: columns of the result that one workgroup makes.
        depth: depth that is staged, or unrolled, at once.
        part_rows: rows that one part makes: an invocation, or a subgroup in the kernels `matrix` and `vector`.
        part_columns: columns that one part makes.
        threads: invocations in a workgroup.
        subgroup: subgroup size that the code relies on, or None where any will do.
        fragment: rows, columns and depth of one cooperative matrix operation (kernel `matrix` only).
        transposed: compute result^T = rhs^T lhs^T; all sizes then count in the transposed problem.
        splits: parts into which depth is cut; the batch index given to `store` is then batch * splits + part, and the
            caller adds the parts up.
        buffers: slabs of depth that shared memory holds at once, 1 or 2 (kernel `matrix` only).
        strip: tiles side by side that a workgroup makes one after another, with one slab of the left operand (kernel
            `matrix` only, where one slab is all the depth); divides the columns' tiles.
        band: rows of tiles that neighbouring workgroups share columns of, so that both operands stay in a cache.
    """

    kernel: KernelName
    rows: int
    columns: int
    depth: int
    part_rows: int
    part_columns: int
    threads: int
    subgroup: int | None = None
    fragment: tuple[int, int, int] | None = None
    transposed: bool = False
    splits: int = 1
    buffers: int = 2
    strip: int = 1
    band: int = DEFAULT_BAND

    def __str__(self) -> str:
        """Return one line that names the schedule, as kernels' names and goldens use it."""
        text = f"{self.kernel} {self.rows}x{self.columns}x{self.depth} part {self.part_rows}x{self.part_columns}"
        text += f" threads {self.threads}"
        if self.subgroup is not None:
            text += f" subgroup {self.subgroup}"
        if self.fragment is not None:
            text += " fragment " + "x".join(map(str, self.fragment))
        if self.buffers != 2:
            text += f" buffers {self.buffers}"
        if self.strip != 1:
            text += f" strip {self.strip}"
        if self.band != DEFAULT_BAND:
            text += f" band {self.band}"
        if self.transposed:
            text += " transposed"
        return text + (f" splits {self.splits}" if self.splits > 1 else "")


def ceil_divide(count: int, size: int) -> int:
    """Return how many pieces of a size cover a count."""
    return -(-count // size)


def tile_counts(problem: MatmulProblem, tiles: MatmulTiles) -> tuple[int, int]:
    """Return how many tiles cover the rows and the columns of the (possibly transposed) result."""
    rows, columns = problem.rows, problem.columns
    if tiles.transposed:
        rows, columns = columns, rows
    return ceil_divide(rows, tiles.rows), ceil_divide(columns, tiles.columns)


def split_depth(problem: MatmulProblem, tiles: MatmulTiles) -> int:
    """Return the depth of one split: whole tiles, and whole vectors of 4."""
    step = lcm(tiles.depth, 4)
    return ceil_divide(ceil_divide(problem.depth, tiles.splits), step) * step


def workgroup(tiles: MatmulTiles) -> tuple[int, int, int]:
    """Return the workgroup's size."""
    return tiles.threads, 1, 1


def groups(problem: MatmulProblem, tiles: MatmulTiles) -> tuple[int, int, int]:
    """Return how many workgroups cover the product, on the x axis alone."""
    row_tiles, column_tiles = tile_counts(problem, tiles)
    return problem.batch * tiles.splits * row_tiles * (column_tiles // tiles.strip), 1, 1


def subgroup_size(tiles: MatmulTiles, _: Capabilities | None = None) -> int | None:
    """Return the subgroup size that the pipeline must require, or None for any."""
    return tiles.subgroup
