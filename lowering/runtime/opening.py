"""Find devices and open one: entry points, instances, physical devices, VkDevice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DeviceError
from .capabilities import capabilities_of
from .context import Context
from .device_plan import DevicePlan, missing_baseline, plan_device
from .facts import DeviceFacts
from .features import CORE
from .instance import Instance
from .loader import EntryPoint, Functions, check, direct_entry_points, entry_points, interface
from .query import query_device
from .select import DeviceRecord, choose_device
from .settings import Settings
from .structs import NewerStruct, Struct, make, string_array


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A physical device, the instance it came from, and what is known of it."""

    instance: Instance
    physical: Any
    facts: DeviceFacts
    record: DeviceRecord


def find_candidates(settings: Settings) -> list[Candidate]:
    """List all physical devices; the caller closes their instances.

    Raises:
        DeviceError: no Vulkan library, or no driver that starts.
    """
    entries = entry_points(settings.loader)
    found, failures = _candidates_of(entries, settings)
    if not found and entries[0].is_loader:
        # A loader without manifests, as in containers that carry only a driver's library.
        found, _ = _candidates_of(direct_entry_points(), settings)
    if not found and failures:
        raise failures[0]
    return found


def _candidates_of(entries: list[EntryPoint], settings: Settings) -> tuple[list[Candidate], list[DeviceError]]:
    found: list[Candidate] = []
    failures: list[DeviceError] = []
    for entry in entries:
        try:
            instance = Instance(entry, settings)
        except DeviceError as error:
            failures.append(error)
            continue
        physical_devices = _physical_devices(instance)
        if not physical_devices:
            instance.close()
        for physical in physical_devices:
            facts = query_device(instance, physical)
            facts = facts if settings.has_vendors else facts.without_vendors()
            found.append(Candidate(instance, physical, facts, _record(len(found), facts, entry.source)))
    return found, failures


def close_candidates(candidates: list[Candidate], keep: Instance | None = None) -> None:
    """Close the instances of candidates, but for one."""
    for instance in {id(item.instance): item.instance for item in candidates}.values():
        if instance is not keep:
            instance.close()


def open_context(settings: Settings) -> tuple[Context, DeviceRecord]:
    """Choose a device, plan it and create it; the context owns its instance.

    Raises:
        DeviceError: no driver, no such device, or a device without the baseline.
    """
    candidates = find_candidates(settings)
    chosen: Candidate | None = None
    try:
        record = choose_device([candidate.record for candidate in candidates], settings.selector)
        candidate = next(candidate for candidate in candidates if candidate.record is record)
        plan = plan_device(candidate.facts, is_staged=settings.is_staged)
        handle = _create_device(candidate, plan)
        chosen = candidate
    finally:
        close_candidates(candidates, chosen.instance if chosen is not None else None)
    functions = Functions(_device_getter(candidate.instance), handle)
    return Context(candidate.instance, candidate.physical, handle, functions, candidate.facts, plan), record


def _physical_devices(instance: Instance) -> list[Any]:
    """List the devices of an instance; a driver opened directly may find that it has none by failing."""
    try:
        return instance.physical_devices()
    except DeviceError:
        return []


def _record(index: int, facts: DeviceFacts, source: str) -> DeviceRecord:
    missing = missing_baseline(facts)
    return DeviceRecord(
        index=index,
        name=facts.name,
        uuid=facts.uuid,
        device_type=facts.device_type,
        driver_name=facts.driver_name,
        driver_version=facts.driver_version,
        api_version=".".join(map(str, facts.api_version)),
        memory_bytes=facts.device_bytes,
        missing=missing,
        source=source,
        capabilities=None if missing else capabilities_of(facts),
    )


def _create_device(candidate: Candidate, plan: DevicePlan) -> Any:
    ffi = interface()
    priorities = ffi.new("float[1]", [1.0])
    queue = Struct("VkDeviceQueueCreateInfo", queueFamilyIndex=plan.family, queueCount=1, pQueuePriorities=priorities)
    extensions = string_array(plan.extensions)
    info = Struct(
        "VkDeviceCreateInfo",
        pNext=_feature_chain(plan),
        queueCreateInfoCount=1,
        pQueueCreateInfos=queue,
        enabledExtensionCount=extensions.count,
        ppEnabledExtensionNames=extensions,
    )
    handle = ffi.new("VkDevice*")
    create = candidate.instance.functions.vkCreateDevice
    check("vkCreateDevice", create(candidate.physical, info.pointer, ffi.NULL, handle))
    return handle[0]


def _feature_chain(plan: DevicePlan) -> Struct:
    """Build the structures that turn the plan's features on."""
    chained: Struct | NewerStruct | None = None
    for name, features in plan.features.items():
        if name == CORE:
            continue
        struct = make(name) if chained is None else make(name, pNext=chained)
        for feature in features:
            struct.set(feature, 1)
        chained = struct
    head = Struct("VkPhysicalDeviceFeatures2", pNext=chained)
    for feature in plan.features.get(CORE, ()):
        setattr(head.pointer.features, feature, 1)
    return head


def _device_getter(instance: Instance) -> Callable[..., Any]:
    return instance.functions.vkGetDeviceProcAddr


def without_validation(settings: Settings) -> Settings:
    """Return the settings for a mere listing of devices."""
    return replace(settings, validation="", labels=False)
