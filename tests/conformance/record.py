"""The record of a run: one line of JSON for each case as it finishes, and the table printed from it."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .outcomes import FINE, OUTCOMES, PASS, Result


def append(file: Path, entry: dict[str, Any]) -> None:
    """Add one line; a run that is interrupted keeps everything before it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab+") as stream:
        stream.seek(-min(1, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        # An interruption may have cut the last line short: do not write into it.
        start = b"" if stream.read() in (b"", b"\n") else b"\n"
        stream.write(start + json.dumps(entry, sort_keys=True).encode() + b"\n")


def read(file: Path) -> list[Result]:
    """Read the results back; a last line cut short by an interruption is left out, so that its case runs again."""
    results: dict[tuple[str, bool], Result] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "outcome" in entry:
            results[entry["name"], entry["x64"]] = Result(**entry)
    return list(results.values())


def table(results: Iterable[Result]) -> str:
    """Print counts by primitive and outcome; columns without a count are left out."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        counts[result.primitive][result.outcome] += 1
        counts["total"][result.outcome] += 1
    columns = [outcome for outcome in OUTCOMES if counts["total"][outcome] or outcome == OUTCOMES[0]]
    rows = [
        [name, *(str(counts[name][column] or "") for column in columns)] for name in sorted(counts.keys() - {"total"})
    ]
    rows += [["total", *(str(counts["total"][column]) for column in columns)]]
    width = max(len(row[0]) for row in rows)
    widths = [max(len(column), 6) for column in columns]
    lines = ["  ".join(["primitive".ljust(width), *(c.rjust(w) for c, w in zip(columns, widths, strict=True))])]
    for row in rows:
        lines.append("  ".join([row[0].ljust(width), *(c.rjust(w) for c, w in zip(row[1:], widths, strict=True))]))
    return "\n".join(lines)


def markdown(results: Iterable[Result]) -> str:
    """Write the table of `docs/conformance.md`: by primitive, each outcome with x64 off and on; zeros are left out."""
    counts: dict[str, collections.Counter[tuple[bool, str]]] = collections.defaultdict(collections.Counter)
    for result in results:
        for name in (result.primitive, "**all**"):
            counts[name][result.x64, result.outcome] += 1
    total = counts.pop("**all**", collections.Counter())
    columns = [(x64, outcome) for x64 in (False, True) for outcome in OUTCOMES if total[x64, outcome]]
    heads = [f"{outcome}, x64 {'on' if x64 else 'off'}" for x64, outcome in columns]
    rows = [[f"`{name}`", *(str(counts[name][column] or "") for column in columns)] for name in sorted(counts)]
    rows.append(["**all**", *(str(total[column]) for column in columns)])
    ruler = ["---", *("---:" for _ in columns)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (["primitive", *heads], ruler, *rows))


def second_judged(results: Iterable[Result]) -> list[Result]:
    """Return the results that differ from JAX's CPU and pass against the truth."""
    return sorted((result for result in results if result.outcome == PASS and result.detail), key=lambda r: r.name)


def defects(results: Iterable[Result]) -> list[Result]:
    """Return the results that break the promise, sorted by outcome, primitive and name."""
    broken = [result for result in results if result.outcome not in FINE]
    return sorted(broken, key=lambda result: (result.outcome, result.primitive, result.name))
