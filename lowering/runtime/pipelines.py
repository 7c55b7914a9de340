"""Pipelines: one for each distinct kernel of a device, created in parallel, with the driver's cache kept on disk."""

from __future__ import annotations

import collections
import hashlib
import math
import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shaders.kernel import Kernel

from ..cache import DiskCache
from ..errors import DeviceError, UnsupportedError, message
from .context import Context
from .loader import check, constants, interface, result_name
from .needs import missing_features
from .structs import Struct

PUSH_BYTES = 16
# Some drivers' compilers overflow a small stack on matrix kernels (whisper.cpp issue 2965).
COMPILE_STACK_BYTES = 16 << 20
_STACK_LOCK = threading.Lock()


class Pipeline:
    """A VkPipeline and the kernel it came from; it is destroyed after the last program that holds it."""

    __slots__ = ("__weakref__", "_dropped", "handle", "name")

    def __init__(self, handle: Any, name: str, dropped: collections.deque[Any]) -> None:
        self.handle = handle
        self.name = name
        self._dropped = dropped

    def __del__(self) -> None:
        self._dropped.append(self.handle)


def kernel_key(kernel: Kernel) -> str:
    """Return the hash of all that decides a kernel's pipeline."""
    digest = hashlib.sha256(kernel.words)
    digest.update(repr((kernel.name, kernel.subgroup_size, kernel.workgroup, kernel.specialization)).encode())
    return digest.hexdigest()


class Pipelines:
    """The pipelines of one device, the layout they share and the driver's pipeline cache."""

    def __init__(self, context: Context, store: DiskCache | None = None) -> None:
        self._context = context
        self._store = DiskCache("pipelines") if store is None else store
        self._known: weakref.WeakValueDictionary[str, Pipeline] = weakref.WeakValueDictionary()
        self._dropped: collections.deque[Any] = collections.deque()
        # All handles, not only those in `_known`: two threads may have created the same pipeline at once.
        self._live: set[Any] = set()
        self.layout = create_layout(context)
        self._cache = self._create_cache()
        self._unsaved = 0

    def create(self, kernels: Sequence[Kernel]) -> list[Pipeline]:
        """Return one pipeline a kernel, creating those that do not exist yet, several at a time.

        Raises:
            UnsupportedError: a kernel needs more than the device has.
            DeviceError: the driver's compiler refused a kernel.
        """
        found: dict[str, Pipeline] = {}
        missing: dict[str, Kernel] = {}
        keys = [kernel_key(kernel) for kernel in kernels]
        for key, kernel in zip(keys, kernels, strict=True):
            known = self._known.get(key)
            if known is not None:
                found[key] = known
            elif key not in missing:
                check_limits(kernel, self._context)
                missing[key] = kernel
        for key, pipeline in zip(missing, self._compile(list(missing.values())), strict=True):
            found[key] = pipeline
            self._known[key] = pipeline
        return [found[key] for key in keys]

    def _compile(self, kernels: list[Kernel]) -> list[Pipeline]:
        if not kernels:
            return []
        self._unsaved += len(kernels)
        workers = min(len(kernels), max(2, os.cpu_count() or 1))
        # The stack size is a setting of the whole process, read when a thread starts.
        with ThreadPoolExecutor(workers, thread_name_prefix="qga-compile") as pool, _STACK_LOCK:
            previous = threading.stack_size(COMPILE_STACK_BYTES)
            try:
                futures = [pool.submit(self.create_handle, kernel, self.layout) for kernel in kernels]
            finally:
                threading.stack_size(previous)
        handles = [future.result() for future in futures]
        return [Pipeline(handle, kernel.name, self._dropped) for handle, kernel in zip(handles, kernels, strict=True)]

    def collect_locked(self) -> list[Any]:
        """Return the handles of pipelines nobody holds any more; the caller destroys them when the device allows."""
        handles: list[Any] = []
        while self._dropped:
            handles.append(self._dropped.popleft())
        return handles

    def destroy(self, handle: Any) -> None:
        """Destroy a pipeline that no pending work uses."""
        self._live.discard(handle)
        self._context.functions.vkDestroyPipeline(self._context.handle, handle, interface().NULL)
        self._context.counts.add("pipeline", -1)

    def save(self) -> None:
        """Write the driver's cache to disk if pipelines were created since the last time."""
        if not self._unsaved:
            return
        self._unsaved = 0
        ffi, functions = interface(), self._context.functions
        size = ffi.new("size_t*")
        name = "vkGetPipelineCacheData"
        check(name, functions.vkGetPipelineCacheData(self._context.handle, self._cache, size, ffi.NULL))
        data = ffi.new("uint8_t[]", size[0])
        check(name, functions.vkGetPipelineCacheData(self._context.handle, self._cache, size, data))
        self._store.put(self._key(), bytes(ffi.buffer(data, size[0])))

    def close(self) -> None:
        """Destroy everything; the device must be idle."""
        functions, null = self._context.functions, interface().NULL
        for handle in list(self._live):
            self.destroy(handle)
        functions.vkDestroyPipelineCache(self._context.handle, self._cache, null)
        functions.vkDestroyPipelineLayout(self._context.handle, self.layout, null)

    def _key(self) -> str:
        facts = self._context.facts
        return f"{facts.vendor_id:x}-{facts.device_id:x}-{facts.raw_driver_version:x}-{facts.cache_uuid}"

    def _create_cache(self) -> Any:
        """Create the driver's cache, from disk where a blob of this very driver is there."""
        ffi = interface()
        blob = self._store.get(self._key()) or b""
        if not is_blob_of(blob, self._context):
            blob = b""
        data = ffi.from_buffer(blob)
        info = Struct("VkPipelineCacheCreateInfo", initialDataSize=len(blob), pInitialData=ffi.cast("void*", data))
        info.hold(data)
        handle = ffi.new("VkPipelineCache*")
        create = self._context.functions.vkCreatePipelineCache
        check("vkCreatePipelineCache", create(self._context.handle, info.pointer, ffi.NULL, handle))
        return handle[0]

    def create_handle(self, kernel: Kernel, layout: Any) -> Any:
        """Create a VkPipeline with a layout of the caller's; `destroy` ends it."""
        ffi, functions = interface(), self._context.functions
        module = self._create_module(kernel)
        try:
            stage = _stage(kernel, module)
            info = Struct("VkComputePipelineCreateInfo", layout=layout)
            info.pointer.stage = stage.pointer[0]
            info.hold(stage)
            handle = ffi.new("VkPipeline*")
            create = functions.vkCreateComputePipelines
            result = create(self._context.handle, self._cache, 1, info.pointer, ffi.NULL, handle)
        finally:
            functions.vkDestroyShaderModule(self._context.handle, module, ffi.NULL)
        if result < 0:
            raise _refused(kernel, self._context, "vkCreateComputePipelines", result)
        self._context.counts.add("pipeline")
        self._live.add(handle[0])
        return handle[0]

    def _create_module(self, kernel: Kernel) -> Any:
        ffi, functions = interface(), self._context.functions
        words = ffi.new("uint32_t[]", len(kernel.words) // 4)
        ffi.memmove(words, kernel.words, len(kernel.words))
        info = Struct("VkShaderModuleCreateInfo", codeSize=len(kernel.words), pCode=words)
        handle = ffi.new("VkShaderModule*")
        result = functions.vkCreateShaderModule(self._context.handle, info.pointer, ffi.NULL, handle)
        if result < 0:
            raise _refused(kernel, self._context, "vkCreateShaderModule", result)
        return handle[0]


def create_layout(context: Context, set_layout: Any = None) -> Any:
    """Create a pipeline layout: the push constants, and one descriptor set where its layout is given."""
    ffi = interface()
    stage = constants().VK_SHADER_STAGE_COMPUTE_BIT
    ranges = Struct("VkPushConstantRange", stageFlags=stage, offset=0, size=PUSH_BYTES)
    sets = ffi.new("VkDescriptorSetLayout[]", [] if set_layout is None else [set_layout])
    info = Struct(
        "VkPipelineLayoutCreateInfo",
        pushConstantRangeCount=1,
        pPushConstantRanges=ranges,
        setLayoutCount=len(sets),
        pSetLayouts=sets,
    )
    handle = ffi.new("VkPipelineLayout*")
    create = context.functions.vkCreatePipelineLayout
    check("vkCreatePipelineLayout", create(context.handle, info.pointer, ffi.NULL, handle))
    return handle[0]


def _stage(kernel: Kernel, module: Any) -> Struct:
    """Describe the shader stage: entry point, specialization, and the subgroup size the kernel was written for."""
    values, ffi = constants(), interface()
    fields: dict[str, Any] = {}
    if kernel.subgroup_size is not None:
        required = "VkPipelineShaderStageRequiredSubgroupSizeCreateInfo"
        fields["pNext"] = Struct(required, requiredSubgroupSize=kernel.subgroup_size)
        # Full subgroups are promised only to workgroups whose width is a multiple of the subgroup.
        if kernel.workgroup[0] % kernel.subgroup_size == 0:
            fields["flags"] = values.VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT
    if kernel.specialization:
        count = len(kernel.specialization)
        entries = ffi.new("VkSpecializationMapEntry[]", count)
        data = ffi.new("uint32_t[]", [value & 0xFFFFFFFF for _, value in kernel.specialization])
        for index, (identifier, _) in enumerate(kernel.specialization):
            entries[index].constantID, entries[index].offset, entries[index].size = identifier, 4 * index, 4
        fields["pSpecializationInfo"] = Struct(
            "VkSpecializationInfo",
            mapEntryCount=count,
            pMapEntries=entries,
            dataSize=4 * count,
            pData=ffi.cast("void*", data),
        )
        fields["pSpecializationInfo"].hold(data)
    return Struct(
        "VkPipelineShaderStageCreateInfo",
        stage=values.VK_SHADER_STAGE_COMPUTE_BIT,
        module=module,
        pName=kernel.name,
        **fields,
    )


def check_limits(kernel: Kernel, context: Context) -> None:
    """Refuse a kernel beyond the device's features or limits: some drivers crash or lose the device instead of failing.

    Raises:
        UnsupportedError: names the limit, what the kernel needs and what the device has.
    """
    lacking = missing_features(kernel, context.facts)
    if lacking:
        raise _lacking(kernel, context, lacking)
    limits, properties = context.facts.limits, context.facts.properties
    invocations = math.prod(kernel.workgroup)
    sizes = limits["maxComputeWorkGroupSize"]
    needs: list[tuple[str, int, int]] = [
        ("bytes of shared memory", kernel.shared_bytes, limits["maxComputeSharedMemorySize"]),
        ("invocations in a workgroup", invocations, limits["maxComputeWorkGroupInvocations"]),
        *((f"invocations along {axis}", kernel.workgroup[i], sizes[i]) for i, axis in enumerate("xyz")),
    ]
    if kernel.subgroup_size is not None:
        most = properties["maxComputeWorkgroupSubgroups"] * kernel.subgroup_size
        needs.append((f"invocations in subgroups of {kernel.subgroup_size}", invocations, most))
    for what, need, have in needs:
        if need > have:
            raise _beyond(kernel, context, f"{need} {what}", f"at most {have}")
    smallest, largest = properties["minSubgroupSize"], properties["maxSubgroupSize"]
    if kernel.subgroup_size is not None and not smallest <= kernel.subgroup_size <= largest:
        raise _beyond(kernel, context, f"subgroups of {kernel.subgroup_size}", f"{smallest} to {largest}")


def is_blob_of(blob: bytes, context: Context) -> bool:
    """Return whether a pipeline cache blob was written by this very driver for this device.

    Source: Vulkan specification, VkPipelineCacheHeaderVersionOne.
    """
    if len(blob) < 32:
        return False
    length, version, vendor, device = (int.from_bytes(blob[start : start + 4], "little") for start in (0, 4, 8, 12))
    facts = context.facts
    same = (vendor, device, blob[16:32].hex()) == (facts.vendor_id, facts.device_id, facts.cache_uuid)
    return length >= 32 and version == 1 and same


def _lacking(kernel: Kernel, context: Context, features: Sequence[str]) -> UnsupportedError:
    return UnsupportedError(
        message(
            f"The kernel {kernel.name} must use only what {context.facts.name} has.",
            got=f"a kernel that needs {', '.join(features)}",
            want="features that this device offers",
            fix="compile the function for this device, or choose another one with QGA_VULKAN_DEVICE.",
        )
    )


def _beyond(kernel: Kernel, context: Context, got: str, want: str) -> UnsupportedError:
    return UnsupportedError(
        message(
            f"The kernel {kernel.name} must stay within the limits of {context.facts.name}.",
            got=got,
            want=want,
            fix="choose a smaller tile for this device.",
        )
    )


def _refused(kernel: Kernel, context: Context, function: str, result: int) -> DeviceError:
    return DeviceError(
        message(
            f"The driver must accept the kernel {kernel.name}.",
            got=f"{result_name(result)} from {function} of {context.facts.driver_name} {context.facts.driver_version}",
            want="a pipeline",
            fix="run again with QGA_VALIDATION=1 and report the messages with the kernel's text.",
        )
    )
