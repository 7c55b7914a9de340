"""The kernels of the table with numbers of f32: tiles live in registers of lanes, on every driver."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from lowering import lower
from lowering.codegen.bands import LANES
from lowering.codegen.bands.lanes import ROWS_OF_A_LANE, unit_of
from lowering.pjrt import initialize
from lowering.runtime import Device
from shaders.capabilities import Capabilities

from ...pallas.kernels import Case
from . import elements, kernels
from .support import fusions_of, schedules_of
from .test_values_of_bands import broken, interpreted, problem

F32 = jnp.float32
TABLE = kernels.CASES | elements.CASES
REFUSABLE = kernels.REFUSABLE


def widened(name: str) -> Case:
    """Return a case with f32 in place of f16."""
    case = (TABLE | REFUSABLE)[name]
    arguments = [each.astype(np.float32) if each.dtype == np.float16 else each for each in case.arguments]

    def function(*given: Any, interpret: bool) -> Any:
        with mock.patch.object(kernels, "F16", F32):
            return case.function(*given, interpret=interpret)

    roundings = max(case.roundings, kernels.F32_ROUNDINGS)
    return dataclasses.replace(case, arguments=tuple(arguments), function=function, roundings=roundings)


@pytest.mark.parametrize("name", [*TABLE, *REFUSABLE])
def test_lanes_give_what_the_interpreter_gives(name: str, device: Device) -> None:
    initialize()
    case = widened(name)
    run = lower(functools.partial(case.function, interpret=False))(*case.arguments).compile(device)
    want = interpreted(case, case.arguments)
    assert problem(case, np.asarray(run(*case.arguments)), want) is None
    assert problem(case, np.asarray(run(*broken(case.arguments))), want) is not None


@pytest.mark.parametrize("name", TABLE)
def test_numbers_of_f32_live_in_lanes(name: str, h100: Capabilities) -> None:
    case = widened(name)
    schedules = schedules_of(
        functools.partial(case.function, interpret=False), *case.arguments, capabilities=h100
    )  # fmt: skip
    assert [schedule.mode for schedule in schedules] == [LANES]


@pytest.mark.parametrize("width", [64, 128])
def test_attention_has_rows_for_every_lane(width: int, h100: Capabilities) -> None:
    rows = jax.ShapeDtypeStruct((1, 512, 2, width), F32)
    fusions = fusions_of(lambda *given: qga.attention(*given), rows, rows, rows, capabilities=h100)
    (schedule,) = schedules_of(lambda *given: qga.attention(*given), rows, rows, rows, capabilities=h100)
    assert len(fusions) == 1
    assert schedule.mode == LANES
    assert schedule.workgroup // schedule.subgroup * ROWS_OF_A_LANE * unit_of(32)[0].m == 64
