"""The Khronos layer has nothing to say about whole programs, as for a CPU and as for a GPU."""

from __future__ import annotations

import pytest

from lowering.errors import UnsupportedError
from lowering.program import Dispatch, Program, Region
from lowering.runtime import Device
from shaders.kernel import Kernel, Parameter
from shaders.spirv import Builder

from .listening import PROGRAMS, STYLES, Style, arguments, compiled, heard, run, run_described, styled

# Instrumented kernels take the driver ten times as long to compile; `product_f16` stands for the tiles of GPUs.
SLOW_INSTRUMENTED = {(name, "gpu") for name in ("transformer_step", "products", "product_bf16", "product_i8")}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_core_checks_find_nothing(core_device: Device, name: str, style: Style) -> None:
    _ = run(core_device, compiled(name, styled(core_device.capabilities, style)), arguments(name))
    assert heard(core_device) == []


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_synchronization_checks_find_nothing(synchronized_device: Device, name: str, style: Style) -> None:
    capabilities = styled(synchronized_device.capabilities, style)
    described = compiled(name, capabilities, descriptors=True)
    got = run_described(synchronized_device, described, arguments(name))
    assert heard(synchronized_device) == []
    for left, right in zip(got, run(synchronized_device, compiled(name, capabilities), arguments(name)), strict=True):
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_instrumented_kernels_stay_in_their_arguments(instrumented_device: Device, name: str, style: Style) -> None:
    if (name, style) in SLOW_INSTRUMENTED:
        pytest.skip("instrumented tiles of GPUs compile for minutes on two cores; product_f16 stands for them")
    program = compiled(name, styled(instrumented_device.capabilities, style), descriptors=True)
    _ = run_described(instrumented_device, program, arguments(name), exact=True)
    assert heard(instrumented_device) == []


def _beyond(elements: int) -> Kernel:
    """y[i + elements] = i: with 0 inside, else beyond the end."""
    builder = Builder("beyond", workgroup=(64, 1, 1), parameters=(Parameter("y", "u32", "w"),), descriptors=True)
    index = builder.global_id(0)
    builder.buffer("y")[index + elements] = index
    return builder.finish()


@pytest.mark.parametrize(("elements", "is_heard"), [(0, False), (1, True), (1 << 20, True)])
def test_an_index_beyond_the_end_is_heard(instrumented_device: Device, elements: int, is_heard: bool) -> None:
    from lowering.program import ArrayType

    step = Dispatch(0, (Region("output", 0, 0, 256),), (1, 1, 1), label="beyond")
    program = Program("beyond", (_beyond(elements),), (step,), (), (ArrayType("u32", (64,)),), (), 0)
    _ = run_described(instrumented_device, program, [], exact=True)
    assert bool(heard(instrumented_device)) is is_heard


def test_a_kernel_the_layer_refuses_is_heard(core_device: Device) -> None:
    """The layer that is silent about programs is awake: it names a workgroup beyond the device's limit."""
    limit = core_device.capabilities.max_invocations
    builder = Builder("wide", workgroup=(2 * limit, 1, 1), parameters=(Parameter("y", "u32", "w"),))
    builder.buffer("y")[builder.global_id(0)] = builder.global_id(0)
    kernel = builder.finish()
    parts = core_device.parts
    with pytest.raises(UnsupportedError, match="invocations"):
        _ = parts.pipelines.create([kernel])
    parts.pipelines.destroy(parts.pipelines.create_handle(kernel, parts.pipelines.layout))
    assert heard(core_device)
