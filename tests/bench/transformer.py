"""A decoder-only transformer and its training step in plain JAX and optax: the program that people actually compile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the model and of one batch; parameters are f32, `compute` is the dtype of products and activations."""

    layers: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 8192
    places: int = 512
    batch: int = 8
    compute: str = "float32"

    @property
    def operations(self) -> int:
        """Count what the matrix products of one training step multiply and add, forward once and backward twice."""
        tokens = self.batch * self.places
        weights = self.layers * 12 * self.width**2 + self.width * self.vocabulary
        attention = self.layers * 2 * self.places * self.width
        return 6 * tokens * (weights + attention)


QUICK = Sizes(layers=2, width=64, heads=2, vocabulary=128, places=32, batch=2)
NARROW = {"train_bf16": {"places": 1024, "compute": "bfloat16"}}
"""What is different in the other training jobs; quick ones keep their places."""


def sizes_of(job: str, *, is_quick: bool) -> Sizes:
    """Return the sizes of a training job."""
    changes = NARROW.get(job, {})
    if is_quick:
        return replace(QUICK, compute=changes.get("compute", QUICK.compute))
    return replace(Sizes(), **changes)


def parameters_of(sizes: Sizes, seed: int) -> Any:
    """Draw the parameters on the host."""
    generator = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], deviation: float, mean: float) -> np.ndarray:
        if not deviation:
            return np.full(shape, mean, np.float32)
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(deviation)

    return _build(sizes, draw)


def _build(sizes: Sizes, draw: Callable[[tuple[int, ...], float, float], Any]) -> Any:
    """Return the tree of parameters, each leaf made by `draw(shape, deviation, mean)`."""
    width, scale = sizes.width, 1 / math.sqrt(sizes.width)

    def norm(name: str) -> dict[str, Any]:
        return {f"{name}gain": draw((width,), 0.0, 1.0), f"{name}bias": draw((width,), 0.0, 0.0)}

    def layer() -> dict[str, Any]:
        return {
            **norm("first_"),
            "project": draw((width, 3 * width), scale, 0.0),
            "mix": draw((width, width), scale / math.sqrt(2 * sizes.layers), 0.0),
            **norm("second_"),
            "feed_in": draw((width, 4 * width), scale, 0.0),
            "feed_out": draw((4 * width, width), scale / math.sqrt(8 * sizes.layers), 0.0),
        }

    return {
        "tokens": draw((sizes.vocabulary, width), 0.02, 0.0),
        "places": draw((sizes.places, width), 0.02, 0.0),
        "layers": [layer() for _ in range(sizes.layers)],
        **norm(""),
    }


def batch_of(sizes: Sizes, seed: int) -> np.ndarray:
    """Draw tokens, one more place than the model sees."""
    return np.random.default_rng(seed).integers(0, sizes.vocabulary, (sizes.batch, sizes.places + 1), np.int32)


def loss_of(parameters: Any, tokens: Any, sizes: Sizes) -> Any:
    """Average the surprise at each next token, in nats."""
    parameters = jax.tree.map(lambda leaf: leaf.astype(sizes.compute), parameters)
    stream = parameters["tokens"][tokens[:, :-1]] + parameters["places"][None]
    for layer in parameters["layers"]:
        stream = stream + _attend(_norm(stream, layer["first_gain"], layer["first_bias"]), layer, sizes)
        hidden = _norm(stream, layer["second_gain"], layer["second_bias"]) @ layer["feed_in"]
        stream = stream + jax.nn.gelu(hidden) @ layer["feed_out"]
    logits = _norm(stream, parameters["gain"], parameters["bias"]) @ parameters["tokens"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), tokens[:, 1:]).mean()


def _norm(x: Any, gain: Any, bias: Any) -> Any:
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype) * gain[None, None] + bias[None, None]


def _attend(x: Any, layer: Any, sizes: Sizes) -> Any:
    batch, places, width = x.shape
    joined = (x @ layer["project"]).reshape(batch, places, 3, sizes.heads, width // sizes.heads)
    queries, keys, values = (joined[:, :, index] for index in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys).astype(jnp.float32)
    visible = jnp.tril(jnp.ones((places, places), bool))[None, None]
    scaled = jnp.where(visible, scores / math.sqrt(width // sizes.heads), -jnp.inf)
    weights = jax.nn.softmax(scaled, axis=-1).astype(x.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, values).reshape(batch, places, width) @ layer["mix"]


def optimiser() -> optax.GradientTransformation:
    """Return adamw as people use it."""
    return optax.adamw(3e-4)


def step_of(sizes: Sizes) -> Any:
    """Return the training step: (parameters, state, tokens) -> (parameters, state, loss)."""
    transform = optimiser()

    def train_step(parameters: Any, state: Any, tokens: Any) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(parameters, tokens, sizes)
        updates, state = transform.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    return train_step


def jitted_step(sizes: Sizes) -> Any:
    """Return the step compiled by JAX, which gives up the old parameters and state."""
    return jax.jit(step_of(sizes), donate_argnums=(0, 1))


def structures_of(sizes: Sizes) -> tuple[Any, Any, Any]:
    """Return shapes and dtypes of the step's arguments, without drawing any number."""
    parameters = _build(sizes, lambda shape, deviation, mean: jax.ShapeDtypeStruct(shape, np.float32))
    state = jax.eval_shape(optimiser().init, parameters)
    return parameters, state, jax.ShapeDtypeStruct((sizes.batch, sizes.places + 1), np.int32)
