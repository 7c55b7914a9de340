"""Build, check and time what the project promises on the Vulkan device of this machine, beside JAX in the same run."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .cases import all_cases
from .derive import derive, promises
from .jobs import LONG_LIMIT_S, Run, do, select, select_sweep, sweep
from .machine import head_of_record, record_name
from .processes import Worker
from .table import table

RECORDS = Path(__file__).parent / "records"
EXAMPLES = """examples:
  python -m tests.bench --out bench                          everything, most important first, within 9 minutes
  python -m tests.bench --out bench --quick                  small sizes, for software drivers: under 2 minutes
  python -m tests.bench --out bench --only matmul,dispatch   groups, cases or beginnings of their names
  python -m tests.bench --out bench --only sweep --sweep matmul_f16,matmul_f32
                                                             schedules of matrix products, best first

QGA_VULKAN_DEVICE selects the device. Results are checked before they are timed; a wrong one is not timed, and the exit
status is 1. docs/benchmarks.md says how to read the table and the record."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("records/bench"), help="folder for record and logs")
    parser.add_argument("--only", default="", metavar="NAMES", help="cases or groups, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a software driver")
    parser.add_argument("--limit", type=float, default=540.0, metavar="SECONDS", help="stop in time (default: 540)")
    parser.add_argument("--sweep", default="", metavar="NAMES", help="matrix products to time under many schedules")
    parser.add_argument("--seconds", type=float, help="time for each measurement (default: 0.4, quick 0.1)")
    parser.add_argument("--seed", type=int, help="of the inputs (default: another one each run)")
    parser.add_argument("--record", action="store_true", help="also keep the record in tests/bench/records")
    parser.add_argument("--label", default="", help="words for the record's head")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the jobs and write the record; return 1 where a result was wrong or a job failed, 2 where nothing can run."""
    began, options = time.perf_counter(), parse(arguments)
    try:
        jobs = select(_names(options.only), is_quick=options.quick, has_sweep=bool(options.sweep))
        sweeps = select_sweep(_names(options.sweep), is_quick=options.quick)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    seconds = options.seconds or (0.1 if options.quick else 0.4)
    shared = {"quick": options.quick, "seed": options.seed if options.seed is not None else time.time_ns() % 2**31}
    with tempfile.TemporaryDirectory(prefix="qga-bench-") as scratch:
        ours, peer = (Worker(side, options.out, Path(scratch) / "cache") for side in ("vulkan", "peer"))
        run = Run(
            ours, peer, {**shared, "seconds": seconds}, began + options.limit,
            lambda record: _save(record, options.out / "record.json", options.quick), Path(scratch) / "programs",
            {**head_of_record(shared, options.label), "cases": {}, "sweeps": {}, "not_run": []},
        )  # fmt: skip
        try:
            code = _greet(run) or _run(run, jobs, sweeps)
        finally:
            ours.stop()
            peer.stop()
    if "device" in run.record:
        run.record["took_s"] = round(time.perf_counter() - began, 1)
        _finish(run.record, options)
    return code


def _names(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _greet(run: Run) -> int:
    """Ask both sides who they are."""
    device = run.ask(run.ours, "greet", LONG_LIMIT_S)
    if "name" not in device:
        print(f"bench: no Vulkan device: {device.get('why', '')}", file=sys.stderr)
        return 2
    run.record["versions"] = device.pop("versions")
    run.record["device"] = device
    peer = run.ask(run.peer, "greet", LONG_LIMIT_S)
    if "platform" in peer:
        run.record["peer"] = peer
    else:
        print(f"bench: no peer: {peer.get('why', '')}", file=sys.stderr)
    return 0


def _run(run: Run, jobs: list[str], sweeps: list[str]) -> int:
    for job in jobs:
        answer = do(run, job)
        if answer["status"] == "not run":
            run.record["not_run"].append(job)
            continue
        if "peer" in answer and "peer" in run.record:
            answer["peer"]["platform"] = run.record["peer"]["platform"]
        run.record["cases"][job] = answer
        failure = "" if answer["status"] == "ok" else f" {answer.get('why', '')[:200]}"
        print(f"{job}: {answer['status']} ({answer.get('took_s', 0)} s){failure}", flush=True)
        run.save(run.record)
    for name in sweeps:
        rows = run.record["sweeps"][name] = []
        for row in sweep(run, name):
            rows.append(row)
            rows.sort(key=lambda row: -row.get("tflop_per_s", 0.0))
            print(f"sweep {name}: {row['row']}: {row.get('tflop_per_s', row['status'])}", flush=True)
        run.save(run.record)
    found = [answer["status"] for answer in run.record["cases"].values()]
    return int(any(status != "ok" for status in found))


def _save(record: dict[str, Any], path: Path, is_quick: bool) -> None:
    """Derive what follows from the numbers and write the record, whole or not at all."""
    cases = all_cases(is_quick=is_quick)
    derive(record, cases)
    record["promises"] = promises(record, cases)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record, indent=1) + "\n")
    fresh.replace(path)


def _finish(record: dict[str, Any], options: argparse.Namespace) -> None:
    _save(record, options.out / "record.json", options.quick)
    if options.record:
        RECORDS.mkdir(exist_ok=True)
        _save(record, RECORDS / record_name(record, _names(options.only)), options.quick)
    print("\n".join(["", *table(record)]))


if __name__ == "__main__":
    sys.exit(main())
