"""What the author of a Pallas kernel may ask of the tile compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Semantics = Literal["parallel", "arbitrary"]


@dataclass(frozen=True, slots=True)
class CompilerParams:
    """Options of one kernel, for `pallas_call(..., compiler_params=CompilerParams(...))`; None leaves the choice.

    Attributes:
        dimension_semantics: for each axis of the grid, "parallel" (positions are workgroups of their own) or
            "arbitrary" (positions follow one another inside a workgroup).
        threads: invocations of a workgroup: a power of two, whole subgroups.
        staging: whether operands of products are staged whole in shared memory.
        matrix_units: whether products may run on matrix units.

    Example:
        >>> CompilerParams(dimension_semantics=("parallel", "arbitrary"), threads=128)
        CompilerParams(dimension_semantics=('parallel', 'arbitrary'), threads=128, staging=None, matrix_units=None)
    """

    dimension_semantics: tuple[Semantics, ...] | None = None
    threads: int | None = None
    staging: bool | None = None
    matrix_units: bool | None = None

    def options(self) -> dict[str, int]:
        """Return what is said about code, as integers."""
        said = {"threads": self.threads, "staging": self.staging, "matrix_units": self.matrix_units}
        return {name: int(value) for name, value in said.items() if value is not None}
