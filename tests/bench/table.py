"""The short table that a run ends with."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from .derive import Record, device_us

COLUMNS = {
    "case": -26,
    "device µs": 10,
    "spread": 6,
    "wall µs": 10,
    "rate": 16,
    "of roof": 7,
    "peer µs": 10,
    "ratio": 6,
}
"""Width of each column; a negative one is aligned to the left."""

SHOWN_ROWS = 5


def table(record: Record) -> list[str]:
    """Return the lines for a record with everything derived."""
    device, peer = record["device"], record.get("peer", {})
    lines = [
        f"{device['name']} ({device['type']}, {device['driver']}); peer: jax on {peer.get('name', 'nothing')}",
        f"roof: {_number(record['roofs']['copy_gb_per_s'])} GB/s{'; quick sizes' if record['quick'] else ''}",
        _columns(list(COLUMNS)),
    ]
    lines += [case_line(name, answer) for name, answer in record["cases"].items() if name not in OWN_LINES]
    for name, line in OWN_LINES.items():
        answer = record["cases"].get(name)
        if answer is not None:
            lines.append(line(answer) if answer["status"] == "ok" else case_line(name, answer))
    for name, rows in record["sweeps"].items():
        lines += [f"sweep {name}: {len(rows)} schedules", *map(_sweep_line, rows[:SHOWN_ROWS])]
    lines += [
        f"{'kept  ' if row['is_kept'] else 'MISSED'} {row['what']}: {row['found']:.4g} (want {row['want']})"
        for row in record["promises"]
    ]
    if record["not_run"]:
        lines.append(f"not run, the time was over: {', '.join(record['not_run'])}")
    return lines


def case_line(name: str, answer: Record) -> str:
    """Return one row of the table."""
    if answer["status"] != "ok":
        return f"{name:26} {answer['status'].upper()}: {answer.get('why', '')[:140]}".splitlines()[0]
    timing, peer = answer.get("device") or answer["wall"], answer.get("peer", {})
    products = f"{answer['tflop_per_s']:.3g} TFLOP/s" if answer.get("tflop_per_s") else ""
    return _columns(
        [
            name,
            f"{timing['median_us']:.1f}",
            f"{(timing['upper_us'] - timing['lower_us']) / timing['median_us']:.0%}",
            f"{answer['wall']['median_us']:.1f}",
            products or f"{answer['gb_per_s']:.4g} GB/s",
            f"{answer['of_roof']:.0%}" if answer.get("of_roof") else "-",
            f"{peer['wall']['median_us']:.1f}" if peer.get("status") == "ok" else peer.get("status", "-"),
            _number(answer.get("ratio")),
        ]
    )


def _columns(texts: list[str]) -> str:
    aligned = zip(texts, COLUMNS.values(), strict=True)
    return " ".join(text.ljust(-width) if width < 0 else text.rjust(width) for text, width in aligned)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _dispatch_line(answer: Record) -> str:
    def text(rows: Record) -> str:
        return ", ".join(f"{name} {timing['median_us']:.1f}" for name, timing in rows.items())

    ours = f"dispatch, µs a call: jit: {text(answer['jit'])}; runtime alone: {text(answer['runtime'])}"
    if answer.get("peer", {}).get("status") != "ok":
        return ours
    return f"{ours}; peer: {text(answer['peer']['jit'])}; ratio {_number(answer.get('ratio'))}"


def _compile_line(answer: Record) -> str:
    cold, cached = answer["cold"], answer["cached"]
    stages = ", ".join(f"{name.removesuffix('_s')} {seconds:.2f}" for name, seconds in cached["stages"].items())
    plan, parts = cold["plan"], f"trace {cold['trace_s']:.2f} + lower {cold['lower_s']:.2f}"
    arena, bound = (plan[name] / 2**20 for name in ("arena_bytes", "liveness_bound_bytes"))
    return (
        f"compile, s: cold {cold['compile_s']:.2f} = {parts} + compiler {cold['compiler_s']:.2f} ({stages}); driver "
        f"{cold['driver_s']:.2f}; from the cache {cached['compile_s']:.2f}; {plan['kernels']} kernels; "
        f"arena {arena:.1f} MiB, bound {bound:.1f}"
    )


def _train_line(answer: Record, name: str = "train") -> str:
    kernels, peer = device_us(answer), answer.get("peer", {})
    distance = answer.get("relative_error", math.nan)
    judge = "the CPU's" if "cpu_losses" in answer else "the peer's"
    ours = (
        f"{name}, ms a step: {answer['wall']['median_us'] / 1e3:.2f} (kernels {kernels / 1e3:.2f}), "
        f"{answer['operations'] / kernels / 1e6:.3g} TFLOP/s; losses within {distance:.1e} of {judge}"
    )
    if peer.get("status") != "ok":
        return ours
    exact, default = (part["wall"]["median_us"] / 1e3 for part in (peer, peer["default"]))
    return f"{ours}; peer {exact:.2f}, at its default precision {default:.2f}; ratio {_number(answer.get('ratio'))}"


def _sweep_line(row: Record) -> str:
    if row["status"] != "ok":
        return f"  {row['status']}: {row['row']} {row.get('why', '')[:100]}"
    return f"  {row['tflop_per_s']:8.3g} TFLOP/s  {row['row']}  ({row['tiles']})"


OWN_LINES: dict[str, Any] = {
    "roof": lambda answer: f"copy: {answer['gb_per_s']:.4g} GB/s of {answer['bytes'] / 2**20:.0f} MiB moved",
    "dispatch": _dispatch_line,
    "compile": _compile_line,
    "train": _train_line,
    "train_bf16": partial(_train_line, name="train_bf16"),
}
"""Jobs that are no single case, and how each is told in one line."""
