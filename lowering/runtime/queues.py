"""The compute queue: submissions, its timeline, transient command buffers, and what is destroyed after a tick."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import DeviceError, message
from .commands import end_recording, record_barrier, start_recording
from .context import Context
from .fault import fault_text
from .loader import LostError, check, constants, interface
from .structs import Struct

if TYPE_CHECKING:
    from collections.abc import Generator

# A wait returns to Python this often, so that Ctrl-C works during long programs.
WAIT_SLICE_NS = 200_000_000


class _Boxes:
    """C memory that one thread reuses for each wait."""

    def __init__(self, semaphores: Any) -> None:
        ffi = interface()
        self.counter = ffi.new("uint64_t*")
        self.values = ffi.new("uint64_t[1]")
        self.info = Struct("VkSemaphoreWaitInfo", semaphoreCount=1, pSemaphores=semaphores, pValues=self.values)


class Queue:
    """One VkQueue and its timeline: each submission gets the next tick, and ticks finish in order."""

    def __init__(self, context: Context) -> None:
        ffi = interface()
        self._context = context
        self._functions = functions = context.functions
        handle = ffi.new("VkQueue*")
        functions.vkGetDeviceQueue(context.handle, context.plan.family, 0, handle)
        self.handle = handle[0]
        self.semaphore = create_timeline(context)
        self.command_pool = self._create_command_pool()
        self.tick = 0
        self._completed = 0
        self._lost = ""
        self._is_closed = False
        self._last_label = "nothing"
        self._retired: collections.deque[tuple[int, Callable[[], None]]] = collections.deque()
        self._transient: collections.deque[tuple[int, Any]] = collections.deque()
        # Reused for every submission: only the numbers change.
        self._semaphores = ffi.new("VkSemaphore[1]", [self.semaphore])
        self._signal = ffi.new("uint64_t[1]")
        self._one = ffi.new("VkCommandBuffer[1]")
        timeline = Struct(
            "VkTimelineSemaphoreSubmitInfo", signalSemaphoreValueCount=1, pSignalSemaphoreValues=self._signal
        )
        self._submit = Struct(
            "VkSubmitInfo",
            pNext=timeline,
            commandBufferCount=1,
            pCommandBuffers=self._one,
            signalSemaphoreCount=1,
            pSignalSemaphores=self._semaphores,
        )
        self._submit_pointer = self._submit.pointer
        self._submit_function = functions.vkQueueSubmit
        self._local = threading.local()

    def _create_command_pool(self) -> Any:
        ffi = interface()
        reset = constants().VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT
        info = Struct("VkCommandPoolCreateInfo", flags=reset, queueFamilyIndex=self._context.plan.family)
        handle = ffi.new("VkCommandPool*")
        create = self._functions.vkCreateCommandPool
        check("vkCreateCommandPool", create(self._context.handle, info.pointer, ffi.NULL, handle))
        return handle[0]

    # --- submitting ---------------------------------------------------------------------------------------------------

    def submit_locked(self, command_buffer: Any, label: str) -> int:
        """Submit one recorded command buffer and return its tick."""
        self._one[0] = command_buffer
        return self._send(label)

    def submit_many_locked(self, command_buffers: Sequence[Any], label: str) -> int:
        """Submit command buffers to run in order and return the tick that follows the last."""
        if not command_buffers:
            return self.tick
        array = interface().new("VkCommandBuffer[]", list(command_buffers))
        self._submit_pointer.commandBufferCount = len(command_buffers)
        self._submit_pointer.pCommandBuffers = array
        try:
            return self._send(label)
        finally:
            self._submit_pointer.commandBufferCount = 1
            self._submit_pointer.pCommandBuffers = self._one

    def _send(self, label: str) -> int:
        if self.refuses_work:
            self.raise_lost()
        value = self.tick + 1
        self._signal[0] = value
        result = self._submit_function(self.handle, 1, self._submit_pointer, interface().NULL)
        self._last_label = label
        if result < 0:
            self._check("vkQueueSubmit", result)
        self.tick = value
        if self._retired:
            self.collect_locked()
        return value

    # --- waiting ------------------------------------------------------------------------------------------------------

    def is_done(self, value: int) -> bool:
        """Return whether the timeline has reached a value."""
        return value <= self._completed or value <= self.completed()

    def completed(self) -> int:
        """Ask the device for the last tick that has finished."""
        if self._lost:
            self.raise_lost()
        counter = self._boxes().counter
        result = self._functions.vkGetSemaphoreCounterValue(self._context.handle, self.semaphore, counter)
        self._check("vkGetSemaphoreCounterValue", result)
        self._completed = max(self._completed, counter[0])
        return self._completed

    def wait(self, value: int) -> None:
        """Block until the timeline reaches a value; other threads run meanwhile.

        Raises:
            DeviceError: the device was lost, or the value was never submitted.
        """
        if value <= self._completed:
            return
        if self._lost:
            self.raise_lost()
        if value > self.tick:
            raise DeviceError(
                message(
                    "wait: the value must belong to work that was submitted.",
                    got=f"{value}",
                    want=f"at most {self.tick}",
                    fix="wait for a value that run, upload or download has returned.",
                )
            )
        while not self.is_done(value):
            self.wait_once(value, WAIT_SLICE_NS)

    def wait_once(self, value: int, timeout_ns: int) -> None:
        """Wait for a value or until the time is over, whichever comes first."""
        if self._lost:
            self.raise_lost()
        boxes = self._boxes()
        boxes.values[0] = value
        result = self._functions.vkWaitSemaphores(self._context.handle, boxes.info.pointer, timeout_ns)
        self._check("vkWaitSemaphores", result)
        if result == 0:
            self._completed = max(self._completed, value)

    def _boxes(self) -> _Boxes:
        """Return this thread's memory for the arguments of waits: several threads wait at once."""
        try:
            return self._local.boxes
        except AttributeError:
            self._local.boxes = _Boxes(self._semaphores)
            return self._local.boxes

    # --- what waits for a tick ----------------------------------------------------------------------------------------

    def retire_locked(self, value: int, destroy: Callable[[], None]) -> None:
        """Call `destroy` once the timeline has passed a value, at some later submission or collection."""
        self._retired.append((value, destroy))

    def collect_locked(self) -> None:
        """Destroy what has retired and whose tick has passed."""
        if not self._retired or self._lost:
            return
        finished = self.completed()
        kept: list[tuple[int, Callable[[], None]]] = []
        # A snapshot by popping: a destroy function may retire something else.
        for _ in range(len(self._retired)):
            value, destroy = self._retired.popleft()
            if value <= finished:
                destroy()
            else:
                kept.append((value, destroy))
        self._retired.extend(kept)

    @contextmanager
    def transient_locked(self) -> Generator[Any]:
        """Yield a command buffer in recording state; the caller submits it inside with `submit_locked`."""
        functions = self._functions
        if self._transient and self.is_done(self._transient[0][0]):
            command_buffer = self._transient.popleft()[1]
        else:
            command_buffer = self.command_buffer_locked()
        one_time = constants().VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT
        start_recording(functions, command_buffer, one_time)
        record_barrier(functions, command_buffer, full=True)
        try:
            yield command_buffer
        finally:
            self._transient.append((self.tick, command_buffer))

    def finish_locked(self, command_buffer: Any, label: str) -> int:
        """End a transient recording and submit it."""
        record_barrier(self._functions, command_buffer, full=True)
        end_recording(self._functions, command_buffer)
        return self.submit_locked(command_buffer, label)

    def command_buffer_locked(self) -> Any:
        """Allocate a primary command buffer."""
        ffi = interface()
        info = Struct("VkCommandBufferAllocateInfo", commandPool=self.command_pool, commandBufferCount=1)
        handle = ffi.new("VkCommandBuffer*")
        allocate = self._functions.vkAllocateCommandBuffers
        check("vkAllocateCommandBuffers", allocate(self._context.handle, info.pointer, handle))
        self._context.counts.add("command buffer")
        return handle[0]

    def free_command_buffers_locked(self, command_buffers: Sequence[Any]) -> None:
        """Free command buffers that no pending work uses."""
        if not command_buffers:
            return
        array = interface().new("VkCommandBuffer[]", list(command_buffers))
        self._functions.vkFreeCommandBuffers(self._context.handle, self.command_pool, len(command_buffers), array)
        self._context.counts.add("command buffer", -len(command_buffers))

    # --- the end ------------------------------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether the device was lost, or closed to the end."""
        return bool(self._lost)

    @property
    def refuses_work(self) -> bool:
        """Whether submissions are refused: the device was lost, or is being closed."""
        return self._is_closed or bool(self._lost)

    def raise_lost(self) -> NoReturn:
        """Raise the error of a closed device, or that of a lost one, naming the program that was submitted last."""
        if self._is_closed:
            raise DeviceError(
                message(
                    "A device must be open when it is used.",
                    got=f"{self._context.facts.name} after close()",
                    want="an open device",
                    fix="open the device again, and load programs and arrays on the new one.",
                )
            )
        raise DeviceError(
            message(
                "The Vulkan device was lost and cannot be used by this process again.",
                got=self._lost,
                want="a device that answers",
                fix="restart the process; if it happens again, run with QGA_VALIDATION=1 and report the program.",
            )
        )

    def mark_lost(self, function: str) -> None:
        """Remember that the device is lost, and which program was submitted last."""
        if not self._lost:
            self._lost = f"VK_ERROR_DEVICE_LOST from {function}; the last program submitted was {self._last_label}"
            fault = fault_text(self._context)
            self._lost += f"; the driver says: {fault}" if fault else ""

    def _check(self, function: str, result: int) -> None:
        try:
            check(function, result)
        except LostError:
            self.mark_lost(function)
            self.raise_lost()

    def refuse_work(self) -> None:
        """Take no more submissions; what was submitted can still be waited for."""
        self._is_closed = True

    def mark_closed(self) -> None:
        """Refuse waiting too, since the semaphore goes."""
        self._lost = self._lost or "closed"

    def close(self) -> None:
        """Run what still waits, then destroy the pool and the semaphore. The device must be idle."""
        ffi = interface()
        while self._retired:
            self._retired.popleft()[1]()
        self.free_command_buffers_locked([command_buffer for _, command_buffer in self._transient])
        self._transient.clear()
        self._functions.vkDestroyCommandPool(self._context.handle, self.command_pool, ffi.NULL)
        self._functions.vkDestroySemaphore(self._context.handle, self.semaphore, ffi.NULL)


def create_timeline(context: Context) -> Any:
    """Create a timeline semaphore that starts at zero."""
    ffi = interface()
    kind = Struct("VkSemaphoreTypeCreateInfo", semaphoreType=constants().VK_SEMAPHORE_TYPE_TIMELINE)
    info = Struct("VkSemaphoreCreateInfo", pNext=kind)
    handle = ffi.new("VkSemaphore*")
    create = context.functions.vkCreateSemaphore
    check("vkCreateSemaphore", create(context.handle, info.pointer, ffi.NULL, handle))
    return handle[0]
