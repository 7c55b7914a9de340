"""Call back when the device has reached a point of its timeline, from one thread that waits for it."""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
from collections.abc import Callable

from ..errors import DeviceError
from .context import Context
from .loader import LostError, check, constants, interface
from .queues import Queue, create_timeline
from .structs import Struct

type_callback = Callable[[DeviceError | None], None]
# The wake semaphore ends a wait early; the slice only bounds what a driver without that ability would cost.
WAIT_SLICE_NS = 1_000_000_000


class Events:
    """Callbacks by timeline value. The thread starts with the first callback and ends with `close`."""

    def __init__(self, context: Context, queue: Queue) -> None:
        self._context = context
        self._queue = queue
        self._condition = threading.Condition()
        self._waiting: list[tuple[int, int, type_callback]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._wake = create_timeline(context)
        self._wake_value = 0

    def when_done(self, value: int, callback: type_callback) -> None:
        """Call `callback(None)` once the timeline has reached a value, or `callback(error)` if the device is lost.

        Already reached: the callback runs at once in this thread; else in the waiter thread. An exception of a callback
        is reported like one that ends a thread, and the others still run.
        """
        if not self._queue.is_lost and self._queue.is_done(value):
            _call(callback, None)
            return
        with self._condition:
            if not self._is_closed:
                is_first = not self._waiting or value < self._waiting[0][0]
                heapq.heappush(self._waiting, (value, next(self._numbers), callback))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="qga-events", daemon=True)
                    self._thread.start()
                elif is_first:
                    self._signal()
                self._condition.notify()
                return
        _call(callback, self._lost_error())

    def close(self) -> None:
        """Run the callbacks that are left and end the thread. The device must be idle or lost."""
        with self._condition:
            if self._is_closed:
                return
            self._is_closed = True
            if self._thread is not None and not self._queue.is_lost:
                self._signal()
            self._condition.notify()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._context.functions.vkDestroySemaphore(self._context.handle, self._wake, interface().NULL)

    def _signal(self) -> None:
        """Wake the thread out of its wait on the device."""
        self._wake_value += 1
        info = Struct("VkSemaphoreSignalInfo", semaphore=self._wake, value=self._wake_value)
        self._context.functions.vkSignalSemaphore(self._context.handle, info.pointer)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._is_closed:
                    self._condition.wait()
                if not self._waiting:
                    return
                value, wake = self._waiting[0][0], self._wake_value
            error = self._wait(value, wake + 1)
            for callback in self._take(error):
                _call(callback, error)

    def _take(self, error: DeviceError | None) -> list[type_callback]:
        """Remove and return the callbacks whose value is reached; all of them once the device is lost."""
        finished = None if error is not None else self._queue.completed()
        taken: list[type_callback] = []
        with self._condition:
            while self._waiting and (finished is None or self._waiting[0][0] <= finished):
                taken.append(heapq.heappop(self._waiting)[2])
        return taken

    def _wait(self, value: int, wake: int) -> DeviceError | None:
        """Wait until the device reaches a value or someone wakes this thread; return the error of a lost device."""
        ffi = interface()
        semaphores = ffi.new("VkSemaphore[2]", [self._queue.semaphore, self._wake])
        values = ffi.new("uint64_t[2]", [value, wake])
        info = Struct(
            "VkSemaphoreWaitInfo",
            flags=constants().VK_SEMAPHORE_WAIT_ANY_BIT,
            semaphoreCount=2,
            pSemaphores=semaphores,
            pValues=values,
        )
        try:
            if self._queue.is_lost:
                self._queue.raise_lost()
            wait = self._context.functions.vkWaitSemaphores
            check("vkWaitSemaphores", wait(self._context.handle, info.pointer, WAIT_SLICE_NS))
        except LostError:
            self._queue.mark_lost("vkWaitSemaphores")
            return self._lost_error()
        except DeviceError as error:
            return error
        return None

    def _lost_error(self) -> DeviceError:
        try:
            self._queue.raise_lost()
        except DeviceError as error:
            return error


def _call(callback: type_callback, error: DeviceError | None) -> None:
    try:
        callback(error)
    except Exception:
        # One callback's fault must not take the others' events away.
        kind, value, trace = sys.exc_info()
        assert kind is not None
        threading.excepthook(threading.ExceptHookArgs((kind, value, trace, threading.current_thread())))
