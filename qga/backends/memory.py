"""Who owns memory on a device: every array has one owner, is counted, and is freed once."""

from __future__ import annotations

import collections
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ..errors import OptionError, ShapeError, describe, refuse
from .devices import Device
from .tensors import Tensor, check_dtype, framework_of, put, to_torch


class MemoryStatistics(NamedTuple):
    """What a memory owns, and what its device says.

    Attributes:
        live_count: arrays that were neither freed nor dropped nor donated.
        live_bytes: that they take.
        peak_bytes: most bytes alive at once.
        allocated_count: arrays made so far.
        freed_count: of these, those given to ``free``.
        device: what the device counts for everybody who uses it, by JAX's names; None where it does not count.
    """

    live_count: int
    live_bytes: int
    peak_bytes: int
    allocated_count: int
    freed_count: int
    device: Mapping[str, int] | None


@dataclass
class _Entry:
    array: weakref.ref
    nbytes: int
    state: Literal["live", "freed", "gone"] = "live"


class Memory:
    """The arrays that a backend made on its device. Any thread may use it.

    It keeps no array alive: one that nobody holds any more is gone, and counted as such.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._entries: dict[int, _Entry] = {}
        # Arrays die at any time, also while the lock is held: what died is noted here and counted later.
        self._dead: collections.deque[int] = collections.deque()
        self._lock = threading.RLock()
        self._live_bytes = self._peak_bytes = self._allocated = self._freed = 0

    def allocate(self, shape: int | Sequence[int], dtype: DTypeLike = "float32") -> jax.Array:
        """Make an array of zeros on the device; this memory owns it.

        Args:
            shape: length of each axis.
            dtype: of its elements.

        Raises:
            ShapeError: a length is no whole number, or below zero.
            OptionError: JAX has no such dtype, or would make 32 bits of 64.
        """
        lengths = tuple(shape) if isinstance(shape, Iterable) else (shape,)
        if not all(hasattr(size, "__index__") and size >= 0 for size in lengths):
            refuse(
                ShapeError, "allocate: the length of an axis is a whole number.", got=f"shape={shape}",
                want="numbers from zero on", fix="pass one length for each axis.",
            )  # fmt: skip
        check_dtype(jnp.dtype(dtype))
        return self._own(jnp.zeros(lengths, dtype, device=self.device))

    def to_backend(self, tensor: Tensor, *, copy: bool = True) -> jax.Array:
        """Carry a tensor of NumPy, JAX or PyTorch to the device; this memory owns the copy.

        Args:
            tensor: what to carry.
            copy: False to share the memory of the host instead, on the CPU only. Nobody may write into it any more, and
                its owner stays who it is: it is not counted, and cannot be freed here.

        Raises:
            OptionError: the tensor cannot cross as it is.
        """
        if not copy:
            return put(tensor, self.device, copy=False)
        framework_of(tensor)
        if isinstance(tensor, jax.Array):
            return self._own(jax.device_put(tensor, self.device, may_alias=False))
        return self._own(put(tensor, self.device))

    def to_torch(self, array: Tensor, *, copy: bool = True) -> Any:
        """Carry an array to PyTorch, in the memory of the host.

        Args:
            array: of JAX, on any device, or of NumPy.
            copy: False to share memory, which nobody may then write into; only for arrays of the CPU.

        Raises:
            OptionError: PyTorch is not installed, has no such dtype, or memory cannot be shared.
        """
        return to_torch(array, copy=copy)

    def free(self, array: jax.Array) -> None:
        """Give the memory of an array back now, before the last reference to it is gone.

        Work that was started before may go on using it.

        Raises:
            OptionError: the array was freed before, was donated or deleted elsewhere, or is somebody else's.
        """
        with self._lock:
            self._count_dead()
            entry = self._entries.get(id(array))
            if entry is None or entry.array() is not array:
                _refuse_free(array, "an array that was not made here")
            if entry.state == "freed":
                _refuse_free(array, "an array that was freed before")
            if array.is_deleted():
                _refuse_free(array, "an array that was donated or deleted elsewhere")
            self._settle(entry, "freed")
            self._freed += 1
        array.delete()

    def statistics(self) -> MemoryStatistics:
        """Count what is alive."""
        with self._lock:
            self._count_dead()
            self._count_deleted()
            live = sum(entry.state == "live" for entry in self._entries.values())
            counted = live, self._live_bytes, self._peak_bytes, self._allocated, self._freed
        found = self.device.memory_stats()
        # A device that does not count something says -1.
        known = None if found is None else {name: value for name, value in found.items() if value >= 0}
        return MemoryStatistics(*counted, known)

    def _own(self, array: jax.Array) -> jax.Array:
        key = id(array)
        with self._lock:
            self._count_dead()
            self._entries[key] = _Entry(weakref.ref(array, lambda _: self._dead.append(key)), array.nbytes)
            self._allocated += 1
            self._live_bytes += array.nbytes
            if self._live_bytes > self._peak_bytes:
                self._count_deleted()
                self._peak_bytes = max(self._peak_bytes, self._live_bytes)
        return array

    def _count_dead(self) -> None:
        while self._dead:
            self._settle(self._entries.pop(self._dead.popleft()), "gone")

    def _count_deleted(self) -> None:
        """Count what was donated or deleted elsewhere; nobody tells when that happens."""
        for entry in self._entries.values():
            array = entry.array()
            if array is not None and array.is_deleted():
                self._settle(entry, "gone")

    def _settle(self, entry: _Entry, state: Literal["freed", "gone"]) -> None:
        if entry.state == "live":
            self._live_bytes -= entry.nbytes
            entry.state = state


def _refuse_free(array: Any, got: str) -> NoReturn:
    what = describe(array) if isinstance(array, jax.Array) else type(array).__name__
    refuse(
        OptionError, "free: an array is freed once, by the backend that made it.", got=f"{got}: {what}",
        want="an array that is alive, from allocate or to_backend of this backend",
        fix="drop the reference instead: memory goes back with the last one.",
    )  # fmt: skip
