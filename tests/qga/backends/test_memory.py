"""Arrays have one owner: they are counted, freed once, and never kept alive by who counts them."""

from __future__ import annotations

import gc
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import backends
from qga.errors import OptionError, ShapeError

KIBIBYTE = 1024


def test_arrays_are_counted_from_making_to_freeing(backend: backends.Backend) -> None:
    first = backend.allocate((16, 16))
    second = backend.to_backend(np.ones(512, np.float32))
    assert np.asarray(first).tolist() == np.zeros((16, 16)).tolist()
    assert first.devices() == second.devices() == {backend.device}
    assert backend.statistics()[:5] == (2, 3 * KIBIBYTE, 3 * KIBIBYTE, 2, 0)
    backend.free(first)
    assert first.is_deleted()
    assert backend.statistics()[:5] == (1, 2 * KIBIBYTE, 3 * KIBIBYTE, 2, 1)
    backend.free(second)
    assert backend.statistics()[:5] == (0, 0, 3 * KIBIBYTE, 2, 2)


def test_dropped_and_donated_arrays_are_gone(cpu: backends.Backend) -> None:
    dropped, donated = cpu.allocate(256), cpu.allocate(256)
    result = jax.jit(lambda x: x + 1, donate_argnums=0)(donated)
    assert donated.is_deleted()
    del dropped
    gc.collect()
    assert cpu.statistics()[:5] == (0, 0, 2 * KIBIBYTE, 2, 0)
    # What is gone does not count towards the most that was alive.
    again = cpu.allocate(512)
    assert cpu.statistics()[:3] == (1, 2 * KIBIBYTE, 2 * KIBIBYTE)
    del result, again


def test_memory_goes_back_to_the_device(backend: backends.Backend) -> None:
    counted = backend.statistics().device
    if counted is None:
        assert backend.platform == "cpu", "the CPU of JAX does not count"
        return
    assert all(value >= 0 for value in counted.values())
    array = jax.block_until_ready(backend.allocate(1 << 20))
    during = backend.statistics().device
    backend.free(array)
    after = backend.statistics().device
    assert during is not None
    assert after is not None
    assert during["bytes_in_use"] - after["bytes_in_use"] >= 4 << 20


def test_wrong_frees_are_refused(backend: backends.Backend) -> None:
    mine, donated = backend.allocate(3), backend.to_backend(jnp.ones(3))
    backend.free(mine)
    donated.delete()
    refused = {
        "freed before": mine,
        "donated or deleted elsewhere": donated,
        "not made here: float32": jax.device_put(jnp.ones(3), backend.device),
        "not made here: str": "array",
        "not made here": backends.choose(backend.device).allocate(3),
    }
    for text, array in refused.items():
        with pytest.raises(OptionError, match=text) as caught:
            backend.free(array)
        assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()] == ["free", "got", "want", "fix"]
    assert backend.statistics()[:2] == (0, 0)


def test_array_of_the_same_device_is_copied_before_it_is_owned(backend: backends.Backend) -> None:
    theirs = jax.device_put(jnp.arange(3.0), backend.device)
    mine = backend.to_backend(theirs)
    backend.free(mine)
    assert np.asarray(theirs).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("shape", "dtype", "error"), [
    ((-1,), "float32", ShapeError), ((1.5,), "float32", ShapeError), ((2,), "float64", OptionError),
    ((2,), "int64", OptionError), ((2,), "U4", OptionError),
])  # fmt: skip
def test_wrong_allocations_are_refused(cpu: backends.Backend, shape: tuple, dtype: str, error: type) -> None:
    with pytest.raises(error):
        cpu.allocate(shape, dtype)
    assert cpu.statistics().allocated_count == 0


@pytest.mark.usefixtures("x64")
def test_wide_numbers_are_kept_where_they_are_allowed(cpu: backends.Backend) -> None:
    assert cpu.allocate(2, "float64").dtype == np.float64
    assert cpu.to_backend(np.arange(3)).dtype == np.int64


def test_threads_count_together(cpu: backends.Backend) -> None:
    def work() -> None:
        for _ in range(50):
            cpu.free(cpu.to_backend(np.ones(4, np.float32)))
            cpu.to_backend(np.ones(4, np.float32))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    counted = cpu.statistics()
    assert (counted.live_count, counted.live_bytes) == (0, 0)
    assert (counted.allocated_count, counted.freed_count) == (400, 200)
    assert 16 <= counted.peak_bytes <= 16 * 2 * 400
