"""Count live Vulkan objects by kind, so that tests can create, drop and expect zero."""

from __future__ import annotations

import threading
from collections import Counter


class LiveObjects:
    """Numbers of live objects of one device, by kind ("buffer", "memory", "pipeline", …)."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, number: int = 1) -> None:
        """Count objects created (positive) or destroyed (negative).

        Must not be called from a finalizer: finalizers may interrupt the thread that holds this lock.
        """
        with self._lock:
            self._counts[kind] += number

    def snapshot(self) -> dict[str, int]:
        """Return the kinds that have live objects and how many."""
        with self._lock:
            return {kind: number for kind, number in sorted(self._counts.items()) if number}
