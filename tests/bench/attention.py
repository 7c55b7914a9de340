"""Rates of attention, forward and backward, beside what else is installed: JAX on CUDA and PyTorch's FlashAttention-2.

python -m tests.bench.attention                    batch 4, 16 heads, 4,096 rows, float16, on the Vulkan device
python -m tests.bench.attention --rows 512 --heads 2
python -m tests.bench.attention --metric cosine    scores with a known bound, against the others' inner products
python -m tests.bench.attention --lengths 512 4096 forward at several numbers of rows; batch times rows stays
python -m tests.bench.attention --record           also writes a record beside those of python -m tests.bench
QGA_VENDOR_EXTENSIONS=0 python -m tests.bench.attention          without extensions of single vendors

Every row of the table is timed in the same process: batches of calls by the host's clock, the median of them and the
distance of their quartiles. A product of queries and keys and one of weights and values make 4 rows^2 width operations
a head; backward is counted as two and a half times forward, and half of both if causal. The error is the largest of one
head against float64.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .machine import head_of_record, write_record
from .timing import Timing, time_calls

SECONDS = 0.5
WARM = 60
BACKWARD = 2.5
COSINE_SCALE = 8.0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.attention", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=4, help="sequences (default: 4)")
    parser.add_argument("--heads", type=int, default=16, help="heads of each (default: 16)")
    parser.add_argument("--rows", type=int, default=4096, help="queries, and keys, of each head (default: 4096)")
    parser.add_argument("--lengths", type=int, nargs="+", help="rows to time forward, instead of --rows")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128], help="of a row (default: 64 128)")
    parser.add_argument("--metric", choices=["dot", "cosine"], default="dot", help="of qga's scores (default: dot)")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def truth(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, *, is_causal: bool) -> list[np.ndarray]:
    """Return one head's averages in float64, and what the derivative of half their squares is in each argument."""
    scale = queries.shape[-1] ** -0.5
    scores = scale * queries @ keys.T
    if is_causal:
        scores[~np.tri(*scores.shape, dtype=bool)] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    out = weights @ values
    score_bar = weights * (out @ values.T - (out * out).sum(axis=1, keepdims=True))
    return [out, scale * score_bar @ keys, scale * score_bar.T @ queries, weights.T @ out]


def of_jax(
    attend: Callable[..., Any], arrays: list[Any], *, backward: bool
) -> tuple[Callable[[], Any], Callable[[], Any] | None]:
    """Return forward, and backward with what forward has kept, of a function of JAX on the arrays' device."""
    import jax

    forward = jax.jit(attend)
    if not backward:
        return lambda: forward(*arrays), None
    out, pull = jax.jit(lambda *given: jax.vjp(attend, *given))(*arrays)
    pulled = jax.jit(lambda pull, bar: pull(bar))
    return lambda: forward(*arrays), lambda: pulled(pull, out)


def contestants(
    arrays: list[np.ndarray], metric: str, *, is_causal: bool, backward: bool = True
) -> Iterator[tuple[str, Any, Callable[[Any], object]]]:
    """Yield names, forward with backward (or None), and how to wait."""
    import jax

    import qga

    def ours(*given: Any) -> Any:
        if metric == "dot":
            return qga.dot_attention(*given, is_causal=is_causal, derivatives="reverse")
        rows_first = (array.swapaxes(1, 2) for array in given)
        return qga.attention(*rows_first, metric="cosine", scale=COSINE_SCALE, is_causal=is_causal).swapaxes(1, 2)

    def theirs(*given: Any, implementation: str) -> Any:
        rows_first = (array.swapaxes(1, 2) for array in given)
        out = jax.nn.dot_product_attention(*rows_first, is_causal=is_causal, implementation=implementation)
        return out.swapaxes(1, 2)

    devices = {platform: jax.devices(platform)[0] for platform in os.environ["JAX_PLATFORMS"].split(",")}
    put = lambda platform: [jax.device_put(array, devices[platform]) for array in arrays]  # noqa: E731
    yield f"qga through Vulkan, {metric}", of_jax(ours, put("vulkan"), backward=backward), jax.block_until_ready
    if "cuda" in devices:
        for name in ("xla", "cudnn"):
            attend = lambda *given, name=name: theirs(*given, implementation=name)  # noqa: E731
            yield f"jax on CUDA, {name}", of_jax(attend, put("cuda"), backward=backward), jax.block_until_ready
    yield from of_torch(arrays, is_causal=is_causal)


def of_torch(arrays: list[np.ndarray], *, is_causal: bool) -> Iterator[tuple[str, Any, Callable[[Any], object]]]:
    """Yield PyTorch's FlashAttention-2, where it is installed and has a GPU."""
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    held = [torch.tensor(array, device="cuda", requires_grad=True) for array in arrays]
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def forward() -> Any:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(*held, is_causal=is_causal)

    out = forward()

    def backward() -> Any:
        return torch.autograd.grad(out, held, out.detach(), retain_graph=True)

    yield "FlashAttention-2 of PyTorch", (forward, backward), lambda _: torch.cuda.synchronize()


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    rows = []
    random = np.random.default_rng(0)
    for width in options.widths:
        shape = (options.batch, options.heads, options.rows, width)
        arrays = [random.normal(size=shape).astype(np.float16) for _ in range(3)]
        for is_causal in (False, True):
            want = truth(*(array[0, 0].astype(float) for array in arrays), is_causal=is_causal)
            operations = 4.0 * options.batch * options.heads * options.rows**2 * width * (0.5 if is_causal else 1)
            for name, calls, wait in contestants(arrays, options.metric, is_causal=is_causal):
                for way, call, factor in zip(("forward", "backward"), calls, (1, BACKWARD), strict=True):
                    # The first calls with new arrays are several times slower: their memory has not been used.
                    for _ in range(WARM):
                        wait(call())
                    timing = Timing(**time_calls(call, wait, SECONDS))
                    result = call()
                    got = list(result) if isinstance(result, (tuple, list)) else [result]
                    exact = want[:1] if way == "forward" else want[1:]
                    row = {
                        "width": width, "is_causal": is_causal, "who": name, "way": way,
                        "median_ms": timing.median_us / 1e3,
                        "spread": timing.spread, "tflop_per_s": factor * operations / timing.median_us / 1e6,
                        "errors": [] if name.endswith("cosine") else list(map(_error, got, exact)),
                    }  # fmt: skip
                    rows.append(row)
                    print(_line(row), flush=True)
    return rows


def measure_lengths(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a table of lengths: forward without the causal rule, as many rows of queries in all."""
    rows, random = [], np.random.default_rng(0)
    for width in options.widths:
        for length in options.lengths:
            batch = max(1, options.batch * options.rows // length)
            shape = (batch, options.heads, length, width)
            arrays = [random.normal(size=shape).astype(np.float16) for _ in range(3)]
            operations = 4.0 * batch * options.heads * length**2 * width
            for name, (forward, _), wait in contestants(arrays, options.metric, is_causal=False, backward=False):
                for _ in range(WARM):
                    wait(forward())
                timing = Timing(**time_calls(forward, wait, SECONDS / 2))
                row = {
                    "width": width, "is_causal": False, "who": name, "way": "forward", "length": length, "batch": batch,
                    "median_ms": timing.median_us / 1e3, "spread": timing.spread,
                    "tflop_per_s": operations / timing.median_us / 1e6, "errors": [],
                }  # fmt: skip
                rows.append(row)
                print(f"{length:6d} rows", _line(row), flush=True)
    return rows


def _error(got: Any, want: np.ndarray) -> float:
    array = got.detach().cpu().numpy() if hasattr(got, "detach") else np.asarray(got)
    return float(np.abs(array[0, 0].astype(float) - want).max())


def _line(row: dict[str, Any]) -> str:
    errors = " ".join(f"{error:.1e}" for error in row["errors"])
    causal = "causal" if row["is_causal"] else "full"
    return (
        f"{row['width']:4d} {causal:6s} {row['way']:8s} {row['who']:28s} {row['median_ms']:9.3f} ms "
        f"(spread {row['spread']:.0%}) {row['tflop_per_s']:7.1f} TFLOP/s  errors {errors}"
    )


def name_of(options: argparse.Namespace) -> str:
    """Name a record by what was measured, where that is not the usual."""
    shape = f"b{options.batch}h{options.heads}n{options.rows}"
    parts = ["lengths"] if options.lengths else [] if shape == "b4h16n4096" else [shape]
    parts += [] if options.metric == "dot" else [options.metric]
    parts += [] if os.environ.get("QGA_VENDOR_EXTENSIONS", "1") != "0" else ["khr"]
    return "-".join(["attention", *parts])


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and keep it where asked."""
    options = parse(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu,vulkan")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from lowering.pjrt import initialize

    initialize()
    import jax

    device = jax.devices("vulkan")[0]
    rows = measure_lengths(options) if options.lengths else measure(options)
    numbers = {"rows": rows, "device": device.device_kind, "jax": jax.__version__, "options": vars(options)}
    record = head_of_record(numbers, "attention")
    if options.record:
        write_record(record, name_of(options), device.device_kind)
    print(json.dumps({key: value for key, value in record.items() if key != "rows"}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
