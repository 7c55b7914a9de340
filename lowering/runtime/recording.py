"""Record segments into command buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .commands import end_recording, record_barrier, start_recording
from .loader import Functions, constants, interface
from .pipelines import PUSH_BYTES
from .segments import Command, Segment
from .structs import Struct


@dataclass(frozen=True, slots=True)
class Recorder:
    """What recording needs besides the segment.

    Attributes:
        pipelines: the VkPipeline of each kernel.
        layout: the pipeline layout all share.
        labels: debug label of each static dispatch, or empty for none.
        is_host_read: whether the host may read results in place, so that they must be made visible to it.
    """

    functions: Functions
    pipelines: Sequence[Any]
    layout: Any
    labels: Sequence[str]
    is_host_read: bool


type_hook = Callable[[Any, int], None]


def record_segment(
    recorder: Recorder,
    command_buffer: Any,
    segment: Segment,
    table_address: int,
    *,
    around: tuple[type_hook, type_hook] | None = None,
    bind: Callable[[Any, Command], None] | None = None,
) -> None:
    """Record a segment whose dispatches read their addresses from the table at `table_address`.

    Args:
        recorder: the program's pipelines and how it records.
        command_buffer: where to record; an earlier recording is dropped.
        segment: what to record.
        table_address: device address of the slot's address table.
        around: called before and after each dispatch with the command buffer and the dispatch's number in the segment;
            dispatches are then separated by barriers, so that each is measured alone.
        bind: called before each dispatch, to bind descriptors that kernels built for them use.
    """
    functions = recorder.functions
    flags = constants().VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT if segment.is_repeated else 0
    start_recording(functions, command_buffer, flags)
    record_barrier(functions, command_buffer, full=True)
    writer = _DispatchWriter(recorder, command_buffer, table_address, bind)
    for number, command in enumerate(segment.commands):
        if command is None:
            record_barrier(functions, command_buffer)
        elif around is None:
            writer.write(command)
        else:
            around[0](command_buffer, number)
            writer.write(command)
            record_barrier(functions, command_buffer)
            around[1](command_buffer, number)
    if recorder.is_host_read:
        record_barrier(functions, command_buffer, full=True)
    end_recording(functions, command_buffer)


class _DispatchWriter:
    """Records dispatches, binding a pipeline only when it changes."""

    def __init__(
        self,
        recorder: Recorder,
        command_buffer: Any,
        table_address: int,
        bind: Callable[[Any, Command], None] | None,
    ) -> None:
        ffi, values = interface(), constants()
        self._recorder = recorder
        self._command_buffer = command_buffer
        self._table_address = table_address
        self._bound = -1
        self._bind = bind
        self._stage = values.VK_SHADER_STAGE_COMPUTE_BIT
        self._bind_point = values.VK_PIPELINE_BIND_POINT_COMPUTE
        self._push = ffi.new("uint8_t[]", PUSH_BYTES)
        self._address = ffi.cast("uint64_t*", self._push)
        self._numbers = ffi.cast("uint32_t*", self._push)

    def write(self, command: Command) -> None:
        recorder, functions, target = self._recorder, self._recorder.functions, self._command_buffer
        if command.kernel != self._bound:
            pipeline = recorder.pipelines[command.kernel]
            functions.vkCmdBindPipeline(target, self._bind_point, pipeline)
            self._bound = command.kernel
        self._address[0] = self._table_address + command.slice_offset
        self._numbers[2] = command.guard_value & 0xFFFFFFFF
        self._numbers[3] = command.first_group
        functions.vkCmdPushConstants(target, recorder.layout, self._stage, 0, PUSH_BYTES, self._push)
        if self._bind is not None:
            self._bind(target, command)
        if recorder.labels:
            label = Struct("VkDebugUtilsLabelEXT", pLabelName=recorder.labels[command.source])
            functions.vkCmdBeginDebugUtilsLabelEXT(target, label.pointer)
            functions.vkCmdDispatch(target, *command.groups)
            functions.vkCmdEndDebugUtilsLabelEXT(target)
        else:
            functions.vkCmdDispatch(target, *command.groups)
