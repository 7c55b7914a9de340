"""Kernels in bands give what JAX's interpreter gives, on drivers with matrix units; others skip.

Where the driver has VK_NV_cooperative_matrix2, QGA_VENDOR_EXTENSIONS=0 tests fragments instead of whole matrices.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from lowering import lower
from lowering.codegen.bands import BANDS, FRAGMENTS
from lowering.pjrt import initialize
from lowering.runtime import Device

from ....conformance.tolerance import Bound, difference
from ...pallas.kernels import Case
from . import elements, integers, kernels
from .support import schedules_of

CASES = kernels.CASES | elements.CASES | integers.CASES
REFUSABLE = kernels.REFUSABLE | integers.REFUSABLE
FEATURES = {"flexible_dimensions", "reductions", "conversions", "per_element"}


@pytest.fixture
def device_with_bands(device: Device) -> Device:
    """Return the device; skip where it has no matrices that bands can live in."""
    rows = device.capabilities.matrices
    is_whole = is_whole_on(device)
    if not any((row.a, row.result, row.scope) == ("f16", "f32", "subgroup") for row in rows):
        pytest.skip(f"{device.name} lists no matrix product of f16 into f32")
    if is_whole and not any((row.a, row.result) == ("f16", "f32") and row.m == row.n for row in rows):
        pytest.skip(f"{device.name} lists no square matrix product of f16 into f32")
    initialize()
    return device


def is_whole_on(device: Device) -> bool:
    """Tell whether tiles are whole matrices on a device, not fragments."""
    return device.capabilities.features_nv >= FEATURES


def interpreted(case: Case, arguments: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return what the interpreter computes on the CPU."""
    cpu = jax.devices("cpu")[0]
    run = jax.jit(functools.partial(case.function, interpret=True))
    return np.asarray(run(*(jax.device_put(each, cpu) for each in arguments)))


def problem(case: Case, got: np.ndarray, want: np.ndarray) -> str | None:
    """Return what is wrong with a result, or None."""
    finite = np.abs(want[np.isfinite(want)], dtype=np.float64)
    return difference(got, want, Bound(case.roundings, case.depth, float(finite.max())))


def broken(arguments: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Return arguments of which the first has its rows in reverse order."""
    return np.ascontiguousarray(arguments[0][::-1]), *arguments[1:]


def assert_as_interpreted(case: Case, device: Device) -> None:
    """Require what the interpreter computes, and that another input gives something else."""
    run = lower(functools.partial(case.function, interpret=False))(*case.arguments).compile(device)
    want = interpreted(case, case.arguments)
    assert problem(case, np.asarray(run(*case.arguments)), want) is None
    assert problem(case, np.asarray(run(*broken(case.arguments))), want) is not None


@pytest.mark.parametrize("name", CASES)
def test_kernel_in_bands_gives_what_the_interpreter_gives(name: str, device_with_bands: Device) -> None:
    case, capabilities = CASES[name], device_with_bands.capabilities
    function = functools.partial(case.function, interpret=False)
    (schedule,) = schedules_of(function, *case.arguments, capabilities=capabilities)
    assert schedule.mode == (BANDS if is_whole_on(device_with_bands) else FRAGMENTS)
    assert_as_interpreted(case, device_with_bands)


@pytest.mark.parametrize("name", REFUSABLE)
def test_kernel_that_bands_may_refuse_gives_what_the_interpreter_gives(name: str, device_with_bands: Device) -> None:
    assert_as_interpreted(REFUSABLE[name], device_with_bands)


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("_of_nan")])
def test_nan_reaches_an_extremum(name: str, device_with_bands: Device) -> None:
    case = CASES[name]
    run = lower(functools.partial(case.function, interpret=False))(*case.arguments).compile(device_with_bands)
    got = np.asarray(run(*case.arguments))
    assert np.array_equal(np.isnan(got), np.isnan(case.arguments[0]).any(1))
    assert not np.array_equal(np.isnan(got), np.isnan(broken(case.arguments)[0]).any(1))
