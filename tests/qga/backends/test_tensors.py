"""Arrays of NumPy and of whoever speaks DLPack cross as they are, or are refused."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import backends
from qga.backends.tensors import Framework, framework_of, to_torch
from qga.errors import OptionError

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def read_only() -> np.ndarray:
    array = BASE.copy()
    array.flags.writeable = False
    return array


CROSSING = {
    "plain": BASE, "read-only": read_only(), "transposed": BASE.T, "skipped": BASE[:, ::2, ::-1],
    "broadcast": np.broadcast_to(BASE[0, 0], (3, 4)), "empty": np.zeros((0, 3), np.float32), "scalar": np.float32(3),
    "bfloat16": BASE.astype(jnp.bfloat16), "truths": BASE > 3, "whole": BASE.astype(np.uint8),
    "complex": BASE.astype(np.complex64),
}  # fmt: skip
REFUSED = {
    "int64": np.arange(3), "float64": np.ones(3), "text": np.array(["a"]), "objects": np.array([None]),
    "other byte order": np.ones(3, ">f4"), "long": np.ones(3, np.longdouble), "list": [1.0], "number": 1.0,
    "masked": np.ma.masked_array([1.0, 2.0], [True, False], dtype=np.float32),
}  # fmt: skip


class Foreign:
    """An array of a framework that only speaks DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def aligned(count: int) -> np.ndarray:
    """Return zeros whose memory begins where XLA can use it."""
    space = np.zeros(4 * count + 64, np.uint8)
    first = -space.ctypes.data % 64
    return space[first : first + 4 * count].view(np.float32)


@pytest.mark.parametrize("name", CROSSING)
def test_array_crosses_bit_by_bit(backend: backends.Backend, name: str) -> None:
    host = np.asarray(CROSSING[name])
    there = backend.to_backend(host)
    assert there.dtype == host.dtype
    assert there.shape == host.shape
    assert np.asarray(there).tobytes() == host.tobytes()


@pytest.mark.parametrize("name", REFUSED)
def test_array_that_cannot_cross_as_it_is_is_refused(cpu: backends.Backend, name: str) -> None:
    with pytest.raises(OptionError, match="a tensor must cross to JAX as it is") as caught:
        cpu.to_backend(REFUSED[name])
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == ["got", "want", "fix"]
    assert cpu.statistics().allocated_count == 0


def test_copy_does_not_see_what_is_written_later(backend: backends.Backend) -> None:
    # As JAX would share it.
    host = aligned(1 << 16)
    there = backend.to_backend(host)
    host[:] = 1
    assert not np.asarray(there).any()


def test_memory_is_shared_where_it_was_asked_for(cpu: backends.Backend) -> None:
    host = aligned(1 << 16)
    there = cpu.to_backend(host, copy=False)
    assert there.unsafe_buffer_pointer() == host.ctypes.data
    with pytest.raises(OptionError, match="not made here"):
        cpu.free(there)
    for other in (host[::2], host[1:]):
        with pytest.raises(OptionError, match="copy=False"):
            cpu.to_backend(other, copy=False)


def test_memory_of_another_place_cannot_be_shared(vulkan: Any) -> None:
    with pytest.raises(OptionError, match="copy=False"):
        backends.choose(vulkan).to_backend(BASE, copy=False)


def test_foreign_array_comes_by_dlpack_and_goes_as_one_of_jax(backend: backends.Backend) -> None:
    tiles, _ = backend.split_into_tiles(Foreign(BASE), 2)
    assert isinstance(tiles, jax.Array)
    assert np.array_equal(np.asarray(tiles)[0], BASE)


def test_framework_is_told_without_importing_it() -> None:
    assert [framework_of(each) for each in (BASE, BASE[0, 0, 0], jnp.ones(3), Foreign(BASE))] == [
        Framework.NUMPY, Framework.NUMPY, Framework.JAX, Framework.JAX,
    ]  # fmt: skip


def test_absent_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OptionError, match="PyTorch must be installed") as caught:
        to_torch(jnp.ones(3))
    assert "fix:  pip install torch" in str(caught.value)
