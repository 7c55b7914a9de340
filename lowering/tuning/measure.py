"""Time one kernel under several schedules by the device's own clock, and check that they compute the same."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from shaders.errors import ShaderError

from .. import dtypes
from ..choices import candidates, choose, fits
from ..errors import QgaError
from ..runtime import Buffer, Device, LoadedProgram
from ..schedule import Schedule
from ..verify import compare, depth
from .sites import Site

FINALISTS = 4
"""Candidates that are measured again, in turn with the default, after all were measured briefly."""
FIRST_SAMPLES = 3
SAMPLES = range(5, 22)
"""Of the last round: at least the first number, up to the last as time allows."""
LEAST_GAIN = 0.02
"""Of the default's time; what wins less is not kept, however little times spread."""
SHARE_OF_FIRST_ROUND = 0.6
WARM_S = 0.1
"""Work before a GPU is timed that has waited for the host."""
LEAD_NS, MOST_LEADS = 2e6, 50
"""Work right before a sample, and the most launches of it."""
MOST_WORKERS = 8
"""Threads that compile candidates."""
POISON = 0xFF
"""A byte that makes NaN of every float and -1 of every integer."""


@dataclass(slots=True)
class Trial:
    """A schedule that is being measured: its program on the device, and samples in nanoseconds."""

    schedule: Schedule
    loaded: LoadedProgram
    samples: list[float] = field(default_factory=list)

    @property
    def fastest_ns(self) -> float:
        """The shortest of the samples."""
        return min(self.samples)

    @property
    def median_ns(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def spread_ns(self) -> float:
        """The distance of the quartiles."""
        if len(self.samples) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.samples, n=4, method="inclusive")
        return upper - lower


@dataclass(frozen=True, slots=True)
class Result:
    """What measuring one kernel found; times are device time of one launch.

    Attributes:
        name: the kernel's shape class.
        label: what it computes, for people.
        default: the compiler's own schedule.
        best: the fastest of the others that computes the same; the default where there is none.
        default_us, best_us: medians of the last round.
        spread_us: the larger of their distances of quartiles.
        tried: schedules that were measured.
        left: candidates that there was no time for.
        refused: why candidates were not measured or not kept.
    """

    name: str
    label: str
    default: str
    best: str
    default_us: float
    best_us: float
    spread_us: float
    tried: int
    left: int
    refused: tuple[str, ...]

    @property
    def gain(self) -> float:
        """How many times as fast the best is."""
        return self.default_us / self.best_us

    @property
    def is_better(self) -> bool:
        """Whether the best beats the default by more than the spread and by a share worth an entry."""
        return self.default_us - self.best_us > max(self.spread_us, LEAST_GAIN * self.default_us)


def measure(device: Device, site: Site, seconds: float, progress: Callable[[str], None]) -> Result:
    """Measure the candidates of one kernel.

    Every candidate is measured briefly, the fastest again in turn with the default. One that computes something else is
    refused.

    Args:
        device: where.
        site: the kernel and its inputs.
        seconds: about how long; where it is too short for all candidates, the last ones are left out.
        progress: called with a line for people after each candidate.

    Raises:
        DeviceError: the device was lost, or has no timestamps.
    """
    began = time.perf_counter()
    default = prepare(device, site, choose(site.fusion, device.capabilities))
    wanted = results(device, site, default)
    trials, refused, left = _first_round(device, site, default, began + seconds * SHARE_OF_FIRST_ROUND, progress)
    finalists: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: trial.fastest_ns):
        if len(finalists) == FINALISTS:
            break
        wrong = difference(site, results(device, site, trial), wanted)
        if wrong:
            refused.append(f"{trial.schedule.text()}: {wrong}")
        else:
            finalists.append(trial)
    _warm(device, site, default)
    _last_round(site, [default, *finalists], began + seconds)
    best = min(finalists, key=lambda trial: trial.median_ns, default=default)
    return Result(
        site.name, site.fusion.attributes["label"], default.schedule.text(), best.schedule.text(),
        default.median_ns / 1e3, best.median_ns / 1e3, max(default.spread_ns, best.spread_ns) / 1e3,
        len(trials), left, tuple(refused),
    )  # fmt: skip


def _first_round(
    device: Device, site: Site, default: Trial, end: float, progress: Callable[[str], None]
) -> tuple[list[Trial], list[str], int]:
    """Measure candidates briefly; return those that ran, why others did not, and how many there was no time for."""
    known = {each.text(): each for each in candidates(site.fusion, device.capabilities)}
    waiting = [each for text, each in known.items() if text != default.schedule.text()]
    trials: list[Trial] = []
    refused: list[str] = []
    workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(waiting), workers):
            if first and time.perf_counter() > end:
                return trials, refused, len(waiting) - first
            # Nothing is compiled while something is timed.
            prepared = list(pool.map(lambda each: _prepared(device, site, each), waiting[first : first + workers]))
            refused += (each for each in prepared if isinstance(each, str))
            ready = [each for each in prepared if isinstance(each, Trial)]
            _warm(device, site, default)
            for trial in (default, *ready):
                for _ in range(FIRST_SAMPLES):
                    sample(site, trial)
            trials += ready
            fastest = min((trial.fastest_ns for trial in trials), default=default.fastest_ns)
            done = min(first + workers, len(waiting))
            progress(f"{done} of {len(waiting)}, best {default.fastest_ns / fastest:.2f} times as fast")
    return trials, refused, 0


def _prepared(device: Device, site: Site, schedule: Schedule) -> Trial | str | None:
    """Return a candidate ready to be timed, why it cannot be, or None where the device has no room for it."""
    try:
        return prepare(device, site, schedule) if fits(site.fusion, schedule, device.capabilities) else None
    except (QgaError, ShaderError) as error:
        if device.is_lost:
            raise
        return f"{schedule.text()}: {str(error).splitlines()[0]}"


def _warm(device: Device, site: Site, trial: Trial) -> None:
    """Keep a GPU busy for a while: one that idled runs at a fraction of its clock."""
    end = time.perf_counter() + (0.0 if device.capabilities.is_cpu else WARM_S)
    while time.perf_counter() < end:
        device.wait(max(buffer.ready for buffer in trial.loaded.run(site.inputs)))


def _last_round(site: Site, trials: Sequence[Trial], end: float) -> None:
    """Take new samples in turn, so that what else the machine does falls on all."""
    for trial in trials:
        trial.samples.clear()
    for taken in range(SAMPLES.stop - 1):
        if taken >= SAMPLES.start and time.perf_counter() > end:
            return
        for trial in trials:
            sample(site, trial)


def prepare(device: Device, site: Site, schedule: Schedule) -> Trial:
    """Compile a kernel with a schedule and load it."""
    return Trial(schedule, device.load(site.program(schedule, device.capabilities)))


def sample(site: Site, trial: Trial) -> None:
    """Time one launch, right after others."""
    launches = 1 if not trial.samples else int(min(max(LEAD_NS / max(trial.fastest_ns, 1.0), 1), MOST_LEADS))
    for _ in range(launches):
        _ = trial.loaded.run(site.inputs)
    label = site.fusion.attributes["label"]
    taken = sum(each.total_ns for each in trial.loaded.profile(site.inputs) if each.label == label)
    # A clock of coarse steps may see nothing of a short launch.
    trial.samples.append(max(float(taken), 1.0))


def results(device: Device, site: Site, trial: Trial) -> list[np.ndarray]:
    """Return what a kernel computes, in memory that held no results before."""
    spoilt: list[Buffer] = []
    for value in site.fusion.outputs:
        buffer = device.allocate(value.nbytes)
        device.upload(buffer, np.full(value.nbytes, POISON, np.uint8))
        spoilt.append(buffer)
    for buffer in spoilt:
        buffer.free()
    found: list[np.ndarray] = []
    for value, buffer in zip(site.fusion.outputs, trial.loaded.run(site.inputs), strict=True):
        target = np.empty(value.shape, dtypes.NUMPY[value.dtype])
        device.download(buffer, target)
        found.append(target)
    return found


def difference(site: Site, got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> str:
    """Say where results differ by more than another order of the same sums explains; nothing where they do not."""
    terms = depth(site.fusion)
    for value, ours, theirs in zip(site.fusion.outputs, got, want, strict=True):
        found = compare(value, ours, theirs, terms)
        if found is not None:
            place = f"{found.got} at {list(found.position)} of {value.text}"
            return f"computes {place}, the default {found.want}; allowed is {found.allowed:.3g}"
    return ""
