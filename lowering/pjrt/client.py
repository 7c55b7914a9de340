"""The client with its one device and one memory, and the slots that describe them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DeviceError, InputError, UnsupportedError, message
from . import _native as native
from .codes import DTYPES, ELEMENT_TYPES, FOREIGN_ELEMENT_TYPES
from .completions import Completions
from .engine import Device, Engine
from .failures import describe
from .values import NamedValues, Text, Words

logger = logging.getLogger(__name__)

MEMORY_KIND = "device"
# Distinct array types remembered; a buffer keeps its own, so forgetting one is safe.
KINDS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class ArrayKind:
    """dtype and shape of arrays, with the answers that every buffer of that kind gives jaxlib.

    `answers` are the native words of a buffer handle: device, memory, element type, dimensions, rank, bytes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    nbytes: int
    dimensions: Words
    minor_to_major: Words
    answers: bytes

    @property
    def text(self) -> str:
        """dtype[shape], as error messages show it."""
        return f"{dtypes.NAMES[self.dtype]}[{','.join(map(str, self.shape))}]"


class Client:
    """One open engine as jaxlib sees it. Owns the engine; closes it when jaxlib destroys the client."""

    def __init__(self, platform: str, engine: Engine) -> None:
        self.engine = engine
        self.platform = Text(platform)
        self.version = Text(engine.version)
        self.device_kind = Text(engine.name)
        self.device_text = Text(f"{platform.capitalize()}Device(id=0, {engine.name})")
        self.memory_kind = Text(MEMORY_KIND)
        self.memory_text = Text(f"{platform.capitalize()}Memory(id=0, {engine.name})")
        self.no_values = NamedValues({})
        self.attributes = NamedValues(engine.attributes)
        self.fingerprint = int.from_bytes(hashlib.sha256(engine.version.encode()).digest()[:8], "little")
        self.handle = native.new_handle(self, b"")
        self.device_handle = native.new_handle(self, b"")
        self.memory_handle = native.new_handle(self, Words(self.memory_kind.pair).data.tobytes())
        self.devices = Words((self.device_handle,))
        self.memories = Words((self.memory_handle,))
        self.kind: Callable[[str, tuple[int, ...]], ArrayKind] = lru_cache(KINDS_REMEMBERED)(self._make_kind)
        self.last_value = 0
        self.is_exiting = False
        self._transfers = ThreadPoolExecutor(1, thread_name_prefix="vulkan-transfers")
        self._completions = Completions(engine)

    @property
    def device(self) -> Device:
        """The engine's device, opened by its first use."""
        return self.engine.device

    def _make_kind(self, dtype: str, shape: tuple[int, ...]) -> ArrayKind:
        numpy_dtype = dtypes.NUMPY[dtype]
        nbytes = int(np.prod(shape, dtype=np.int64)) * numpy_dtype.itemsize
        dimensions = Words(shape)
        answers = Words(
            (self.device_handle, self.memory_handle, ELEMENT_TYPES[dtype], dimensions.address, len(shape), nbytes)
        )
        order = Words(reversed(range(len(shape))))
        return ArrayKind(numpy_dtype, shape, nbytes, dimensions, order, answers.data.tobytes())

    def kind_of(self, element_type: int, shape: tuple[int, ...]) -> ArrayKind:
        """Return the kind of arrays with this PJRT element type and shape."""
        dtype = DTYPES.get(element_type)
        if dtype is not None:
            return self.kind(dtype, shape)
        name = FOREIGN_ELEMENT_TYPES.get(element_type, f"PJRT element type {element_type}")
        raise UnsupportedError(
            message(
                "platform vulkan: every array must have a dtype that the compiler knows.",
                got=f"{name}[{','.join(map(str, shape))}]",
                want=", ".join(ELEMENT_TYPES),
                fix="convert the array with astype before it goes to the device.",
            )
        )

    def event_at(self, value: int) -> int:
        """Return an event (of jaxlib) that completes when the device's timeline reaches `value`."""
        if self.device.is_done(value):
            return native.READY
        event = native.new_event()

        def complete(error: Exception | None) -> None:
            code, text = (0, b"") if error is None else describe(error)
            native.complete_event(event, code, text)

        self.device.when_done(value, complete)
        return event

    def completion_at(self, value: int) -> int:
        """Return an event that completes soon after the timeline reaches `value`: for whole calls, not for arrays."""
        if self.is_exiting:
            return self.event_at(value)
        return self._completions.event_at(value)

    def in_background(self, job: Callable[[], Any]) -> None:
        """Run a job that waits for the device on the one transfer thread, here and now once the process exits."""
        try:
            self._transfers.submit(job)
        except RuntimeError:  # the thread takes no jobs once the interpreter has begun to exit
            job()

    def settle(self) -> None:
        """Wait until everything submitted so far is finished and its events are completed."""
        self._transfers.shutdown()
        self._completions.stop()
        if not self.engine.is_open:
            return
        try:
            self.device.wait(self.last_value)
        except DeviceError as error:
            # Whoever waits for a result gets this error with it; here it must not keep the process from ending.
            logger.warning("the device did not finish its work: %s", error)

    def close(self) -> None:
        """Give back the handles and close the device."""
        self.settle()
        if self.engine.is_open:
            self.device.close()
        for handle in (self.memory_handle, self.device_handle, self.handle):
            native.release(handle)


def close(client: Client) -> None:
    """Close the client: jaxlib holds no object of it any more. At exit the device was closed before."""
    if not client.is_exiting:
        client.close()


def platform_name(client: Client) -> tuple[int, int]:
    """Return the name of the platform."""
    return client.platform.pair


def platform_version(client: Client) -> tuple[int, int]:
    """Return the versions of driver and compiler as text."""
    return client.version.pair


def topology(client: Client) -> int:
    """Return the handle of the topology, which is the client's own."""
    return client.handle


def devices(client: Client) -> tuple[int, int]:
    """Return the list of devices."""
    return client.devices.pair


def lookup_device(client: Client, id: int) -> int:
    """Return the device with this number."""
    if id != 0:
        raise InputError(
            message(
                "platform vulkan: a device must exist to be looked up.",
                got=f"device {id}",
                want="device 0, the only one of this process",
                fix="choose another physical device with QGA_VULKAN_DEVICE.",
            )
        )
    return client.device_handle


def lookup_addressable_device(client: Client, local_hardware_id: int) -> int:
    """Return the device with this local number."""
    return lookup_device(client, local_hardware_id)


def memories(client: Client) -> tuple[int, int]:
    """Return the list of memories."""
    return client.memories.pair


def assign_devices(default_assignment: int, default_assignment_size: int) -> None:
    """Fill the assignment of replicas and partitions with device 0."""
    nbytes = 4 * default_assignment_size
    native.view(default_assignment, nbytes, True)[:] = bytes(nbytes)


def topology_fingerprint(topology: Client) -> int:
    """Return a number that changes with driver and compiler."""
    return topology.fingerprint


def topology_name(topology: Client) -> tuple[int, int]:
    """Return the name of the platform."""
    return topology.platform.pair


def topology_version(topology: Client) -> tuple[int, int]:
    """Return the versions of driver and compiler as text."""
    return topology.version.pair


def topology_devices(topology: Client) -> tuple[int, int]:
    """Return the descriptions of the devices; a device describes itself."""
    return topology.devices.pair


def topology_attributes(topology: Client) -> tuple[int, int]:
    """Return no attributes."""
    return topology.no_values.pair


def description(device: Client) -> int:
    """Return the description of a device, which has the device's own handle."""
    return device.device_handle


def device_attributes(device: Client) -> tuple[int, int, int, int]:
    """Return the attributes, and what to call when they are no longer needed."""
    return (*device.attributes.pair, device.device_handle, native.NOTHING)


def device_memories(device: Client) -> tuple[int, int]:
    """Return the one memory of the device."""
    return device.memories.pair


def default_memory(device: Client) -> int:
    """Return the memory where arrays go."""
    return device.memory_handle


def description_attributes(device_description: Client) -> tuple[int, int]:
    """Return the attributes: count, then address."""
    address, count = device_description.attributes.pair
    return count, address


def device_kind(device_description: Client) -> tuple[int, int]:
    """Return the name that the driver gives the device."""
    return device_description.device_kind.pair


def device_text(device_description: Client) -> tuple[int, int]:
    """Return the text that stands for the device in messages."""
    return device_description.device_text.pair


def memory_text(memory: Client) -> tuple[int, int]:
    """Return the text that stands for the memory in messages."""
    return memory.memory_text.pair


def memory_devices(memory: Client) -> tuple[int, int]:
    """Return the devices that reach the memory."""
    return memory.devices.pair


def zero() -> int:
    """Answer 0: process index, device number, memory kind number, size of generated code."""
    return 0


def one() -> int:
    """Answer 1: yes."""
    return 1


# For each field of PJRT_Device_MemoryStats after the first: what the runtime calls it, None where it has nothing alike.
_STATISTICS = (
    "peak_live_bytes",
    None,  # number of allocations ever made
    None,  # largest allocation
    "limit_bytes",
    None,  # bytes reserved outside the pool
    None,  # their peak
    None,  # their limit
    None,  # largest free block
    "reserved_bytes",
    None,  # its peak
    None,  # peak of allocated bytes
)


def memory_statistics(device: Client) -> tuple[int, ...]:
    """Return bytes in use, then a value and whether it is known for each of the other statistics."""
    counted = device.device.statistics()
    result = [counted["live_bytes"]]
    for name in _STATISTICS:
        result += [counted.get(name, 0), int(name in counted)] if name is not None else [0, 0]
    return tuple(result)


def nothing() -> None:
    """Do nothing: what would be destroyed lives as long as the client."""
