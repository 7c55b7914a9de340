"""Long use of the platform leaves the process and the device as they were."""

from __future__ import annotations

import functools
import gc
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering.runtime import Device
from lowering.runtime import device as runtime_device

MEBIBYTE = 1 << 20
# How often the platform frees what jaxlib gave back, with room for a busy machine.
REAPED_SECONDS = 0.3
WEIGHTS = {"a": (32, 64), "b": (64, 8)}


def resident_bytes() -> int:
    """Return the size of this process in memory."""
    page = 4096
    return int(Path("/proc/self/statm").read_text().split()[1]) * page


@functools.cache
def open_device(vulkan: Any) -> Device:
    """Return the runtime's device behind the platform: of all that tests opened, the one where a new array appears."""
    gc.collect()
    time.sleep(REAPED_SECONDS)
    before = {device: device.statistics()["live_buffers"] for device in list(runtime_device._OPEN)}
    held = jax.device_put(np.float32(0), vulkan).block_until_ready()
    (found,) = [device for device, count in before.items() if device.statistics()["live_buffers"] == count + 1]
    held.delete()
    return found


def settled(vulkan: Any) -> dict[str, int]:
    """Return what is alive on the device once everything that was dropped has been given back.

    Recordings are left out: a program keeps as many as its calls once overlapped, up to a limit of its own.
    """
    gc.collect()
    jax.device_put(np.float32(0), vulkan).block_until_ready()
    time.sleep(REAPED_SECONDS)
    device = open_device(vulkan)
    statistics = device.statistics()
    pipelines = device.live_objects().get("pipeline", 0)
    return {"bytes": statistics["live_bytes"], "buffers": statistics["live_buffers"], "pipelines": pipelines}


def put(vulkan: Any, *shape: int, seed: int = 0) -> jax.Array:
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(np.float32), vulkan)


def loss(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return ((jnp.tanh(x @ weights["a"]) @ weights["b"]) ** 2).mean()


def train(weights: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    value, gradient = jax.value_and_grad(loss)(weights, x)
    return value, jax.tree.map(lambda w, g: w - 0.01 * g, weights, gradient)


@pytest.mark.parametrize("donate", [(), (0,)], ids=["kept", "donated"])
def test_thousand_steps_leave_process_and_device_flat(vulkan: Any, donate: tuple[int, ...]) -> None:
    step = jax.jit(train, donate_argnums=donate)
    weights = {name: put(vulkan, *shape) for name, shape in WEIGHTS.items()}

    def steps(count: int) -> None:
        nonlocal weights
        for number in range(count):
            value, weights = step(weights, put(vulkan, 16, 32, seed=number))
            if number % 10 == 0:
                assert np.isfinite(float(value))

    steps(200)
    before, size = settled(vulkan), resident_bytes()
    steps(1000)
    assert settled(vulkan) == before
    assert resident_bytes() - size < 3 * MEBIBYTE


def test_deleted_arrays_give_everything_back(vulkan: Any) -> None:
    before = settled(vulkan)
    arrays = [put(vulkan, 1 + number, 17) for number in range(50)]
    held = settled(vulkan)
    assert held["buffers"] == before["buffers"] + 50
    for array in arrays[:25]:
        array.delete()
    del arrays, array
    assert settled(vulkan) == before


def test_dropped_functions_give_their_programs_back(vulkan: Any) -> None:
    x = put(vulkan, 7, 11)
    jax.clear_caches()
    before = settled(vulkan)
    constant = np.arange(77, dtype=np.float32).reshape(7, 11)

    def function(number: int) -> Any:
        return jax.jit(lambda a: jnp.sin(a * (number + 2.0)) + constant)

    functions = [function(number) for number in range(5)]
    for each in functions:
        each(x).delete()
    held = settled(vulkan)
    assert held["pipelines"] == before["pipelines"] + 5
    assert held["bytes"] > before["bytes"]
    jax.clear_caches()
    assert settled(vulkan) == before


def test_compiling_again_and_again_leaves_the_process_flat(vulkan: Any) -> None:
    x = put(vulkan, 5)

    def compile_some(start: int, count: int) -> None:
        for number in range(start, start + count):
            _ = jax.jit(lambda a, n=number: jnp.exp(a) * np.float32(n) + a[::-1])(x).block_until_ready()
            jax.clear_caches()

    compile_some(0, 30)
    before, size = settled(vulkan), resident_bytes()
    compile_some(30, 60)
    assert settled(vulkan) == before
    assert resident_bytes() - size < 6 * MEBIBYTE


# Made once: JAX itself remembers something of every new function.
sort = jax.jit(jnp.sort)
broadcast = jax.jit(lambda a: jnp.broadcast_to(a[0], (1 << 36,)))
double = jax.jit(lambda a: a * 2.0, donate_argnums=0)


def _unsupported(x: jax.Array) -> None:
    _ = sort(x)


def _too_large(x: jax.Array) -> None:
    _ = broadcast(x)


def _used_after_donation(x: jax.Array) -> None:
    copied = x + 1.0
    _ = double(copied)
    _ = double(copied)


@pytest.mark.parametrize("failing", [_unsupported, _too_large, _used_after_donation])
def test_exceptions_keep_nothing_alive(vulkan: Any, failing: Callable[[jax.Array], None]) -> None:
    x = put(vulkan, 64)

    def fail(count: int) -> None:
        for _ in range(count):
            with pytest.raises((RuntimeError, ValueError)):
                failing(x)

    fail(5)
    before, size = settled(vulkan), resident_bytes()
    fail(20)
    assert settled(vulkan) == before
    assert resident_bytes() - size < 6 * MEBIBYTE
    assert float(x.sum()) == pytest.approx(float(np.asarray(x).sum()), rel=1e-4)


def test_an_error_in_the_traced_function_keeps_no_array(vulkan: Any) -> None:
    x = put(vulkan, 64)
    kept: list[weakref.ref[Any]] = []

    def broken(a: jax.Array) -> jax.Array:
        doubled = a * 2.0
        kept.append(weakref.ref(doubled))
        raise LookupError("on purpose")

    (x * 2.0).delete()
    before = settled(vulkan)
    for _ in range(5):
        with pytest.raises(LookupError):
            broken(x)
    assert settled(vulkan) == before
    assert all(reference() is None for reference in kept)
