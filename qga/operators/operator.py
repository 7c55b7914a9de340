"""An attention pattern as a linear operator: known by its queries and keys, never formed as a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..exact.observe import Metric
from ..exact.scores import DOT, FIDELITY, lift_to_rays
from ..tiling.cut import join
from ..tiling.state import accumulator_dtype
from .sweep import Block, Scores, sweep

# The scores of 1024 x 1024 pairs take 4 MiB: they stay near a core of a CPU and are a full load for a GPU.
DEFAULT_BLOCK = 1024


class RowStatistics(NamedTuple):
    """What one pass learns about the scores s of each row, under its own weights p = softmax(s).

    A row that sees no key has a log sum of minus infinity and zeros.

    Attributes:
        log_sums: z = log sum_j e^(s_j), the log partition sum.
        entropy: H = -sum_j p_j log p_j in nats.
        score_variance: sum_j p_j (s_j - sum_k p_k s_k)^2, the squared Fisher-Rao speed of the row in log temperature.
    """

    log_sums: Float[Array, " queries"]
    entropy: Float[Array, " queries"]
    score_variance: Float[Array, " queries"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AttentionOperator:
    """The row-stochastic matrix P of one head, P_ij = e^(s_ij - z_i); a pytree made by ``attention_operator``.

    Attributes:
        scores: what s is computed from.
        rows: what the first pass learned about each row.
    """

    scores: Scores
    rows: RowStatistics

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys."""
        return self.scores.queries, self.scores.keys.shape[0]


@partial(jax.jit, static_argnames=("metric", "is_causal", "block"))
def attention_operator(
    queries: Float[Array, "queries width"],
    keys: Float[Array, "keys width"],
    *,
    metric: Metric = "dot",
    scale: float | Float[Array, ""] | None = None,
    is_causal: bool = False,
    block: int = DEFAULT_BLOCK,
) -> AttentionOperator:
    """Make the operator of an attention pattern and measure its rows, in one pass over blocks of scores.

    P_ij = e^(s_ij - z_i),  s_ij = scale <q_i, k_j>  or  scale |<k_j|q_i>|^2

    Everything in this room takes such an operator. Memory is linear in queries and keys.

    Args:
        queries: one row for each question.
        keys: one row for each place looked at.
        metric: which score; ``fidelity`` reads rows as ``qga.exact.lift_to_rays`` does.
        scale: inverse temperature; 1 / sqrt(width) by default for ``dot``, required for ``fidelity``.
        is_causal: let query i see keys 0 to i only.
        block: queries and keys scored at a time, at most; any value gives the same result up to rounding.

    Raises:
        ShapeError: widths differ, there is no key, or the width is odd under ``fidelity``.
        OptionError: unknown metric, ``fidelity`` without a scale, or a block below 1.

    Error: log sums and entropies round like sums of ``keys`` terms: a few eps sqrt(keys) times the largest |s|.
    Cost: one pass: 2 queries keys width operations and as many exponentials as pairs.

    Example:
        >>> operator = attention_operator(jnp.eye(4), jnp.zeros((4, 4)))
        >>> bool(jnp.allclose(operator.rows.entropy, jnp.log(4.0)))
        True
    """
    _check(queries, keys, metric, scale, block)
    dtype = accumulator_dtype(queries, keys)
    if metric == "fidelity":
        queries, keys, score = lift_to_rays(queries), lift_to_rays(keys), FIDELITY
    else:
        scale, score = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale, DOT
    scale = jnp.asarray(scale, dtype)
    block = min(block, max(queries.shape[0], keys.shape[0]))
    scores = Scores(score.lift(queries, scale), keys, scale, score, is_causal, block)
    return AttentionOperator(scores, _measure_rows(scores))


class _Moments(NamedTuple):
    """Sums of e^(s - peak) times powers of s - peak over the keys so far."""

    peak: Array
    mass: Array
    first: Array
    second: Array


def _measure_rows(scores: Scores) -> RowStatistics:
    dtype = scores.scale.dtype
    zeros = jnp.zeros((scores.block,), dtype)
    start = _Moments(jnp.full_like(zeros, -jnp.inf), zeros, zeros, zeros)
    stack, _ = sweep(scores, lambda block, carry: (_merge(carry, _moments(block)), ()), start)
    moments = _Moments(*(join(each, scores.queries) for each in stack))
    sees = moments.mass > 0
    mass = jnp.where(sees, moments.mass, 1)
    mean = moments.first / mass
    log_mass = jnp.log(mass)
    return RowStatistics(
        jnp.where(sees, moments.peak, -jnp.inf) + log_mass,
        jnp.where(sees, log_mass - mean, 0),
        jnp.where(sees, moments.second / mass - jnp.square(mean), 0),
    )


def _moments(block: Block) -> _Moments:
    # The peak is a choice of units that the results do not depend on, so it carries no derivative.
    peak = jax.lax.stop_gradient(jnp.max(block.scores, axis=1))
    away = block.scores - _finite(peak)[:, None]
    weights = jnp.exp(away)
    # A hidden key has weight zero and must not become 0 * -inf.
    away = jnp.where(block.scores == -jnp.inf, 0, away)
    once = weights * away
    return _Moments(peak, jnp.sum(weights, axis=1), jnp.sum(once, axis=1), jnp.sum(once * away, axis=1))


def _merge(left: _Moments, right: _Moments) -> _Moments:
    peak = jnp.maximum(left.peak, right.peak)
    first, second = (_rebase(each, peak) for each in (left, right))
    return _Moments(peak, *(a + b for a, b in zip(first[1:], second[1:], strict=True)))


def _rebase(moments: _Moments, peak: Array) -> _Moments:
    """Express sums of (s - old peak)^k e^(s - old peak) relative to a new peak."""
    empty = moments.peak == -jnp.inf
    shift = jnp.where(empty, 0, moments.peak - _finite(peak))
    factor = jnp.where(empty, 0, jnp.exp(shift))
    first = moments.first + shift * moments.mass
    second = moments.second + shift * (moments.first + first)
    return _Moments(peak, factor * moments.mass, factor * first, factor * second)


def _finite(peak: Array) -> Array:
    return jnp.where(peak == -jnp.inf, 0, peak)


def _check(queries: Array, keys: Array, metric: str, scale: float | Array | None, block: int) -> None:
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[-1] != keys.shape[-1] or 0 in keys.shape[:1]:
        refuse(
            ShapeError,
            "attention_operator: queries and keys of one head must have the same width, and there must be a key.",
            got=f"queries {describe(queries)}, keys {describe(keys)}",
            want="[queries, width] and [keys, width]",
            fix="map over heads and batches with jax.vmap or jax.lax.map.",
        )
    if metric not in ("dot", "fidelity"):
        refuse(
            OptionError,
            "attention_operator: there is no such metric.",
            got=f"metric={metric!r}",
            want="'dot' or 'fidelity'",
            fix="choose one of the two.",
        )
    if metric == "fidelity" and scale is None:
        refuse(
            OptionError,
            "attention_operator: the fidelity score has no natural scale.",
            got="scale=None",
            want="the inverse temperature beta",
            fix="pass scale; a multiple of log(keys) is a good start.",
        )
    if block < 1:
        refuse(
            OptionError,
            "attention_operator: a block has at least one row.",
            got=f"block={block}",
            want="block >= 1",
            fix="raise block.",
        )
