"""`make kernels`: every public Pallas kernel of the jax wheel on the platform `vulkan`, against its formula."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.pallas.public import BY_NAME
from tests.pallas.table import FAILS, FINE, RUNS, Outcome, counts, markdown, short

ROOT = Path(__file__).parents[2]

EXAMPLES = """examples:
  make kernels                                   all kernels; takes some minutes
  make kernels ARGS='tpu.matmul gpu.softmax'     these
  make kernels ARGS='attention --out table.md'   those with a part of their name, the table also in a file

Each kernel runs in a process of its own, with empty caches, so that one that ends its process ends no other. Outcomes:
runs = within its bound; refused = an error of the compiler says what is asked for too much; wrong, fails = defects.
The exit status is 0 when there is no defect."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pallas", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="kernels, or parts of their names (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables to a file as well")
    parser.add_argument("--limit", type=float, default=1800.0, metavar="SECONDS", help="time for one (default: 1800)")
    return parser.parse_args(arguments)


def select(names: list[str]) -> list[str]:
    """Return the rows that have one of these as their name, else as a part of it."""
    parts = [name for name in names if name not in BY_NAME]
    return [name for name in BY_NAME if not names or name in names or any(part in name for part in parts)]


def run_one(name: str, limit: float, cache: str) -> tuple[str, Outcome]:
    """Run one row in a child process; return what it ran on and what came of it."""
    # Drivers have caches of their own, below the same folder.
    environment = os.environ | {"QGA_CACHE_DIR": f"{cache}/qga", "XDG_CACHE_HOME": cache}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.pallas.one", name], cwd=ROOT, env=environment,
            capture_output=True, text=True, timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", Outcome(name, FAILS, f"no end after {limit:.0f} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return "", Outcome(name, FAILS, f"the process ended with status {done.returncode}: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["device"], Outcome(**answer["outcome"])


def progress(outcome: Outcome) -> str:
    """Describe an outcome in one line."""
    if outcome.outcome == RUNS:
        return f"runs: {outcome.first:.1f} s to compile, {outcome.again:.3f} s to run, {outcome.share:.1g} of its bound"
    return f"{outcome.outcome}: {short(outcome.detail)}"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for, print the tables, return the exit status."""
    options = parse(arguments)
    chosen, start, outcomes, places = select(options.names), time.monotonic(), list[Outcome](), set[str]()
    for number, name in enumerate(chosen, 1):
        with tempfile.TemporaryDirectory() as cache:
            place, outcome = run_one(name, options.limit, cache)
        places |= {place} - {""}
        outcomes.append(outcome)
        print(f"{number}/{len(chosen)} {name} {progress(outcome)}", flush=True)
    text = markdown(outcomes)
    print(f"\n{', '.join(sorted(places))}; {counts(outcomes)}; {time.monotonic() - start:.0f} s\n\n{text}")
    if options.out is not None:
        options.out.write_text(f"{text}\n")
    return 0 if outcomes and all(outcome.outcome in FINE for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
