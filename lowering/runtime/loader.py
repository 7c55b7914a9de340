"""The one place that touches the Vulkan binding: C definitions, entry points, structures and result codes.

The `vulkan` package supplies the definitions (a compiled cffi module). Its Python wrappers are never used: they lose
nested arrays, raise on a time-out and cost five times as much. Structures newer than its header are in `structs.py`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import DeviceError, DeviceMemoryError, message
from .icd import driver_libraries
from .settings import LoaderChoice

LOADER_NAMES = ("libvulkan.so.1", "libvulkan.1.dylib", "vulkan-1.dll")
# Version 5 of the interface between loader and driver: the newest one that needs no surface or layer support.
ICD_INTERFACE_VERSION = 5

type_function = Callable[..., Any]


class LostError(DeviceError):
    """VK_ERROR_DEVICE_LOST, before the device has added which program ran."""


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A way into Vulkan: the loader, or one driver opened directly."""

    source: str
    get_instance_function: type_function
    is_loader: bool


@functools.cache
def definitions() -> ModuleType:
    """Load the compiled C definitions of the `vulkan` package, not the package: importing it would open the loader."""
    package = importlib.util.find_spec("vulkan")
    if package is None or not package.submodule_search_locations:
        raise DeviceError(
            message(
                "Vulkan needs the Python package `vulkan` for its C definitions.",
                got="no such package in this environment",
                want="vulkan >= 1.3.275",
                fix="pip install vulkan",
            )
        )
    path = Path(package.submodule_search_locations[0]) / "_vulkancache.py"
    spec = importlib.util.spec_from_file_location("lowering.runtime._definitions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def interface() -> Any:
    """Return cffi's FFI object with Vulkan's types."""
    return definitions().ffi


@functools.cache
def constants() -> Any:
    """Return an object whose attributes are Vulkan's enumeration values; it needs no Vulkan library."""
    return interface().dlopen(None)


def entry_points(choice: LoaderChoice = "auto") -> list[EntryPoint]:
    """Return the loader, or every driver library that opens when there is no loader or `choice` is "direct"."""
    if choice == "auto":
        for name in LOADER_NAMES:
            entry = _open(name, "vkGetInstanceProcAddr", is_loader=True)
            if entry is not None:
                return [entry]
    found = direct_entry_points()
    if not found:
        raise DeviceError(
            message(
                "Vulkan needs a driver.",
                got="neither the Vulkan loader nor the library of a driver could be opened",
                want="libvulkan.so.1 and a driver, or a driver that an ICD file in vulkan/icd.d names",
                fix="install your GPU's driver, or mesa-vulkan-drivers for a driver that runs on the CPU.",
            )
        )
    return found


def direct_entry_points() -> list[EntryPoint]:
    """Return every driver library that opens."""
    opened = (_open(name, "vk_icdGetInstanceProcAddr", is_loader=False) for name in driver_libraries())
    return [entry for entry in opened if entry is not None]


def _open(library_name: str, symbol: str, *, is_loader: bool) -> EntryPoint | None:
    try:
        library = ctypes.CDLL(library_name)
        function = getattr(library, symbol)
    except (OSError, AttributeError):
        return None
    if not is_loader:
        _negotiate(library)
    address = ctypes.cast(function, ctypes.c_void_p).value
    ffi = interface()
    return EntryPoint(library_name, ffi.cast("PFN_vkGetInstanceProcAddr", address), is_loader)


def _negotiate(library: ctypes.CDLL) -> None:
    """Tell a driver opened directly which interface the caller speaks; old drivers have no such function."""
    try:
        negotiate = library.vk_icdNegotiateLoaderICDInterfaceVersion
    except AttributeError:
        return
    version = ctypes.c_uint32(ICD_INTERFACE_VERSION)
    negotiate(ctypes.byref(version))


class Functions:
    """Vulkan functions by name, looked up once through the getter of an instance or device.

    Any function whose type the header knows can be called, whatever the loader's version.
    """

    def __init__(self, getter: type_function, handle: Any) -> None:
        self._getter = getter
        self._handle = handle

    def __getattr__(self, name: str) -> type_function:
        if name.startswith("_"):
            raise AttributeError(name)
        function = self.find(name, "PFN_" + name)
        if function is None:
            raise AttributeError(f"{name} is not provided by this driver")
        setattr(self, name, function)
        return function

    def find(self, name: str, c_type: str) -> type_function | None:
        """Look a function up that has the given C type, for those newer than the header; None where it is missing."""
        ffi = interface()
        pointer = self._getter(self._handle, ffi.new("char[]", name.encode()))
        return None if pointer == ffi.NULL else ffi.cast(c_type, pointer)

    def has(self, name: str) -> bool:
        """Return whether the driver provides this function."""
        return getattr(self, name, None) is not None


def check(function: str, result: int) -> int:
    """Return a result code that is no error (success, time-out, incomplete); raise the matching error for others."""
    if result >= 0:
        return result
    values = constants()
    if result == values.VK_ERROR_DEVICE_LOST:
        raise LostError(function)
    kind = DeviceError
    if result in (values.VK_ERROR_OUT_OF_DEVICE_MEMORY, values.VK_ERROR_OUT_OF_HOST_MEMORY):
        kind = DeviceMemoryError
    raise kind(
        message(
            f"{function} must succeed.",
            got=result_name(result),
            want="VK_SUCCESS",
            fix="run again with QGA_VALIDATION=1 and report the driver's messages.",
        )
    )


def result_name(result: int) -> str:
    """Return the name of a VkResult."""
    elements: dict[int, str] = interface().typeof("VkResult").elements
    return elements.get(result, f"VkResult {result}")
