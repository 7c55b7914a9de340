"""Exit 0 when a Vulkan device answers, 1 when none does. Needs nothing but Python.

Asks the loader for its physical devices. Where there is no loader (containers that hold only a vendor's library) a
driver named by a manifest is enough, because the runtime opens it directly.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

MANIFEST_FOLDERS = (
    "/etc/vulkan/icd.d",
    "/usr/share/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/local/etc/vulkan/icd.d",
    "~/.local/share/vulkan/icd.d",
)


class ApplicationInfo(ctypes.Structure):
    """VkApplicationInfo; the api version is the one field that matters here."""

    _fields_ = (
        ("type", ctypes.c_uint32), ("next", ctypes.c_void_p), ("name", ctypes.c_char_p), ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p), ("engine_version", ctypes.c_uint32), ("api_version", ctypes.c_uint32),
    )  # fmt: skip


class InstanceInfo(ctypes.Structure):
    """VkInstanceCreateInfo without layers and extensions."""

    _fields_ = (
        ("type", ctypes.c_uint32), ("next", ctypes.c_void_p), ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(ApplicationInfo)), ("layer_count", ctypes.c_uint32), ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32), ("extensions", ctypes.c_void_p),
    )  # fmt: skip


def open_first(names: list[str]) -> ctypes.CDLL | None:
    """Open the first library of `names` that loads."""
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def device_count(loader: ctypes.CDLL) -> int:
    """Count the physical devices that the loader finds; zero when it cannot make an instance."""
    application = ApplicationInfo(type=0, api_version=(1 << 22) | (3 << 12))
    info = InstanceInfo(type=1, application=ctypes.pointer(application))
    instance = ctypes.c_void_p()
    if loader.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)) != 0:
        return 0
    count = ctypes.c_uint32()
    found = loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    loader.vkDestroyInstance(instance, None)
    return count.value if found == 0 else 0


def driver_libraries() -> Iterator[str]:
    """Yield the library path of every driver manifest on this machine."""
    named = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")
    files = [Path(name) for name in named.split(":")] if named else []
    if not files:
        folders = (Path(folder).expanduser() for folder in MANIFEST_FOLDERS)
        files = [file for folder in folders for file in sorted(folder.glob("*.json"))]
    for file in files:
        try:
            library = json.loads(file.read_text())["ICD"]["library_path"]
        except (OSError, ValueError, KeyError):
            continue
        yield str(file.parent / library) if "/" in library else library


def main() -> int:
    """Print what answers and return the exit status."""
    loader = open_first(["libvulkan.so.1", "libvulkan.1.dylib"])
    if loader is not None:
        count = device_count(loader)
        print(f"Vulkan loader: {count} device(s)")
        return 0 if count else 1
    driver = open_first(list(driver_libraries()))
    print(f"no Vulkan loader; driver that opens directly: {'yes' if driver else 'none'}")
    return 0 if driver else 1


if __name__ == "__main__":
    sys.exit(main())
