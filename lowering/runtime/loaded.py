"""Run a program: pipelines and constants made once, one recorded command buffer a slot, one submission a call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..dtypes import itemsize
from ..errors import InputError, message
from ..program import ArrayType, Program, Region
from .memory import Buffer, raise_freed
from .parts import Parts
from .profile import DispatchTime, profile_items
from .recording import Recorder
from .segments import HostLoop, Item, Limits, Loop, Segment, base_index, build_recipe, has_host_loop
from .slots import Slot, Slots
from .spans import aligned

# Command buffers of one submission.
BATCH = 64
NO_POSITIONS: frozenset[int] = frozenset()


class LoadedProgram:
    """A program on a device. `run` may be called from several threads."""

    def __init__(self, parts: Parts, program: Program) -> None:
        self.program = program
        self._parts = parts
        context = parts.context
        self._recipe = recipe = build_recipe(program, Limits(context.facts.limits["maxComputeWorkGroupCount"]))
        self.labels = tuple(step.label or program.kernels[step.kernel].name for step in recipe.dispatches)
        # Held for as long as the program may run: the last holder's end destroys them.
        self._pipelines = parts.pipelines.create(program.kernels)
        self._recorder = Recorder(
            functions=context.functions,
            pipelines=[pipeline.handle for pipeline in self._pipelines],
            layout=parts.pipelines.layout,
            labels=self.labels if parts.settings.labels else (),
            is_host_read=context.plan.is_direct,
        )
        commands = sum(len(item.commands) for item in recipe.items if isinstance(item, Segment))
        self._slots = Slots(parts, self._recorder, len(recipe.address_index), commands)
        self._input_nbytes = [array_nbytes(kind) for kind in program.inputs]
        self._output_nbytes = [array_nbytes(kind) for kind in program.outputs]
        self._aliased = {output: source for source, output in program.aliases}
        self._constants = self._upload_constants()
        # Base addresses in the order of `base_index`, and room for the table; both are used under the lock only.
        self._base = self._first_base()
        self._values = np.empty(len(recipe.address_index), np.uint64)
        self._single = recipe.items[0] if len(recipe.items) == 1 and isinstance(recipe.items[0], Segment) else None
        self._rounds_hint: dict[HostLoop, int] = {}

    def close(self) -> None:
        """Give everything back; work that was submitted goes on. Also done when the program is garbage collected."""
        tick = self._parts.queue.tick
        self._slots.abandon(tick)
        if self._constants is not None:
            self._constants.last_use = tick
            self._constants.free()

    def __del__(self) -> None:
        # A program whose construction failed has nothing to give back.
        if hasattr(self, "_rounds_hint"):
            self.close()

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, inputs: Sequence[Buffer], donate: frozenset[int] = NO_POSITIONS) -> list[Buffer]:
        """Start the program and return its outputs, which hold their results once the timeline reaches their `.ready`.

        A program with a `While` blocks the caller until its last round is known.

        Args:
            inputs: one buffer an input, in order. They may be freed as soon as this returns.
            donate: positions of inputs the caller gives up: outputs take their memory where the program allows it, and
                the buffers are freed.

        Raises:
            InputError: wrong number or sizes of inputs, a freed buffer, a donated buffer that is used twice.
            DeviceMemoryError: no room for outputs or temporaries.
            DeviceError: the device was lost.
        """
        if [buffer.nbytes for buffer in inputs] != self._input_nbytes:
            self._raise_sizes(inputs)
        slot = self._slots.take()
        try:
            outputs = self._start(slot, inputs, donate)
        finally:
            self._slots.give(slot)
        for position in donate:
            inputs[position].free()
        return outputs

    def profile(self, inputs: Sequence[Buffer]) -> list[DispatchTime]:
        """Run the program once, alone and each dispatch alone, and return the device's time for each.

        The outputs are dropped; inputs stay as they are. The profile of a device without timestamps is an error.
        """
        if [buffer.nbytes for buffer in inputs] != self._input_nbytes:
            self._raise_sizes(inputs)
        parts = self._parts
        slot = self._slots.take()
        try:
            with parts.context.lock:
                outputs, arena = self._prepare_locked(slot, inputs, NO_POSITIONS, is_private=True)
            buffers = [*inputs, *outputs]
            return profile_items(
                parts,
                self._recorder,
                self._recipe,
                slot.table.address,
                self.labels,
                read_flag=lambda region, tick: self._read_flag(region, buffers, arena, tick),
            )
        finally:
            slot.tick = parts.queue.tick
            self._slots.give(slot)

    def _start(self, slot: Slot, inputs: Sequence[Buffer], donate: frozenset[int]) -> list[Buffer]:
        parts, needs_host = self._parts, self._recipe.needs_host
        with parts.context.lock:
            outputs, arena = self._prepare_locked(slot, inputs, donate, is_private=needs_host)
            if not needs_host:
                slot.tick = tick = self._submit_locked(slot, self._recipe.items)
                _mark(inputs, outputs, tick)
                return outputs
        tick = self._drive(slot, self._recipe.items, [*inputs, *outputs], arena)
        slot.tick = tick
        _mark(inputs, outputs, tick)
        if arena is not None:
            arena.last_use = tick
            arena.free()
        return outputs

    # --- before the submission ----------------------------------------------------------------------------------------

    def _prepare_locked(
        self, slot: Slot, inputs: Sequence[Buffer], donate: frozenset[int], *, is_private: bool
    ) -> tuple[list[Buffer], Buffer | None]:
        """Make the outputs and the arena and write the address table.

        The arena is the device's scratch memory, which all programs share because they run one after the other; a
        program that comes back to the host between submissions needs one of its own.
        """
        memory = self._parts.memory
        if self._parts.queue.refuses_work:
            self._parts.queue.raise_lost()
        addresses = [buffer.address for buffer in inputs]
        if 0 in addresses:
            raise_freed()
        if self._aliased or donate:
            outputs = self._outputs_locked(inputs, donate)
            # A program may address an aliased array as input or as output: both are the output's memory.
            for position, source in self._aliased.items():
                addresses[source] = outputs[position].address
        else:
            outputs = [memory.allocate_locked(nbytes) for nbytes in self._output_nbytes]
        addresses += [buffer.address for buffer in outputs]
        base, arena = self._base, None
        if self.program.arena_bytes:
            nbytes = self.program.arena_bytes
            arena = memory.allocate_locked(nbytes) if is_private else memory.scratch_locked(nbytes)
            base[-1] = arena.address
        base[: len(addresses)] = addresses
        # "clip" writes straight into `out`; the indices were checked when the recipe was made.
        np.take(base, self._recipe.address_index, out=self._values, mode="clip")
        np.add(self._values, self._recipe.address_offset, out=slot.addresses)
        return outputs, arena

    def _outputs_locked(self, inputs: Sequence[Buffer], donate: frozenset[int]) -> list[Buffer]:
        """Allocate outputs; aliased ones take a donated input's memory, or get a copy of an input that is kept."""
        self._check_donated(inputs, donate)
        memory, moved = self._parts.memory, {}
        outputs: list[Buffer | None] = []
        for position, nbytes in enumerate(self._output_nbytes):
            source = self._aliased.get(position)
            # Imported host memory belongs to someone who does not expect it to change.
            if source is not None and source in donate and inputs[source].block.keep is None:
                moved[position] = source
                outputs.append(None)
            else:
                outputs.append(memory.allocate_locked(nbytes))
        # Only now, when nothing can fail for lack of memory any more, do inputs lose theirs.
        result = [inputs[moved[i]].donate() if buffer is None else buffer for i, buffer in enumerate(outputs)]
        for position, source in self._aliased.items():
            if position not in moved:
                self._parts.transfers.copy_locked(inputs[source], result[position], self._output_nbytes[position])
        return result

    def _check_donated(self, inputs: Sequence[Buffer], donate: frozenset[int]) -> None:
        if not donate or len({id(buffer) for buffer in inputs}) == len(inputs):
            return
        for position in donate:
            uses = [index for index, buffer in enumerate(inputs) if buffer is inputs[position]]
            if len(uses) > 1:
                raise InputError(
                    message(
                        f"{self.program.name}: a donated argument must be used once.",
                        got=f"one buffer as arguments {', '.join(map(str, uses))}",
                        want="different buffers",
                        fix="copy the array, or do not donate it.",
                    )
                )

    def _upload_constants(self) -> Buffer | None:
        """Put all constants into one buffer, each at a multiple of 256 bytes."""
        constants = self.program.constants
        if not constants:
            return None
        parts = self._parts
        offsets = self._constant_offsets()
        host = np.zeros(offsets[-1], np.uint8)
        for start, value in zip(offsets, constants, strict=False):
            host[start : start + len(value)] = np.frombuffer(value, np.uint8)
        buffer = parts.memory.allocate(host.nbytes)
        parts.transfers.upload(buffer, host)
        return buffer

    def _constant_offsets(self) -> list[int]:
        offsets = [0]
        for value in self.program.constants:
            offsets.append(offsets[-1] + aligned(len(value)))
        return offsets

    def _first_base(self) -> np.ndarray:
        program = self.program
        first = len(program.inputs) + len(program.outputs)
        base = np.zeros(first + len(program.constants) + 1, np.uint64)
        if self._constants is not None:
            base[first:-1] = np.array(self._constant_offsets()[:-1], np.uint64) + np.uint64(self._constants.address)
        return base

    # --- submitting ---------------------------------------------------------------------------------------------------

    def _submit_locked(self, slot: Slot, items: Sequence[Item]) -> int:
        """Submit items that need no host decisions; return the tick after the last."""
        queue, name = self._parts.queue, self.program.name
        if self._single is not None:
            return queue.submit_locked(self._slots.recorded_locked(slot, self._single), name)
        batch: list[Any] = []
        for segment in flatten(items):
            batch.append(self._slots.recorded_locked(slot, segment))
            if len(batch) == BATCH:
                queue.submit_many_locked(batch, name)
                batch = []
        return queue.submit_many_locked(batch, name)

    def _drive(self, slot: Slot, items: Sequence[Item], buffers: Sequence[Buffer], arena: Buffer | None) -> int:
        """Submit items, reading flags where the host decides; return the tick after the last."""
        lock = self._parts.context.lock
        tick = slot.tick
        for item in items:
            if not has_host_loop((item,)):
                with lock:
                    tick = self._submit_locked(slot, (item,))
            elif isinstance(item, Loop):
                for _ in range(item.count):
                    tick = self._drive(slot, item.body, buffers, arena)
            else:
                assert isinstance(item, HostLoop)
                tick = self._drive_loop(slot, item, buffers, arena)
        return tick

    def _drive_loop(self, slot: Slot, loop: HostLoop, buffers: Sequence[Buffer], arena: Buffer | None) -> int:
        """Run a While in chunks of rounds that double, starting from what it took the last time."""
        tick = self._drive(slot, loop.condition, buffers, arena)
        wanted = self._rounds_hint.get(loop, 1)
        done = 0
        while self._read_flag(loop.flag, buffers, arena, tick) == 1:
            if not loop.chunks:
                tick = self._drive(slot, loop.round_items, buffers, arena)
                continue
            rounds, segment = max((chunk for chunk in loop.chunks if chunk[0] <= wanted), key=lambda chunk: chunk[0])
            with self._parts.context.lock:
                tick = self._submit_locked(slot, (segment,))
            done += rounds
            wanted = max(1, done)
        self._rounds_hint[loop] = max(1, done // 2)
        return tick

    def _read_flag(self, region: Region, buffers: Sequence[Buffer], arena: Buffer | None, tick: int) -> int:
        index = base_index(self.program, region)
        buffer = buffers[index] if index < len(buffers) else arena
        assert buffer is not None, "a flag lies in an input, an output or the arena"
        return self._parts.transfers.read_word(buffer, region.offset, tick)

    def _raise_sizes(self, inputs: Sequence[Buffer]) -> None:
        raise InputError(
            message(
                f"{self.program.name}: the inputs must have the sizes the program was compiled for.",
                got=f"{[buffer.nbytes for buffer in inputs]} bytes",
                want=f"{self._input_nbytes} bytes",
                fix="pass one buffer for each input, in order.",
            )
        )


def flatten(items: Sequence[Item]) -> Iterator[Segment]:
    """Yield the segments of items without host loops in order of submission, loops unrolled."""
    for item in items:
        if isinstance(item, Segment):
            yield item
        else:
            assert isinstance(item, Loop)
            for _ in range(item.count):
                yield from flatten(item.body)


def _mark(inputs: Sequence[Buffer], outputs: Sequence[Buffer], tick: int) -> None:
    for buffer in inputs:
        buffer.last_use = tick
    for buffer in outputs:
        buffer.ready = buffer.last_use = tick


def array_nbytes(kind: ArrayType) -> int:
    """Return the bytes of an input or output."""
    return math.prod(kind.shape) * itemsize(kind.dtype)
