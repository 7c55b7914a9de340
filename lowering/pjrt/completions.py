"""Complete the events of whole calls, many at a time.

jaxlib asks for an event with every call but hardly ever waits for it: arrays have events of their own. Waking a thread
for each of them would cost as much as the call, so one thread completes them in batches, at most `PACE_SECONDS` late.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from ..errors import DeviceError
from . import _native as native
from .engine import Engine
from .failures import describe

PACE_SECONDS = 0.002


class Completions:
    """Events by timeline value and the thread that completes them; the thread starts with the first event.

    Args:
        engine: borrowed; its device must stay open until `stop`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: deque[tuple[int, int]] = deque()
        self._work = threading.Event()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stops = False

    def event_at(self, value: int) -> int:
        """Return an event that completes some time after the device's timeline has reached `value`."""
        event = native.new_event()
        self._pending.append((value, event))
        if not self._work.is_set():
            self._work.set()
            if self._thread is None:
                self._start()
        return event

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vulkan-completions", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Complete what is left and end the thread."""
        self._stops = True
        self._work.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stops or self._pending:
            _ = self._work.wait()
            self._work.clear()
            if not self._stops:
                time.sleep(PACE_SECONDS)
            while self._pending:
                self._complete_to(self._pending[-1][0])

    def _complete_to(self, value: int) -> None:
        """Wait for a timeline value and complete the events up to it; all of them with the error of a lost device."""
        code, text = 0, b""
        try:
            self._engine.device.wait(value)
        except DeviceError as error:
            code, text = describe(error)
        while self._pending and (code or self._pending[0][0] <= value):
            native.complete_event(self._pending.popleft()[1], code, text)
