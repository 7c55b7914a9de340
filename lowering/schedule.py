"""Schedule: how one fusion is laid over workgroups and lanes. A plain record, chosen by rules, printed as text."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod

from shaders.capabilities import Capabilities, MatrixShape
from shaders.library.matmul import MatmulTiles

from .graph import Node
from .neighbours import neighbours


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many lanes work together, and on what.

    Attributes:
        kind: the family of kernels.
        workgroup: invocations of a workgroup.
        per_lane: elements that one lane computes before it moves on.
        run: neighbours among them, which are loaded and stored together.
        lanes: invocations that share one row; with 1, a lane owns whole rows or columns.
        minor_reduced: lanes run along the reduced axes.
        in_registers: a row is read once and kept.
        subgroup: required subgroup size, 0 for any.
        mode: which of a family's ways; see codegen/scatter.py and codegen/tiles.py.
        owners: lanes that share the places of a scatter.
        axis: the axis that crossed inputs are read along (codegen/tiles.py).
        tiles: the tiles of a matrix product.
        fragments: the matrix units' products that a tile kernel uses.
    """

    kind: str
    workgroup: int
    per_lane: int = 1
    run: int = 1
    lanes: int = 1
    minor_reduced: bool = False
    in_registers: bool = False
    subgroup: int = 0
    mode: str = ""
    owners: int = 0
    axis: int = -1
    tiles: MatmulTiles | None = None
    fragments: tuple[MatrixShape, ...] = ()

    def text(self) -> str:
        """Print the fields that are not at their defaults."""
        shown = [self.kind]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                shown.append(f"{field.name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
        return " ".join(shown)


# A workgroup of a kernel without loops; wide, since CPU drivers loop over it cheaply and GPUs fill with it.
WIDE = 256
# Elements of a row that one lane may hold in registers; a CPU driver has few, and compiles long code slowly.
REGISTERS = {True: 16, False: 32}
# Subgroups that a workgroup may have on every driver that was seen; lavapipe allows no more.
MOST_SUBGROUPS = 32
# Elements one lane reads before it combines them, in loops over long rows.
UNROLL = 4


def choose(fusion: Node, capabilities: Capabilities) -> Schedule:
    """Return the schedule of a fusion on a device."""
    kind = fusion.attributes["kind"]
    if kind in ("rows", "partial"):
        return _rows(fusion, capabilities)
    if kind in ("serial", "update", "window"):
        return Schedule(kind, capabilities.subgroup_size if capabilities.is_cpu else 64)
    elements = prod(fusion.attributes["domain"])
    # A CPU driver gains nothing from several elements a lane; a GPU needs loads in flight, and wide ones.
    workgroup = WIDE if elements > 64 or not capabilities.is_cpu else 64
    if capabilities.is_cpu or elements < WIDE * 1024:
        return Schedule("map", workgroup)
    run = neighbours(fusion)
    return Schedule("map", workgroup, per_lane=UNROLL if run == 1 else run, run=run)


def minor_is_reduced(domain: tuple[int, ...], reduced: tuple[int, ...]) -> bool:
    """Tell whether the fastest axis of more than one element is a reduced one."""
    wide = [axis for axis, extent in enumerate(domain) if extent != 1]
    return not wide or wide[-1] in reduced


def extents(domain: tuple[int, ...], reduced: tuple[int, ...]) -> tuple[int, int]:
    """Return (kept elements, reduced elements) of a domain."""
    count = prod(extent for axis, extent in enumerate(domain) if axis in reduced)
    kept = prod(extent for axis, extent in enumerate(domain) if axis not in reduced)
    return kept, count


def _rows(fusion: Node, capabilities: Capabilities) -> Schedule:
    domain, reduced = fusion.attributes["domain"], fusion.attributes["reduced"]
    kept, count = extents(domain, reduced)
    kind = fusion.attributes["kind"]
    size = capabilities.subgroup_size
    if kind == "partial":
        parts = fusion.attributes["body"].nodes[-1].attributes["parts"]
        kept, count = kept * parts, -(-count // parts)
    if not minor_is_reduced(domain, reduced):
        workgroup = size if capabilities.is_cpu else 64
        in_registers = count <= REGISTERS[capabilities.is_cpu]
        # Loads of a column are narrow, so that more of them must be in flight.
        per_lane = UNROLL if capabilities.is_cpu or in_registers else 2 * UNROLL
        return Schedule(kind, workgroup, per_lane=per_lane, in_registers=in_registers)
    if count <= 8 and kept >= 4 * size:
        return Schedule(kind, size if capabilities.is_cpu else 64, per_lane=UNROLL, in_registers=True)
    if capabilities.is_cpu or count <= size * REGISTERS[False]:
        lanes = size if capabilities.is_cpu else _short_row_lanes(fusion, kept, count, size)
        workgroup = size if capabilities.is_cpu else 4 * size
    else:
        lanes = workgroup = min(256, capabilities.max_invocations, MOST_SUBGROUPS * size)
    in_registers = count <= lanes * REGISTERS[capabilities.is_cpu]
    run = 1 if capabilities.is_cpu else _run(fusion, count, lanes)
    return Schedule(
        kind, workgroup, per_lane=max(UNROLL, run), run=run, lanes=lanes, minor_reduced=True,
        in_registers=in_registers, subgroup=size,
    )  # fmt: skip


def _short_row_lanes(fusion: Node, kept: int, count: int, size: int) -> int:
    """Return the lanes of a short row: half as many as long as that widens what each reads, and enough of them read."""
    lanes, run = size, neighbours(fusion)
    while lanes > 1 and count < lanes * run and count % run == 0 and kept * lanes >= WIDE * 1024:
        lanes //= 2
    return lanes


def _run(fusion: Node, count: int, lanes: int) -> int:
    """Return how many neighbours of a row a lane takes: no lane is left without any, and rows are whole runs."""
    run = neighbours(fusion)
    while run > 1 and (count % run or count < lanes * run):
        run //= 2
    return run
