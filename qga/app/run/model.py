"""A small character-level transformer, as pure functions over a dictionary of parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ...exact import dot_attention, fidelity_attention

Parameters = PyTree[Float[Array, "..."]]

_NORM_EPS = 1e-5
# Fidelity scores lie in [0, beta]; beta = sharpness * log(context) lets one key stand out among all.
_FIRST_SHARPNESS = 3.0


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the model.

    Attributes:
        vocabulary: how many different characters.
        attention: ``dot`` or ``fidelity``.
        layers: blocks of attention and feed-forward.
        heads: of each block.
        width: of the residual stream, a multiple of twice the heads.
        context: characters a prediction may look back on, a power of two.
        tile: keys attention scores at a time.
    """

    vocabulary: int
    attention: str = "dot"
    layers: int = 2
    heads: int = 2
    width: int = 64
    context: int = 64
    tile: int = 32


class Heads(NamedTuple):
    """What enters the attention of one layer; ``scale`` is None where it follows from the width."""

    queries: Float[Array, "*batch heads places width"]
    keys: Float[Array, "*batch heads places width"]
    values: Float[Array, "*batch heads places width"]
    scale: Float[Array, " heads"] | None


def init_parameters(config: ModelConfig, seed: int) -> Parameters:
    """Draw the first parameters; the same seed gives the same bits on one platform."""
    keys = iter(jax.random.split(jax.random.key(seed), 3 + 4 * config.layers))
    width, scale = config.width, 1 / math.sqrt(config.width)

    def draw(shape: tuple[int, ...], deviation: float) -> Array:
        return deviation * jax.random.normal(next(keys), shape, jnp.float32)

    def block() -> Parameters:
        # The last product of each branch starts smaller, so that depth does not grow the residual stream.
        branch_scale = scale / math.sqrt(2 * config.layers)
        parameters = {
            "norm_attention": jnp.ones(width, jnp.float32),
            "project": draw((width, 3 * width), scale),
            "mix": draw((width, width), branch_scale),
            "norm_feed": jnp.ones(width, jnp.float32),
            "feed_in": draw((width, 4 * width), scale),
            "feed_out": draw((4 * width, width), branch_scale / 2),
        }
        if config.attention == "fidelity":
            parameters["sharpness"] = jnp.full(config.heads, _FIRST_SHARPNESS, jnp.float32)
        return parameters

    return {
        "characters": draw((config.vocabulary, width), 0.1),
        "positions": draw((config.context, width), 0.1),
        "blocks": [block() for _ in range(config.layers)],
        "norm": jnp.ones(width, jnp.float32),
        # Small logits: before it has learned anything, the model should guess evenly.
        "predict": draw((width, config.vocabulary), scale / 8),
    }


def predict(
    parameters: Parameters, characters: Int[Array, "batch places"], config: ModelConfig
) -> tuple[Float[Array, "batch places vocabulary"], list[Heads]]:
    """Score every next character.

    Returns:
        The logits, and what entered the attention of each layer.
    """
    embedded = jnp.take(parameters["characters"], characters, axis=0, mode="clip")
    stream = embedded + parameters["positions"][None, : characters.shape[1]]
    layers = []
    for block in parameters["blocks"]:
        mixed, heads = _mix_places(block, _normalise(stream, block["norm_attention"]), config)
        stream = stream + mixed
        hidden = jax.nn.gelu(_normalise(stream, block["norm_feed"]) @ block["feed_in"])
        stream = stream + hidden @ block["feed_out"]
        layers.append(heads)
    return _normalise(stream, parameters["norm"]) @ parameters["predict"], layers


def measure_loss(
    parameters: Parameters, examples: Int[Array, "batch places_and_next"], config: ModelConfig
) -> Float[Array, ""]:
    """Average the surprise at each next character, in nats."""
    logits, _ = predict(parameters, examples[:, :-1], config)
    # A comparison with iota instead of a gather: its gradient needs no scatter.
    hits = jax.nn.one_hot(examples[:, 1:], config.vocabulary, dtype=logits.dtype)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - jnp.sum(hits * logits, axis=-1))


def attend(
    config: ModelConfig,
    queries: Float[Array, "batch heads places width"],
    keys: Float[Array, "batch heads places width"],
    values: Float[Array, "batch heads places channels"],
    scale: Float[Array, "#batch heads"] | None,
) -> Float[Array, "batch heads places channels"]:
    """Mix values with the attention the configuration names."""
    if scale is None:
        return dot_attention(queries, keys, values, is_causal=True, tile=config.tile)
    beta = jnp.broadcast_to(scale, queries.shape[:2])
    return fidelity_attention(queries, keys, values, beta=beta, is_causal=True, tile=config.tile)


def _mix_places(
    block: Parameters, stream: Float[Array, "batch places width"], config: ModelConfig
) -> tuple[Float[Array, "batch places width"], Heads]:
    batch, places, width = stream.shape
    projected = (stream @ block["project"]).reshape(batch, places, 3, config.heads, width // config.heads)
    queries, keys, values = projected.transpose(2, 0, 3, 1, 4)
    scale = block["sharpness"] * math.log(config.context) if config.attention == "fidelity" else None
    out = attend(config, queries, keys, values, None if scale is None else scale[None])
    merged = out.transpose(0, 2, 1, 3).reshape(batch, places, width)
    return merged @ block["mix"], Heads(queries, keys, values, scale)


def _normalise(
    stream: Float[Array, "batch places width"], gain: Float[Array, " width"]
) -> Float[Array, "batch places width"]:
    """Centre each row and scale it to unit variance (layer norm without bias)."""
    centred = stream - jnp.mean(stream, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _NORM_EPS) * gain[None, None]
