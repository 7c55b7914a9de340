"""What the functions of the mathematics cost: operations and bytes by formula, time, and the time of the roof.

python -m tests.bench.costs                          4,096 rows of width 64 and grids of 1,024 x 1,024, on the CPU
python -m tests.bench.costs --platform vulkan
python -m tests.bench.costs --record                 also writes a record beside those of python -m tests.bench
python -m tests.bench.costs --page docs/theory/costs.md   write the page from the newest records

The roof of a device is measured in the same run, before and after: a product of 2,048 x 2,048 float32 matrices and a
copy of 128 MiB. The least time of a function is the longer of its operations at the first rate and its bytes, every
argument read and every result written once, at the second. Exponentials are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import RECORDS, head_of_record, write_record
from .timing import timing_of

ROWS, WIDTH, GRID, RANK = 4096, 64, 1024, 32
PAIRS = float(ROWS * ROWS)
# Keys of a tile, and halvings of each threshold of a plan.
TILE, HALVINGS = 64, 32
RUNS = 7
PLATFORMS = ("cpu", "vulkan")


@dataclass(frozen=True)
class Cost:
    """One function.

    Attributes:
        name: public name.
        passes: how often the scores of all pairs are computed; 0 where there are none.
        operations: by formula.
        make: returns the function and its arguments.
    """

    name: str
    passes: int
    operations: float
    make: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]


def costs() -> list[Cost]:
    """Return the table of functions."""
    return [*passes_over_pairs(), *more_passes(), *functions_of_tiles(), *functions_of_grids()]


def draw(number: int, *shape: int) -> Any:
    """Return normal random numbers."""
    import jax

    return jax.random.normal(jax.random.key(number), shape)


def rows() -> tuple[Any, Any]:
    """Return queries and keys."""
    return draw(0, ROWS, WIDTH), draw(1, ROWS, WIDTH)


def products(*widths: int) -> float:
    """Count the operations of products of all pairs with so many numbers each."""
    return 2 * PAIRS * sum(widths)


def of(function: Callable[..., Any], *more: Any) -> Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Return what makes a function of an operator and its arguments."""
    import jax

    from qga import operators

    def make() -> tuple[Callable[..., Any], tuple[Any, ...]]:
        held = operators.attention_operator(*rows())
        return jax.jit(function), (held, *(each() for each in more))

    return make


def passes_over_pairs() -> list[Cost]:
    """Return the functions that score all pairs of rows."""
    import jax

    from qga import flow, operators

    field, weights = (lambda: draw(2, ROWS, WIDTH)), (lambda: jax.nn.softmax(draw(3, ROWS)))
    return [
        Cost(
            "operators.attention_operator", 1, products(WIDTH),
            lambda: (jax.jit(operators.attention_operator), rows()),
        ),
        Cost("operators.operate", 1, products(WIDTH, WIDTH), of(operators.operate, field)),
        Cost("operators.operate_transposed", 1, products(WIDTH, WIDTH), of(operators.operate_transposed, field)),
        Cost("operators.amplify", 1, products(WIDTH, WIDTH), of(operators.amplify, field, weights)),
        Cost("operators.key_masses", 1, products(WIDTH), of(operators.key_masses, weights)),
        Cost("operators.mutual_information", 1, products(WIDTH), of(operators.mutual_information, weights)),
        Cost(
            "operators.tile_operator", 1, products(WIDTH),
            of(lambda held, weights: operators.tile_operator(held, ROWS // 128, weights), weights),
        ),
        Cost(
            "operators.sketch_amplitudes", 4, 4 * products(WIDTH, RANK),
            of(lambda held: operators.sketch_amplitudes(held, jax.random.key(0), rank=RANK)),
        ),
        Cost(
            "flow.heat, one step", 1, products(WIDTH, WIDTH),
            of(lambda held, f: flow.heat(lambda x: operators.operate(held, x), f, 1.0, order=1), field),
        ),
    ]  # fmt: skip


def more_passes() -> list[Cost]:
    """Return passes for metrics and for given masses."""
    import jax
    import jax.numpy as jnp

    from qga import operators

    field, weights = (lambda: draw(2, ROWS, WIDTH)), (lambda: jax.nn.softmax(draw(3, ROWS)))
    shares = lambda: jnp.full(ROWS, 1 / ROWS)  # noqa: E731
    # Beside its products the curvature takes 27 operations a pair: 2 differences, 18 products, 7 sums.
    return [
        Cost(
            "operators.amplify_transposed", 1, products(WIDTH, WIDTH), of(operators.amplify_transposed, field, weights)
        ),
        Cost(
            "operators.metric_form", 2, products(WIDTH, 1, WIDTH, 2),
            of(operators.metric_form, lambda: draw(6, WIDTH)),
        ),
        Cost("operators.mean_metric", 2, products(WIDTH, 1, WIDTH, WIDTH), of(operators.mean_metric, weights)),
        Cost(
            "operators.metric_curvature", 2, products(WIDTH, 2, WIDTH) + 27 * PAIRS,
            of(operators.metric_curvature, lambda: draw(7, 2, WIDTH)),
        ),
        Cost(
            "operators.balance, one iteration", 3, 3 * products(WIDTH),
            of(lambda held, a, b: operators.balance(held, a, b, iterations=1), shares, weights),
        ),
    ]  # fmt: skip


def functions_of_tiles() -> list[Cost]:
    """Return functions of summaries of tiles, and attention whose keys are one operator."""
    import jax

    from qga import quantum, tiling

    tiles = ROWS // TILE
    bounding = 8.0 * ROWS * tiles * WIDTH

    def summary() -> Any:
        parts = [tiling.split(draw(number, ROWS, WIDTH), TILE) for number in (1, 2)]
        return tiling.summarize(parts[0][0], parts[1][0], parts[0][1])

    def cut() -> tuple[Any, ...]:
        keys, exists = tiling.split(draw(1, ROWS, WIDTH), TILE)
        return keys, tiling.split(draw(2, ROWS, WIDTH), TILE)[0], exists

    return [
        Cost("tiling.summarize", 0, 8.0 * ROWS * WIDTH, lambda: (jax.jit(tiling.summarize), cut())),
        Cost(
            "tiling.mass_bounds", 0, bounding,
            lambda: (jax.jit(lambda q, s: tiling.mass_bounds(q, s, scale=0.125)), (draw(0, ROWS, WIDTH), summary())),
        ),
        Cost(
            "tiling.plan, certified", 0, bounding + 6.0 * HALVINGS * ROWS * tiles,
            lambda: (
                jax.jit(lambda q, s: tiling.plan(q, s, tiling.Certified(0.1), scale=0.125)),
                (draw(0, ROWS, WIDTH), summary()),
            ),
        ),
        Cost(
            "quantum.born_attention", 0, 2 * 8.0 * ROWS * (WIDTH // 2) ** 2 * WIDTH,
            lambda: (jax.jit(quantum.born_attention), (*rows(), draw(2, ROWS, WIDTH))),
        ),
    ]  # fmt: skip


def functions_of_grids() -> list[Cost]:
    """Return functions of states and of grids."""
    import jax
    import jax.numpy as jnp

    from qga import flow, motivic, pattern, quantum

    grid = lambda: (draw(4, GRID, GRID),)  # noqa: E731
    density = lambda: (lambda x: x @ x.T / jnp.sum(x * x))(draw(5, WIDTH, 2 * WIDTH))  # noqa: E731
    return [
        Cost("quantum.purity", 0, 4.0 * WIDTH**2, lambda: (jax.jit(quantum.purity), (density(),))),
        Cost("motivic.energies", 0, 2.0 * GRID * GRID, lambda: (jax.jit(motivic.energies), grid())),
        Cost("motivic.euler", 0, 8.0 * GRID * GRID, lambda: (jax.jit(motivic.euler), (grid()[0] > 0,))),
        Cost("pattern.laplacian", 0, 5.0 * GRID * GRID, lambda: (jax.jit(pattern.laplacian), grid())),
        Cost(
            "pattern.local_density", 0, 4.0 * GRID * GRID,
            lambda: (jax.jit(lambda mask: pattern.local_density(mask, 9)), (grid()[0] > 0,)),
        ),
        Cost(
            "pattern.swift_hohenberg_step", 0, 40.0 * GRID * GRID,
            lambda: (jax.jit(lambda f: pattern.swift_hohenberg_step(f, 0.3, 0.01)), grid()),
        ),
        Cost(
            "flow.threshold_dynamics, one step", 0, 4 * 2.0 * (GRID / 4) ** 3,
            lambda: (
                jax.jit(lambda mask: flow.threshold_dynamics(mask, 2.0, steps=1, active=2**13)),
                (grid()[0][: GRID // 4, : GRID // 4] > 0,),
            ),
        ),
    ]  # fmt: skip


def times_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[float]:
    """Return microseconds of calls that are waited for, one by one."""
    import jax

    jax.block_until_ready(function(*arguments))
    found = []
    for _ in range(RUNS):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        found.append(1e6 * (time.perf_counter() - began))
    return found


def measure_roof() -> dict[str, float]:
    """Measure the device's own product and copy, at their best."""
    import jax
    import jax.numpy as jnp

    side, words = 2048, 2**25
    square = jax.random.normal(jax.random.key(9), (side, side))
    product = min(times_of(jax.jit(lambda x: jnp.matmul(x, x, precision="highest")), (square,))) / 1e6
    copy = min(times_of(jax.jit(lambda x: x + 1), (jnp.zeros(words),))) / 1e6
    return {"flop_per_s": 2 * side**3 / product, "bytes_per_s": 8 * words / copy}


def measure() -> dict[str, Any]:
    """Measure every function, and the roof before and after them: whoever else works here may come and go."""
    import jax
    import jax.numpy as jnp

    before, rows = measure_roof(), []
    for cost in costs():
        function, arguments = cost.make()
        timing = timing_of(times_of(function, arguments))
        sizes = [leaf.nbytes for leaf in jax.tree.leaves((arguments, function(*arguments))) if hasattr(leaf, "nbytes")]
        row: dict[str, Any] = {
            "name": cost.name, "passes": cost.passes, "operations": cost.operations, "bytes": sum(sizes),
            "median_ms": timing.median_us / 1e3, "spread": timing.spread,
        }  # fmt: skip
        rows.append(row)
        print(f"{cost.name:36s} {row['median_ms']:9.3f} ms", file=sys.stderr, flush=True)
    after = measure_roof()
    roof = {name: max(before[name], after[name]) for name in before}
    for cost, row in zip(costs(), rows, strict=True):
        row["of_roof"] = share_of_roof(cost, row, roof)
    device = next(iter(jnp.zeros(1).devices()))
    return {"device": {"platform": device.platform, "kind": device.device_kind}, "roof": roof, "rows": rows}


def share_of_roof(cost: Cost, row: Mapping[str, Any], roof: Mapping[str, float]) -> float:
    """Return the least time that the device needs for a function, over its measured time."""
    least = max(cost.operations / roof["flop_per_s"], row["bytes"] / roof["bytes_per_s"])
    return 1e3 * least / row["median_ms"]


def page(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page of the newest record of each platform."""
    lines = [
        "# What functions cost", "",
        "Operations and bytes by formula, time measured, and the share of the time that the device's own product",
        f"and copy would need. {ROWS:,} rows of width {WIDTH} with {WIDTH} channels, grids of {GRID:,} x {GRID:,},",
        "float32, one call that is waited for, so that short ones show the dispatch.",
        "`python -m tests.bench.costs --help` says how; the records lie in `tests/bench/records`.", "",
        "| device | product, TFLOP/s | copy, GB/s | load |", "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for record in records.values():
        roof = record["roof"]
        kind = (
            record["device"]["kind"]
            if record["device"]["platform"] != "cpu"
            else f"CPU, {record['host']['cores']} cores"
        )
        rates = f"{roof['flop_per_s'] / 1e12:.3g} | {roof['bytes_per_s'] / 1e9:.3g}"
        lines.append(f"| {kind} | {rates} | {record['host']['load']:.1f} |")
    heads = [f"{name}, ms | of its roof" for name in records]
    lines += ["", f"| function | passes over pairs | GFLOP | MB | {' | '.join(heads)} |"]
    lines.append(f"| --- | ---: | ---: | ---: | {' | '.join(['---: | ---:'] * len(records))} |")
    lines += [line for cost in costs() if (line := _line(cost, list(records.values())))]
    lines += [
        "",
        "No function of this table forms the table of all pairs: passes hold blocks of 1,024 x 1,024. A pass is bound",
        "by its exponentials and sums, which the roof does not count; float32 products take no matrix units. What fits",
        "a cache is read faster than the copy, which does not: above 100 %. Where the load is above the cores, others",
        "took time from some rows more than from the rest: such times are too long, and their shares rough.",
        "",
    ]
    return "\n".join(lines)


def _line(cost: Cost, records: Sequence[Mapping[str, Any]]) -> str:
    """Return a line of the page; records are of different days, and may not know the function."""
    found = [({row["name"]: row for row in record["rows"]}.get(cost.name), record["roof"]) for record in records]
    sizes = [row["bytes"] for row, _ in found if row]
    if not sizes:
        return ""
    times = [
        f"{row['median_ms']:.3g} | {share_of_roof(cost, row, roof):.1%}" if row else "not measured | "
        for row, roof in found
    ]
    counted = f"{cost.operations / 1e9:.3g} | {sizes[0] / 1e6:.3g}"
    return f"| `{cost.name}` | {cost.passes or ''} | {counted} | {' | '.join(times)} |"


def main(arguments: list[str] | None = None) -> int:
    """Measure in a fresh process, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.costs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--platform", default="cpu", choices=PLATFORMS, help="where (default: cpu)")
    parser.add_argument("--record", action="store_true", help="also write a record")
    parser.add_argument("--page", type=Path, help="write the page from the newest records instead")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.page:
        found = {name: sorted(RECORDS.glob(f"costs-{name}-*.json")) for name in PLATFORMS}
        options.page.write_text(
            page({name: json.loads(paths[-1].read_text()) for name, paths in found.items() if paths})
        )
        return 0
    if options.inside:
        if options.platform == "vulkan":
            from lowering.pjrt import initialize

            initialize()
        print(json.dumps(measure()))
        return 0
    command = [sys.executable, "-m", "tests.bench.costs", "--inside", "--platform", options.platform]
    platforms = ",".join(dict.fromkeys((options.platform, "cpu")))
    done = subprocess.run(
        command, env=os.environ | {"JAX_PLATFORMS": platforms}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return done.returncode
    record = head_of_record(json.loads(done.stdout.splitlines()[-1]), "costs")
    if options.record:
        write_record(record, "costs", options.platform)
    return 0


if __name__ == "__main__":
    sys.exit(main())
