"""Write text with a trained model."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from .model import ModelConfig, Parameters, predict
from .text import Text

_TEMPERATURE = 0.8


def write_sample(parameters: Parameters, config: ModelConfig, text: Text, *, seed: int, length: int) -> str:
    """Continue the beginning of the text, one character at a time, on the CPU.

    Args:
        parameters: of the trained model.
        config: sizes.
        text: whose first characters start the sample.
        seed: of the draws.
        length: characters to write.
    """
    cpu = jax.devices("cpu")[0]
    score = jax.jit(partial(_score_next, config=config))
    random = np.random.default_rng(seed)
    parameters = jax.device_put(parameters, cpu)
    written = list(text.numbers[: config.context])
    for _ in range(length):
        window = jax.device_put(np.asarray(written[-config.context :], np.int32), cpu)
        logits = np.asarray(score(parameters, window), np.float64) / _TEMPERATURE
        chances = np.exp(logits - logits.max())
        written.append(int(random.choice(len(chances), p=chances / chances.sum())))
    return text.decode(written[config.context :])


def _score_next(parameters: Parameters, window: jax.Array, *, config: ModelConfig) -> jax.Array:
    return predict(parameters, window[None], config)[0][0, -1]
