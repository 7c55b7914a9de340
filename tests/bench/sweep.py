"""Time a matrix product under many schedules, so that rows of the tuning data can be chosen from one run.

A candidate is a row as shaders/tuning/*.toml writes it; it goes into the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lowering import lower
from lowering.choices import choose
from lowering.codegen import dot, kernels
from lowering.compiler import KernelMaker, optimise
from lowering.graph import Graph, Node
from lowering.plan.assemble import assemble
from lowering.program import Program
from lowering.runtime import Buffer, Device
from shaders.capabilities import Capabilities
from shaders.kernel import Kernel
from shaders.library import matmul
from shaders.library.matmul import MatmulProblem, MatmulTiles, subgroup_size, workgroup
from shaders.library.matmul.candidates import sweep_rows
from shaders.library.matmul.choose import tiles_where_meant
from shaders.tuning import device_family, read_rows

from .cases import Case
from .check import checked_run, difference, reference
from .kernels import times_of, upload


@dataclass(slots=True)
class Prepared:
    """A case whose inputs are on the device and whose reference is known; made once, used by every candidate."""

    case: Case
    fused: Graph
    inputs: list[Buffer]
    wanted: list[np.ndarray]


@dataclass
class TilesMaker(KernelMaker):
    """Emits kernels as the compiler does, but for matrix products with given tiles."""

    tiles: MatmulTiles | None = None
    used: list[Kernel] = field(default_factory=list)

    def kernel_of(self, fusion: Node, guarded: bool) -> tuple[Kernel, int]:
        """Return a fusion's kernel and its number of workgroups."""
        if fusion.attributes["kind"] != "dot" or self.tiles is None:
            return super().kernel_of(fusion, guarded)
        chosen = choose(fusion, self.capabilities)
        threads, lanes = workgroup(self.tiles)[0], subgroup_size(self.tiles) or 0
        schedule = replace(chosen, tiles=self.tiles, workgroup=threads, subgroup=lanes)
        kernel = kernels.emit_kernel(fusion, schedule, self.capabilities, guarded=guarded)
        self.used.append(kernel)
        return kernel, kernels.groups(fusion, schedule)


def candidates(problem: MatmulProblem, capabilities: Capabilities, *, is_quick: bool) -> list[dict[str, Any]]:
    """List the rows of the device family's sweeps that the device can run, the most promising shapes first."""
    wanted = set(matmul.candidates(problem, capabilities))
    swept = (row for sweep in read_rows(device_family(capabilities), "sweep") for row in sweep_rows(sweep))
    rows = [row for row in swept if tiles_of(row, problem, capabilities) in wanted]
    return rows[:3] if is_quick else rows


def tiles_of(row: dict[str, Any], problem: MatmulProblem, capabilities: Capabilities) -> MatmulTiles | None:
    """Return the schedule that a candidate describes, None where the device lacks its matrix product."""
    return tiles_where_meant(row, problem, capabilities, (True, True))


def prepare(device: Device, case: Case, seed: int) -> Prepared:
    """Fuse the case's graph, put its inputs on the device and compute its reference."""
    arrays = case.arrays(seed)
    fused = optimise(lower(case.function)(*case.structures()).graph, device.capabilities)
    return Prepared(case, fused, upload(device, arrays), reference(case, arrays))


def problem_of(fused: Graph) -> MatmulProblem:
    """Return the one matrix product of a fused graph."""
    fusion = next(node for node in fused.nodes if node.attributes.get("kind") == "dot")
    return dot.problem(dot.dot_node(fusion.attributes["body"]))


def program_with(prepared: Prepared, tiles: MatmulTiles, capabilities: Capabilities) -> Program:
    """Compile the case with given tiles."""
    return assemble(prepared.fused, TilesMaker(capabilities, tiles=tiles).kernel_of)


def measure_row(device: Device, prepared: Prepared, row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Check and time one candidate."""
    case, capabilities = prepared.case, device.capabilities
    tiles = tiles_of(row, problem_of(prepared.fused), capabilities)
    assert tiles is not None, "candidates that the device cannot run are not listed"
    program = program_with(prepared, tiles, capabilities)
    loaded = device.load(program)
    results, _ = checked_run(device, loaded, prepared.inputs)
    answer: dict[str, Any] = {"row": row, "tiles": str(tiles), "code_bytes": len(program.kernels[0].words)}
    wrong = difference(case, results, prepared.wanted)
    if wrong:
        return {**answer, "status": "wrong", "why": wrong}
    # A GPU that idled through the check runs at a fifth of its clock: calls of a while come before the profile.
    timing = times_of(device, loaded, prepared.inputs, seconds)
    found = timing["device"] or timing["wall"]
    return {**answer, "status": "ok", "device": found, "tflop_per_s": case.operations / found["median_us"] / 1e6}
