"""`Device`: an opened Vulkan device, the owner of everything that must be released."""

from __future__ import annotations

import atexit
import os
import weakref
from dataclasses import replace

import numpy as np

from shaders.capabilities import Capabilities

from ..program import Program
from .capabilities import capabilities_of
from .context import Context
from .events import Events, type_callback
from .instance import DriverMessage
from .loaded import LoadedProgram
from .loader import interface
from .memory import Buffer, Memory
from .opening import close_candidates, find_candidates, open_context, without_validation
from .parts import Parts
from .pipelines import Pipelines
from .queues import Queue
from .select import DeviceRecord
from .settings import Settings, settings_from_environment
from .transfers import Transfers

# Strong references: a device that was forgotten without being closed must still be closed at exit.
_OPEN: set[Device] = set()


class Device:
    """A Vulkan device: memory, transfers and programs. All methods may be called from several threads.

    Close it (or use `with`); at exit of the process every open device is closed.
    """

    def __init__(self, context: Context, record: DeviceRecord, settings: Settings) -> None:
        queue = Queue(context)
        memory = Memory(context, queue)
        transfers = Transfers(context, queue)
        self.record = record
        self.settings = settings
        self.capabilities: Capabilities = capabilities_of(context.facts)
        self.parts = Parts(context, settings, queue, memory, transfers, Pipelines(context))
        self._events = Events(context, queue)
        self._programs: weakref.WeakSet[LoadedProgram] = weakref.WeakSet()
        self._process = os.getpid()
        self._is_closed = False
        _OPEN.add(self)

    @classmethod
    def open(cls, selector: str | None = None, settings: Settings | None = None) -> Device:
        """Open the device a selector names, else the one of QGA_VULKAN_DEVICE, else the best.

        Args:
            selector: index, part of the name, or UUID.
            settings: instead of those of the environment.

        Raises:
            DeviceError: no driver, no such device, or a device that lacks the baseline.
        """
        chosen = settings_from_environment() if settings is None else settings
        if selector is not None:
            chosen = replace(chosen, selector=selector)
        context, record = open_context(chosen)
        return cls(context, record, chosen)

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The device's name, as its driver gives it."""
        return self.record.name

    @property
    def is_direct(self) -> bool:
        """Whether arrays lie in memory that the host reads and writes in place (`Buffer.host`)."""
        return self.parts.context.plan.is_direct

    @property
    def is_lost(self) -> bool:
        """Whether the device was lost; every further call raises."""
        return self.parts.queue.is_lost

    @property
    def messages(self) -> list[DriverMessage]:
        """What the driver and the validation layer said so far."""
        return self.parts.context.instance.messages

    def statistics(self) -> dict[str, int]:
        """Return bytes and number of live arrays, peak, scratch and reserved bytes, and the ticks so far."""
        parts = self.parts
        with parts.context.lock:
            parts.memory.drain_locked()
            parts.collect_locked()
        ticks = {"submitted": parts.queue.tick, "completed": parts.queue.completed()}
        return {**parts.memory.statistics(), **ticks}

    def live_objects(self) -> dict[str, int]:
        """Return the number of live Vulkan objects by kind."""
        return self.parts.context.counts.snapshot()

    # --- memory -------------------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> Buffer:
        """Return memory for an array of `nbytes`, which may be 0.

        Raises:
            DeviceMemoryError: no room; the text says what is live, reserved and allowed.
        """
        self._check_open()
        return self.parts.memory.allocate(nbytes)

    def upload(self, buffer: Buffer, source: np.ndarray | memoryview | bytes) -> None:
        """Copy host data into a buffer; the source may be changed as soon as this returns."""
        self._check_open()
        self.parts.transfers.upload(buffer, source)

    def download(self, buffer: Buffer, target: np.ndarray) -> None:
        """Wait until a buffer is ready and copy it into a host array."""
        self._check_open()
        self.parts.transfers.download(buffer, target)

    def import_host(self, source: np.ndarray) -> Buffer | None:
        """Make a host array's own memory a buffer without copying, or return None where that is not possible.

        The array must not change while the buffer lives; the runtime keeps it alive until the device is done with it.
        It must be contiguous and start at a multiple of 256 bytes, and the driver must offer
        VK_EXT_external_memory_host.
        """
        self._check_open()
        address = source.ctypes.data
        if not source.flags.c_contiguous or address % 256 or not source.nbytes:
            return None
        with self.parts.context.lock:
            return self.parts.memory.import_locked(address, source.nbytes, source)

    # --- programs -----------------------------------------------------------------------------------------------------

    def load(self, program: Program) -> LoadedProgram:
        """Build a program's pipelines, several at a time, and upload its constants.

        Raises:
            UnsupportedError: a kernel needs more than the device has.
            GraphError: the program names what it does not have.
            DeviceError: the driver's compiler refused a kernel.
        """
        self._check_open()
        with self.parts.context.lock:
            self.parts.collect_locked()
        loaded = LoadedProgram(self.parts, program)
        self._programs.add(loaded)
        return loaded

    def wait(self, value: int) -> None:
        """Block until the timeline reaches a value such as `Buffer.ready`."""
        self._check_open()
        self.parts.queue.wait(value)

    def is_done(self, value: int) -> bool:
        """Return whether the timeline has reached a value."""
        self._check_open()
        return self.parts.queue.is_done(value)

    def when_done(self, value: int, callback: type_callback) -> None:
        """Call `callback(None)` once the timeline has reached a value, or `callback(error)` if the device is lost.

        It runs at once in this thread if the value is reached, else in the runtime's waiter thread.
        """
        self._check_open()
        self._events.when_done(value, callback)

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Wait for the device and destroy everything; closing twice does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        _OPEN.discard(self)
        if os.getpid() != self._process:
            # A forked child has none of the driver's threads: touching the device would hang it.
            return
        parts, context = self.parts, self.parts.context
        null = interface().NULL
        with context.lock:
            parts.queue.refuse_work()
            context.functions.vkDeviceWaitIdle(context.handle)
        self._events.close()
        for program in list(self._programs):
            program.close()
        with context.lock:
            if not parts.queue.is_lost:
                parts.collect_locked()
                parts.pipelines.save()
            parts.queue.mark_closed()
            parts.transfers.close()
            parts.pipelines.close()
            parts.queue.close()
            parts.memory.close()
        context.functions.vkDestroyDevice(context.handle, null)
        context.instance.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Device({self.record.text}{', closed' if self._is_closed else ''})"

    def _check_open(self) -> None:
        if self._is_closed:
            self.parts.queue.raise_lost()


def list_devices(settings: Settings | None = None) -> list[DeviceRecord]:
    """List the devices of this machine, usable or not, in the order of their indices.

    Raises:
        DeviceError: no Vulkan library at all.
    """
    candidates = find_candidates(without_validation(settings_from_environment() if settings is None else settings))
    try:
        return [candidate.record for candidate in candidates]
    finally:
        close_candidates(candidates)


def _close_all() -> None:
    for device in list(_OPEN):
        device.close()


# Drivers run threads of their own: a device left open can crash the process while it exits.
atexit.register(_close_all)
