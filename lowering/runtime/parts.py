"""The parts of one opened device that programs work with."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

from .context import Context
from .memory import Memory
from .pipelines import Pipelines
from .queues import Queue
from .settings import Settings
from .transfers import Transfers


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a loaded program borrows from its device.

    `abandoned` receives the command buffers of programs that were garbage collected: a finalizer may interrupt any
    code, so it must not take the lock that freeing them needs.
    """

    context: Context
    settings: Settings
    queue: Queue
    memory: Memory
    transfers: Transfers
    pipelines: Pipelines
    abandoned: collections.deque[list[Any]] = field(default_factory=collections.deque)

    def collect_locked(self) -> None:
        """Destroy what dead programs and pipelines left behind, once the work submitted so far is done."""
        queue = self.queue
        while self.abandoned:
            handles = self.abandoned.popleft()
            queue.retire_locked(queue.tick, lambda handles=handles: queue.free_command_buffers_locked(handles))
        for handle in self.pipelines.collect_locked():
            queue.retire_locked(queue.tick, lambda handle=handle: self.pipelines.destroy(handle))
        queue.collect_locked()
