"""Memory: pools, reuse, running out, big arrays, host memory used in place, transfers."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import numpy as np
import pytest

from lowering.errors import DeviceMemoryError, InputError
from lowering.program import ArrayType, Dispatch, Program
from lowering.runtime import Buffer, Device
from lowering.runtime import blocks as blocks_module
from lowering.runtime.memory import MEBIBYTE
from shaders.kernel import Parameter
from shaders.spirv import Builder

from . import kernels

pytestmark = pytest.mark.vulkan_device


def _put(device: Device, array: np.ndarray) -> Buffer:
    buffer = device.allocate(array.nbytes)
    device.upload(buffer, array)
    return buffer


def _get(device: Device, buffer: Buffer, like: np.ndarray) -> np.ndarray:
    result = np.empty_like(like)
    device.download(buffer, result)
    return result


# --- allocating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 255, 256, 257, 100_000])
def test_allocate_aligns_addresses(fresh_device: Device, nbytes: int) -> None:
    buffers = [fresh_device.allocate(nbytes) for _ in range(3)]
    assert all(buffer.address % 256 == 0 and buffer.nbytes == nbytes for buffer in buffers)
    assert len({buffer.address for buffer in buffers}) == 3


def test_free_twice_is_free_once(fresh_device: Device) -> None:
    buffer = fresh_device.allocate(512)
    before = fresh_device.statistics()["live_buffers"]
    buffer.free()
    buffer.free()
    del buffer
    gc.collect()
    assert fresh_device.statistics()["live_buffers"] == before - 1


def test_freed_memory_is_used_again(fresh_device: Device) -> None:
    address = fresh_device.allocate(4096).address
    assert fresh_device.allocate(4096).address == address


def test_a_large_array_gets_an_allocation_of_its_own_and_reuses_it(fresh_device: Device) -> None:
    nbytes = 150 * MEBIBYTE
    address = fresh_device.allocate(nbytes).address
    reserved = fresh_device.statistics()["reserved_bytes"]
    assert fresh_device.allocate(nbytes - MEBIBYTE).address == address
    assert fresh_device.statistics()["reserved_bytes"] == reserved


def test_freeing_from_many_threads_and_finalizers(fresh_device: Device) -> None:
    before = fresh_device.statistics()["live_buffers"]

    def work() -> None:
        for size in range(200):
            buffer = fresh_device.allocate(size)
            if size % 2:
                buffer.free()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert fresh_device.statistics()["live_buffers"] == before


def test_out_of_memory_says_what_is_live(fresh_device: Device) -> None:
    kept = fresh_device.allocate(3 * MEBIBYTE)
    with pytest.raises(DeviceMemoryError, match=r"live 3\.0 MiB in 1 buffers") as caught:
        fresh_device.allocate(1 << 46)
    assert isinstance(caught.value, MemoryError)
    assert "donate_argnums" in str(caught.value)
    # The device goes on working.
    np.testing.assert_array_equal(_get(fresh_device, _put(fresh_device, np.ones(3)), np.ones(3)), np.ones(3))
    assert kept.is_alive


def test_running_out_gives_idle_memory_back_first(fresh_device: Device) -> None:
    fresh_device.allocate(200 * MEBIBYTE).free()
    assert fresh_device.statistics()["reserved_bytes"] >= 200 * MEBIBYTE
    with pytest.raises(DeviceMemoryError):
        fresh_device.allocate(1 << 46)
    assert fresh_device.statistics()["reserved_bytes"] < 64 * MEBIBYTE


def test_an_array_beyond_four_gibibytes(fresh_device: Device) -> None:
    nbytes = (4 << 30) + (1 << 28)
    count = nbytes // 4
    builder = Builder("ends", workgroup=(1, 1, 1), parameters=(Parameter("x", "u32", "w"),))
    values = builder.buffer("x")
    values[0] = builder.const("u32", 5)
    values[builder.const("u64", count - 1)] = builder.const("u32", 77)
    steps = (Dispatch(0, (kernels.whole("output", 0, nbytes),), (1, 1, 1)),)
    program = Program("ends", (builder.finish(),), steps, (), (ArrayType("u32", (count,)),), (), 0)
    loaded = fresh_device.load(program)
    try:
        (output,) = loaded.run([])
    except DeviceMemoryError as error:
        pytest.skip(str(error).splitlines()[0])
    read = fresh_device.parts.transfers.read_word
    assert (read(output, 0, output.ready), read(output, nbytes - 4, output.ready)) == (5, 77)


def test_windows_cover_a_block_beyond_the_largest_buffer(any_device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "WINDOW_BYTES", MEBIBYTE)
    context = any_device.parts.context
    monkeypatch.setitem(context.facts.properties, "maxBufferSize", MEBIBYTE)  # pyright: ignore[reportArgumentType]
    array = np.arange(40 * MEBIBYTE // 4 + 5, dtype=np.uint32)
    memory = any_device.parts.memory
    monkeypatch.setattr(memory.arrays, "block_bytes", 2 * MEBIBYTE)
    buffer = _put(any_device, array)
    assert len(buffer.block.windows) == 41
    np.testing.assert_array_equal(_get(any_device, buffer, array), array)


# --- transfers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 1000, 5_000_017])
def test_upload_and_download_round_trip(any_device: Device, count: int) -> None:
    array = np.arange(count, dtype=np.int64)
    np.testing.assert_array_equal(_get(any_device, _put(any_device, array), array), array)


def test_upload_takes_bytes_memoryviews_and_strided_arrays(any_device: Device) -> None:
    array = np.arange(60, dtype=np.float32).reshape(6, 10)
    strided = np.asfortranarray(array)[::2]
    for source in (strided.tobytes(), memoryview(np.ascontiguousarray(strided)), strided):
        buffer = any_device.allocate(strided.nbytes)
        any_device.upload(buffer, source)
        np.testing.assert_array_equal(_get(any_device, buffer, np.ascontiguousarray(strided)), strided)


def test_download_fills_strided_arrays(any_device: Device) -> None:
    array = np.arange(60, dtype=np.float32).reshape(6, 10)
    target = np.zeros((6, 20), np.float32)[:, ::2]
    any_device.download(_put(any_device, array), target)
    np.testing.assert_array_equal(target, array)


def test_upload_refuses_other_sizes_and_freed_buffers(any_device: Device) -> None:
    buffer = any_device.allocate(16)
    with pytest.raises(InputError, match="12 bytes on the host, 16 on the device"):
        any_device.upload(buffer, bytes(12))
    buffer.free()
    with pytest.raises(InputError, match="freed or donated"):
        any_device.upload(buffer, bytes(16))
    with pytest.raises(InputError, match="freed or donated"):
        any_device.download(buffer, np.empty(16, np.uint8))


def test_upload_into_recycled_memory_does_not_disturb_running_work(any_device: Device) -> None:
    loaded = any_device.load(kernels.chain_program(1 << 16, 20))
    for value in range(6):
        buffer = _put(any_device, np.full(1 << 16, value, np.float32))
        (output,) = loaded.run([buffer])
        # The memory of the input goes straight to the next upload while the program may still read it.
        buffer.free()
        other = _put(any_device, np.full(1 << 16, 1e9, np.float32))
        result = kernels.fetch(any_device, output, kernels.floats(1 << 16))
        assert (result == 2**20 * value + 2**20 - 1).all()
        other.free()


# --- host memory in place ---------------------------------------------------------------------------------------------


def _aligned_array(count: int) -> np.ndarray:
    raw = np.zeros(count + 64, np.float32)
    start = -raw.ctypes.data % 256 // 4
    return raw[start : start + count]


def _imported(device: Device, array: np.ndarray) -> Buffer:
    buffer = device.import_host(array)
    if buffer is None:
        assert device.capabilities.host_import_alignment is None
        pytest.skip("the driver cannot import host memory")
    return buffer


def test_import_host_reads_the_array_itself(any_device: Device) -> None:
    array = _aligned_array(1 << 18)
    array[:] = 3
    buffer = _imported(any_device, array)
    (output,) = any_device.load(kernels.scale_program(1 << 18)).run([buffer])
    assert (kernels.fetch(any_device, output, kernels.floats(1 << 18)) == 7).all()


def test_import_host_keeps_the_array_until_the_device_is_done(fresh_device: Device) -> None:
    array = _aligned_array(1 << 12)
    buffer = _imported(fresh_device, array)
    (output,) = fresh_device.load(kernels.scale_program(1 << 12)).run([buffer])
    owner = weakref.ref(array.base)
    del array
    assert owner() is not None
    buffer.free()
    fresh_device.wait(output.ready)
    fresh_device.statistics()
    gc.collect()
    assert owner() is None


def test_import_host_refuses_what_is_not_aligned(any_device: Device) -> None:
    assert any_device.import_host(_aligned_array(1000)[1:]) is None
    assert any_device.import_host(_aligned_array(1000)[::2]) is None


def test_donating_imported_memory_does_not_change_it(any_device: Device) -> None:
    array = _aligned_array(64)
    buffer = _imported(any_device, array.view(np.int32))
    kind = ArrayType("i32", (64,))
    steps = (Dispatch(0, (kernels.whole("output", 0, 4),), (1, 1, 1)),)
    program = Program("in_place", (kernels.advance(),), steps, (kind,), (kind,), (), 0, aliases=((0, 0),))
    (output,) = any_device.load(program).run([buffer], frozenset({0}))
    assert kernels.fetch(any_device, output, kind)[0] == 1
    assert array.view(np.int32)[0] == 0


def test_process_size_stays_flat(fresh_device: Device) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    loaded = fresh_device.load(kernels.chain_program(1000, 3))

    def steps(number: int) -> int:
        for _ in range(number):
            (output,) = loaded.run([_put(fresh_device, np.zeros(1000, np.float32))])
        fresh_device.wait(output.ready)
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = steps(300)
    assert steps(1000) - before < 2 * MEBIBYTE
