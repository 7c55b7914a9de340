"""The compiler uses matrix units where the driver lists a product, and never where listing them is a trap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering import lower
from lowering.executable import Executable
from lowering.program import Program
from lowering.runtime import Device
from lowering.runtime.capabilities import capabilities_of
from lowering.runtime.facts import MatrixEntry
from shaders.capabilities import Capabilities

ROWS, DEPTH, COLUMNS = 160, 96, 144


def _operands(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    left, right = random.normal(size=(ROWS, DEPTH)), random.normal(size=(DEPTH, COLUMNS))
    return (4 * left).astype(dtype), (4 * right).astype(dtype)


def _lowered(dtype: Any, result: Any) -> Any:
    return lower(lambda a, b: jnp.maximum(jax.lax.dot(a, b, preferred_element_type=result), result(0)))(
        *_operands(dtype)
    )


def _as_gpu(capabilities: Capabilities) -> Capabilities:
    """A CPU driver's matrix units are no faster than its registers, so the compiler takes them for GPUs only."""
    return replace(capabilities, device_type="discrete") if capabilities.is_cpu else capabilities


def _has_matrix_kernel(program: Program) -> bool:
    return any("CooperativeMatrixKHR" in kernel.text() for kernel in program.kernels)


def _lists(capabilities: Capabilities, dtype: str, accumulator: str) -> bool:
    return any((row.a, row.c, row.scope) == (dtype, accumulator, "subgroup") for row in capabilities.matrices)


@pytest.mark.parametrize(
    ("dtype", "result", "names"),
    [(np.float16, jnp.float32, ("f16", "f32")), (np.float16, jnp.float16, ("f16", "f32"))],
    ids=["f16 to f32", "f16 to f16"],
)
def test_products_run_on_matrix_units_where_the_driver_lists_them(
    device: Device, dtype: Any, result: Any, names: tuple[str, str]
) -> None:
    if not _lists(device.capabilities, *names):
        pytest.skip(f"{device.name} lists no matrix product of {names[0]} into {names[1]}")
    program = _lowered(dtype, result).program(_as_gpu(device.capabilities))
    assert _has_matrix_kernel(program)
    left, right = _operands(dtype)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    scale = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)
    got = Executable(program, device)(left, right)
    # One rounding of the result, and a sum of `DEPTH` products kept in f32.
    allowed = np.finfo(result).eps * np.abs(exact) + DEPTH * np.finfo(np.float32).eps * scale
    assert (np.abs(got - np.maximum(exact, 0)) <= allowed).all()


@pytest.mark.parametrize("style", ["cpu", "gpu"])
def test_products_run_without_matrix_units(device: Device, style: str) -> None:
    capabilities = replace(device.capabilities, matrices=(), matrices_nv=())
    program = _lowered(np.float16, jnp.float32).program(capabilities if style == "cpu" else _as_gpu(capabilities))
    assert not _has_matrix_kernel(program)
    left, right = _operands(np.float16)
    exact = np.maximum(left.astype(np.float64) @ right.astype(np.float64), 0)
    scale = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)
    got = Executable(program, device)(left, right)
    assert (np.abs(got - exact) <= DEPTH * np.finfo(np.float32).eps * scale).all()


def test_products_of_an_h100_are_matrix_kernels() -> None:
    text = (Path(__file__).parents[1] / "shaders/capabilities/h100.json").read_text()
    assert _has_matrix_kernel(_lowered(np.float16, jnp.float32).program(Capabilities.from_text(text)))


@pytest.mark.parametrize(
    ("kind", "subgroup", "is_listed"), [("cpu", 8, True), ("cpu", 4, False), ("cpu", 16, False), ("discrete", 16, True)]
)
def test_matrices_of_cpu_drivers_are_for_subgroups_of_eight(
    device: Device, kind: str, subgroup: int, is_listed: bool
) -> None:
    group = "VkPhysicalDeviceCooperativeMatrixFeaturesKHR"
    found = device.parts.context.facts
    facts = replace(
        found,
        device_type=kind,
        features={**found.features, group: frozenset({"cooperativeMatrix"})},
        properties={**found.properties, "subgroupSize": subgroup},
        matrices=(MatrixEntry(8, 8, 8, 0, 0, 1, 1, False, 3),),
    )
    assert bool(capabilities_of(facts).matrices) is is_listed
