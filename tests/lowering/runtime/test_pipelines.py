"""Pipelines: shared between programs, limits checked first, the driver's cache on disk."""

from __future__ import annotations

import gc
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowering.cache import DiskCache
from lowering.errors import DeviceError, UnsupportedError
from lowering.program import Dispatch, Program
from lowering.runtime import Device
from lowering.runtime.pipelines import Pipelines, is_blob_of, kernel_key
from shaders.kernel import Kernel, Parameter
from shaders.spirv import Builder

from . import kernels

pytestmark = pytest.mark.vulkan_device


def _refused(device: Device, kernel: Kernel) -> str:
    program = Program("bad", (kernel,), (), (), (), (), 0)
    with pytest.raises(UnsupportedError) as caught:
        device.load(program)
    return str(caught.value)


def test_equal_kernels_share_a_pipeline(fresh_device: Device) -> None:
    programs = [fresh_device.load(kernels.scale_program(64)) for _ in range(3)]
    assert fresh_device.live_objects()["pipeline"] == 1
    programs.append(fresh_device.load(kernels.scale_program(65)))
    assert fresh_device.live_objects()["pipeline"] == 2
    del programs
    gc.collect()
    fresh_device.statistics()
    assert "pipeline" not in fresh_device.live_objects()


def test_many_kernels_are_created_at_once(fresh_device: Device) -> None:
    made = tuple(kernels.scale(64, factor=float(index)) for index in range(12))
    pipelines = fresh_device.parts.pipelines.create((*made, *made))
    assert [pipeline.handle for pipeline in pipelines[:12]] == [pipeline.handle for pipeline in pipelines[12:]]
    assert fresh_device.live_objects()["pipeline"] == 12


def test_kernel_key_depends_on_all_that_makes_a_pipeline() -> None:
    kernel = kernels.scale(64)
    assert kernel_key(kernel) == kernel_key(replace(kernel))
    others = [
        replace(kernel, subgroup_size=8),
        replace(kernel, specialization=((0, 1),)),
        kernels.scale(65),
    ]
    assert len({kernel_key(other) for other in (kernel, *others)}) == 4


def test_specialization_reaches_the_kernel(any_device: Device) -> None:
    builder = Builder("special", workgroup=(1, 1, 1), parameters=(Parameter("c", "u32", "w"),))
    builder.buffer("c")[0] = builder.spec_constant(0, "u32", 3)
    kernel = builder.finish()
    identifier = kernel.specialization[0][0] if kernel.specialization else 0
    kernel = replace(kernel, specialization=((identifier, 41),))
    steps = (Dispatch(0, (kernels.whole("output", 0, 4),), (1, 1, 1)),)
    program = Program("special", (kernel,), steps, (), (kernels.ArrayType("u32", ()),), (), 0)
    assert kernels.run_on(any_device, program)[0] == 41


def test_a_required_subgroup_size_is_the_one_that_runs(any_device: Device) -> None:
    size = any_device.capabilities.min_subgroup_size
    builder = Builder("size", workgroup=(size, 1, 1), parameters=(Parameter("c", "u32", "w"),), subgroup_size=size)
    sum_ = builder.subgroup_reduce("add", builder.const("u32", 1))
    builder.buffer("c")[0] = sum_
    steps = (Dispatch(0, (kernels.whole("output", 0, 4),), (1, 1, 1)),)
    program = Program("size", (builder.finish(),), steps, (), (kernels.ArrayType("u32", ()),), (), 0)
    assert kernels.run_on(any_device, program)[0] == size


def test_too_much_shared_memory_is_refused_before_the_driver_sees_it(any_device: Device) -> None:
    limit = any_device.capabilities.max_shared_bytes
    text = _refused(any_device, replace(kernels.scale(64), shared_bytes=limit + 1))
    assert f"{limit + 1} bytes of shared memory" in text
    assert f"at most {limit}" in text


def test_too_large_a_workgroup_is_refused(any_device: Device) -> None:
    limit = any_device.capabilities.max_invocations
    assert "invocations in a workgroup" in _refused(any_device, replace(kernels.scale(64), workgroup=(limit, 2, 1)))


def test_an_impossible_subgroup_size_is_refused(any_device: Device) -> None:
    size = 2 * any_device.capabilities.max_subgroup_size
    assert f"subgroups of {size}" in _refused(any_device, replace(kernels.scale(64), subgroup_size=size))


def test_the_cache_is_written_and_read_back(fresh_device: Device, tmp_path: Path) -> None:
    store = DiskCache("pipelines", folder=tmp_path)
    context = fresh_device.parts.context
    for _ in range(2):
        pipelines = Pipelines(context, store)
        pipelines.create([kernels.scale(64)])
        pipelines.save()
        pipelines.close()
        blob = store.get(pipelines._key())
        assert blob is not None
        assert is_blob_of(blob, context)


@pytest.mark.parametrize("blob", [b"", b"short", bytes(32), b"\xff" * 100])
def test_a_foreign_blob_is_ignored(fresh_device: Device, tmp_path: Path, blob: bytes) -> None:
    store = DiskCache("pipelines", folder=tmp_path)
    context = fresh_device.parts.context
    assert not is_blob_of(blob, context)
    store.put(fresh_device.parts.pipelines._key(), blob)
    pipelines = Pipelines(context, store)
    pipelines.create([kernels.scale(64)])
    pipelines.close()


def test_a_refused_kernel_is_named(fresh_device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowering.runtime.loader import constants

    functions = fresh_device.parts.context.functions
    monkeypatch.setattr(functions, "vkCreateComputePipelines", lambda *_: constants().VK_ERROR_UNKNOWN, raising=False)
    with pytest.raises(DeviceError, match="must accept the kernel scale"):
        fresh_device.load(kernels.scale_program(64))


def test_driver_messages_are_logged(validated_device: Device, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="qga.vulkan"):
        np.testing.assert_array_equal(kernels.run_on(validated_device, kernels.repeat_program(2))[0], 2)
    assert caplog.messages == []
