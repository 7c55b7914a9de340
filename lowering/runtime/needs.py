"""Which features of the device a kernel needs, read from the kernel itself: programs also come from files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from shaders.kernel import Kernel

from .facts import DeviceFacts
from .features import CORE, VULKAN_11, VULKAN_12

# SPIR-V capabilities by number (SPIR-V 1.6, section 3.31) and the feature that allows each; those that every device
# of the baseline allows are left out.
FEATURE_OF: Mapping[int, tuple[str, str]] = {
    9: (VULKAN_12, "shaderFloat16"),
    10: (CORE, "shaderFloat64"),
    11: (CORE, "shaderInt64"),
    12: (VULKAN_12, "shaderBufferInt64Atomics"),
    22: (CORE, "shaderInt16"),
    39: (VULKAN_12, "shaderInt8"),
    4433: (VULKAN_11, "storageBuffer16BitAccess"),
    4448: (VULKAN_12, "storageBuffer8BitAccess"),
    6022: ("VkPhysicalDeviceCooperativeMatrixFeaturesKHR", "cooperativeMatrix"),
    6033: ("VkPhysicalDeviceShaderAtomicFloatFeaturesEXT", "shaderBufferFloat32AtomicAdd"),
}
_HEADER_BYTES = 20
_OP_CAPABILITY = 2 << 16 | 17


def missing_features(kernel: Kernel, facts: DeviceFacts) -> list[str]:
    """Name the features that a kernel needs and the device does not offer."""
    needed = (FEATURE_OF[number] for number in _capabilities(kernel.words) if number in FEATURE_OF)
    return [feature for group, feature in needed if not facts.has(group, feature)]


def _capabilities(words: bytes) -> Iterator[int]:
    """Yield the capabilities of a module, which are its first instructions."""
    place = _HEADER_BYTES
    while place + 8 <= len(words):
        first, number = struct.unpack_from("=II", words, place)
        if first != _OP_CAPABILITY:
            return
        yield number
        place += 8
