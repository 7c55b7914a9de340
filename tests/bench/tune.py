"""What tuning wins: matrix products with the compiler's own schedules and with those that `lowering.tune` finds.

python -m tests.bench.tune                        squares, transformer layers, few rows, batches: within 9 minutes
python -m tests.bench.tune --only square,decode   some of them, by the beginnings of their names
python -m tests.bench.tune --quick                small sizes, for a software driver; --record also writes a record

Each product is tuned for `--budget` seconds, with results kept in a folder of this run alone. Then the whole program
is compiled twice, without and with what was kept, and both are timed in turn by the device's clock: that is what the
table shows, so that a schedule which won by luck shows no gain. "of square" is the rate as a share of that of the tuned
square product of the same dtype.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lowering import lower, tune
from lowering.choices import NO_CHOICES, Choices
from lowering.cli.tune import matmul_of
from lowering.compiler import compile_graph
from lowering.dtypes import NUMPY
from lowering.graph import Graph
from lowering.runtime import Buffer, Device, LoadedProgram
from lowering.tuning.store import choices_of

from .kernels import upload
from .machine import head_of_record
from .timing import Timing, timing_of

RECORDS = Path(__file__).parent / "records"
SAMPLES, LEAD_S, WARM_S = 21, 0.002, 0.2
"""Samples of each program, and the work before each and before the first of them, so that a GPU runs at its clock."""
QUICK = 16
"""Divisor of the sizes for a software driver."""


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product: size as `qga tune matmul` takes it, dtype and layout of the operands, dtype of the result."""

    size: str
    dtype: str
    layout: str = "nn"
    result: str | None = None

    @property
    def extents(self) -> tuple[int, ...]:
        """Batch, rows, depth and columns; without the batch where there is none."""
        return tuple(map(int, self.size.split("x")))


# Tokens x model width x what a layer makes of it, as transformers of 7 billion parameters have them.
PRODUCTS = {
    "square f16": Product("4096x4096x4096", "f16"),
    "square bf16": Product("4096x4096x4096", "bf16"),
    "square f32": Product("4096x4096x4096", "f32"),
    "square i8": Product("4096x4096x4096", "i8", result="i32"),
    "layer in": Product("2048x4096x12288", "f16"),
    "layer up": Product("2048x4096x16384", "f16"),
    "layer down": Product("2048x16384x4096", "f16"),
    "layer small": Product("16384x768x3072", "f16"),
    "decode 1": Product("1x4096x16384", "f16"),
    "decode 4": Product("4x4096x16384", "f16"),
    "decode 16": Product("16x4096x16384", "f16"),
    "decode 64": Product("64x4096x16384", "f16"),
    "decode 1 turned": Product("1x4096x16384", "f16", "nt"),
    "decode 16 turned": Product("16x4096x16384", "f16", "nt"),
    "batch scores": Product("16x2048x64x2048", "f16", "nt"),
    "batch values": Product("16x2048x2048x64", "f16"),
    "turned right": Product("4096x4096x4096", "f16", "nt"),
    "turned left": Product("4096x4096x4096", "f16", "tn"),
    "turned both": Product("4096x4096x4096", "f16", "tt"),
    "gradient of weights": Product("4096x2048x16384", "f16", "tn"),
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="NAMES", help="beginnings of names, separated by commas")
    parser.add_argument("--budget", type=float, default=20.0, metavar="SECONDS", help="for each product (default: 20)")
    parser.add_argument("--limit", type=float, default=540.0, metavar="SECONDS", help="stop in time (default: 540)")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a software driver")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def select(names: str, *, is_quick: bool) -> dict[str, Product]:
    """Return the products whose names begin with one of these words, or all.

    Raises:
        ValueError: a word begins no name.
    """
    words = [word.strip() for word in names.split(",") if word.strip()]
    unknown = [word for word in words if not any(name.startswith(word) for name in PRODUCTS)]
    if unknown:
        raise ValueError(f"no product {', '.join(unknown)}; there are: {', '.join(PRODUCTS)}")
    chosen = {name: each for name, each in PRODUCTS.items() if not words or name.startswith(tuple(words))}
    return {name: _smaller(each) for name, each in chosen.items()} if is_quick else chosen


def _smaller(product: Product) -> Product:
    extents = [extent if extent <= 64 else max(extent // QUICK, 8) for extent in product.extents]
    return Product("x".join(map(str, extents)), product.dtype, product.layout, product.result)


def measure(device: Device, name: str, product: Product, budget_s: float) -> dict[str, Any]:
    """Tune one product, then time its program without and with what was kept."""
    function, shapes = matmul_of(product.size, product.dtype, product.layout, product.result)
    report = tune(function, *shapes, device=device, budget_s=budget_s)
    graph, random = lower(function)(*shapes).graph, np.random.default_rng(0)
    inputs = upload(device, [_drawn(random, each.shape, product.dtype) for each in shapes])
    default, tuned = in_turn(device, graph, inputs, [NO_CHOICES, choices_of(device.capabilities)])
    operations, moved = 2 * math.prod(product.extents), moved_bytes(product)
    return {
        "name": name, **asdict(product), "default": asdict(default), "tuned": asdict(tuned),
        "default_tflop_per_s": operations / default.median_us / 1e6,
        "tuned_tflop_per_s": operations / tuned.median_us / 1e6, "tuned_gb_per_s": moved / tuned.median_us / 1e3,
        "kernels": [asdict(result) | {"is_better": result.is_better} for result in report.results],
    }  # fmt: skip


def _drawn(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "i8":
        return random.integers(-9, 10, shape, np.int8)
    return random.standard_normal(shape, np.float32).astype(NUMPY[dtype])


def moved_bytes(product: Product) -> int:
    """Count what any implementation moves: operands read once, the result written once."""
    *batch, rows, depth, columns = product.extents
    operand, result = (NUMPY[dtype].itemsize for dtype in (product.dtype, product.result or product.dtype))
    return math.prod(batch) * ((rows + columns) * depth * operand + rows * columns * result)


def in_turn(device: Device, graph: Graph, inputs: Sequence[Buffer], choices: Sequence[Choices]) -> list[Timing]:
    """Time a program compiled with several choices, in turn, so that the clock's changes fall on all."""
    loaded = [device.load(compile_graph(graph, device.capabilities, choices=each)) for each in choices]
    samples: list[list[float]] = [[] for _ in loaded]
    for each in loaded:
        _run(device, each, inputs, WARM_S)
    for _ in range(SAMPLES):
        for each, taken in zip(loaded, samples, strict=True):
            taken.append(_sample_us(device, each, inputs))
    return [timing_of(taken) for taken in samples]


def _sample_us(device: Device, loaded: LoadedProgram, inputs: Sequence[Buffer]) -> float:
    _run(device, loaded, inputs, LEAD_S)
    return sum(each.total_ns for each in loaded.profile(inputs)) / 1e3


def _run(device: Device, loaded: LoadedProgram, inputs: Sequence[Buffer], seconds: float) -> None:
    """Run a program for a while."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        device.wait(max(buffer.ready for buffer in loaded.run(inputs)))


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Print the rows; rates beside that of the tuned square of their dtype."""
    squares = {row["dtype"]: row["tuned_tflop_per_s"] for row in rows if row["name"].startswith("square")}
    lines = [
        f"{'product':20} {'size':>18} {'dtype':>5} {'lies':>4} {'default':>9} {'tuned':>9} {'gain':>5} {'spread':>6} "
        f"{'TFLOP/s':>8} {'tuned':>8} {'of square':>9} {'GB/s':>6}"
    ]
    for row in rows:
        default, tuned = (Timing(**row[name]) for name in ("default", "tuned"))
        square = squares.get(row["dtype"])
        share = "-" if square is None else f"{row['tuned_tflop_per_s'] / square:.0%}"
        lines.append(
            f"{row['name']:20} {row['size']:>18} {row['dtype']:>5} {row['layout']:>4} {default.median_us:>6.0f} µs "
            f"{tuned.median_us:>6.0f} µs {default.median_us / tuned.median_us:>5.2f} "
            f"{max(default.spread, tuned.spread):>6.0%} {row['default_tflop_per_s']:>8.3g} "
            f"{row['tuned_tflop_per_s']:>8.3g} {share:>9} {row['tuned_gb_per_s']:>6.0f}"
        )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Tune the products, print the table, and keep it where asked."""
    began, options = time.perf_counter(), parse(arguments)
    try:
        chosen = select(options.only, is_quick=options.quick)
    except ValueError as error:
        print(f"tune: {error}", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    left: list[str] = []
    with tempfile.TemporaryDirectory(prefix="qga-tune-") as folder, Device.open() as device:
        os.environ["QGA_CACHE_DIR"] = folder
        for name, product in chosen.items():
            if rows and time.perf_counter() - began + options.budget > options.limit:
                left.append(name)
                continue
            rows.append(measure(device, name, product, options.budget))
            print("\n".join(table(rows)[0 if len(rows) == 1 else -1 :]), flush=True)
        head = {"device": {"name": device.name, "driver": device.capabilities.driver_version}, "quick": options.quick}
    print("\n".join(["", *table(rows), *(f"no time for {name}" for name in left)]))
    record = head_of_record({**head, "budget_s": options.budget, "rows": rows, "not_run": left}, "tune")
    if options.record:
        slug = re.sub(r"[^a-z0-9]+", "-", record["device"]["name"].lower()).strip("-")
        path = RECORDS / f"tune-{slug}-{record['date'][:10]}{'-quick' if options.quick else ''}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(f"record: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
