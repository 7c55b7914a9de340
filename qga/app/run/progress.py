"""Progress of a training half: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

_BAR_CELLS = 24
_PLAIN_LINES = 10


class Progress:
    """Show how far one half is. Final; borrows the stream.

    Args:
        name: of the half, such as ``cpu``.
        first: steps already done when it starts.
        last: steps when it is done.
        stream: where to write; standard error by default, so that standard output keeps only results.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        name: str,
        first: int,
        last: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._name = name
        self._first = first
        self._shown = first
        self._last = last
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._started = clock()
        self._every = max(1, (last - first) // _PLAIN_LINES)

    def show(self, step: int, loss: float) -> None:
        """Report that ``step`` steps are done, the last one with this loss."""
        rate = (step - self._shown) / max(self._clock() - self._started, 1e-9)
        if self._shown == self._first:
            # The first step also waits for the driver to build its pipelines; the rate is that of the later ones.
            self._shown, self._started = step, self._clock()
        numbers = f"{step}/{self._last} steps  {rate:6.1f} steps/s  loss {loss:.4f}"
        if self._stream.isatty():
            left = (self._last - step) / rate
            filled = _BAR_CELLS * step // self._last
            bar = "█" * filled + "░" * (_BAR_CELLS - filled)
            line = f"{self._name:<7}{bar} {numbers}  {left:4.0f} s left"
            self._stream.write("\r" + line[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
            if step == self._last:
                self._stream.write("\n")
        elif step == self._last or (step - self._first) % self._every == 0:
            self._stream.write(f"{self._name:<7}{numbers}\n")
        self._stream.flush()

    def stop(self) -> None:
        """End an unfinished bar, so that what follows starts on its own line."""
        if self._stream.isatty():
            self._stream.write("\n")
            self._stream.flush()
