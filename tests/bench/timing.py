"""Medians and spreads: the one way that times are taken, on every platform."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# A batch of asynchronous calls lasts about this long, so that starting and waiting for it does not count.
BATCH_SECONDS = 0.05
MOST_CALLS = 50
FEWEST_BATCHES, MOST_BATCHES = 5, 30
# An H100 that has idled, as while a program is compiled, runs at half its clock until it was busy for about this long.
WARM_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of one call: the median and the quartiles of `samples` samples, each the mean of `calls` calls."""

    median_us: float
    lower_us: float
    upper_us: float
    samples: int
    calls: int = 1

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        return (self.upper_us - self.lower_us) / self.median_us if self.median_us else 0.0


def timing_of(samples_us: Sequence[float], calls: int = 1) -> Timing:
    """Return the median and quartiles of samples."""
    if len(samples_us) < 2:
        return Timing(samples_us[0], samples_us[0], samples_us[0], 1, calls)
    lower, median, upper = statistics.quantiles(samples_us, n=4, method="inclusive")
    return Timing(median, lower, upper, len(samples_us), calls)


def time_calls(start: Callable[[], Any], wait: Callable[[Any], None], seconds: float) -> dict[str, Any]:
    """Time asynchronous calls: batches of them, each waited for at its end.

    Args:
        start: begin one call and return what `wait` needs.
        wait: block until that call is done; calls end in the order in which they began.
        seconds: about how long to go on, once the device is warm.
    """

    def batch(calls: int) -> float:
        began, last = time.perf_counter(), None
        for _ in range(calls):
            last = start()
        wait(last)
        return time.perf_counter() - began

    warm = time.perf_counter() + WARM_SECONDS
    calls = min(max(math.ceil(BATCH_SECONDS / max(batch(1), 1e-6)), 1), MOST_CALLS)
    while time.perf_counter() < warm:
        _ = batch(calls)
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < FEWEST_BATCHES or (time.perf_counter() < end and len(samples) < MOST_BATCHES):
        samples.append(batch(calls) / calls * 1e6)
    return asdict(timing_of(samples, calls))


def time_dispatch(start: Callable[[Any], Any], wait: Callable[[Any], None], first: Any, calls: int) -> dict[str, Any]:
    """Time many small calls three ways: independent, each on the last one's result, and waited for one by one.

    `host` is the time until the independent calls have returned, before anything is waited for.
    """

    def independent() -> tuple[float, float]:
        began, last = time.perf_counter(), None
        for _ in range(calls):
            last = start(first)
        returned = time.perf_counter()
        wait(last)
        return returned - began, time.perf_counter() - began

    def chained() -> float:
        began, value = time.perf_counter(), first
        for _ in range(calls):
            value = start(value)
        wait(value)
        return time.perf_counter() - began

    def blocking() -> float:
        began = time.perf_counter()
        for _ in range(max(calls // 10, 1)):
            wait(start(first))
        return (time.perf_counter() - began) * calls / max(calls // 10, 1)

    _ = independent()
    pairs = [independent() for _ in range(FEWEST_BATCHES)]
    rows = {
        "host": [host for host, _ in pairs],
        "independent": [whole for _, whole in pairs],
        "chained": [chained() for _ in range(FEWEST_BATCHES)],
        "blocking": [blocking() for _ in range(FEWEST_BATCHES)],
    }
    return {name: asdict(timing_of([s / calls * 1e6 for s in seconds], calls)) for name, seconds in rows.items()}
