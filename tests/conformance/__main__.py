"""`make conformance`: every primitive harness of jax on the platform `vulkan`, against the CPU."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from . import record
from .harnesses import Case
from .outcomes import FINE, Result
from .pool import ROOT, Worker, run_all

EXAMPLES = """examples:
  make conformance                                     all cases, x64 off and on; takes long
  make conformance ARGS='--filter dot_general'         one primitive, or any part of a case's name
  make conformance ARGS='--sample 200 --seed 3'        a spread over all primitives
  make conformance ARGS='--resume --out run.jsonl'     go on where an interrupted run stopped
  make conformance ARGS='--report --out run.jsonl'     run nothing; write the table of docs/conformance.md

Columns: pass; unsupported = refused with the error that names operations this release leaves out; no reference = JAX's
own CPU cannot run the case; the rest are defects: missing = an operation we promise was refused; wrong = values beyond
the tolerance; error; crash; timeout. The exit status is 0 when there is no defect."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--platform", default="vulkan", help="platform under test (default: vulkan)")
    parser.add_argument("--x64", choices=("off", "on", "both"), default="both", help="64-bit types (default: both)")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only cases whose name contains TEXT")
    parser.add_argument("--sample", type=int, metavar="N", help="only N cases, spread evenly over the primitives")
    parser.add_argument("--seed", type=int, default=0, help="which sample (default: 0)")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only the I-th of N equal parts of the selection")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once (default: one a core)")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="time for one case (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("records/conformance.jsonl"), help="record file")
    parser.add_argument("--resume", action="store_true", help="keep the record and run only the cases it lacks")
    parser.add_argument("--report", action="store_true", help="print the record as a table in Markdown and run nothing")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="print N defects in words (default: 20)")
    return parser.parse_args(arguments)


def select(cases: list[Case], text: str, count: int | None, seed: int, part: str) -> list[Case]:
    """Choose the cases to run; the same options choose the same cases on every machine."""
    chosen = [case for case in cases if text in case.name]
    if count is not None:
        chosen = spread(chosen, count, seed)
    index, parts = map(int, part.split("/"))
    return chosen[index - 1 :: parts]


def spread(cases: list[Case], count: int, seed: int) -> list[Case]:
    """Take one case of each primitive in turn, in an order that `seed` decides, until there are `count`."""
    shuffled = sorted(cases, key=lambda case: case.name)
    random.Random(seed).shuffle(shuffled)
    seen: dict[str, int] = {}
    rounds = []
    for case in shuffled:
        seen[case.primitive] = seen.get(case.primitive, 0) + 1
        rounds.append((seen[case.primitive], case))
    return [case for _, case in sorted(rounds, key=lambda item: item[0])][:count]


def list_cases(x64: bool) -> list[Case]:
    """List the cases in a child process: the set depends on a setting that is fixed once JAX runs."""
    code = (
        "import json, dataclasses; from tests.conformance.harnesses import all_cases;"
        "print(json.dumps([dataclasses.astuple(case) for case in all_cases()]))"
    )
    environment = os.environ | {"JAX_ENABLE_X64": "1" if x64 else "0", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return [Case(*fields) for fields in json.loads(output.stdout.splitlines()[-1])]


def run_mode(options: argparse.Namespace, x64: bool) -> None:
    """Run the selection with x64 off or on, adding each result to the record."""
    done = {(result.name, result.x64) for result in record.read(options.out)}
    chosen = select(list_cases(x64), options.filter, options.sample, options.seed, options.part)
    cases = [case for case in chosen if (case.name, x64) not in done]
    title = f"x64 {'on' if x64 else 'off'}: {len(cases)} cases ({len(chosen) - len(cases)} in the record already)"
    print(title, flush=True)
    start, finished = time.monotonic(), 0

    def report(result: Result) -> None:
        nonlocal finished
        finished += 1
        record.append(options.out, result.as_record())
        if result.outcome not in FINE:
            print(f"  {result.outcome}: {result.name}", flush=True)
        if finished % 100 == 0 or finished == len(cases):
            print(f"  {finished}/{len(cases)} in {time.monotonic() - start:.0f} s", flush=True)

    jobs = min(options.jobs, max(1, len(cases)))
    run_all(cases, lambda: Worker(options.platform, x64=x64), jobs, options.limit, report)


def describe(options: argparse.Namespace) -> None:
    """Start the platform once, print and record what it is; raises when it does not start."""
    with Worker(options.platform, x64=False) as worker:
        worker.start()
        greeting = worker.greeting
    print(f"platform {options.platform}: {greeting['ready']}, jax {greeting['jax']}; record: {options.out}", flush=True)
    record.append(options.out, {"platform": options.platform, "device": greeting["ready"], "jax": greeting["jax"]})


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for, print the table, return the exit status."""
    options = parse(arguments)
    if options.report:
        print(record.markdown(record.read(options.out)))
        return 0
    if not options.resume:
        options.out.unlink(missing_ok=True)
    try:
        describe(options)
        for x64 in {"off": (False,), "on": (True,), "both": (False, True)}[options.x64]:
            run_mode(options, x64)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: --resume goes on from here", file=sys.stderr)
    results = record.read(options.out)
    for x64 in sorted({result.x64 for result in results}):
        print(f"\nx64 {'on' if x64 else 'off'}\n{record.table([r for r in results if r.x64 == x64])}")
    for result in record.second_judged(results):
        print(f"\n{result.name} (x64 {'on' if result.x64 else 'off'}) passes by the second judge: {result.detail}")
    broken = record.defects(results)
    for result in broken[: options.show]:
        print(f"\n{result.outcome}: {result.name} (x64 {'on' if result.x64 else 'off'})\n{result.detail}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
