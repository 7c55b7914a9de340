"""Everything a driver says about one device, as plain data: what the plan and the capabilities are decided from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_COMMON = ("VK_KHR_", "VK_EXT_")
# The end of a structure's name that an extension of one vendor defines.
_VENDOR = re.compile(r"[a-z0-9](?!KHR$|EXT$)[A-Z]{2,}$")


@dataclass(frozen=True, slots=True)
class QueueFamily:
    """A family of queues: its VkQueueFlags, how many queues, and how many bits a timestamp has."""

    flags: int
    count: int
    timestamp_bits: int


@dataclass(frozen=True, slots=True)
class MemoryType:
    """A kind of memory: its VkMemoryPropertyFlags and the index of its heap."""

    flags: int
    heap: int


@dataclass(frozen=True, slots=True)
class MemoryHeap:
    """A heap of memory, in bytes, and whether it is the device's own."""

    nbytes: int
    is_device_local: bool


@dataclass(frozen=True, slots=True)
class MatrixEntry:
    """One row of the driver's cooperative matrix tables; component types and scope are Vulkan's numbers.

    For flexible dimensions m, n and k are granularities and `invocations` is the workgroup size they need (else 0).
    """

    m: int
    n: int
    k: int
    a: int
    b: int
    c: int
    result: int
    saturating: bool
    scope: int
    invocations: int = 0


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What one physical device offers.

    `features` maps a feature structure's name to the names of the features that are on; `limits` holds fields of
    the property structures by their Vulkan names.
    """

    name: str
    device_type: str
    vendor_id: int
    device_id: int
    driver_name: str
    driver_version: str
    api_version: tuple[int, int, int]
    uuid: str
    cache_uuid: str
    raw_driver_version: int
    extensions: frozenset[str]
    features: Mapping[str, frozenset[str]]
    limits: Mapping[str, Any]
    families: tuple[QueueFamily, ...]
    memory_types: tuple[MemoryType, ...]
    heaps: tuple[MemoryHeap, ...]
    matrices: tuple[MatrixEntry, ...] = ()
    flexible_matrices: tuple[MatrixEntry, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)

    def has(self, struct: str, feature: str) -> bool:
        """Return whether a feature is offered."""
        return feature in self.features.get(struct, ())

    def without_vendors(self) -> DeviceFacts:
        """Return the facts without what extensions of single vendors offer: what every vendor's driver may have."""
        extensions = frozenset(name for name in self.extensions if name.startswith(_COMMON))
        features = {struct: names for struct, names in self.features.items() if not _VENDOR.search(struct)}
        return replace(self, extensions=extensions, features=features, flexible_matrices=())

    @property
    def device_bytes(self) -> int:
        """Bytes of the largest heap that arrays live in."""
        own = [heap.nbytes for heap in self.heaps if heap.is_device_local]
        return max(own or [heap.nbytes for heap in self.heaps], default=0)
