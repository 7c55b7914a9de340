"""Devices open, list, count what lives, report loss, and close cleanly, also when the process just ends."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from lowering.errors import DeviceError
from lowering.program import ArrayType
from lowering.runtime import Device, Settings, list_devices
from lowering.runtime.loader import constants

from . import kernels
from .conftest import open_or_skip

pytestmark = pytest.mark.vulkan_device
ROOT = Path(__file__).parents[3]


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- opening ----------------------------------------------------------------------------------------------------------


def test_list_devices_names_the_opened_one(fresh_device: Device) -> None:
    records = list_devices()
    assert fresh_device.record.uuid in [record.uuid for record in records]
    assert [record.index for record in records] == list(range(len(records)))


def test_open_by_index_name_and_uuid(fresh_device: Device) -> None:
    record = fresh_device.record
    for selector in (str(record.index), record.name[2:8], record.uuid):
        with Device.open(selector) as device:
            assert device.name == record.name


def test_open_refuses_an_unknown_device(fresh_device: Device) -> None:
    with pytest.raises(DeviceError, match=fresh_device.name.split(" ")[0]):
        Device.open("no such device")


def test_open_without_the_loader_runs_programs() -> None:
    device = open_or_skip(loader="direct")
    with device:
        source = next(record.source for record in list_devices(device.settings) if record.uuid == device.record.uuid)
        assert "libvulkan.so" not in source
        (result,) = kernels.run_on(device, kernels.repeat_program(7))
        assert result == 7


def test_validation_without_the_loader_says_what_is_missing() -> None:
    open_or_skip(loader="direct").close()
    with pytest.raises(DeviceError, match="validation layer"):
        Device.open(settings=Settings(loader="direct", validation="core"))


def test_no_driver_says_what_to_install(tmp_path: Path) -> None:
    code = """
        from lowering.errors import DeviceError
        from lowering.runtime import Device
        try:
            Device.open()
        except DeviceError as error:
            print(error)
    """
    done = _python(code, VK_DRIVER_FILES=str(tmp_path / "none.json"), VK_ICD_FILENAMES=str(tmp_path / "none.json"))
    assert "mesa-vulkan-drivers" in done.stdout, done.stderr


def test_importing_the_runtime_opens_nothing() -> None:
    code = """
        import sys
        import lowering.runtime
        print(sorted({"jax", "vulkan", "cffi", "lowering.runtime._definitions"} & set(sys.modules)))
        with open("/proc/self/maps") as maps:
            print("libvulkan" in maps.read())
    """
    assert _python(code).stdout.split("\n")[:2] == ["[]", "False"]


# --- counting ---------------------------------------------------------------------------------------------------------


def test_everything_returns_to_zero(fresh_device: Device) -> None:
    loaded = fresh_device.load(kernels.chain_program(100, 4))
    buffer = fresh_device.allocate(400)
    outputs = loaded.run([buffer])
    fresh_device.wait(outputs[0].ready)
    del loaded, buffer, outputs
    gc.collect()
    fresh_device.statistics()
    statistics = fresh_device.statistics()
    assert (statistics["live_buffers"], statistics["live_bytes"]) == (0, 0)
    # The scratch memory of arenas stays for the next program.
    assert statistics["scratch_bytes"] > 0
    assert set(fresh_device.live_objects()) <= {"buffer", "memory"}
    fresh_device.close()
    assert fresh_device.live_objects() == {}


def test_calls_do_not_accumulate_objects(fresh_device: Device) -> None:
    loaded = fresh_device.load(kernels.chain_program(100, 4))
    buffer = fresh_device.allocate(400)

    def calls(number: int) -> dict[str, int]:
        # How many calls are in flight, and with them how many command buffers, is up to the device otherwise.
        for _ in range(number):
            (output,) = loaded.run([buffer])
            fresh_device.wait(output.ready)
        return fresh_device.live_objects()

    before = calls(50)
    assert calls(500) == before


def test_statistics_count_live_bytes(fresh_device: Device) -> None:
    before = fresh_device.statistics()["live_bytes"]
    buffer = fresh_device.allocate(1000)
    assert fresh_device.statistics()["live_bytes"] - before == 1024
    buffer.free()
    assert fresh_device.statistics()["live_bytes"] == before


# --- events -----------------------------------------------------------------------------------------------------------


def test_when_done_calls_back_for_every_value(fresh_device: Device) -> None:
    loaded = fresh_device.load(kernels.repeat_program(500))
    finished, errors = threading.Semaphore(0), []

    def callback(error: DeviceError | None) -> None:
        errors.append(error)
        finished.release()

    values = [loaded.run([])[0].ready for _ in range(10)]
    for value in reversed(values):
        fresh_device.when_done(value, callback)
    assert all(finished.acquire(timeout=30) for _ in values)
    assert errors == [None] * 10


def test_when_done_survives_a_callback_that_raises(fresh_device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BaseException | None] = []
    finished, reported = threading.Event(), threading.Event()

    def report(details: threading.ExceptHookArgs) -> None:
        seen.append(details.exc_value)
        reported.set()

    monkeypatch.setattr(threading, "excepthook", report)

    def broken(error: DeviceError | None) -> None:
        raise ValueError("broken")

    loaded = fresh_device.load(kernels.repeat_program(2000))
    (output,) = loaded.run([])
    fresh_device.when_done(output.ready, broken)
    fresh_device.when_done(output.ready, lambda error: finished.set())
    # A device that is done by the second call runs its callback in this thread, perhaps before the other.
    assert finished.wait(30)
    assert reported.wait(30)
    assert [str(error) for error in seen] == ["broken"]


def test_when_done_runs_at_once_for_a_value_that_is_reached(fresh_device: Device) -> None:
    threads: list[threading.Thread] = []
    fresh_device.when_done(0, lambda error: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


# --- losing and closing -----------------------------------------------------------------------------------------------


def test_a_lost_device_names_the_last_program(fresh_device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fresh_device.load(kernels.repeat_program(3))
    (output,) = loaded.run([])
    fresh_device.wait(output.ready)
    queue = fresh_device.parts.queue
    monkeypatch.setattr(queue, "_submit_function", lambda *_: constants().VK_ERROR_DEVICE_LOST)
    with pytest.raises(DeviceError, match="the last program submitted was repeat"):
        loaded.run([])
    monkeypatch.undo()
    for call in (lambda: loaded.run([]), lambda: fresh_device.wait(99), lambda: fresh_device.allocate(1 << 30)):
        with pytest.raises(DeviceError, match="was lost"):
            call()
    heard: list[DeviceError | None] = []
    done = threading.Event()
    fresh_device.when_done(queue.tick + 1, lambda error: (heard.append(error), done.set()))
    assert done.wait(30)
    assert isinstance(heard[0], DeviceError)


def test_close_twice_and_use_after_close() -> None:
    device = open_or_skip()
    loaded = device.load(kernels.repeat_program(3))
    buffer = device.allocate(16)
    device.close()
    device.close()
    for call in (
        lambda: loaded.run([]),
        lambda: device.allocate(4),
        lambda: device.upload(buffer, bytes(16)),
        lambda: device.wait(1),
    ):
        with pytest.raises(DeviceError, match="after close"):
            call()
    buffer.free()


def test_wait_refuses_a_value_that_was_never_submitted(fresh_device: Device) -> None:
    with pytest.raises(DeviceError, match="submitted"):
        fresh_device.wait(1 << 40)


def test_process_ends_cleanly_with_work_in_flight() -> None:
    open_or_skip().close()
    code = """
        import threading
        from lowering.runtime import Device
        from tests.lowering.runtime import kernels
        device = Device.open()
        loaded = device.load(kernels.repeat_program(3000))
        outputs = [loaded.run([]) for _ in range(5)]
        device.when_done(outputs[-1][0].ready, lambda error: print("done", error))
        print("end")
    """
    done = _python(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split("\n"))[1:] == ["done None", "end"]


def test_synchronization_validation_is_silent() -> None:
    with open_or_skip(validation="sync", labels=True) as device:
        kernels.run_on(device, kernels.chain_program(100, 3), np.zeros(100, np.float32))
        assert kernels.run_on(device, kernels.while_program(5))[0] == 5
        assert device.messages == []


def test_labels_name_dispatches() -> None:
    with open_or_skip(labels=True) as device:
        (result,) = kernels.run_on(device, kernels.scale_program(8), np.ones(8, np.float32))
        np.testing.assert_array_equal(result, 3)
        assert "VK_EXT_debug_utils" in device.parts.context.instance.extensions


def test_capabilities_are_those_of_the_opened_device(fresh_device: Device) -> None:
    capabilities = fresh_device.capabilities
    assert capabilities.device_name == fresh_device.name
    assert capabilities.min_subgroup_size <= capabilities.subgroup_size <= capabilities.max_subgroup_size
    assert "basic" in capabilities.subgroup_operations
    assert type(capabilities).from_text(capabilities.to_text()) == capabilities


def test_scalar_output_kind() -> None:
    # Guards the helper that the tests above rely on.
    assert kernels.repeat_program(1).outputs == (ArrayType("i32", ()),)
