"""Rows of ``qga.exact``: scores and lifts of every geometry, values with phases."""

from __future__ import annotations

from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qga.exact import attention
from qga.exact.gauge_values import gauge_attention
from qga.exact.metrics import Metric, lift, scores
from tests.qga.case import Case

Drawn = tuple[np.ndarray, ...]
METRICS = get_args(Metric)


def draw_rows(random: np.random.Generator) -> Drawn:
    return random.normal(size=(3, 4)), random.normal(size=(5, 4))


def draw_one(random: np.random.Generator) -> Drawn:
    return (random.normal(size=(5, 4)),)


def draw_states(random: np.random.Generator) -> Drawn:
    return tuple(random.normal(size=size) + 1j * random.normal(size=size) for size in ((3, 4), (7, 4), (7, 2)))


def draw_heads(random: np.random.Generator, *others: tuple[int, ...], queries: int = 5) -> Drawn:
    shapes = ((2, queries, 4, 4), (2, 7, 2, 4), (2, 7, 2, 3), *others)
    return tuple(random.normal(size=shape) for shape in shapes)


def attend_by_options(query: Array, key: Array, value: Array, bias: Array, slopes: Array, sinks: Array) -> tuple:
    """Attend with what is added to scores, in every derivative."""
    return attention(
        query, key, value, bias, alibi=slopes, sinks=sinks, softcap=2.0, is_causal=True, window=(3, None), tile=3,
        derivatives="all", return_lse=True,
    )  # fmt: skip


def attend_by_table(query: Array, key: Array, value: Array, table: Array, by_query: Array, by_key: Array) -> tuple:
    """Attend with a score function that reads arrays in every way, and its gradients by kernels."""

    def total(*arrays: Array) -> Array:
        def score_mod(score: Array, batch: Array, head: Array, query: Array, key: Array) -> Array:
            return score * arrays[3][head, key - query + 4] + arrays[4][query] / (1 + jnp.square(arrays[5][key]))

        return jnp.sum(jnp.sin(attention(*arrays[:3], score_mod=score_mod, tile=3)))

    return jax.grad(total, argnums=tuple(range(6)))(query, key, value, table, by_query, by_key)


def attend_to_rows(query: Array, key: Array, value: Array, segments: Array, lengths: Array) -> tuple:
    """Attend inside segments and lengths, with a dropout, and the gradients by kernels."""

    def total(*arrays: Array) -> Array:
        return jnp.sum(jnp.sin(attention(
            *arrays, segment_ids=(segments[:, : query.shape[1]], segments), key_lengths=lengths, tile=3,
            dropout_rate=0.3, dropout_key=jnp.asarray([1, 2], jnp.uint32),
        )))  # fmt: skip

    return jax.grad(total, argnums=(0, 1, 2))(query, key, value)


def draw_rows_of_heads(random: np.random.Generator, queries: int = 5) -> Drawn:
    segments = np.sort(random.integers(0, 2, (2, 7)).astype(np.int32), axis=1)
    return *draw_heads(random, queries=queries), segments, np.int32([4, 7])


CASES = [
    *(Case(f"scores {m}", partial(scores, metric=m, scale=0.7, curvature=-0.5), draw_rows, depth=4, scale=8.0)
      for m in METRICS),
    *(Case(f"lift {m}", partial(lift, metric=m, curvature=-0.5), draw_one, depth=4) for m in METRICS),
    Case("attention options", attend_by_options, lambda random: draw_heads(random, (4, 1, 7), (4,), (4,)), depth=7,
         scale=8.0),
    Case("attention of a table", attend_by_table, lambda random: draw_heads(random, (4, 11), (5,), (7,)),
         is_smooth=False, depth=7, scale=16.0),
    Case("attention of rows", attend_to_rows, draw_rows_of_heads, is_smooth=False, depth=7, scale=8.0),
    Case("attention of one query", attend_to_rows, partial(draw_rows_of_heads, queries=1), is_smooth=False, depth=7,
         scale=8.0),
    Case("gauge_attention", partial(gauge_attention, beta=2.0, eps=1e-3, tile=3), draw_states, depth=7, scale=8.0),
]  # fmt: skip
