"""Attention over grouped heads in a batch, with everything that attention is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from ..kernels.problem import DEFAULT_TILE, Derivatives
from .grouped import attend_grouped
from .metrics import Metric
from .pairs import MaskMod, ScoreMod
from .prepare import prepare
from .tiled import finite

Heads = Float[Array, "*batch queries heads width"]
KeyHeads = Float[Array, "*batch keys key_heads width"]
ValueHeads = Float[Array, "*batch keys key_heads channels"]
Attended = Float[Array, "*batch queries heads channels"]
LogSums = Float[Array, "*batch queries heads"]
Table = Float[Array, "*#batch #heads #queries #keys"]
Mask = Bool[Array, "*#batch #heads #queries #keys"]
Lengths = Int[Array, "*batch"]
Segments = Int[Array, "*batch rows"] | tuple[Int[Array, "*batch queries"], Int[Array, "*batch keys"]]
Window = int | tuple[int | None, int | None]


def attention(
    query: Heads, key: KeyHeads, value: ValueHeads, bias: Table | None = None, mask: Mask | None = None, *,
    scale: float | Float[Array, "*#batch #heads"] | None = None, is_causal: bool = False,
    window: Window | None = None, softcap: float | None = None, alibi: Float[Array, " heads"] | None = None,
    sinks: Float[Array, " heads"] | None = None, segment_ids: Segments | None = None,
    query_lengths: Lengths | None = None, key_lengths: Lengths | None = None,
    query_offset: int | Lengths | None = None, score_mod: ScoreMod | None = None, mask_mod: MaskMod | None = None,
    metric: Metric = "dot", curvature: float = -1.0, dropout_rate: float = 0.0,
    dropout_key: PRNGKeyArray | UInt32[Array, " words"] | None = None, tile: int = DEFAULT_TILE,
    derivatives: Derivatives = "reverse", return_lse: bool = False,
) -> Any:  # fmt: skip
    """Mix values by the softmax of scores, exactly and in memory linear in the rows; arrays lie as in ``jax.nn``.

    out_i = sum_j f_ij e^(s_ij) v_j / sum_j e^(s_ij)

    A score goes through softcap, bias, ALiBi, ``score_mod`` and the masks, in this order. All of it is traced and
    becomes part of one kernel: nothing of queries times keys is formed, except what is passed in.

    Args:
        query: [batch, queries, heads, width], or without batch.
        key: [batch, keys, key_heads, width]; ``key_heads`` divides ``heads``, and neighbouring heads share one.
        value: [batch, keys, key_heads, channels].
        bias: added to scores; axes of length one stand for all.
        mask: True where a query may see a key; axes of length one stand for all.
        scale: inverse temperature, one or one for each head; 1 / sqrt(width) by default for ``dot``, 1 for others.
        is_causal: let query i see keys 0 to i only.
        window: how many keys before and after its own place a query sees, one number for both or (before, after);
            None in the place of a number means all.
        softcap: c of s -> c tanh(s / c).
        alibi: slopes m of s -> s - m (i - j).
        sinks: score of a key without a value that every query of a head sees.
        segment_ids: of each row, or of queries and of keys; a query sees keys of its own segment.
        query_lengths: of each batch entry; queries beyond see nothing.
        key_lengths: of each batch entry; keys beyond are not there.
        query_offset: place of the first query among the keys, one or one for each batch entry, from which the causal
            rule, the window and ALiBi count.
        score_mod: (score, batch, head, query, key) -> score: any traceable function of single numbers. Arrays that it
            reads by query or by key cost nothing of note; one read by both at once is read inside of the kernel.
        mask_mod: (batch, head, query, key) -> whether the query sees the key, likewise.
        metric: geometry of scores, as in ``qga.exact.scores``.
        curvature: of the hyperbolic metrics, below zero.
        dropout_rate: probability that a weight is left out of the average; the others grow by 1 / (1 - rate).
        dropout_key: of the random choice, which is a function of it and of the pair's place alone.
        tile: keys scored at a time, at most; any value gives the same result up to rounding.
        derivatives: "reverse" for gradients by kernels, which may be differentiated again in any mode; "all" where
            the first derivative is taken forwards (``jax.jvp``, ``jax.jacfwd``), by loops.
        return_lse: also return log sum_j e^(s_ij), [batch, queries, heads].

    Returns:
        [batch, queries, heads, channels] in the dtype of ``value``. A query that sees no key gets zeros, and minus
        infinity as its log sum. Differentiable in every array, also in those that ``score_mod`` reads.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range.

    Error: at most a few eps sqrt(keys) times the largest value (docs/theory/attention.md). Under a softcap alone,
        scores of 16-bit arrays and ``return_lse`` may be off by 2^-12, and on NVIDIA's GPUs by softcap 2^-10.5 where
        that is at most 5 eps.
    Cost: 2 queries keys (width + channels) operations for each head and a pass over the arrays; tiles that the causal
    rule, the window, lengths or segments hide as a whole are skipped.
    Source: Vaswani et al. 2017; Rabe and Staats 2021; Dao 2022; score and mask functions after Dong et al. 2024.

    Example:
        >>> x = jnp.sin(jnp.arange(1024.0)).reshape(2, 16, 4, 8)
        >>> soft = lambda score, batch, head, query, key: 20 * jnp.tanh(score / 20)
        >>> attention(x, x[:, :, :2], x[:, :, :2], is_causal=True, score_mod=soft).shape
        (2, 16, 4, 8)
    """
    call, member, value, options = prepare(
        "attention", query, key, value, bias=bias, mask=mask, scale=scale, is_causal=is_causal, window=window,
        softcap=softcap, alibi=alibi, sinks=sinks, segment_ids=segment_ids, query_lengths=query_lengths,
        key_lengths=key_lengths, query_offset=query_offset, score_mod=score_mod, mask_mod=mask_mod, metric=metric,
        curvature=curvature, dropout_rate=dropout_rate, dropout_key=dropout_key, tile=tile, derivatives=derivatives,
    )  # fmt: skip
    out, log_sums = attend_grouped(member, value, replace(options, rounds_caps=True))
    if sinks is not None:
        out, log_sums = add_sinks(out, log_sums, call.by_head("sinks", sinks))
    out, log_sums = (each if call.has_batch else each[0] for each in (out, log_sums))
    return (out, log_sums) if return_lse else out


def dot_product_attention(
    query: Heads,
    key: KeyHeads,
    value: ValueHeads,
    bias: Table | None = None,
    mask: Mask | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Lengths | None = None,
    key_value_seq_lengths: Lengths | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    return_residual: bool = False,
) -> Any:
    """Call ``attention`` with the names of ``jax.nn.dot_product_attention``, for which it can stand.

    Differences: a query that sees no key gets zeros and not the mean of all values, and there is no forward mode (use
    ``attention(..., derivatives="all")``).

    Args:
        query: as in ``attention``.
        key: as in ``attention``.
        value: as in ``attention``.
        bias: as in ``attention``.
        mask: as in ``attention``.
        scale: as in ``attention``.
        is_causal: as in ``attention``.
        query_seq_lengths: ``query_lengths``.
        key_value_seq_lengths: ``key_lengths``.
        local_window_size: ``window``.
        return_residual: ``return_lse``.

    Returns:
        As ``attention``.

    Raises:
        ShapeError: as ``attention``.
        OptionError: as ``attention``.
    """
    return attention(
        query, key, value, bias, mask, scale=scale, is_causal=is_causal, query_lengths=query_seq_lengths,
        key_lengths=key_value_seq_lengths, window=local_window_size, return_lse=return_residual,
    )  # fmt: skip


def add_sinks(out: Attended, log_sums: LogSums, sinks: Float[Array, " heads"]) -> tuple[Attended, LogSums]:
    """Add a key without a value to every row."""
    sinks = jnp.broadcast_to(sinks.astype(log_sums.dtype), log_sums.shape)
    peak = finite(lax.stop_gradient(jnp.maximum(log_sums, sinks)))
    known, mass = jnp.exp(log_sums - peak), jnp.exp(log_sums - peak) + jnp.exp(sinks - peak)
    # The derivative of what is not chosen must not be NaN either.
    is_empty, mass = mass == 0, jnp.where(mass == 0, 1, mass)
    joined = jnp.where(is_empty, -jnp.inf, peak + jnp.log(mass))
    return (out.astype(mass.dtype) * (known / mass)[..., None]).astype(out.dtype), joined
