"""Mix values by the softmax of scaled inner products, without the scores in memory (flash attention).

    out_i = sum_j p_ij v_j,   p_ij = e^(s_ij - lse_i),   s_ij = <q_i, k_j> / sqrt(width),   lse_i = log sum_j e^(s_ij)

Forward: one program holds a block of queries of one head and walks over the keys in a loop, merging the softmax state
(largest score, sum of exponentials, mixed values) of each block of keys into its own. A causal program stops after
its last query.

Backward recomputes p from lse. With g the gradient of out and d_i = <out_i, g_i>:

    ds_ij = p_ij (<g_i, v_j> - d_i),   dq_i = sum_j ds_ij k_j / sqrt(width)
    dv_j = sum_i p_ij g_i,             dk_j = sum_i ds_ij q_i / sqrt(width)

One kernel makes dq, a program for each block of queries; another makes dk and dv, a program for each block of keys,
so that nobody adds to what another program writes.

Keys and values (in the second kernel: queries) come as one block that is padded to whole steps; what lies in the
padding is undefined, and masked.

Forward moves heads · queries · (width + channels) · (1 + keys / block_queries) numbers and does 2 · heads · queries ·
keys · (width + channels) operations, half of them where causal; backward moves twice and does 2.5 times as much.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from qga.errors import ShapeError, describe, refuse

Queries = Float[Array, "heads queries width"]
Keys = Float[Array, "heads keys width"]
Values = Float[Array, "heads keys channels"]
Mixed = Float[Array, "heads queries channels"]
LogSums = Float[Array, "heads queries 1"]


class Options(NamedTuple):
    """What a kernel is made for."""

    is_causal: bool
    block_queries: int
    block_keys: int
    interpret: bool


class Sizes(NamedTuple):
    """Where the arrays end, inside blocks that may reach further."""

    queries: int
    keys: int


def attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    is_causal: bool = False,
    block_queries: int = 32,
    block_keys: int = 32,
    interpret: bool = False,
) -> Mixed:
    """Return softmax attention of each head.

    Args:
        queries: one row for each question.
        keys: one row for each place looked at, as wide as a query.
        values: what each place holds. All three have one dtype; f16 and bf16 are computed in f32.
        is_causal: let query i see keys 0 to i only.
        block_queries: queries that one program holds.
        block_keys: keys that it scores at a time.
        interpret: run the kernels as JAX operations, on any platform.

    Returns:
        One mixed row for each query, in the dtype of ``values``. Differentiable once, in reverse.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
    """
    arrays = (queries, keys, values)
    if (
        any(array.ndim != 3 or array.dtype != queries.dtype or array.shape[0] != queries.shape[0] for array in arrays)
        or queries.shape[2] != keys.shape[2]
        or keys.shape[1] != values.shape[1]
    ):
        refuse(
            ShapeError,
            "attention: queries, keys and values must fit together.",
            got=f"queries {describe(queries)}, keys {describe(keys)}, values {describe(values)}",
            want="[heads, queries, width], [heads, keys, width], [heads, keys, channels], one dtype",
            fix="reshape the leading axes into one, repeat keys and values for every head that shares them.",
        )
    return _attention(queries, keys, values, Options(is_causal, block_queries, block_keys, interpret))


def reference(queries: Queries, keys: Keys, values: Values, *, is_causal: bool = False) -> Mixed:
    """Return what ``attention`` computes, in plain JAX."""
    scores = queries @ keys.swapaxes(1, 2) / math.sqrt(queries.shape[2])
    if is_causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[1:], bool))[None], scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ values


def _primal(queries: Queries, keys: Keys, values: Values, options: Options) -> Mixed:
    return _forward(queries, keys, values, options)[0]


def _forward(
    queries: Queries, keys: Keys, values: Values, options: Options
) -> tuple[Mixed, tuple[Queries, Keys, Values, Mixed, LogSums]]:
    heads, rows, width = queries.shape
    channels, sizes = values.shape[2], Sizes(rows, keys.shape[1])
    block, stripe = _spec(options.block_queries), _stripe(sizes.keys, options.block_keys)
    out, log_sums = pl.pallas_call(
        functools.partial(_attend, options=options, sizes=sizes),
        grid=(heads, pl.cdiv(rows, options.block_queries)),
        in_specs=[block(width), stripe(width), stripe(channels)],
        out_specs=[block(channels), block(1)],
        out_shape=[
            jax.ShapeDtypeStruct((heads, rows, channels), values.dtype),
            jax.ShapeDtypeStruct((heads, rows, 1), _sum_dtype(queries.dtype)),
        ],
        interpret=options.interpret,
        name="attention",
    )(queries, keys, values)
    return out, (queries, keys, values, out, log_sums)


def _backward(
    options: Options, residuals: tuple[Queries, Keys, Values, Mixed, LogSums], out_bar: Mixed
) -> tuple[Queries, Keys, Values]:
    queries, keys, values, out, log_sums = residuals
    along = (out.astype(log_sums.dtype) * out_bar.astype(log_sums.dtype)).sum(axis=2, keepdims=True)
    arrays = (queries, keys, values, out_bar, log_sums, along)
    return _query_gradient(options, *arrays), *_key_gradients(options, *arrays)


_attention = jax.custom_vjp(_primal, nondiff_argnums=(3,))
_attention.defvjp(_forward, _backward)


def _query_gradient(options: Options, queries: Queries, keys: Keys, values: Values, *rest: Array) -> Queries:
    heads, rows, width = queries.shape
    channels, sizes = values.shape[2], Sizes(rows, keys.shape[1])
    block, stripe = _spec(options.block_queries), _stripe(sizes.keys, options.block_keys)
    return pl.pallas_call(
        functools.partial(_pull_back_queries, options=options, sizes=sizes),
        grid=(heads, pl.cdiv(rows, options.block_queries)),
        in_specs=[block(width), stripe(width), stripe(channels), block(channels), block(1), block(1)],
        out_specs=block(width),
        out_shape=jax.ShapeDtypeStruct(queries.shape, queries.dtype),
        interpret=options.interpret,
        name="attention_query_gradient",
    )(queries, keys, values, *rest)


def _key_gradients(options: Options, queries: Queries, keys: Keys, values: Values, *rest: Array) -> tuple[Keys, Values]:
    heads, rows, width = queries.shape
    channels, sizes = values.shape[2], Sizes(rows, keys.shape[1])
    block, stripe = _spec(options.block_keys), _stripe(rows, options.block_queries)
    key_bar, value_bar = pl.pallas_call(
        functools.partial(_pull_back_keys, options=options, sizes=sizes),
        grid=(heads, pl.cdiv(sizes.keys, options.block_keys)),
        in_specs=[stripe(width), block(width), block(channels), stripe(channels), stripe(1), stripe(1)],
        out_specs=[block(width), block(channels)],
        out_shape=[
            jax.ShapeDtypeStruct(keys.shape, keys.dtype),
            jax.ShapeDtypeStruct(values.shape, values.dtype),
        ],
        interpret=options.interpret,
        name="attention_key_gradients",
    )(queries, keys, values, *rest)
    return key_bar, value_bar


def _attend(
    q_ref: jax.Ref,
    k_ref: jax.Ref,
    v_ref: jax.Ref,
    out_ref: jax.Ref,
    lse_ref: jax.Ref,
    *,
    options: Options,
    sizes: Sizes,
) -> None:
    rows, dtype = q_ref.shape[0], lse_ref.dtype
    first = pl.program_id(1) * rows
    queries = q_ref[...].astype(dtype) / math.sqrt(q_ref.shape[1])

    def step(j: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        mixed, top, total = state
        start = j * options.block_keys
        keys, values = (_load(ref, start, options.block_keys, sizes.keys, dtype) for ref in (k_ref, v_ref))
        scores = queries @ keys.T
        scores = jnp.where(_seen(scores.shape, first, start, options, sizes), scores, -jnp.inf)
        new_top = jnp.maximum(top, scores.max(axis=1, keepdims=True))
        fade, powers = jnp.exp(top - new_top), jnp.exp(scores - new_top)
        return mixed * fade + powers @ values, new_top, total * fade + powers.sum(axis=1, keepdims=True)

    state = (
        jnp.zeros(out_ref.shape, dtype),
        jnp.full(lse_ref.shape, -jnp.inf, dtype),
        jnp.zeros(lse_ref.shape, dtype),
    )
    mixed, top, total = jax.lax.fori_loop(0, _key_steps(first + rows, k_ref, options), step, state)
    out_ref[...] = (mixed / total).astype(out_ref.dtype)
    lse_ref[...] = top + jnp.log(total)


def _pull_back_queries(
    q_ref: jax.Ref,
    k_ref: jax.Ref,
    v_ref: jax.Ref,
    out_bar_ref: jax.Ref,
    lse_ref: jax.Ref,
    along_ref: jax.Ref,
    q_bar_ref: jax.Ref,
    *,
    options: Options,
    sizes: Sizes,
) -> None:
    rows, dtype, scale = q_ref.shape[0], lse_ref.dtype, 1 / math.sqrt(q_ref.shape[1])
    first = pl.program_id(1) * rows
    queries, out_bar = q_ref[...].astype(dtype) * scale, out_bar_ref[...].astype(dtype)
    log_sums, along = lse_ref[...], along_ref[...]

    def step(j: jax.Array, total: jax.Array) -> jax.Array:
        start = j * options.block_keys
        keys, values = (_load(ref, start, options.block_keys, sizes.keys, dtype) for ref in (k_ref, v_ref))
        weights = jnp.exp(queries @ keys.T - log_sums)
        score_bar = weights * (out_bar @ values.T - along)
        return total + jnp.where(_seen(weights.shape, first, start, options, sizes), score_bar, 0) @ keys

    total = jax.lax.fori_loop(0, _key_steps(first + rows, k_ref, options), step, jnp.zeros(q_ref.shape, dtype))
    q_bar_ref[...] = (total * scale).astype(q_bar_ref.dtype)


def _pull_back_keys(
    q_ref: jax.Ref,
    k_ref: jax.Ref,
    v_ref: jax.Ref,
    out_bar_ref: jax.Ref,
    lse_ref: jax.Ref,
    along_ref: jax.Ref,
    k_bar_ref: jax.Ref,
    v_bar_ref: jax.Ref,
    *,
    options: Options,
    sizes: Sizes,
) -> None:
    rows, dtype, scale = options.block_queries, lse_ref.dtype, 1 / math.sqrt(q_ref.shape[1])
    first = pl.program_id(1) * k_ref.shape[0]
    keys, values = k_ref[...].astype(dtype), v_ref[...].astype(dtype)

    def step(i: jax.Array, totals: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        key_bar, value_bar = totals
        queries, out_bar, log_sums, along = (
            _load(ref, i * rows, rows, sizes.queries, dtype) for ref in (q_ref, out_bar_ref, lse_ref, along_ref)
        )
        scores = scale * (queries @ keys.T)
        seen = _seen(scores.shape, i * rows, first, options, sizes)
        weights = jnp.where(seen, jnp.exp(scores - log_sums), 0)
        score_bar = jnp.where(seen, weights * (out_bar @ values.T - along), 0)
        return key_bar + score_bar.T @ queries, value_bar + weights.T @ out_bar

    # No query before the block's first key sees any of its keys.
    start = first // rows if options.is_causal else 0
    totals = (jnp.zeros(k_ref.shape, dtype), jnp.zeros(v_ref.shape, dtype))
    key_bar, value_bar = jax.lax.fori_loop(start, q_ref.shape[0] // rows, step, totals)
    k_bar_ref[...] = (scale * key_bar).astype(k_bar_ref.dtype)
    v_bar_ref[...] = value_bar.astype(v_bar_ref.dtype)


def _seen(
    shape: tuple[int, ...], first_query: jax.Array, first_key: jax.Array, options: Options, sizes: Sizes
) -> jax.Array:
    """Say for a block of scores which of them are of a query and a key that are there and may see each other."""
    query = first_query + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    key = first_key + jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    there = (query < sizes.queries) & (key < sizes.keys)
    return there & (key <= query) if options.is_causal else there


def _key_steps(last_query: jax.Array, k_ref: jax.Ref, options: Options) -> jax.Array | int:
    steps = k_ref.shape[0] // options.block_keys
    return jnp.minimum(pl.cdiv(last_query, options.block_keys), steps) if options.is_causal else steps


def _load(ref: jax.Ref, start: jax.Array, rows: int, end: int, dtype: jnp.dtype) -> jax.Array:
    """Load rows from ``start`` on, with zeros for those past the end."""
    block = ref[pl.ds(start, rows), :].astype(dtype)
    return jnp.where(start + jax.lax.broadcasted_iota(jnp.int32, block.shape, 0) < end, block, 0)


def _spec(rows: int) -> Callable[[int], pl.BlockSpec]:
    return lambda width: pl.BlockSpec((None, rows, width), lambda head, i: (head, i, 0))


def _stripe(rows: int, step: int) -> Callable[[int], pl.BlockSpec]:
    return lambda width: pl.BlockSpec((None, pl.cdiv(rows, step) * step, width), lambda head, i: (head, 0, 0))


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
