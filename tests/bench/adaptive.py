"""What adaptive attention saves and what its plan costs, against exact attention in the same run.

python -m tests.bench.adaptive                   8 heads, 8,192 rows, 64 wide: on the Vulkan device
python -m tests.bench.adaptive --rows 1024       smaller; --record also writes a record

alibi: causal attention under ALiBi in float16, Gaussian queries and keys, at several promises: the share of the causal
tiles that are left out and the share of the time of exact attention that is saved. plain: nothing to leave out, what
looking costs. float32: attention in products of 16 bits within a promise, against the exact one in float32. budget: the
ALiBi heads with a share of the operations of exact attention, and with an audit of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import numpy as np

from .attention_options import time_one
from .machine import head_of_record, write_record

PROMISES = 1e-2, 1e-4, 1e-6


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.adaptive", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="sequences (default: 1 and 4)")
    parser.add_argument("--heads", type=int, default=8, help="heads of each (default: 8)")
    parser.add_argument("--rows", type=int, default=8192, help="queries, and keys, of each head (default: 8192)")
    parser.add_argument("--width", type=int, default=64, help="of a row (default: 64)")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, device: Any) -> list[dict[str, Any]]:
    """Time the three tables."""
    import jax
    import jax.numpy as jnp

    from qga.tiling import Audit, Budget, Certified

    slopes = jnp.exp2(-8.0 * jnp.arange(1, options.heads + 1) / options.heads)
    rows: list[dict[str, Any]] = []
    for batch in options.batch:
        shape = (batch, options.rows, options.heads, options.width)
        alibi = {"is_causal": True, "alibi": slopes}
        arrays = _draw(shape, np.float16, device)
        rows += compare("alibi", arrays, alibi, [({"eps": eps}, Certified(eps), {}) for eps in PROMISES])
        audit = {"audit": Audit(tolerance=0.05), "audit_key": jax.random.key(0)}
        budgets = [
            ({"flops": share, "audit": bool(given)}, Budget(flops=share), given)
            for share, given in ((0.5, {}), (0.25, {}), (0.5, audit))
        ]
        rows += compare("budget", arrays, alibi, budgets)
    shape = (options.batch[-1], options.rows // 2, options.heads, options.width)
    rows += compare("plain", _draw(shape, np.float16, device), {}, [({"eps": 1e-2}, Certified(1e-2), {})])
    half = [({"eps": eps, "products": "half"}, Certified(eps, products="half"), {}) for eps in PROMISES[:2]]
    return rows + compare("float32", _draw((1, *shape[1:]), np.float32, device), {}, half)


def compare(
    name: str, arrays: list[Any], keywords: dict[str, Any], asked: list[tuple[dict[str, Any], Any, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Time exact attention, then adaptive attention within some resolutions: their names, they, and what goes along."""
    import jax

    import qga

    exact = jax.jit(lambda *arrays: qga.attention(*arrays, **keywords))
    base, rows = time_one(lambda: exact(*arrays)), []
    for named, resolution, along in asked:
        given = {"resolution": resolution, **along, **keywords}
        adaptive = jax.jit(lambda *arrays, given=given: qga.adaptive_attention(*arrays, **given))
        certificate = adaptive(*arrays)[1]
        row = {"name": name, "shape": list(arrays[0].shape), **named, "exact_ms": base["median_ms"]}
        row |= time_one(lambda adaptive=adaptive: adaptive(*arrays)) | _work(certificate, keywords)
        row["saved"] = 1 - row["median_ms"] / row["exact_ms"]
        rows.append(row)
        words = "  ".join(f"{word} {each:.0e}" if word == "eps" else f"{word} {each}" for word, each in named.items())
        print(
            f"{name:8s} batch {row['shape'][0]}  {words}  exact {row['exact_ms']:8.3f} ms  adaptive "
            f"{row['median_ms']:8.3f} ms (spread {row['spread']:.0%})  left out {row['left_out']:.1%}  operations "
            f"{row['flops']:.3f}  saved {row['saved']:.1%}  sound {row['sound']:.0%}",
            flush=True,
        )
    return rows


def _work(certificate: Any, keywords: dict[str, Any]) -> dict[str, float]:
    """Return the share of visible tiles that was left out, and the largest bounds."""
    tiles = np.asarray(certificate.tiles_exact + certificate.tiles_half + certificate.tiles_split)[0]
    count = int(tiles[0, 0] + np.asarray(certificate.tiles_skipped + certificate.tiles_hidden)[0, 0, 0])
    # One query of each tile of queries, the last.
    visited = tiles[np.arange(1, count + 1) * len(tiles) // count - 1]
    visible = np.arange(1, count + 1).sum() if keywords.get("is_causal") else count * count
    left_out = 1 - visited.sum(axis=0).mean() / visible
    bounds = {each: float(np.max(getattr(certificate, each))) for each in ("skipped", "total_variation", "out_error")}
    flops = float(np.sum(certificate.flops) / np.sum(certificate.flops_exact))
    again = {} if certificate.audit is None else {"again": float(np.mean(certificate.audit.is_again))}
    return {"left_out": float(left_out), "flops": flops, "sound": float(np.mean(certificate.sound)), **bounds, **again}


def _draw(shape: tuple[int, ...], dtype: Any, device: Any) -> list[Any]:
    import jax

    random = np.random.default_rng(0)
    return [jax.device_put(random.normal(size=shape).astype(dtype), device) for _ in range(3)]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and keep it where asked."""
    options = parse(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu,vulkan")
    from lowering.pjrt import initialize

    initialize()
    import jax

    device = jax.devices("vulkan")[0]
    numbers: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__, "options": vars(options)}
    with jax.default_device(device):
        numbers["rows"] = measure(options, device)
    record = head_of_record(numbers, "adaptive")
    if options.record:
        write_record(record, "adaptive", device.device_kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
