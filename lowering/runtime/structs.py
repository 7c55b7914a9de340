"""Build Vulkan structures that keep everything they point to alive, those newer than the binding's header included."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from .loader import check, constants, interface, type_function

# Structures newer than the header: their sType and their fields, all of them 32 bits wide, after sType and pNext.
# Values: vk.xml 1.4.366.
NEWER: dict[str, tuple[int, tuple[str, ...]]] = {
    "VkPhysicalDeviceShaderBfloat16FeaturesKHR": (
        1000141000,
        ("shaderBFloat16Type", "shaderBFloat16DotProduct", "shaderBFloat16CooperativeMatrix"),
    ),
    "VkPhysicalDeviceShaderSubgroupRotateFeaturesKHR": (
        1000416000,
        ("shaderSubgroupRotate", "shaderSubgroupRotateClustered"),
    ),
    "VkPhysicalDeviceShaderMaximalReconvergenceFeaturesKHR": (1000434000, ("shaderMaximalReconvergence",)),
    "VkPhysicalDeviceShaderFloatControls2FeaturesKHR": (1000528000, ("shaderFloatControls2",)),
    "VkPhysicalDeviceShaderFloat8FeaturesEXT": (1000567000, ("shaderFloat8", "shaderFloat8CooperativeMatrix")),
    "VkPhysicalDeviceCooperativeMatrix2FeaturesNV": (
        1000593000,
        (
            "cooperativeMatrixWorkgroupScope",
            "cooperativeMatrixFlexibleDimensions",
            "cooperativeMatrixReductions",
            "cooperativeMatrixConversions",
            "cooperativeMatrixPerElementOperations",
            "cooperativeMatrixTensorAddressing",
            "cooperativeMatrixBlockLoads",
        ),
    ),
    "VkPhysicalDeviceCooperativeMatrix2PropertiesNV": (
        1000593002,
        (
            "cooperativeMatrixWorkgroupScopeMaxWorkgroupSize",
            "cooperativeMatrixFlexibleDimensionsMaxDimension",
            "cooperativeMatrixWorkgroupScopeReservedSharedMemory",
        ),
    ),
}
FLEXIBLE_DIMENSIONS_TYPE = 1000593001
FLEXIBLE_DIMENSIONS_FIELDS = (
    "MGranularity",
    "NGranularity",
    "KGranularity",
    "AType",
    "BType",
    "CType",
    "ResultType",
    "saturatingAccumulation",
    "scope",
    "workgroupInvocations",
)
_HEADER_WORDS = 4


class Struct:
    """One structure on the heap: `pointer` for calls, field access by name, and its nested objects kept alive."""

    __slots__ = ("_keep", "pointer")

    def __init__(self, name: str, **fields: Any) -> None:
        ffi = interface()
        self.pointer = ffi.new(name + "*")
        self._keep: list[Any] = []
        kind = structure_type(name)
        if kind is not None:
            self.pointer.sType = kind
        for field, value in fields.items():
            setattr(self.pointer, field, self._hold(value))

    def _hold(self, value: Any) -> Any:
        ffi = interface()
        if isinstance(value, Struct | NewerStruct | StructArray):
            self._keep.append(value)
            return value.pointer
        if isinstance(value, str):
            value = ffi.new("char[]", value.encode())
        if isinstance(value, ffi.CData):
            self._keep.append(value)
        return value

    def hold(self, value: Any) -> None:
        """Keep an object alive that a field reaches through a cast pointer."""
        self._keep.append(value)

    def get(self, field: str) -> Any:
        """Return a field's value."""
        return getattr(self.pointer, field)

    def set(self, field: str, value: Any) -> None:
        """Set a field, keeping what it points to alive."""
        setattr(self.pointer, field, self._hold(value))

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields after sType and pNext."""
        described = interface().typeof(self.pointer).item.fields
        return tuple(name for name, _ in described if name not in ("sType", "pNext"))


class NewerStruct:
    """A structure the header lacks, as 32-bit words behind sType and pNext; same interface as `Struct`."""

    __slots__ = ("_keep", "_words", "fields", "pointer")

    def __init__(self, name: str, *, pNext: Any = None) -> None:  # noqa: N803 - Vulkan's own name
        ffi = interface()
        kind, self.fields = NEWER[name]
        # The storage is typed as 64-bit so that pNext is aligned.
        storage = ffi.new("uint64_t[]", 2 + (len(self.fields) + 1) // 2)
        self._words = ffi.cast("uint32_t*", storage)
        self._words[0] = kind
        self._keep = [storage]
        self.pointer = ffi.cast("void*", storage)
        if pNext is not None:
            self.set("pNext", pNext)

    def get(self, field: str) -> int:
        """Return a field's value."""
        return self._words[_HEADER_WORDS + self.fields.index(field)]

    def set(self, field: str, value: Any) -> None:
        """Set a field; `pNext` takes another structure."""
        if field != "pNext":
            self._words[_HEADER_WORDS + self.fields.index(field)] = value
            return
        ffi = interface()
        target = value.pointer if isinstance(value, Struct | NewerStruct) else value
        self._keep.append(value)
        ffi.cast("uint64_t*", self._words)[1] = int(ffi.cast("uintptr_t", target))


class StructArray:
    """An array of structures or handles that keeps the originals, and so whatever they point to, alive."""

    __slots__ = ("_keep", "count", "pointer")

    def __init__(self, name: str, items: Sequence[Any]) -> None:
        self._keep = list(items)
        self.count = len(self._keep)
        self.pointer = interface().new(f"{name}[]", self.count)
        for index, item in enumerate(self._keep):
            self.pointer[index] = item.pointer[0] if isinstance(item, Struct) else item


def string_array(texts: Sequence[str]) -> StructArray:
    """Return a C array of C strings."""
    ffi = interface()
    return StructArray("char*", [ffi.new("char[]", text.encode()) for text in texts])


def make(name: str, **fields: Any) -> Struct | NewerStruct:
    """Build a structure by its Vulkan name, from the header or from the table of newer ones."""
    return NewerStruct(name, **fields) if name in NEWER else Struct(name, **fields)


@functools.cache
def structure_type(name: str) -> int | None:
    """Return the sType of a structure, or None for one that has no sType field.

    The enumerant follows from the name: VkPhysicalDeviceVulkan12Features -> PHYSICAL_DEVICE_VULKAN_1_2_FEATURES.
    """
    described = interface().typeof(name)
    if described.kind != "struct" or not described.fields or described.fields[0][0] != "sType":
        return None
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-zA-Z])(?=[0-9])", "_", name.removeprefix("Vk")).upper()
    words = re.sub(r"VULKAN_(\d)(\d)", r"VULKAN_\1_\2", words)
    return getattr(constants(), "VK_STRUCTURE_TYPE_" + words)


def text_of(characters: Any) -> str:
    """Decode a C string."""
    return interface().string(characters).decode(errors="replace")


class Records(list[Any]):
    """The elements of a C array, and the array that holds them: an element alone does not keep its memory alive."""

    def __init__(self, storage: Any, count: int) -> None:
        super().__init__(storage[index] for index in range(count))
        self.storage = storage


def enumerate_records(function: str, call: type_function, struct: str, *arguments: Any) -> Records:
    """Run Vulkan's two-call enumeration (count, then records) and return the records."""
    ffi = interface()
    count = ffi.new("uint32_t*")
    check(function, call(*arguments, count, ffi.NULL) or 0)
    storage = ffi.new(f"{struct}[]", count[0])
    kind = structure_type(struct)
    if kind is not None:
        for index in range(count[0]):
            storage[index].sType = kind
    check(function, call(*arguments, count, storage) or 0)
    return Records(storage, count[0])
