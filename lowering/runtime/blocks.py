"""Blocks of device memory: one VkDeviceMemory, the VkBuffers that cover it, its device address and its host mapping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import DeviceError, message
from .context import Context
from .loader import check, constants, interface
from .structs import Struct

# Arrays beyond maxBufferSize are covered by several buffers of this size over one allocation.
WINDOW_BYTES = 1 << 31
# VK_WHOLE_SIZE, a macro the definitions do not carry.
WHOLE_SIZE = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One allocation.

    `host` is where the host sees it, 0 where it does not; `keep` owns the host memory it was imported from.
    """

    memory: Any
    windows: tuple[tuple[Any, int, int], ...]
    nbytes: int
    address: int
    host: int
    keep: Any = None

    def window(self, offset: int) -> tuple[Any, int, int]:
        """Return the VkBuffer at a byte offset, the offset inside it, and the bytes from there to the buffer's end."""
        for buffer, start, nbytes in self.windows:
            if start <= offset < start + nbytes:
                return buffer, offset - start, start + nbytes - offset
        raise IndexError(offset)


def create_block(context: Context, nbytes: int, memory_type: int, *, is_mapped: bool) -> Block:
    """Allocate a block, cover it with buffers and, where asked, map it for the host.

    Raises:
        DeviceMemoryError: the driver has no room.
    """
    windows = _create_windows(context, nbytes)
    memory: Any = None
    try:
        memory = _allocate(context, _required(context, windows), memory_type)
        host = 0
        address = _bind(context, memory, windows)
        if is_mapped:
            mapped = interface().new("void**")
            result = context.functions.vkMapMemory(context.handle, memory, 0, WHOLE_SIZE, 0, mapped)
            check("vkMapMemory", result)
            host = int(interface().cast("uintptr_t", mapped[0]))
        return Block(memory, tuple(windows), nbytes, address, host)
    except BaseException:
        _destroy(context, memory, windows)
        raise


def import_block(context: Context, host: int, nbytes: int, keep: Any) -> Block | None:
    """Make host memory a block, or return None if the driver refuses these pages.

    Args:
        context: the device.
        host: address of the first byte, a multiple of minImportedHostPointerAlignment.
        nbytes: bytes, a multiple of it too.
        keep: the object that owns the pages; the block holds it.
    """
    values, ffi = constants(), interface()
    kind = values.VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT
    pointer = ffi.cast("void*", host)
    properties = Struct("VkMemoryHostPointerPropertiesEXT")
    query = context.functions.vkGetMemoryHostPointerPropertiesEXT
    if query(context.handle, kind, pointer, properties.pointer) < 0:
        return None
    external = Struct("VkExternalMemoryBufferCreateInfo", handleTypes=kind)
    windows = [_create_buffer(context, 0, nbytes, external)]
    memory: Any = None
    try:
        bits = properties.get("memoryTypeBits") & _requirements(context, windows[0][0]).memoryTypeBits
        if not bits:
            _destroy(context, None, windows)
            return None
        memory_type = (bits & -bits).bit_length() - 1
        imported = Struct("VkImportMemoryHostPointerInfoEXT", handleType=kind, pHostPointer=pointer)
        memory = _allocate(context, nbytes, memory_type, imported)
        address = _bind(context, memory, windows)
        return Block(memory, tuple(windows), nbytes, address, host, keep)
    except DeviceError:
        _destroy(context, memory, windows)
        return None


def destroy_block(context: Context, block: Block) -> None:
    """Destroy a block's buffers and free its memory; no pending work may use it."""
    if block.host and block.keep is None:
        context.functions.vkUnmapMemory(context.handle, block.memory)
    _destroy(context, block.memory, list(block.windows))


def _create_windows(context: Context, nbytes: int) -> list[tuple[Any, int, int]]:
    largest = context.facts.properties.get("maxBufferSize", nbytes)
    step = nbytes if nbytes <= largest else min(WINDOW_BYTES, largest)
    windows: list[tuple[Any, int, int]] = []
    try:
        for start in range(0, nbytes, step):
            windows.append(_create_buffer(context, start, min(step, nbytes - start)))
    except BaseException:
        _destroy(context, None, windows)
        raise
    return windows


def _create_buffer(context: Context, start: int, nbytes: int, chained: Struct | None = None) -> tuple[Any, int, int]:
    values, ffi = constants(), interface()
    usage = (
        values.VK_BUFFER_USAGE_STORAGE_BUFFER_BIT
        | values.VK_BUFFER_USAGE_TRANSFER_SRC_BIT
        | values.VK_BUFFER_USAGE_TRANSFER_DST_BIT
        | values.VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT
    )
    fields = {} if chained is None else {"pNext": chained}
    info = Struct("VkBufferCreateInfo", size=nbytes, usage=usage, **fields)
    handle = ffi.new("VkBuffer*")
    check("vkCreateBuffer", context.functions.vkCreateBuffer(context.handle, info.pointer, ffi.NULL, handle))
    context.counts.add("buffer")
    return handle[0], start, nbytes


def _requirements(context: Context, buffer: Any) -> Any:
    record = interface().new("VkMemoryRequirements*")
    context.functions.vkGetBufferMemoryRequirements(context.handle, buffer, record)
    return record


def _required(context: Context, windows: list[tuple[Any, int, int]]) -> int:
    return max(start + _requirements(context, buffer).size for buffer, start, _ in windows)


def _allocate(context: Context, nbytes: int, memory_type: int, chained: Struct | None = None) -> Any:
    values, ffi = constants(), interface()
    fields = {} if chained is None else {"pNext": chained}
    flags = Struct("VkMemoryAllocateFlagsInfo", flags=values.VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT, **fields)
    info = Struct("VkMemoryAllocateInfo", pNext=flags, allocationSize=nbytes, memoryTypeIndex=memory_type)
    handle = ffi.new("VkDeviceMemory*")
    check("vkAllocateMemory", context.functions.vkAllocateMemory(context.handle, info.pointer, ffi.NULL, handle))
    context.counts.add("memory")
    return handle[0]


def _bind(context: Context, memory: Any, windows: list[tuple[Any, int, int]]) -> int:
    """Bind the buffers to the memory, one after the other, and return the device address of its first byte."""
    functions = context.functions
    addresses: list[int] = []
    for buffer, start, _ in windows:
        check("vkBindBufferMemory", functions.vkBindBufferMemory(context.handle, buffer, memory, start))
        info = Struct("VkBufferDeviceAddressInfo", buffer=buffer)
        addresses.append(functions.vkGetBufferDeviceAddress(context.handle, info.pointer) - start)
    if len(set(addresses)) != 1:
        raise DeviceError(
            message(
                "An array beyond the driver's largest buffer needs one range of device addresses.",
                got=f"{len(windows)} buffers over one allocation whose addresses do not join",
                want=f"at most {context.facts.properties['maxBufferSize']} bytes on {context.facts.name}",
                fix="split the array.",
            )
        )
    return addresses[0]


def _destroy(context: Context, memory: Any, windows: list[tuple[Any, int, int]]) -> None:
    null = interface().NULL
    for buffer, _, _ in windows:
        context.functions.vkDestroyBuffer(context.handle, buffer, null)
        context.counts.add("buffer", -1)
    if memory is not None:
        context.functions.vkFreeMemory(context.handle, memory, null)
        context.counts.add("memory", -1)
