"""What the author of a Pallas kernel may ask of the tile compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Semantics = Literal["parallel", "arbitrary"]


@runtime_checkable
class Options(Protocol):
    """What may be given as `compiler_params`: any object that says which options of `CompilerParams` it sets."""

    def options(self) -> dict[str, int]:
        """Return options by the names of the fields of `CompilerParams`, as integers."""
        ...


@dataclass(frozen=True, slots=True)
class CompilerParams:
    """Options of one kernel, for `pallas_call(..., compiler_params=CompilerParams(...))`; None leaves the choice.

    Attributes:
        dimension_semantics: for each axis of the grid, "parallel" (positions are workgroups of their own) or
            "arbitrary" (positions follow one another inside a workgroup).
        threads: invocations of a workgroup: a power of two, whole subgroups.
        subgroups: of a workgroup, a power of two, whatever their size: what `threads` cannot say for all devices.
        staging: whether operands of products are staged whole in shared memory.
        matrix_units: whether products may run on matrix units.
        bands: whether tiles may live in matrices of subgroups from beginning to end, each with a band of rows. By
            default a GPU does so where it can, and a CPU driver does not.
        band: rows of the band of a subgroup, in bands; by default a workgroup has as many subgroups as it may.
        nan_in_extrema: whether maxima and minima hand on NaN, as they do by default. False promises that nothing is
            lost if they do not, since NaN reaches every result on another way, and is faster.
        driver_exp: whether an exponential of f32 may be the driver's own, off by up to 3 + 2 |x| units in the last
            place, as fits what is rounded to 16 bits, and is faster. By default it may not.
        driver_tanh: whether a hyperbolic tangent of f32 may be the driver's for 16 bits, off by up to 2^-10.5, where
            the driver has one that is faster. By default it may not.
        last_first: how many places along the other axes of the grid are started together, those that are last along
            its last axis first, as fits programs that take longer the later they stand there: what is started last is
            what all wait for. By default, and with 0, they are started in order.

    Example:
        >>> CompilerParams(dimension_semantics=("parallel", "arbitrary"), threads=128)
        CompilerParams(dimension_semantics=('parallel', 'arbitrary'), threads=128, subgroups=None, staging=None,
        matrix_units=None, bands=None, band=None, nan_in_extrema=None, driver_exp=None, driver_tanh=None,
        last_first=None)
    """

    dimension_semantics: tuple[Semantics, ...] | None = None
    threads: int | None = None
    subgroups: int | None = None
    staging: bool | None = None
    matrix_units: bool | None = None
    bands: bool | None = None
    band: int | None = None
    nan_in_extrema: bool | None = None
    driver_exp: bool | None = None
    driver_tanh: bool | None = None
    last_first: int | None = None

    def options(self) -> dict[str, int]:
        """Return what is said about code, as integers."""
        said = {
            "threads": self.threads, "subgroups": self.subgroups, "staging": self.staging,
            "matrix_units": self.matrix_units, "bands": self.bands, "band": self.band,
            "nan_in_extrema": self.nan_in_extrema, "driver_exp": self.driver_exp, "driver_tanh": self.driver_tanh,
            "last_first": self.last_first,
        }  # fmt: skip
        return {name: int(value) for name, value in said.items() if value is not None}
