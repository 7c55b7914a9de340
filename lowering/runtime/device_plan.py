"""Decide how a device is opened: a pure function of what it offers, tested without a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import DeviceError, message
from .facts import DeviceFacts, QueueFamily
from .features import BASELINE, BASELINE_VERSION, EXTENSION_FEATURES, NEEDS, PLAIN_EXTENSIONS, WANTED

# VkQueueFlagBits and VkMemoryPropertyFlagBits, written out so that a plan needs no binding.
GRAPHICS, COMPUTE = 1, 2
DEVICE_LOCAL, HOST_VISIBLE, HOST_COHERENT, HOST_CACHED = 1, 2, 4, 8
# AMD's DEVICE_COHERENT and DEVICE_UNCACHED, PROTECTED and LAZILY_ALLOCATED: slow or unusable for plain arrays.
UNSUITABLE = 0x10 | 0x20 | 0x40 | 0x80
_HOST = HOST_VISIBLE | HOST_COHERENT


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """How to open one device.

    Attributes:
        features: what to turn on, by feature structure.
        extensions: extensions to turn on, sorted.
        family: index of the queue family.
        array_type: memory type of arrays; the host can reach it exactly when `is_direct`.
        upload_type, download_type: memory types of staging memory.
        table_type: memory type of address tables, written by the host at each call.
        is_direct: arrays lie in memory that the host reads and writes itself, without staging.
    """

    features: Mapping[str, tuple[str, ...]]
    extensions: tuple[str, ...]
    family: int
    array_type: int
    upload_type: int
    download_type: int
    table_type: int
    is_direct: bool


def missing_baseline(facts: DeviceFacts) -> tuple[str, ...]:
    """Name what a device lacks of the baseline; empty for a usable device."""
    missing: list[str] = []
    if facts.api_version < BASELINE_VERSION:
        missing.append("Vulkan 1.3")
    for struct, names in BASELINE.items():
        missing.extend(name for name in names if not facts.has(struct, name))
    if not any(family.flags & COMPUTE for family in facts.families):
        missing.append("a compute queue")
    return tuple(missing)


def plan_device(facts: DeviceFacts, *, is_staged: bool = False) -> DevicePlan:
    """Choose features, extensions, queue family and memory types.

    Args:
        facts: what the device offers.
        is_staged: do not let the host reach arrays in place, even where it could.

    Raises:
        DeviceError: the device lacks a part of the baseline; the text names all that is missing.
    """
    missing = missing_baseline(facts)
    if missing:
        raise DeviceError(
            message(
                "A device must have the baseline of Vulkan 1.3 features.",
                got=f"{facts.name} ({facts.driver_name} {facts.driver_version}) without {', '.join(missing)}",
                want=", ".join(name for names in BASELINE.values() for name in names),
                fix="update the driver, or choose another device with QGA_VULKAN_DEVICE (`qga devices` lists them).",
            )
        )
    is_direct = facts.device_type in ("cpu", "integrated") and not is_staged
    array_type = _array_type(facts, is_direct)
    host_flags = _HOST | (DEVICE_LOCAL if facts.device_type != "cpu" else 0)
    return DevicePlan(
        features=_features(facts),
        extensions=_extensions(facts),
        family=choose_family(facts.families),
        array_type=array_type,
        upload_type=choose_memory_type(facts, required=_HOST, avoided=DEVICE_LOCAL | HOST_CACHED),
        download_type=choose_memory_type(facts, required=_HOST, preferred=HOST_CACHED, avoided=DEVICE_LOCAL),
        table_type=choose_memory_type(facts, required=_HOST, preferred=host_flags),
        is_direct=is_direct and facts.memory_types[array_type].flags & _HOST == _HOST,
    )


def choose_family(families: tuple[QueueFamily, ...]) -> int:
    """Return the first family with compute and without graphics, else the first with compute."""
    candidates = [index for index, family in enumerate(families) if family.flags & COMPUTE]
    return min(candidates, key=lambda index: (bool(families[index].flags & GRAPHICS), index))


def choose_memory_type(facts: DeviceFacts, *, required: int, preferred: int = 0, avoided: int = 0) -> int:
    """Return the memory type with all required flags, most preferred and fewest avoided ones, then the largest heap."""
    candidates = [
        index
        for index, kind in enumerate(facts.memory_types)
        if kind.flags & required == required and not kind.flags & UNSUITABLE
    ]
    if not candidates:
        raise DeviceError(
            message(
                "A device must have memory of the kind the runtime needs.",
                got=f"{facts.name} with memory types {[hex(kind.flags) for kind in facts.memory_types]}",
                want=f"one with flags {required:#x}",
                fix="report this device with the output of `qga devices`.",
            )
        )

    def rank(index: int) -> tuple[int, int, int, int]:
        kind = facts.memory_types[index]
        wanted, unwanted = kind.flags & preferred, kind.flags & avoided & ~preferred
        return (-wanted.bit_count(), unwanted.bit_count(), -facts.heaps[kind.heap].nbytes, index)

    return min(candidates, key=rank)


def _array_type(facts: DeviceFacts, is_direct: bool) -> int:
    local = DEVICE_LOCAL if any(kind.flags & DEVICE_LOCAL for kind in facts.memory_types) else 0
    if is_direct:
        return choose_memory_type(facts, required=local, preferred=_HOST | HOST_CACHED)
    # Arrays of a discrete card stay out of host-visible video memory even when all of it is: on a nearly full card
    # that memory fell to a fifth of its speed (llama.cpp pull request 11520).
    return choose_memory_type(facts, required=local, avoided=HOST_VISIBLE)


def _features(facts: DeviceFacts) -> dict[str, tuple[str, ...]]:
    wanted = dict(WANTED)
    for extension in _extensions(facts):
        if extension in EXTENSION_FEATURES:
            struct, names = EXTENSION_FEATURES[extension]
            wanted[struct] = names
    return {struct: tuple(name for name in names if facts.has(struct, name)) for struct, names in wanted.items()}


def _extensions(facts: DeviceFacts) -> tuple[str, ...]:
    known = [*EXTENSION_FEATURES, *PLAIN_EXTENSIONS]
    offered = {name for name in known if name in facts.extensions}
    return tuple(sorted(name for name in offered if NEEDS.get(name, name) in offered))
