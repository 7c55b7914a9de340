"""Programs give the right numbers: straight, through the arena, with constants, aliases, loops and splits."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from lowering.errors import GraphError, InputError, UnsupportedError
from lowering.program import ArrayType, Dispatch, Program
from lowering.runtime import Device

from . import kernels

pytestmark = pytest.mark.vulkan_device


def _line(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1009])
def test_run_computes_one_dispatch(any_device: Device, count: int) -> None:
    (result,) = kernels.run_on(any_device, kernels.scale_program(count), _line(count))
    np.testing.assert_array_equal(result, 2 * _line(count) + 1)


def test_run_is_silent_under_validation(validated_device: Device) -> None:
    (result,) = kernels.run_on(validated_device, kernels.chain_program(101, 5), _line(101))
    np.testing.assert_array_equal(result, 32 * _line(101) + 31)
    assert kernels.run_on(validated_device, kernels.while_program(9))[0] == 9
    assert validated_device.messages == []


def test_validation_hears_what_is_wrong(validated_device: Device) -> None:
    before = len(validated_device.messages)
    context = validated_device.parts.context
    from lowering.runtime.structs import Struct

    barrier = Struct("VkMemoryBarrier", srcAccessMask=1 << 30)
    with context.lock, validated_device.parts.queue.transient_locked() as commands:
        null = barrier.pointer.pNext
        context.functions.vkCmdPipelineBarrier(commands, 0x800, 0x800, 0, 1, barrier.pointer, 0, null, 0, null)
        validated_device.parts.queue.finish_locked(commands, "wrong")
    heard = validated_device.messages[before:]
    del validated_device.messages[before:]
    assert heard


def test_run_keeps_order_through_the_arena(any_device: Device) -> None:
    (result,) = kernels.run_on(any_device, kernels.chain_program(257, 12), _line(257))
    np.testing.assert_array_equal(result, 4096 * _line(257) + 4095)


def test_run_passes_results_from_call_to_call(any_device: Device) -> None:
    loaded = any_device.load(kernels.scale_program(64))
    buffer = any_device.allocate(256)
    any_device.upload(buffer, np.zeros(64, np.float32))
    for _ in range(20):
        (buffer,) = loaded.run([buffer])
    result = kernels.fetch(any_device, buffer, kernels.floats(64))
    np.testing.assert_array_equal(result, np.full(64, 2.0**20 - 1, np.float32))


def test_run_reads_constants(any_device: Device) -> None:
    size = 4 * 10
    arguments = (kernels.whole("constant", 1, size), kernels.whole("output", 0, size))
    steps = (Dispatch(0, arguments, (1, 1, 1)),)
    constants = (b"\xff" * 300, _line(10).tobytes())
    program = Program("constant", (kernels.scale(10),), steps, (), (kernels.floats(10),), constants, 0)
    (result,) = kernels.run_on(any_device, program)
    np.testing.assert_array_equal(result, 2 * _line(10) + 1)


def test_run_without_steps_returns_ready_outputs(any_device: Device) -> None:
    program = Program("empty", (), (), (), (kernels.floats(0),), (), 0)
    (output,) = any_device.load(program).run([])
    assert any_device.is_done(output.ready)


def test_run_skips_dispatches_without_workgroups(any_device: Device) -> None:
    steps = (Dispatch(0, (kernels.whole("output", 0, 0),), (0, 1, 1)),)
    program = Program("none", (kernels.number(),), steps, (), (ArrayType("u32", (0,)),), (), 0)
    (result,) = kernels.run_on(any_device, program)
    assert result.size == 0


# --- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000, 5003])
def test_repeat_runs_its_body_count_times(any_device: Device, count: int) -> None:
    (result,) = kernels.run_on(any_device, kernels.repeat_program(count))
    assert result == count


@pytest.mark.parametrize(("count", "inner"), [(3, 4), (3, 700), (700, 3)])
def test_repeat_nests(any_device: Device, count: int, inner: int) -> None:
    (result,) = kernels.run_on(any_device, kernels.repeat_program(count, inner))
    assert result == count * inner


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 100, 777])
def test_while_stops_where_its_condition_says(any_device: Device, limit: int) -> None:
    (result,) = kernels.run_on(any_device, kernels.while_program(limit))
    assert result == limit


def test_while_gives_the_same_answer_after_learning_its_trip_count(any_device: Device) -> None:
    loaded = any_device.load(kernels.while_program(50, step=3))
    for _ in range(4):
        (output,) = loaded.run([])
        assert kernels.fetch(any_device, output, ArrayType("i32", ())) == 51


# --- splitting --------------------------------------------------------------------------------------------------------


def test_dispatch_beyond_the_group_limit_is_split(any_device: Device) -> None:
    count = any_device.capabilities.max_groups[0] + 3
    if count > 1 << 20:
        pytest.skip("the device takes more workgroups than this test's memory")
    steps = (Dispatch(0, (kernels.whole("output", 0, 4 * count),), (count, 1, 1)),)
    program = Program("many", (kernels.number(1),), steps, (), (ArrayType("u32", (count,)),), (), 0)
    (result,) = kernels.run_on(any_device, program)
    np.testing.assert_array_equal(result, np.arange(count, dtype=np.uint32))


# --- aliases and donation ---------------------------------------------------------------------------------------------


def _in_place_program() -> Program:
    """c += 1, where the output takes the memory of the input."""
    steps = (Dispatch(0, (kernels.whole("output", 0, 4),), (1, 1, 1)),)
    kind = ArrayType("i32", ())
    return Program("in_place", (kernels.advance(),), steps, (kind,), (kind,), (), 0, aliases=((0, 0),))


def test_donated_input_gives_its_memory_to_the_output(any_device: Device) -> None:
    buffer = any_device.allocate(4)
    any_device.upload(buffer, np.array(5, np.int32))
    address = buffer.address
    (output,) = any_device.load(_in_place_program()).run([buffer], frozenset({0}))
    assert output.address == address
    assert not buffer.is_alive
    assert kernels.fetch(any_device, output, ArrayType("i32", ())) == 6


def test_kept_input_of_an_alias_is_copied_first(any_device: Device) -> None:
    buffer = any_device.allocate(4)
    any_device.upload(buffer, np.array(5, np.int32))
    (output,) = any_device.load(_in_place_program()).run([buffer])
    assert kernels.fetch(any_device, output, ArrayType("i32", ())) == 6
    assert kernels.fetch(any_device, buffer, ArrayType("i32", ())) == 5


def test_donated_input_without_an_alias_is_freed(any_device: Device) -> None:
    buffer = any_device.allocate(256)
    any_device.upload(buffer, _line(64))
    (output,) = any_device.load(kernels.scale_program(64)).run([buffer], frozenset({0}))
    assert not buffer.is_alive
    np.testing.assert_array_equal(kernels.fetch(any_device, output, kernels.floats(64)), 2 * _line(64) + 1)


def test_run_refuses_a_donated_buffer(any_device: Device) -> None:
    loaded = any_device.load(_in_place_program())
    buffer = any_device.allocate(4)
    any_device.upload(buffer, np.array(5, np.int32))
    loaded.run([buffer], frozenset({0}))
    with pytest.raises(InputError, match="freed or donated"):
        loaded.run([buffer])


def test_run_refuses_a_buffer_donated_twice(any_device: Device) -> None:
    kind = ArrayType("i32", ())
    steps = (Dispatch(0, (kernels.whole("output", 0, 4),), (1, 1, 1)),)
    program = Program("twice", (kernels.advance(),), steps, (kind, kind), (kind,), (), 0, aliases=((0, 0),))
    buffer = any_device.allocate(4)
    with pytest.raises(InputError, match="one buffer as arguments 0, 1"):
        any_device.load(program).run([buffer, buffer], frozenset({0}))


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_run_refuses_wrong_sizes(any_device: Device) -> None:
    loaded = any_device.load(kernels.scale_program(64))
    with pytest.raises(InputError, match=r"\[128\] bytes"):
        loaded.run([any_device.allocate(128)])


def test_inputs_may_be_freed_at_once(any_device: Device) -> None:
    loaded = any_device.load(kernels.scale_program(4096))
    outputs = []
    for value in range(30):
        buffer = any_device.allocate(4 * 4096)
        any_device.upload(buffer, np.full(4096, value, np.float32))
        outputs += loaded.run([buffer])
        buffer.free()
    for value, output in enumerate(outputs):
        assert kernels.fetch(any_device, output, kernels.floats(4096))[4095] == 2 * value + 1


def test_load_refuses_an_unknown_kernel(any_device: Device) -> None:
    program = Program("bad", (), (Dispatch(0, (), (1, 1, 1)),), (), (), (), 0)
    with pytest.raises(GraphError, match="kernel 0"):
        any_device.load(program)


def test_load_refuses_an_unknown_region(any_device: Device) -> None:
    steps = (Dispatch(0, (kernels.whole("arena", 1, 4),), (1, 1, 1)),)
    program = Program("bad", (kernels.put(0),), steps, (), (), (), 0)
    with pytest.raises(GraphError, match="arena 1"):
        any_device.load(program)


def test_load_refuses_too_many_groups_along_y(any_device: Device) -> None:
    groups = (1, any_device.capabilities.max_groups[1] + 1, 1)
    program = Program(
        "bad",
        (kernels.put(0),),
        (Dispatch(0, (kernels.counter_region(),), groups),),
        (),
        (ArrayType("i32", ()),),
        (),
        0,
    )
    with pytest.raises(UnsupportedError, match="along y and z"):
        any_device.load(program)


# --- threads ----------------------------------------------------------------------------------------------------------


def test_run_from_several_threads(any_device: Device) -> None:
    loaded = any_device.load(kernels.chain_program(100, 3))
    wrong: list[int] = []

    def work(value: int) -> None:
        for _ in range(20):
            buffer = any_device.allocate(400)
            any_device.upload(buffer, np.full(100, value, np.float32))
            (output,) = loaded.run([buffer])
            result = kernels.fetch(any_device, output, kernels.floats(100))
            if not (result == 8 * value + 7).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_profile_times_each_dispatch(any_device: Device) -> None:
    loaded = any_device.load(kernels.repeat_program(5))
    times = loaded.profile([])
    assert [time.count for time in times] == [1, 5]
    assert all(time.total_ns > 0 for time in times)
    assert [time.label for time in times] == ["put", "advance"]
