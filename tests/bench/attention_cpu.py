"""Attention on the CPU, beside ``jax.nn.dot_product_attention`` and PyTorch where it is installed, in one process.

python -m tests.bench.attention_cpu                     batch 1, 8 heads, 64 wide, float32, 1,024 to 8,192 rows
python -m tests.bench.attention_cpu --rows 2048 --record

Forward, and the gradient of a sum in all three arrays. Rounds of all contestants follow one another, so that each ratio
is of neighbours in time; the best of each counts as well as the median. So does the least time of all cores together,
which depends least on what else runs. Temporary memory is what XLA's compiler plans.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .machine import head_of_record, write_record

Call = Callable[[], Any]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.attention_cpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, nargs="+", default=[1024, 2048, 4096, 8192], help="queries, and keys")
    parser.add_argument("--heads", type=int, default=8, help="(default: 8)")
    parser.add_argument("--width", type=int, default=64, help="(default: 64)")
    parser.add_argument("--causal", action="store_true", help="let query i see keys 0 to i only")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def of_jax(function: Callable[..., Any], arrays: list[np.ndarray]) -> tuple[dict[str, Call], dict[str, float]]:
    """Return the calls of a function of JAX, and their temporary memory in MiB."""
    import jax
    import jax.numpy as jnp

    given = [jnp.asarray(each) for each in arrays]
    ways = {
        "forward": function,
        "gradient": jax.grad(lambda *rows: jnp.sum(function(*rows)), (0, 1, 2)),
    }
    compiled = {way: jax.jit(call).lower(*given).compile() for way, call in ways.items()}
    memory = {way: call.memory_analysis().temp_size_in_bytes / 2**20 for way, call in compiled.items()}
    return {way: lambda call=call: jax.block_until_ready(call(*given)) for way, call in compiled.items()}, memory


def of_torch(arrays: list[np.ndarray], *, is_causal: bool) -> dict[str, Call]:
    """Return the calls of PyTorch; empty where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    rows = [torch.from_numpy(each).transpose(1, 2).contiguous() for each in arrays]
    moving = [each.clone().requires_grad_() for each in rows]
    attend = torch.nn.functional.scaled_dot_product_attention

    def forward() -> None:
        with torch.no_grad():
            attend(*rows, is_causal=is_causal)

    return {
        "forward": forward,
        "gradient": lambda: torch.autograd.grad(attend(*moving, is_causal=is_causal).sum(), moving),
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time all contestants."""
    import jax

    import qga

    found = []
    for rows in options.rows:
        random = np.random.default_rng(0)
        arrays = [random.normal(size=(1, rows, options.heads, options.width)).astype(np.float32) for _ in range(3)]
        ours, memory = of_jax(lambda *each: qga.attention(*each, is_causal=options.causal), arrays)
        theirs, their_memory = of_jax(
            lambda *each: jax.nn.dot_product_attention(*each, is_causal=options.causal), arrays
        )
        contestants = {"qga": ours, "jax": theirs, "torch": of_torch(arrays, is_causal=options.causal)}
        for way in ("forward", "gradient"):
            calls = {name: calls[way] for name, calls in contestants.items() if calls}
            row = {"rows": rows, "way": way, "temporary_mib": memory[way], "jax_temporary_mib": their_memory[way]}
            row |= _race(calls, options.rounds)
            found.append(row)
            rate = (4 if way == "forward" else 14) * options.heads * rows**2 * options.width
            rate = rate / (2 if options.causal else 1) / row["qga_ms"] / 1e6
            ratios = "  ".join(f"{name} / qga {_ratios(row, name)}" for name in list(calls)[1:])
            print(
                f"{rows:6d} {way:8s} qga {row['qga_ms']:9.2f} ms {rate:6.1f} GFLOP/s {memory[way]:8.1f} MiB  {ratios}",
                flush=True,
            )
    return found


def _ratios(row: dict[str, Any], name: str) -> str:
    passed, worked = (row[f"{name}_{what}"] / row[f"qga_{what}"] for what in ("ms", "cores_ms"))
    return f"{passed:5.2f} (cores {worked:5.2f})"


def _race(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median and the best milliseconds of each, and the least of all cores together."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begun = time.perf_counter(), time.process_time()
            call()
            if number:
                times[name].append((1e3 * (time.perf_counter() - begun[0]), 1e3 * (time.process_time() - begun[1])))
    found = {}
    for name, each in times.items():
        passed, worked = zip(*each, strict=True)
        found |= {
            f"{name}_ms": statistics.median(passed),
            f"{name}_best_ms": min(passed),
            f"{name}_cores_ms": min(worked),
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and keep it where asked."""
    options = parse(arguments)
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    numbers: dict[str, Any] = {"device": "cpu", "jax": jax.__version__, "options": vars(options)}
    record = head_of_record(numbers, "attention_cpu") | {"measured": measure(options)}
    if options.record:
        write_record(record, "attention", "cpu")
    return 0


if __name__ == "__main__":
    sys.exit(main())
