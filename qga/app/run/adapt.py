"""What adaptive attention leaves out of the heads of a trained model, as it is and with a bias that decays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...analysis import Trial, try_promises
from .model import ModelConfig, Parameters, predict

PROMISES = (1e-1, 1e-2, 1e-3)
SHOWN = 1
"""Which promise is drawn."""
SLOPE = 0.125
"""Of the bias that decays, in nats for each character of distance."""


@dataclass(frozen=True)
class Adapted:
    """Heads under several promises.

    Attributes:
        trials: one for each of ``PROMISES``; the second half of their heads has the bias that decays.
        heads: in each half, those of the first layer first.
        rows: characters of the text, the examples one behind the other.
    """

    trials: tuple[Trial, ...]
    heads: int
    rows: int


def adapt_heads(
    parameters: Parameters, examples: Int[np.ndarray, "batch places_and_next"], config: ModelConfig
) -> Adapted:
    """Attend on the CPU, within several promises, to a text that is longer than the model's context.

    The examples stand one behind the other, as texts do in a cache: a head sees all characters before its own, those of
    the examples before as well.

    Args:
        parameters: of a trained model, anywhere.
        examples: of text.
        config: sizes.
    """
    # A Vulkan device that is itself a CPU program would take minutes.
    device = jax.devices("cpu")[0]
    given, text = jax.device_put((parameters, examples), device)
    heads = config.layers * config.heads
    with jax.default_device(device):
        rows, scale = jax.jit(partial(_rows, config=config))(given, text)
        slopes = jnp.asarray([0.0] * heads + [SLOPE] * heads, jnp.float32)
        # Only inner products have products of fewer bits.
        products = "half" if config.attention == "dot" else "given"
        trials = try_promises(
            *rows, promises=PROMISES, products=products, metric=config.attention, is_causal=True, alibi=slopes,
            scale=scale,
        )  # fmt: skip
    return Adapted(trials, heads, rows[0].shape[1])


def _rows(
    parameters: Parameters, examples: Array, *, config: ModelConfig
) -> tuple[tuple[Float[Array, "one rows heads width"], ...], Float[Array, "one heads"] | None]:
    """Return queries, keys and values of all heads over all examples, each head twice, and their scales."""
    _, layers = predict(parameters, examples[:, :-1], config)

    def joined(parts: list[Array]) -> Array:
        # [batch, layers and heads, places, width], twice.
        heads = jnp.concatenate(parts * 2, axis=1)
        return jnp.moveaxis(heads, 1, 2).reshape(1, -1, heads.shape[1], heads.shape[3])

    scales = [layer.scale for layer in layers if layer.scale is not None]
    rows = tuple(joined([getattr(layer, part) for layer in layers]) for part in ("queries", "keys", "values"))
    return rows, jnp.concatenate(scales * 2)[None] if scales else None
