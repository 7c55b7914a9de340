"""Time and memory of ``qga.analyze`` on a long sequence, in a process of its own.

python -m tests.bench.analysis                          8 heads of 16,384 rows on the CPU
python -m tests.bench.analysis --platform vulkan --rows 131072
python -m tests.bench.analysis --profile                also says where the time of one head goes
python -m tests.bench.analysis --record                 also writes a record beside those of python -m tests.bench
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from .machine import head_of_record, write_record

WIDTH = 64
KIB_A_GIB = 2**20


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.analysis", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--platform", default="cpu", help="cpu or vulkan (default: cpu)")
    parser.add_argument("--rows", type=int, default=16384, help="rows of each head (default: 16384)")
    parser.add_argument("--heads", type=int, default=8, help="heads of the layer (default: 8)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs after a first one that compiles (default: 3)")
    parser.add_argument("--profile", action="store_true", help="also time the parts of one head, one after another")
    parser.add_argument("--record", action="store_true", help="also write a record")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Analyse random heads and return seconds of each run and the highest memory of the process."""
    import jax

    import qga

    if options.platform == "vulkan":
        from lowering.pjrt import initialize

        initialize()
    queries, keys, values = jax.random.normal(jax.random.key(0), (3, options.heads, options.rows, WIDTH))
    seconds = []
    for run in range(options.runs + 1):
        began = time.perf_counter()
        qga.analyze(queries, keys, values, notify=lambda *done, run=run: tell(run, *done))
        seconds.append(time.perf_counter() - began)
    device = next(iter(queries.devices()))
    parts = profile(queries[0], keys[0], values[0], options.runs) if options.profile else {}
    return {
        "device": {"platform": device.platform, "kind": device.device_kind},
        "rows": options.rows,
        "heads": options.heads,
        "width": WIDTH,
        "first_s": seconds[0],
        "median_s": statistics.median(seconds[1:]),
        "spread_s": max(seconds[1:]) - min(seconds[1:]),
        "highest_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_A_GIB,
        "jax": jax.__version__,
        **parts,
    }


def profile(queries: Any, keys: Any, values: Any, runs: int) -> dict[str, object]:
    """Return the median seconds of each part of one head, each waited for; the survey has the sketch in it."""
    import jax

    from qga import operators
    from qga.analysis import head
    from qga.analysis.pipeline import block_for

    options = head.Options("dot", False, min(32, len(queries)), block_for(queries))
    scale, key = jax.numpy.asarray(1 / WIDTH**0.5), jax.random.key(0)
    operator = operators.attention_operator(queries, keys, scale=scale, block=options.block)

    def survey() -> head.Survey:
        tile = head.rows_of_tile(len(queries))
        return jax.block_until_ready(head.survey_head(operator, values, key, rank=options.rank, tile=tile))

    passes = head.run_passes(queries, keys, values, scale, key, options)
    _, plane = head.lead(passes.survey.metric)
    surveys = iter([survey() for _ in range(runs)])  # an array remembers that it was fetched
    parts: dict[str, Callable[[], object]] = {
        "operator": lambda: operators.attention_operator(queries, keys, scale=scale, block=options.block),
        "survey": survey,
        "sketch": lambda: operators.sketch_amplitudes(operator, key, rank=options.rank),
        "fetch": lambda: jax.device_get(next(surveys)),
        "leading_directions": lambda: head.lead(passes.survey.metric),
        "curvature": lambda: operators.metric_curvature(operator, jax.numpy.asarray(plane)),
        "solvers": lambda: head.write_head(passes, options, layer="", head=0),
    }
    return {"profile_s": {name: median(part, runs) for name, part in parts.items()}}


def median(part: Callable[[], object], runs: int) -> float:
    """Return the median seconds of some calls of a part that has been compiled."""
    import jax

    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(part())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def tell(run: int, layer: str, done: int, heads: int) -> None:
    """Say how far a run is."""
    print(f"\rrun {run}, {layer}: head {done} of {heads} ", end="", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure in a fresh process, print the numbers, and keep them where asked."""
    options = parse(arguments)
    if options.inside:
        print(json.dumps(measure(options)))
        return 0
    given = sys.argv[1:] if arguments is None else arguments
    command = [sys.executable, "-m", "tests.bench.analysis", "--inside", *given]
    done = subprocess.run(
        command,
        env=os.environ | {"JAX_PLATFORMS": ",".join(dict.fromkeys((options.platform, "cpu")))},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.returncode
    numbers = json.loads(done.stdout.splitlines()[-1])
    record = head_of_record(numbers, "qga.analyze")
    print("\n" + json.dumps(record, indent=1))
    if options.record:
        write_record(record, "analysis", f"{options.platform}-{options.rows}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
