"""`qga bench`: a few named cases on the Vulkan device, as ratios to JAX's CPU in the same run."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from ..errors import DeviceError, message
from .cases import CASES, Case

EXAMPLES = """\
Each case runs compiled and warm, the two platforms in turn. The time is the median, the spread the distance of the
quartiles over it. A ratio above 1 means Vulkan is faster. Ratios of one run can be compared, times of different runs
cannot. A driver that runs on the CPU shares its cores with everything else: expect a large spread and small ratios.

examples:
  qga bench                              every case, small sizes
  qga bench softmax matmul --scale 4     two cases, each axis that scales four times as long
  qga bench --out bench.json             also write the record
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one case on one platform: the median and the quartiles of `runs` runs."""

    median_seconds: float
    lower_seconds: float
    upper_seconds: float
    runs: int


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    names = "\n".join(f"  {name:11} {case.summary}" for name, case in CASES.items())
    parser = subparsers.add_parser(
        "bench", help="time kernels on a device", description=__doc__, epilog=f"cases:\n{names}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names from the list below (default: all)")
    parser.add_argument("--scale", type=int, default=1, help="factor on the sizes (default: 1)")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each case and platform (default: 0.5)")
    parser.add_argument("--platform", default="vulkan", help="platform to compare with the CPU (default: vulkan)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Run the cases, print a table, write the record where asked."""
    unknown = sorted(set(arguments.cases) - CASES.keys())
    if unknown:
        print(f"qga bench: no case {', '.join(unknown)}; there are: {', '.join(CASES)}")
        return 2
    device, reference = find_device(arguments.platform), jax.devices("cpu")[0]
    print(f"{device.device_kind} against the CPU, jax {jax.__version__}")
    print(f"{'case':10} {'size':>22} {device.platform:>12} {'cpu':>12} {'ratio':>7}   of the device")
    rows = []
    for name in arguments.cases or CASES:
        row = measure(name, CASES[name], arguments.scale, device, reference, arguments.seconds)
        rows.append(row)
        print(line_of(row), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record_of(device, rows), indent=1) + "\n")
    return 0


def find_device(platform_name: str) -> Any:
    """Return the first device of a platform.

    Raises:
        DeviceError: JAX cannot start the platform.
    """
    try:
        return jax.devices(platform_name)[0]
    except RuntimeError as error:
        raise DeviceError(
            message(
                "bench: the platform to measure must start.",
                got=str(error).splitlines()[0],
                want=f"a device of the platform {platform_name}",
                fix="run `qga devices`, which says what is missing.",
            )
        ) from error


def measure(name: str, case: Case, scale: int, device: Any, reference: Any, seconds: float) -> dict[str, Any]:
    """Time one case on both devices, in turn, so that what else the machine does falls on both."""
    runners = [runner(case, scale, place) for place in (device, reference)]
    samples: list[list[float]] = [[], []]
    end = time.perf_counter() + 2 * seconds
    while time.perf_counter() < end or len(samples[1]) < 3:
        for run, taken in zip(runners, samples, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    measured, base = (timing_of(taken) for taken in samples)
    return {
        "case": name,
        "size": case.size_text(scale),
        "bytes": case.moved_bytes(scale),
        "operations": case.operations(scale),
        "device": asdict(measured),
        "cpu": asdict(base),
        "ratio": base.median_seconds / measured.median_seconds,
    }


def runner(case: Case, scale: int, place: Any) -> Callable[[], None]:
    """Compile a case for a device and warm it up; return what runs it once, to the end."""
    values = [jax.device_put(array, place) for array in case.inputs(scale)]
    compiled = jax.jit(case.function)

    def run() -> None:
        jax.block_until_ready(compiled(*values))

    run()
    run()
    return run


def timing_of(samples: list[float]) -> Timing:
    """Return the median and quartiles of samples in seconds."""
    lower, median, upper = statistics.quantiles(samples, n=4)
    return Timing(median, lower, upper, len(samples))


def line_of(row: dict[str, Any]) -> str:
    """Print one row of the table."""
    seconds = row["device"]["median_seconds"]
    rates = [f"{row['bytes'] / seconds / 1e9:.1f} GB/s"] if row["bytes"] else []
    rates += [f"{row['operations'] / seconds / 1e9:.1f} GFLOP/s"] if row["operations"] else []
    spread = (row["device"]["upper_seconds"] - row["device"]["lower_seconds"]) / seconds
    return (
        f"{row['case']:10} {row['size']:>22} {seconds * 1e6:>9.0f} µs {row['cpu']['median_seconds'] * 1e6:>9.0f} µs "
        f"{row['ratio']:>7.2f}   {', '.join(rates) or '-'} (spread {spread:.0%})"
    )


def record_of(device: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a run: what it ran on and every row."""
    return {
        "device": device.device_kind,
        "platform_version": getattr(device.client, "platform_version", ""),
        "host": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "rows": rows,
    }
