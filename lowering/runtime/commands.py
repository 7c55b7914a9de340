"""Single commands: begin and end a recording, barriers, buffer copies. Everything here only records."""

from __future__ import annotations

import functools
from typing import Any

from .loader import Functions, check, constants, interface
from .structs import Struct


def start_recording(functions: Functions, command_buffer: Any, flags: int) -> None:
    """Begin recording; an earlier recording of the buffer is dropped."""
    info = Struct("VkCommandBufferBeginInfo", flags=flags)
    check("vkBeginCommandBuffer", functions.vkBeginCommandBuffer(command_buffer, info.pointer))


def end_recording(functions: Functions, command_buffer: Any) -> None:
    """End recording."""
    check("vkEndCommandBuffer", functions.vkEndCommandBuffer(command_buffer))


def record_barrier(functions: Functions, command_buffer: Any, *, full: bool = False) -> None:
    """Order and make visible everything before for everything after, in all earlier submissions too.

    The plain form knows compute only; the full one also copies, and reads by the host once the submission is done.
    """
    null = interface().NULL
    source, target, barrier = _barrier(full)
    functions.vkCmdPipelineBarrier(command_buffer, source, target, 0, 1, barrier.pointer, 0, null, 0, null)


@functools.cache
def _barrier(full: bool) -> tuple[int, int, Struct]:
    values = constants()
    compute = values.VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT
    write = values.VK_ACCESS_SHADER_WRITE_BIT
    read = values.VK_ACCESS_SHADER_READ_BIT
    if not full:
        return compute, compute, Struct("VkMemoryBarrier", srcAccessMask=write, dstAccessMask=read | write)
    copies = values.VK_PIPELINE_STAGE_TRANSFER_BIT
    copy_write, copy_read = values.VK_ACCESS_TRANSFER_WRITE_BIT, values.VK_ACCESS_TRANSFER_READ_BIT
    host, host_read = values.VK_PIPELINE_STAGE_HOST_BIT, values.VK_ACCESS_HOST_READ_BIT
    barrier = Struct(
        "VkMemoryBarrier",
        srcAccessMask=write | copy_write,
        dstAccessMask=read | write | copy_read | copy_write | host_read,
    )
    return compute | copies, compute | copies | host, barrier


def record_copy(
    functions: Functions, command_buffer: Any, source: Any, target: Any, ranges: list[tuple[int, int, int]]
) -> None:
    """Copy (source offset, target offset, bytes) ranges from one VkBuffer to another."""
    if not ranges:
        return
    array = interface().new("VkBufferCopy[]", len(ranges))
    for record, (source_offset, target_offset, nbytes) in zip(array, ranges, strict=True):
        record.srcOffset, record.dstOffset, record.size = source_offset, target_offset, nbytes
    functions.vkCmdCopyBuffer(command_buffer, source, target, len(ranges), array)
