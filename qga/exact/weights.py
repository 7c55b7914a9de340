"""The whole attention matrix, for looking at it and as the reference of the tiled functions."""

from __future__ import annotations

import math
from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..tiling.state import accumulator_dtype
from .scores import lift_to_rays


def attention_weights(
    queries: Float[Array, "*batch queries width"],
    keys: Float[Array, "*batch keys width"],
    *,
    metric: Literal["dot", "fidelity"] = "dot",
    scale: float | Float[Array, "*#batch"] | None = None,
    mask: Bool[Array, "*#batch #queries #keys"] | None = None,
    is_causal: bool = False,
) -> Float[Array, "*batch queries keys"]:
    """Compute how much each query looks at each key, as a dense matrix whose rows sum to one.

    p_ij = e^(s_ij) / sum_k e^(s_ik),  s_ij = scale <q_i, k_j>  or  scale |<k_j|q_i>|^2

    Takes memory of queries times keys; ``dot_attention`` and ``fidelity_attention`` never form this matrix.

    Args:
        queries: one row for each question.
        keys: one row for each place looked at.
        metric: which score; ``fidelity`` reads rows as ``lift_to_rays`` does.
        scale: inverse temperature; 1 / sqrt(width) by default for ``dot``, required for ``fidelity``.
        mask: True where a query may see a key.
        is_causal: let query i see keys 0 to i only.

    Returns:
        Rows that sum to one, in float32 or wider; a query that sees no key gets a row of zeros.

    Raises:
        ShapeError: widths differ, or the width is odd under ``fidelity``.
        OptionError: unknown metric, or ``fidelity`` without a scale.
    """
    if queries.ndim < 2 or keys.ndim < 2 or queries.shape[-1] != keys.shape[-1]:
        refuse(
            ShapeError,
            "attention_weights: queries and keys must have the same width.",
            got=f"queries {describe(queries)}, keys {describe(keys)}",
            want="[*batch, queries, width] and [*batch, keys, width]",
            fix="project both to one width.",
        )
    scores = _scores(queries, keys, metric)
    scores = scores * jnp.broadcast_to(_scale(metric, scale, queries), scores.shape[:-2])[..., None, None]
    visible = jnp.broadcast_to(True if mask is None else mask, scores.shape)
    if is_causal:
        visible &= jnp.broadcast_to(jnp.tri(*scores.shape[-2:], dtype=bool), scores.shape)
    scores = jnp.where(visible, scores, -jnp.inf)
    peak = jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf)
    weights = jnp.exp(scores - jnp.where(peak == -jnp.inf, 0, peak))
    mass = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(mass == 0, 1, mass)


def _scores(queries: Array, keys: Array, metric: str) -> Array:
    dtype = accumulator_dtype(queries, keys)
    if metric == "dot":
        return jnp.einsum("...qd,...kd->...qk", queries, keys, preferred_element_type=dtype)
    if metric != "fidelity":
        refuse(
            OptionError,
            "attention_weights: there is no such metric.",
            got=f"metric={metric!r}",
            want="'dot' or 'fidelity'",
            fix="choose one of the two.",
        )
    query_parts = jnp.split(lift_to_rays(queries).astype(dtype), 2, axis=-1)
    key_parts = jnp.split(lift_to_rays(keys).astype(dtype), 2, axis=-1)
    overlaps = jnp.einsum("...qd,...kd->...qk", lax.complex(*query_parts), lax.complex(*key_parts).conj())
    return jnp.square(overlaps.real) + jnp.square(overlaps.imag)


def _scale(metric: str, scale: float | Array | None, queries: Array) -> Array:
    if scale is None and metric == "fidelity":
        refuse(
            OptionError,
            "attention_weights: the fidelity score has no natural scale.",
            got="scale=None",
            want="the inverse temperature beta",
            fix="pass scale; a multiple of log(keys) is a good start.",
        )
    value = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    return jnp.asarray(value, accumulator_dtype(queries))
