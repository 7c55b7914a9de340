"""Attention over points against exact attention in the same run: time, share of the operations, errors and bounds.

python -m tests.bench.structured                   4,096 to 262,144 points, on the Vulkan device
python -m tests.bench.structured --platform cpu    on the CPU; exact attention over the most points takes minutes
python -m tests.bench.structured --rows 4096 16384 --most-exact 4096 --record

Points are uniform in the unit square, or cube, values a random smooth field of 32 channels with noise. Operations are
those of products and sums of pairs, 2 (width + channels) for each pair of exact attention, and those of sums over the
nodes of a grid. Errors are against float64, over a sample of the queries.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .attention_options import time_one
from .machine import head_of_record, write_record

CHANNELS, SAMPLE, LONG_MS = 32, 64, 100


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.structured", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 16384, 65536, 262144], help="points")
    parser.add_argument("--most-exact", type=int, default=262144, help="points up to which exact attention is timed")
    parser.add_argument("--bandwidth", type=float, nargs="+", default=[0.3, 0.05], help="of the kernel")
    parser.add_argument("--width", type=int, nargs="+", default=[2, 3], help="dimensions of the points")
    parser.add_argument("--eps", type=float, nargs="+", default=[1e-2], help="promised total variation")
    parser.add_argument("--platform", choices=("cpu", "vulkan"), default="vulkan", help="where to run")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, device: Any) -> list[dict[str, Any]]:
    """Time all cases."""
    rows = []
    for width in options.width:
        for count in options.rows:
            for bandwidth in options.bandwidth:
                arrays = draw(count, width, device)
                exact_ms = time_exact(arrays, bandwidth) if count <= options.most_exact else None
                for eps in options.eps:
                    rows.append(compare(arrays, bandwidth, eps, exact_ms))
                    print(line_of(rows[-1]), flush=True)
    return rows


def draw(rows: int, width: int, device: Any) -> list[Any]:
    """Return queries, keys and values."""
    import jax

    random = np.random.default_rng(0)
    query, key = (random.uniform(size=(1, rows, 1, width)).astype(np.float32) for _ in range(2))
    waves = key @ (3 * random.normal(size=(width, CHANNELS // 2)))
    value = np.concatenate([np.sin(waves), np.cos(waves)], axis=-1) + random.normal(size=(1, rows, 1, CHANNELS)) / 20
    return [jax.device_put(each.astype(np.float32), device) for each in (query, key, value)]


def time_exact(arrays: list[Any], bandwidth: float) -> float:
    """Return the time of exact attention, in milliseconds."""
    import jax

    import qga

    exact = jax.jit(lambda *arrays: qga.attention(*arrays, metric="gauss", scale=bandwidth**-2))
    exact(*arrays).block_until_ready()
    return time_call(lambda: exact(*arrays))["median_ms"]


def time_call(call: Callable[[], Any]) -> dict[str, float]:
    """Time a call; three calls where one takes longer than tenths of a second."""
    import jax

    found = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(1e3 * (time.perf_counter() - start))
        if found[0] <= LONG_MS:
            return time_one(call)
    return {"median_ms": float(np.median(found)), "spread": float(np.ptp(found) / np.median(found))}


def compare(arrays: list[Any], bandwidth: float, eps: float, exact_ms: float | None) -> dict[str, Any]:
    """Time attention within a promise, count its work, and hold it against float64."""
    import jax

    import qga

    resolution, scale = qga.tiling.Certified(eps), bandwidth**-2
    run = jax.jit(lambda *arrays: qga.structured_attention(*arrays, scale=scale, resolution=resolution))
    out, certificate = run(*arrays)
    _, rows, _, width = arrays[0].shape
    taken = time_call(lambda: run(*arrays))
    counts = {name: float(np.mean(getattr(certificate, f"tiles_{name}"))) for name in ("exact", "coarse", "skipped")}
    shares = {name: each / sum(counts.values()) for name, each in counts.items()}
    bounds = {each: float(np.max(getattr(certificate, each))) for each in ("total_variation", "relative_error")}
    error, held = errors(arrays, scale, np.asarray(out), certificate)
    return {
        "rows": rows, "width": width, "bandwidth": bandwidth, "eps": eps, "exact_ms": exact_ms, **taken,
        "faster": exact_ms and exact_ms / taken["median_ms"], "operations": operations(arrays, eps, shares["exact"]),
        **shares, **bounds,
        "sound": float(np.mean(certificate.sound)), "relative_error_found": error, "bounds_held": held,
    }  # fmt: skip


def operations(arrays: list[Any], eps: float, scored: float) -> float:
    """Return the operations relative to those of exact attention: of scored pairs of tiles, and of sums over nodes."""
    from qga.adaptive.structured import layout_of
    from qga.kernels.problem import program_rows
    from qga.tiling import Certified

    (_, rows, _, width), channels = arrays[0].shape, arrays[2].shape[3]
    layout = layout_of((rows, rows), width, channels, program_rows(4, width, channels), Certified(eps))
    return scored if layout is None else scored + layout.operations / layout.exact


def errors(arrays: list[Any], scale: float, out: np.ndarray, certificate: Any) -> tuple[float, bool]:
    """Return the largest error of a sample, in root mean square lengths of values, and whether all bounds held."""
    query, key, value = (np.asarray(each, np.float64)[0, :, 0] for each in arrays)
    sample = np.random.default_rng(1).choice(len(query), SAMPLE, replace=False)
    found = []
    for place in sample:
        scores = -scale / 2 * np.sum(np.square(query[place] - key), axis=1)
        weights = np.exp(scores - scores.max())
        found.append(np.linalg.norm(weights @ value / weights.sum() - out[0, place, 0]))
    bounds = np.asarray(certificate.out_error)[0, sample, 0]
    unit = float(np.asarray(certificate.value_scale)[0, 0, 0])
    return float(np.max(found)) / unit, bool(np.all(found <= bounds))


def line_of(row: dict[str, Any]) -> str:
    """Write a row as a line."""
    exact = f"exact {row['exact_ms']:10.2f} ms ({row['faster']:6.1f} times)" if row["exact_ms"] else "exact not timed"
    return (
        f"{row['rows']:7d} points in {row['width']}d  bandwidth {row['bandwidth']:<5g} eps {row['eps']:.0e}  "
        f"{row['median_ms']:9.2f} ms (spread {row['spread']:.0%})  {exact}  operations {row['operations']:7.2%}  "
        f"scored {row['exact']:6.1%} by nodes {row['coarse']:6.1%} left out {row['skipped']:6.1%}  "
        f"TV <= {row['total_variation']:.1e}  error {row['relative_error_found']:.1e} <= {row['relative_error']:.1e}  "
        f"held {row['bounds_held']}  sound {row['sound']:.0%}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and keep it where asked."""
    options = parse(arguments)
    if options.platform == "vulkan":
        os.environ.setdefault("JAX_PLATFORMS", "cpu,vulkan")
        from lowering.pjrt import initialize

        initialize()
    import jax

    device = jax.devices(options.platform)[0]
    numbers: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__, "options": vars(options)}
    with jax.default_device(device):
        numbers["rows"] = measure(options, device)
    record = head_of_record(numbers, "structured")
    if options.record:
        write_record(record, "structured", device.device_kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
