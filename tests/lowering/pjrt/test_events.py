"""Asynchronous completion: dispatch returns at once, waiting waits, transfers see finished values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PROGRAM = """
device = start(delay_seconds=0.2)
f = jax.jit(lambda a: a * 2 + 1)
x = jax.device_put(np.ones(4, np.float32), device)
f(x).block_until_ready()
begin = time.perf_counter()
ys = [f(x) for _ in range(3)]
facts["dispatch"] = time.perf_counter() - begin
facts["ready at once"] = ys[-1].is_ready()
ys[-1].block_until_ready()
facts["block"] = time.perf_counter() - begin
facts["ready then"] = ys[-1].is_ready()
begin = time.perf_counter()
facts["value"] = np.asarray(f(x)).tolist()
facts["asarray"] = time.perf_counter() - begin
y = f(x)
y.copy_to_host_async()
facts["value of async copy"] = np.asarray(y).tolist()
y = f(x)
y.delete()
z = f(f(x))
facts["value after deleted one"] = np.asarray(z).tolist()
copy = jax.device_put(f(x), device, may_alias=False)
facts["value of a copy"] = np.asarray(copy).tolist()
g = jax.jit(lambda a: a * 3, donate_argnums=0)
large = f(jax.device_put(np.ones(1 << 20, np.float32), device))
large.copy_to_host_async()
tripled = g(large)
facts["donated while it is copied"] = [float(np.asarray(tripled)[0]), large.is_deleted()]
begin = time.perf_counter()
"""

LOST = """
class Lost(numpy_engine.NumpyDevice):
    def when_done(self, value, callback):
        from lowering.errors import DeviceError
        threading.Timer(0.05, lambda: callback(DeviceError("device: lost in a test"))).start()
    def is_done(self, value):
        return False
pjrt.register(lambda: numpy_engine.NumpyEngine(Lost()))
device = jax.devices("vulkan")[0]
x = jax.device_put(np.ones(4, np.float32), device)
y = jax.jit(lambda a: a + 1)(x)
facts["lost"] = outcome(lambda: str(y.block_until_ready()))
"""


@pytest.fixture(scope="module")
def facts(run_facts: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_facts(PROGRAM)


def test_dispatch_returns_before_the_device_is_done(facts: dict[str, Any]) -> None:
    assert facts["dispatch"] < 0.2
    assert facts["ready at once"] is False


def test_block_until_ready_waits(facts: dict[str, Any]) -> None:
    assert facts["block"] > 0.15
    assert facts["ready then"] is True


def test_asarray_waits_for_the_value(facts: dict[str, Any]) -> None:
    assert facts["asarray"] > 0.15
    assert facts["value"] == [3, 3, 3, 3]


@pytest.mark.parametrize("what", ["value of async copy", "value of a copy"])
def test_copies_wait_for_the_value(facts: dict[str, Any], what: str) -> None:
    assert facts[what] == [3, 3, 3, 3]


def test_deleting_a_pending_array_harms_nobody(facts: dict[str, Any]) -> None:
    assert facts["value after deleted one"] == [7, 7, 7, 7]


def test_array_that_is_being_copied_is_not_taken_over(facts: dict[str, Any]) -> None:
    assert facts["donated while it is copied"] == [9, True]


def test_lost_device_is_reported_to_who_waits(run_facts: Callable[..., dict[str, Any]]) -> None:
    assert "device: lost in a test" in run_facts(LOST)["lost"]
