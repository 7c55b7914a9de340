"""An operator beside the dense float64 matrix that it stands for."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from qga.operators import AttentionOperator, attention_operator
from tests.qga.dense import dot_weights, fidelity_weights

QUERIES, KEYS, WIDTH = 37, 29, 4


class Pair(NamedTuple):
    """The two forms of one pattern, with its queries and keys."""

    operator: AttentionOperator
    weights: np.ndarray
    queries: np.ndarray
    keys: np.ndarray


def draw_pair(
    random: np.random.Generator,
    dtype: np.typing.DTypeLike = np.float64,
    *,
    metric: str = "dot",
    is_causal: bool = False,
    block: int = 8,
    scale: float = 0.7,
) -> Pair:
    """Draw queries and keys and make both forms of their pattern."""
    queries, keys = (random.normal(size=(rows, WIDTH)).astype(dtype) for rows in (QUERIES, KEYS))
    visible = np.tri(QUERIES, KEYS, dtype=bool) if is_causal else None
    dense = {"dot": dot_weights, "fidelity": fidelity_weights}[metric]
    operator = attention_operator(
        jnp.asarray(queries), jnp.asarray(keys), metric=metric, scale=scale, is_causal=is_causal, block=block
    )
    return Pair(operator, dense(queries, keys, scale, visible), queries, keys)


def draw_weights(random: np.random.Generator, rows: int = QUERIES) -> np.ndarray:
    """Draw a distribution without small entries."""
    return random.dirichlet(np.full(rows, 5.0))
