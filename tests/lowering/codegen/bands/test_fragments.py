"""Bands of a device without extensions of one vendor: tiles are fragments of the units' sizes. No device is needed."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import qga
from lowering import lower
from lowering.codegen import kernels as emitting
from lowering.codegen.bands import BANDS, FRAGMENTS
from lowering.codegen.bands import candidates as candidates_of
from lowering.codegen.bands.partial import find_partial
from lowering.compiler import choose
from lowering.graph import Node
from shaders.capabilities import Capabilities, MatrixShape
from shaders.kernel import Kernel
from shaders.spirv.validate import is_available, validate

from .kernels import CASES
from .support import bands_of, fusions_of, schedules_of

ROWS = 256
F16, BF16 = (("f16", jnp.float16), ("bf16", jnp.bfloat16))
UNIT = MatrixShape(16, 16, 16, "f16", "f16", "f32", "f32", "subgroup")
# A matrix of 16 x 16 halves of a subgroup, for use 2: as sums.
SUMS_OF_F16 = re.compile(r"OpTypeCooperativeMatrixKHR %f16 %u32_3 %u32_16 %u32_16 %u32_2\n")
SUBGROUP_BARRIER = "OpControlBarrier %u32_3"
SIZES = [(16, 16, 16), (16, 8, 16), (16, 8, 8), (8, 16, 16), (8, 8, 8)]


@pytest.fixture(scope="module")
def khr(h100: Capabilities) -> Capabilities:
    """What is left of a GPU without extensions of one vendor."""
    return replace(h100, features_nv=frozenset(), matrices_nv=())


def with_unit(capabilities: Capabilities, sizes: tuple[int, int, int], *, is_native: bool) -> Capabilities:
    """Return a device whose units have other sizes, with or without sums of 16 bits."""
    unit = replace(UNIT, m=sizes[0], n=sizes[1], k=sizes[2])
    native = (replace(unit, c="f16", result="f16"),) if is_native else ()
    return replace(capabilities, matrices=(*native, unit))


def fusion_of(name: str, capabilities: Capabilities) -> Node:
    function = functools.partial(CASES[name].function, interpret=False)
    (fusion,) = fusions_of(function, *CASES[name].arguments, capabilities=capabilities)
    return fusion


def written(name: str, capabilities: Capabilities) -> Kernel:
    """Return the kernel of a case."""
    fusion = fusion_of(name, capabilities)
    schedule = choose(fusion, capabilities)
    assert schedule.mode == FRAGMENTS
    return emitting.emit_kernel(fusion, schedule, capabilities, guarded=False)


def assert_runs(kernel: Kernel, capabilities: Capabilities) -> None:
    """Require a kernel that a driver takes which has matrices of fixed sizes only."""
    assert 0 < kernel.shared_bytes <= capabilities.max_shared_bytes
    assert "NV" not in kernel.text()
    if is_available():
        validate(kernel.words)


# -- when they are chosen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_kernel_is_written_in_fragments(name: str, khr: Capabilities) -> None:
    assert_runs(written(name, khr), khr)


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ["loop_over_chunks_of_keys", "mask_made_of_places", "column_is_written"])
def test_units_may_have_other_sizes(name: str, sizes: tuple[int, int, int], is_native: bool, khr: Capabilities) -> None:
    device = with_unit(khr, sizes, is_native=is_native)
    assert_runs(written(name, device), device)


def test_sums_of_16_bits_are_used_only_where_there_are_some(khr: Capabilities) -> None:
    found = [
        SUMS_OF_F16.search(written("loop_over_chunks_of_keys", device).text()) is not None
        for device in (with_unit(khr, SIZES[0], is_native=each) for each in (True, False))
    ]
    assert found == [True, False]


def test_whole_matrices_go_first(h100: Capabilities, khr: Capabilities) -> None:
    modes = [choose(fusion_of("column_is_written", device), device).mode for device in (h100, khr)]
    assert modes == [BANDS, FRAGMENTS]


def test_device_without_matrices_has_neither(khr: Capabilities) -> None:
    device = replace(khr, matrices=())
    assert choose(fusion_of("column_is_written", device), device).mode not in (BANDS, FRAGMENTS)


def test_every_unit_is_worth_measuring(khr: Capabilities) -> None:
    found = {schedule.fragments[0].n for schedule in candidates_of(fusion_of("column_is_written", khr), khr)}
    assert found == {8, 16}


# -- attention ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("dtype", [F16, BF16], ids=lambda each: each[0])
def test_attention_and_its_derivative_are_written_in_fragments(
    dtype: tuple[str, Any], width: int, is_causal: bool, khr: Capabilities
) -> None:
    given = (jax.ShapeDtypeStruct((ROWS, width), dtype[1]),) * 3

    def both(*arrays: Any) -> Any:
        attend = functools.partial(qga.dot_attention, is_causal=is_causal, derivatives="reverse")
        out, pull = jax.vjp(attend, *arrays)
        return out, pull(out)

    schedules = schedules_of(both, *given, capabilities=khr)
    assert len(schedules) >= 3
    assert {schedule.mode for schedule in schedules} == {FRAGMENTS}
    for kernel in lower(both)(*given).program(khr).kernels:
        if "CooperativeMatrix" in kernel.text():
            assert_runs(kernel, khr)


# -- partial sums ------------------------------------------------------------------------------------------------------


def partial_ops(name: str, capabilities: Capabilities) -> list[str]:
    """Return what makes the numbers for rows that may stay partial sums."""
    function = functools.partial(CASES[name].function, interpret=False)
    bands = bands_of(function, *CASES[name].arguments, capabilities=capabilities)
    found = find_partial(bands.cell, bands.follows)
    return sorted(step.op for step, _ in bands.cell.walk() for value in step.outputs if value in found)


def test_sums_of_a_loop_stay_partial(khr: Capabilities) -> None:
    assert partial_ops("sums_relative_to_the_first_chunk", khr) == ["add", "reduce"]
    # What the next peak makes of the sum so far is a multiple of it.
    assert partial_ops("loop_over_chunks_of_keys", khr) == ["add", "multiply", "reduce"]


def test_extrema_and_what_is_no_sum_do_not(khr: Capabilities) -> None:
    assert partial_ops("maximum_with_a_start", khr) == []
    # A number that is added would be added in every column.
    assert partial_ops("sum_with_a_start", khr) == ["reduce"]
    # Where a factor of inf meets a lane whose part is 0, the sum would be NaN.
    assert partial_ops("sum_that_is_scaled_once", khr) == ["reduce"]


def barriers_of_the_loop(name: str, capabilities: Capabilities) -> int:
    """Return how often a subgroup waits for itself in a round of the one loop that is not unrolled."""
    lines = written(name, capabilities).text().splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.endswith("DontUnroll"))
    behind = lines[start].split()[1] + " = OpLabel"
    end = next(number for number, line in enumerate(lines) if line.strip() == behind)
    return sum(SUBGROUP_BARRIER in line for line in lines[start:end])


def test_sum_of_a_loop_is_taken_behind_it(khr: Capabilities) -> None:
    # Weights become a first factor: written, and read.
    assert barriers_of_the_loop("sums_relative_to_the_first_chunk", khr) == 2
    # A maximum beside that: rows are written, read and given back.
    assert barriers_of_the_loop("loop_over_chunks_of_keys", khr) == 5
