"""What options of attention cost, against the plain one in the same run, and how near decoding comes to copying.

python -m tests.bench.attention_options                  batch 4, 16 heads, 4,096 rows, float16, on the Vulkan device
python -m tests.bench.attention_options --rows 512 --only softcap alibi --backward
python -m tests.bench.attention_options --decode-only --context 8192
python -m tests.bench.attention_options --record         also writes a record beside those of python -m tests.bench

Each row of the first table is ``qga.attention`` with one option; times are medians of calls by the host's clock. Where
an option hides keys, the ratio is against the plain call with the same causal rule. Decoding has one query for each
head; its rate counts every key and value once, against copies of as many bytes in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .machine import head_of_record, write_record
from .timing import MOST_CALLS, Timing, time_calls

SECONDS = 0.4


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.attention_options", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=4, help="sequences (default: 4)")
    parser.add_argument("--heads", type=int, default=16, help="heads of each (default: 16)")
    parser.add_argument("--rows", type=int, default=4096, help="queries, and keys, of each head (default: 4096)")
    parser.add_argument("--width", type=int, default=64, help="of a row (default: 64)")
    parser.add_argument("--only", nargs="+", help="options to time (default: all)")
    parser.add_argument("--backward", action="store_true", help="also time gradients")
    parser.add_argument("--decode-only", action="store_true", help="leave the first table out")
    parser.add_argument("--context", type=int, default=32768, help="keys of a decoding step (default: 32768)")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def options_of(batch: int, heads: int, rows: int) -> dict[str, dict[str, Any]]:
    """Return what is timed, by name; with ``is_causal`` it is compared with the causal plain call."""
    import jax
    import jax.numpy as jnp

    slopes = jnp.exp2(-8.0 * jnp.arange(1, heads + 1) / heads)
    segments = jnp.broadcast_to(jnp.arange(rows) * 8 // rows, (batch, rows)).astype(jnp.int32)
    return {
        "plain": {}, "causal": {"is_causal": True},
        "softcap 5 (bounded)": {"softcap": 5.0}, "softcap 50": {"softcap": 50.0},
        "alibi": {"alibi": slopes}, "alibi, causal": {"alibi": slopes, "is_causal": True},
        "score_mod: relative": {"score_mod": lambda s, b, h, q, k: s - 0.01 * jnp.abs(q - k).astype(s.dtype)},
        "window 512, causal": {"window": (512, None), "is_causal": True},
        "segments, 8": {"segment_ids": segments},
        "key_lengths, half": {"key_lengths": jnp.full((batch,), rows // 2)},
        "bias, one for all": {"bias": jnp.zeros((1, 1, rows, rows), jnp.float16)},
        "dropout 0.1": {"dropout_rate": 0.1, "dropout_key": jax.random.key(0)},
        "sinks": {"sinks": slopes},
        "fidelity": {"metric": "fidelity", "scale": 8.0}, "cosine, bounded": {"metric": "cosine", "scale": 8.0},
        "gauss": {"metric": "gauss", "scale": 0.1}, "born": {"metric": "born", "scale": 2.0},
    }  # fmt: skip


def measure(options: argparse.Namespace, device: Any) -> list[dict[str, Any]]:
    """Time the options."""
    import jax

    random = np.random.default_rng(0)
    shape = (options.batch, options.rows, options.heads, options.width)
    given = [jax.device_put(random.normal(size=shape).astype(np.float16), device) for _ in range(3)]
    grouped = [given[0], *(each[:, :, : max(1, options.heads // 4)] for each in given[1:])]
    rows: list[dict[str, Any]] = []
    chosen = options_of(options.batch, options.heads, options.rows)
    for name, keywords in {**chosen, "4 heads a key head": {}}.items():
        if options.only and not any(word in name for word in (*options.only, "plain", "causal")):
            continue
        arrays = grouped if name == "4 heads a key head" else given
        for way, call in ways_of(keywords, backward=options.backward).items():
            row = {"name": name, "way": way, **time_one(lambda call=call, arrays=arrays: call(*arrays))}
            like = "causal" if keywords.get("is_causal") else "plain"
            base = next((each for each in rows if (each["name"], each["way"]) == (like, way)), row)
            row["of_plain"] = row["median_ms"] / base["median_ms"]
            rows.append(row)
            print(f"{name:24s} {way:8s} {_text(row)} {row['of_plain']:6.2f} x", flush=True)
    return rows


def ways_of(keywords: dict[str, Any], *, backward: bool) -> dict[str, Callable[..., Any]]:
    """Return forward, and the gradient of a sum, of attention with some options."""
    import jax
    import jax.numpy as jnp

    import qga

    def total(*arrays: Any) -> Any:
        return jnp.sum(qga.attention(*arrays, **keywords).astype(jnp.float32))

    ways = {"forward": jax.jit(lambda *arrays: qga.attention(*arrays, **keywords))}
    return {**ways, "gradient": jax.jit(jax.grad(total, (0, 1, 2)))} if backward else ways


def time_one(call: Callable[[], Any]) -> dict[str, float]:
    """Time a call once its memory has been used: the first calls with new arrays are several times slower."""
    import jax

    for _ in range(60):
        jax.block_until_ready(call())
    # As many calls under way as are timed at once: their results are new memory the first time.
    for _ in range(3):
        jax.block_until_ready([call() for _ in range(MOST_CALLS)])
    timing = Timing(**time_calls(call, jax.block_until_ready, SECONDS))
    return {"median_ms": timing.median_us / 1e3, "spread": timing.spread}


def _text(row: dict[str, Any]) -> str:
    return f"{row['median_ms']:9.3f} ms (spread {row['spread']:.0%})"


def decode(options: argparse.Namespace, device: Any) -> list[dict[str, Any]]:
    """Time one query for each of 32 heads, 8 sequences, 8 key heads of 128 numbers, against a copy."""
    import jax
    import jax.numpy as jnp

    import qga

    random = np.random.default_rng(0)
    query = jax.device_put(random.normal(size=(8, 1, 32, 128)).astype(np.float16), device)
    block = random.normal(size=(1, options.context, 8, 128)).astype(np.float16)
    keys, values = (jax.device_put(np.broadcast_to(block, (8, *block.shape[1:])), device) for _ in range(2))
    half = jax.device_put(np.full((8,), options.context // 2), device)
    copy = jax.jit(lambda array: array + jnp.float16(1))
    read = jax.jit(lambda array: jnp.max(array.reshape(-1, 1024), axis=1))
    attend, begun = jax.jit(qga.attention), jax.jit(lambda *arrays: qga.attention(*arrays, key_lengths=half))
    calls: dict[str, tuple[Callable[[], Any], float]] = {
        "copy": (lambda: copy(keys), 2 * keys.nbytes),
        "read": (lambda: read(keys), keys.nbytes),
        "decode": (lambda: attend(query, keys, values), 2 * keys.nbytes),
        "decode, half of the context": (lambda: begun(query, keys, values), keys.nbytes),
    }
    rows = []
    for name, (call, moved) in calls.items():
        row = {"name": name, **time_one(call)}
        row["bytes_per_s"] = moved / row["median_ms"] * 1e3
        rows.append(row)
        print(f"{name:33s} {_text(row)} {row['bytes_per_s'] / 1e12:6.3f} TB/s", flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables, and keep them where asked."""
    options = parse(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu,vulkan")
    from lowering.pjrt import initialize

    initialize()
    import jax

    device = jax.devices("vulkan")[0]
    numbers: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__, "options": vars(options)}
    numbers["rows"] = [] if options.decode_only else measure(options, device)
    numbers["decode"] = decode(options, device) if options.context else []
    record = head_of_record(numbers, "attention_options")
    if options.record:
        write_record(record, "attention-options", device.device_kind)
    print(json.dumps({key: value for key, value in record.items() if key not in ("rows", "decode")}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
