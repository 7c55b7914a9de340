"""Solve small matrices on one thread each: OpenBLAS shares out even 64 rows, and its threads wait for one another.

Where another program wants a core, that wait is a turn of the scheduler: 40 ms for a solver of 0.3 ms.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

_MAPS = Path("/proc/self/maps")
# NumPy and SciPy bring an OpenBLAS each, under names of their own.
_NAMES = [(prefix, suffix) for prefix in ("scipy_", "") for suffix in ("64_", "")]


class OneThread:
    """Hold every OpenBLAS of the process to one thread while anyone is inside; use with ``with``.

    The number is one for the whole process, so users are counted: the last one out gives back what the first one found.
    Without OpenBLAS nothing happens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        """Enter; the first one in sets the number."""
        with self._lock:
            if not self._users:
                self._before = [get() for get, _ in _libraries()]
                for _, put in _libraries():
                    put(1)
            self._users += 1

    def __exit__(self, *error: object) -> None:
        """Leave; the last one out puts the number back."""
        with self._lock:
            self._users -= 1
            if not self._users:
                for (_, put), count in zip(_libraries(), self._before, strict=True):
                    put(count)


one_thread = OneThread()


@cache
def _libraries() -> list[tuple[Callable[[], int], Callable[[int], None]]]:
    """Find how each loaded OpenBLAS reads and sets its number of threads."""
    # JAX solves with SciPy's LAPACK, which it loads with its first solver.
    import scipy.linalg  # noqa: F401  # pyright: ignore[reportUnusedImport]

    lines = _MAPS.read_text().splitlines() if _MAPS.exists() else []
    paths = sorted({line.split(maxsplit=5)[-1] for line in lines if "openblas" in line})
    found = []
    for library in map(ctypes.CDLL, paths):
        for prefix, suffix in _NAMES:
            names = (f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set"))
            get, put = (getattr(library, name, None) for name in names)
            if get is not None and put is not None:
                found.append((get, put))
    return found
