"""Ask the driver about a physical device and write the answers down as `DeviceFacts`."""

from __future__ import annotations

import uuid
from typing import Any

from .facts import DeviceFacts, MatrixEntry, MemoryHeap, MemoryType, QueueFamily
from .features import CORE, feature_structs
from .instance import Instance
from .loader import Functions, check, constants, interface
from .structs import (
    FLEXIBLE_DIMENSIONS_FIELDS,
    FLEXIBLE_DIMENSIONS_TYPE,
    NewerStruct,
    Struct,
    enumerate_records,
    make,
    text_of,
)

DEVICE_TYPES = ("other", "integrated", "discrete", "virtual", "cpu")
_NVIDIA = 0x10DE
_PROPERTY_STRUCTS = (
    "VkPhysicalDeviceVulkan11Properties",
    "VkPhysicalDeviceVulkan12Properties",
    "VkPhysicalDeviceVulkan13Properties",
)
_EXTENSION_PROPERTIES = {
    "VK_EXT_external_memory_host": "VkPhysicalDeviceExternalMemoryHostPropertiesEXT",
    "VK_NV_cooperative_matrix2": "VkPhysicalDeviceCooperativeMatrix2PropertiesNV",
}


def query_device(instance: Instance, physical: Any) -> DeviceFacts:
    """Return everything the project wants to know about a physical device."""
    functions = instance.functions
    call = functions.vkEnumerateDeviceExtensionProperties
    name = "vkEnumerateDeviceExtensionProperties"
    records = enumerate_records(name, call, "VkExtensionProperties", physical, interface().NULL)
    extensions = frozenset(text_of(record.extensionName) for record in records)
    core, properties = _properties(functions, physical, extensions)
    memory_types, heaps = _memory(functions, physical)
    return DeviceFacts(
        name=text_of(core.deviceName),
        device_type=DEVICE_TYPES[core.deviceType] if core.deviceType < len(DEVICE_TYPES) else "other",
        vendor_id=core.vendorID,
        device_id=core.deviceID,
        driver_name=text_of(properties["driverName"]),
        driver_version=_version_text(core.vendorID, core.driverVersion, text_of(properties["driverInfo"])),
        api_version=(core.apiVersion >> 22 & 0x7F, core.apiVersion >> 12 & 0x3FF, core.apiVersion & 0xFFF),
        uuid=str(uuid.UUID(bytes=bytes(properties["deviceUUID"]))),
        cache_uuid=bytes(core.pipelineCacheUUID).hex(),
        raw_driver_version=core.driverVersion,
        extensions=extensions,
        features=_features(functions, physical, extensions),
        limits=_limits(core.limits),
        families=_families(functions, physical),
        memory_types=memory_types,
        heaps=heaps,
        matrices=_matrices(functions, physical, extensions),
        flexible_matrices=_flexible_matrices(functions, physical, extensions),
        properties={key: value for key, value in properties.items() if isinstance(value, int | float)},
    )


def memory_budget(instance: Instance, physical: Any, heap: int) -> tuple[int, int]:
    """Return the bytes of a heap this process may use and those it uses, as VK_EXT_memory_budget estimates them."""
    budget = Struct("VkPhysicalDeviceMemoryBudgetPropertiesEXT")
    record = Struct("VkPhysicalDeviceMemoryProperties2", pNext=budget)
    instance.functions.vkGetPhysicalDeviceMemoryProperties2(physical, record.pointer)
    return budget.get("heapBudget")[heap], budget.get("heapUsage")[heap]


def _properties(functions: Functions, physical: Any, extensions: frozenset[str]) -> tuple[Any, dict[str, Any]]:
    names = [*_PROPERTY_STRUCTS, *(struct for name, struct in _EXTENSION_PROPERTIES.items() if name in extensions)]
    structs = _chain(names)
    head = Struct("VkPhysicalDeviceProperties2", **({"pNext": structs[0]} if structs else {}))
    functions.vkGetPhysicalDeviceProperties2(physical, head.pointer)
    values: dict[str, Any] = {}
    for struct in structs:
        values.update({field: struct.get(field) for field in struct.fields})
    # The arrays among the values are views of the structures: the head keeps them alive through this entry.
    values[""] = (head, structs)
    return head.pointer.properties, values


def _limits(limits: Any) -> dict[str, Any]:
    ffi = interface()
    found: dict[str, Any] = {}
    for name, _ in ffi.typeof("VkPhysicalDeviceLimits").fields:
        value = getattr(limits, name)
        found[name] = tuple(value) if isinstance(value, ffi.CData) else value
    return found


def _features(functions: Functions, physical: Any, extensions: frozenset[str]) -> dict[str, frozenset[str]]:
    names = feature_structs(extensions)
    structs = _chain(names)
    head = Struct("VkPhysicalDeviceFeatures2", pNext=structs[0])
    functions.vkGetPhysicalDeviceFeatures2(physical, head.pointer)
    core = head.pointer.features
    found = {CORE: frozenset(name for name, _ in interface().typeof(CORE).fields if getattr(core, name))}
    for name, struct in zip(names, structs, strict=True):
        found[name] = frozenset(field for field in struct.fields if struct.get(field))
    return found


def _chain(names: list[str] | tuple[str, ...]) -> list[Struct | NewerStruct]:
    """Build the named structures, each pointing to the next."""
    structs: list[Struct | NewerStruct] = []
    for name in reversed(names):
        structs.insert(0, make(name, pNext=structs[0]) if structs else make(name))
    return structs


def _families(functions: Functions, physical: Any) -> tuple[QueueFamily, ...]:
    call = functions.vkGetPhysicalDeviceQueueFamilyProperties2
    name = "vkGetPhysicalDeviceQueueFamilyProperties2"
    records = enumerate_records(name, call, "VkQueueFamilyProperties2", physical)
    inner = [record.queueFamilyProperties for record in records]
    return tuple(QueueFamily(family.queueFlags, family.queueCount, family.timestampValidBits) for family in inner)


def _memory(functions: Functions, physical: Any) -> tuple[tuple[MemoryType, ...], tuple[MemoryHeap, ...]]:
    head = Struct("VkPhysicalDeviceMemoryProperties2")
    functions.vkGetPhysicalDeviceMemoryProperties2(physical, head.pointer)
    record = head.pointer.memoryProperties
    types = (record.memoryTypes[index] for index in range(record.memoryTypeCount))
    heaps = (record.memoryHeaps[index] for index in range(record.memoryHeapCount))
    local = constants().VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
    return (
        tuple(MemoryType(kind.propertyFlags, kind.heapIndex) for kind in types),
        tuple(MemoryHeap(heap.size, bool(heap.flags & local)) for heap in heaps),
    )


def _matrices(functions: Functions, physical: Any, extensions: frozenset[str]) -> tuple[MatrixEntry, ...]:
    if "VK_KHR_cooperative_matrix" not in extensions:
        return ()
    name = "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"
    records = enumerate_records(name, getattr(functions, name), "VkCooperativeMatrixPropertiesKHR", physical)
    return tuple(
        MatrixEntry(
            row.MSize,
            row.NSize,
            row.KSize,
            row.AType,
            row.BType,
            row.CType,
            row.ResultType,
            bool(row.saturatingAccumulation),
            row.scope,
        )
        for row in records
    )


def _flexible_matrices(functions: Functions, physical: Any, extensions: frozenset[str]) -> tuple[MatrixEntry, ...]:
    """Read VkCooperativeMatrixFlexibleDimensionsPropertiesNV, which the header lacks, as 32-bit words."""
    if "VK_NV_cooperative_matrix2" not in extensions:
        return ()
    ffi = interface()
    name = "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV"
    call = functions.find(name, "VkResult(*)(VkPhysicalDevice, uint32_t*, void*)")
    if call is None:
        return ()
    count = ffi.new("uint32_t*")
    check(name, call(physical, count, ffi.NULL))
    # Header (sType, padding, pNext), ten words of fields, and padding to a multiple of eight bytes.
    stride = 4 + len(FLEXIBLE_DIMENSIONS_FIELDS)
    storage = ffi.new("uint64_t[]", max(1, count[0] * stride // 2))
    words = ffi.cast("uint32_t*", storage)
    for index in range(count[0]):
        words[index * stride] = FLEXIBLE_DIMENSIONS_TYPE
    check(name, call(physical, count, ffi.cast("void*", storage)))
    found: list[MatrixEntry] = []
    for index in range(count[0]):
        start = index * stride + 4
        m, n, k, a, b, c, result, saturating, scope, invocations = (words[start + offset] for offset in range(10))
        found.append(MatrixEntry(m, n, k, a, b, c, result, bool(saturating), scope, invocations))
    return tuple(found)


def _version_text(vendor: int, version: int, information: str) -> str:
    """Return a driver's version: NVIDIA packs four fields its own way, Mesa puts its version into driverInfo."""
    if vendor == _NVIDIA:
        return f"{version >> 22}.{version >> 14 & 0xFF}.{version >> 6 & 0xFF}"
    if information.startswith("Mesa "):
        return information.removeprefix("Mesa ").split(" ")[0]
    return f"{version >> 22}.{version >> 12 & 0x3FF}.{version & 0xFFF}"
