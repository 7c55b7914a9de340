"""Run a program whose kernels reach their buffers through descriptors, for the synchronization validation layer.

The layer sees which bytes a dispatch touches only through descriptors, so the hazard checker is compared with it on
programs whose kernels were built with `Builder(descriptors=True)`. Slow and simple: one recording a run, no slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..program import Dispatch, Program, Region
from .device import Device
from .loaded import array_nbytes
from .loader import check, constants, interface
from .memory import Buffer
from .parts import Parts
from .pipelines import create_layout
from .profile import walk_items
from .recording import Recorder, record_segment
from .segments import Command, Limits, Recipe, Segment, base_index, build_recipe
from .structs import Struct, StructArray

# Kernels may read whole vectors at the end of an array; buffers start at multiples of 256 bytes, so this overlaps none.
RANGE_BYTES = 16


def run_with_descriptors(
    device: Device, program: Program, inputs: Sequence[Buffer], *, exact: bool = False
) -> list[Buffer]:
    """Run a program of descriptor kernels once, wait, and return its outputs. Constants are uploaded for the run.

    `exact`: give each argument of a dispatch a VkBuffer of its own that ends where the argument ends, for layers that
    compare indices with the size of the buffer and not with the range of the descriptor.
    """
    parts = device.parts
    recipe = build_recipe(program, Limits(parts.context.facts.limits["maxComputeWorkGroupCount"]))
    memory = [device.allocate(len(value)) for value in program.constants]
    for buffer, value in zip(memory, program.constants, strict=True):
        device.upload(buffer, value)
    outputs = [device.allocate(array_nbytes(kind)) for kind in program.outputs]
    buffers = [*inputs, *outputs, *memory, device.allocate(program.arena_bytes)]
    run = _Run(parts, program, recipe, buffers, exact=exact)
    try:
        run.run()
    finally:
        run.close()
    return outputs


class _Run:
    """The layouts, pipelines and descriptor sets of one run."""

    def __init__(
        self, parts: Parts, program: Program, recipe: Recipe, buffers: Sequence[Buffer], *, exact: bool
    ) -> None:
        self._parts = parts
        self._program = program
        self._recipe = recipe
        self._buffers = buffers
        self._exact = exact
        self._views: dict[tuple[Any, int, int], Any] = {}
        self._bindings = max((len(kernel.parameters) + kernel.guarded for kernel in program.kernels), default=1)
        self._set_layout = self._create_set_layout()
        self._layout = create_layout(parts.context, self._set_layout)
        self._handles = [parts.pipelines.create_handle(kernel, self._layout) for kernel in program.kernels]
        self._pool = self._create_pool()
        self._sets = [self._create_set(dispatch) for dispatch in recipe.dispatches]
        with parts.context.lock:
            self._commands = parts.queue.command_buffer_locked()

    def run(self) -> None:
        labels = [step.label or self._program.kernels[step.kernel].name for step in self._recipe.dispatches]
        recorder = Recorder(
            functions=self._parts.context.functions,
            pipelines=self._handles,
            layout=self._layout,
            labels=labels if self._parts.settings.labels else (),
            is_host_read=self._parts.context.plan.is_direct,
        )
        _ = walk_items(self._recipe.items, lambda segment: self._submit(recorder, segment), self._read_flag)

    def close(self) -> None:
        context, null = self._parts.context, interface().NULL
        functions = context.functions
        with context.lock:
            self._parts.queue.free_command_buffers_locked([self._commands])
        for handle in self._handles:
            self._parts.pipelines.destroy(handle)
        for view in self._views.values():
            functions.vkDestroyBuffer(context.handle, view, null)
        functions.vkDestroyDescriptorPool(context.handle, self._pool, null)
        functions.vkDestroyPipelineLayout(context.handle, self._layout, null)
        functions.vkDestroyDescriptorSetLayout(context.handle, self._set_layout, null)

    def _submit(self, recorder: Recorder, segment: Segment) -> int:
        with self._parts.context.lock:
            record_segment(recorder, self._commands, segment, 0, bind=self._bind)
            tick = self._parts.queue.submit_locked(self._commands, self._program.name)
        self._parts.queue.wait(tick)
        return tick

    def _bind(self, commands: Any, command: Command) -> None:
        sets = interface().new("VkDescriptorSet[1]", [self._sets[command.source]])
        point = constants().VK_PIPELINE_BIND_POINT_COMPUTE
        bind = self._parts.context.functions.vkCmdBindDescriptorSets
        bind(commands, point, self._layout, 0, 1, sets, 0, interface().NULL)

    def _read_flag(self, region: Region, tick: int) -> int:
        buffer = self._buffers[base_index(self._program, region)]
        return self._parts.transfers.read_word(buffer, region.offset, tick)

    def _create_set_layout(self) -> Any:
        ffi, values, context = interface(), constants(), self._parts.context
        storage, stage = values.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, values.VK_SHADER_STAGE_COMPUTE_BIT
        bindings = [
            Struct(
                "VkDescriptorSetLayoutBinding", binding=i, descriptorType=storage, descriptorCount=1, stageFlags=stage
            )
            for i in range(self._bindings)
        ]
        array = StructArray("VkDescriptorSetLayoutBinding", bindings)
        info = Struct("VkDescriptorSetLayoutCreateInfo", bindingCount=array.count, pBindings=array)
        handle = ffi.new("VkDescriptorSetLayout*")
        create = context.functions.vkCreateDescriptorSetLayout
        check("vkCreateDescriptorSetLayout", create(context.handle, info.pointer, ffi.NULL, handle))
        return handle[0]

    def _create_pool(self) -> Any:
        ffi, context = interface(), self._parts.context
        count = max(1, len(self._recipe.dispatches))
        kind = constants().VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
        size = Struct("VkDescriptorPoolSize", type=kind, descriptorCount=count * self._bindings)
        info = Struct("VkDescriptorPoolCreateInfo", maxSets=count, poolSizeCount=1, pPoolSizes=size)
        handle = ffi.new("VkDescriptorPool*")
        create = context.functions.vkCreateDescriptorPool
        check("vkCreateDescriptorPool", create(context.handle, info.pointer, ffi.NULL, handle))
        return handle[0]

    def _create_set(self, dispatch: Dispatch) -> Any:
        ffi, context = interface(), self._parts.context
        layouts = ffi.new("VkDescriptorSetLayout[1]", [self._set_layout])
        info = Struct(
            "VkDescriptorSetAllocateInfo", descriptorPool=self._pool, descriptorSetCount=1, pSetLayouts=layouts
        )
        handle = ffi.new("VkDescriptorSet*")
        allocate = context.functions.vkAllocateDescriptorSets
        check("vkAllocateDescriptorSets", allocate(context.handle, info.pointer, handle))
        regions = dispatch.arguments if dispatch.guard is None else (dispatch.guard[0], *dispatch.arguments)
        for binding, region in enumerate(regions):
            self._write(handle[0], binding, region)
        return handle[0]

    def _write(self, target: Any, binding: int, region: Region) -> None:
        buffer = self._buffers[base_index(self._program, region)]
        window, offset, left = buffer.block.window(buffer.offset + region.offset)
        nbytes = min(left, max(1, -(-region.nbytes // RANGE_BYTES)) * RANGE_BYTES)
        if self._exact:
            window, offset = self._view(buffer, region.offset, nbytes), 0
        where = Struct("VkDescriptorBufferInfo", buffer=window, offset=offset, range=nbytes)
        write = Struct(
            "VkWriteDescriptorSet",
            dstSet=target,
            dstBinding=binding,
            descriptorCount=1,
            descriptorType=constants().VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            pBufferInfo=where,
        )
        context = self._parts.context
        context.functions.vkUpdateDescriptorSets(context.handle, 1, write.pointer, 0, interface().NULL)

    def _view(self, buffer: Buffer, offset: int, nbytes: int) -> Any:
        """Return a VkBuffer over some bytes of a buffer's memory."""
        ffi, context = interface(), self._parts.context
        memory, start = buffer.block.memory, buffer.offset + offset
        key = (memory, start, nbytes)
        if key not in self._views:
            info = Struct("VkBufferCreateInfo", size=nbytes, usage=constants().VK_BUFFER_USAGE_STORAGE_BUFFER_BIT)
            handle = ffi.new("VkBuffer*")
            check("vkCreateBuffer", context.functions.vkCreateBuffer(context.handle, info.pointer, ffi.NULL, handle))
            self._views[key] = handle[0]
            # The layer wants to see that someone asked.
            record = ffi.new("VkMemoryRequirements*")
            context.functions.vkGetBufferMemoryRequirements(context.handle, handle[0], record)
            check("vkBindBufferMemory", context.functions.vkBindBufferMemory(context.handle, handle[0], memory, start))
        return self._views[key]
