"""Emit the kernel that a schedule names."""

from __future__ import annotations

from dataclasses import replace

from ...capabilities import Capabilities
from ...errors import ShaderError
from ...spirv import Builder
from .fit import misfit
from .matrix import emit_matrix
from .problem import MatmulAccess, MatmulProblem, transpose_access, transpose_problem
from .registers import emit_registers
from .slices import emit_slices
from .tiled import emit_tiled
from .tiles import MatmulTiles
from .vector import emit_vector

_KERNELS = {
    "registers": emit_registers,
    "tiled": emit_tiled,
    "matrix": emit_matrix,
    "vector": emit_vector,
    "slices": emit_slices,
}


def emit(
    builder: Builder,
    problem: MatmulProblem,
    tiles: MatmulTiles,
    access: MatmulAccess,
    capabilities: Capabilities | None = None,
) -> None:
    """Emit the body of a kernel whose workgroup is `workgroup(tiles)`, to be run with `groups(problem, tiles)`.

    Args:
        builder: a builder with that workgroup, `tiles.subgroup` as its subgroup size, and the buffers that the
            callbacks of `access` use.
        problem: what to compute.
        tiles: a schedule that fits the problem and the device; see `choose`.
        access: how operands are loaded and results stored, in the problem's own orientation.
        capabilities: of the device, to check the schedule against; None where `choose` made it.

    Raises:
        ShaderError: the device cannot run the schedule.
    """
    reason = misfit(problem, tiles, capabilities) if capabilities is not None else None
    if capabilities is not None and reason is not None:
        raise ShaderError(
            "A schedule must fit the device.",
            got=f"{tiles}, which needs {reason}",
            want=f"what {capabilities.device_name} offers",
            fix="take the schedule from choose(problem, capabilities).",
        )
    if tiles.transposed:
        problem, access, tiles = transpose_problem(problem), transpose_access(access), replace(tiles, transposed=False)
    _KERNELS[tiles.kernel](builder, problem, tiles, access)
