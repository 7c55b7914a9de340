"""Every case of the corpus computes what NumPy and XLA compute, with the schedules of a CPU and of a GPU."""

from __future__ import annotations

import jax
import pytest

from lowering import reference
from lowering.runtime import Device
from lowering.runtime.hazard import check_hazards

from ..corpus import CASES
from ..running import (
    STYLES,
    Style,
    Variant,
    arguments_of,
    assert_close,
    case_graph,
    case_program,
    function_of,
    leaves,
    names_of,
    run,
    styled,
)


def check(name: str, variant: Variant, style: Style, device: Device) -> None:
    case = CASES[name]
    program = check_hazards(case_program(name, styled(device.capabilities, style), variant))
    arrays = leaves(arguments_of(case, variant))
    got = run(device, program, arrays, donate=variant == "donated")
    assert_close(got, reference.run(case_graph(name, variant), *arrays), case)
    with jax.default_device(jax.devices("cpu")[0]):
        assert_close(got, leaves(jax.jit(function_of(case, variant))(*arguments_of(case, variant))), case)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", names_of("value"))
def test_value(name: str, style: Style, device: Device) -> None:
    check(name, "value", style, device)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", names_of("gradient"))
def test_gradient(name: str, style: Style, device: Device) -> None:
    check(name, "gradient", style, device)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", names_of("mapped"))
def test_vmap(name: str, style: Style, device: Device) -> None:
    check(name, "mapped", style, device)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", names_of("donated"))
def test_donated(name: str, style: Style, device: Device) -> None:
    check(name, "donated", style, device)
