"""Run one public kernel on the platform `vulkan` in a process of its own: ``python -m tests.pallas.one NAME``."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import jax

from lowering.runtime import list_devices, settings_from_environment
from lowering.runtime.select import choose_device
from tests.conformance.tolerance import roundings_used
from tests.gallery.compare import leaves, problem
from tests.pallas.public import BY_NAME, Row, truth
from tests.pallas.table import RUNS, WRONG, Outcome, outcome_of_error


def judge(row: Row, device: Any) -> Outcome:
    """Call a row twice on a device and hold the result against its formula."""
    arrays = jax.device_put(row.arrays, device)
    function = jax.jit(row.function)
    with jax.default_device(device):  # constants that a kernel's wrapper makes
        try:
            # Compiling is work of processors, the driver's too; this clock stands still while others have them.
            before = time.process_time()
            jax.block_until_ready(function(*arrays))
            compiled, start = time.process_time(), time.perf_counter()
            got = jax.block_until_ready(function(*arrays))
            end = time.perf_counter()
        except Exception as error:  # every error is a row of the table
            return outcome_of_error(row.name, f"{error}" or type(error).__name__)
    results, want = leaves(got), truth(row)
    apart = problem(results, want, row.bound())
    if apart is not None:
        return Outcome(row.name, WRONG, apart)
    return Outcome(row.name, RUNS, "", compiled - before, end - start, _share(row, results, want))


def _share(row: Row, got: list[Any], want: list[Any]) -> float:
    """Return the largest error over its bound."""
    if not row.roundings:
        return 0.0
    pairs = zip(got, want, strict=True)
    return max(roundings_used(one, other.astype(one.dtype), row.bound()) for one, other in pairs) / row.roundings


def main(name: str) -> None:
    """Print what the row ran on and what came of it, as one line of JSON."""
    outcome = judge(BY_NAME[name], jax.devices("vulkan")[0])
    record = choose_device(list_devices(), settings_from_environment().selector)
    place = f"{record.name}, {record.driver_name} {record.driver_version}, jax {jax.__version__}"
    print(json.dumps({"device": place, "outcome": asdict(outcome)}))


if __name__ == "__main__":
    main(sys.argv[1])
