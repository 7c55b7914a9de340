"""Slots of a loaded program: an address table each, and the command buffers recorded against it."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .loader import interface
from .memory import Buffer
from .parts import Parts
from .recording import Recorder, record_segment
from .segments import Segment

# Calls of one program that may be in flight; a large program keeps the device busy with fewer.
SLOTS, SLOTS_OF_LARGE, LARGE_COMMANDS = 16, 4, 256


@dataclass(slots=True, eq=False)
class Slot:
    """An address table, the same memory as a NumPy array, and the recordings that read it; free after `tick`."""

    table: Buffer
    addresses: np.ndarray
    tick: int = 0
    recordings: dict[Segment, Any] = field(default_factory=dict)


class Slots:
    """The slots of one program; more are made while calls overlap."""

    def __init__(self, parts: Parts, recorder: Recorder, entries: int, commands: int) -> None:
        self._parts = parts
        self._recorder = recorder
        self._entries = entries
        self._limit = SLOTS if commands <= LARGE_COMMANDS else SLOTS_OF_LARGE
        self._count = 0
        # Slots that no call is filling, the one used longest ago first.
        self._idle: collections.deque[Slot] = collections.deque()

    def take(self) -> Slot:
        """Return a slot whose last call is done: an old one, a new one, or after waiting the oldest one."""
        queue = self._parts.queue
        try:
            slot = self._idle.popleft()
        except IndexError:
            return self._create()
        if queue.is_done(slot.tick):
            return slot
        if self._count < self._limit:
            self._idle.appendleft(slot)
            return self._create()
        queue.wait(slot.tick)
        return slot

    def give(self, slot: Slot) -> None:
        """Take a slot back after its call was submitted."""
        self._idle.append(slot)

    def recorded_locked(self, slot: Slot, segment: Segment) -> Any:
        """Return the command buffer of a segment, recording it at first use."""
        found = slot.recordings.get(segment)
        if found is None:
            found = self._parts.queue.command_buffer_locked()
            record_segment(self._recorder, found, segment, slot.table.address)
            slot.recordings[segment] = found
        return found

    def abandon(self, tick: int) -> None:
        """Give everything back without taking a lock, for a finalizer; `tick` is the last that may use it."""
        while self._idle:
            slot = self._idle.popleft()
            self._parts.abandoned.append(list(slot.recordings.values()))
            slot.recordings.clear()
            slot.table.last_use = tick
            slot.table.free()

    def _create(self) -> Slot:
        parts = self._parts
        nbytes = 8 * self._entries
        with parts.context.lock:
            self._count += 1
            table = parts.memory.allocate_locked(nbytes, parts.memory.tables)
        parts.queue.wait(table.quiet)
        ffi = interface()
        memory = ffi.buffer(ffi.cast("uint8_t*", table.host), nbytes)
        return Slot(table, np.frombuffer(memory, np.uint64) if nbytes else np.empty(0, np.uint64))
