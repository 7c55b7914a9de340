"""The dense truth of ``qga.attention``: every score in one array, by the textbook, for float64 and for derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def dense_attention(
    query: Array, key: Array, value: Array, bias: Any = None, mask: Any = None, *,
    scale: Any = None, softcap: Any = None, alibi: Any = None, sinks: Any = None, query_offset: Any = None,
    score_mod: Any = None, metric: str = "dot", curvature: float = -1.0, factors: Any = None, **hiding: Any,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the averages and log sums of [batch, rows, heads, width]; ``factors`` are those of a dropout."""
    batch, queries, heads, width = query.shape
    group = heads // key.shape[2]
    key, value = jnp.repeat(key, group, axis=2), jnp.repeat(value, group, axis=2)
    places = _places(batch, heads, queries, key.shape[1])
    here = places[2] + _by_batch(0 if query_offset is None else query_offset, batch)
    default = width**-0.5 if metric == "dot" else 1.0
    scale = jnp.asarray(default if scale is None else scale, query.dtype)
    scale = scale.reshape((1,) * (2 - scale.ndim) + scale.shape)[:, :, None, None]
    scores = jnp.broadcast_to(scale, (batch, heads, 1, 1)) * _SCORES[metric](query, key, 1 / -curvature)
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    if bias is not None:
        scores += jnp.broadcast_to(bias, scores.shape)
    if alibi is not None:
        scores -= jnp.broadcast_to(jnp.broadcast_to(alibi, (heads,))[None, :, None, None], scores.shape) * (
            here - places[3]
        ).astype(scores.dtype)
    if score_mod is not None:
        scores = _by_pair(score_mod)(scores, *places)
    visible = _visible(places, here, mask, **hiding)
    return _average(jnp.where(visible, scores, -jnp.inf), value, sinks, factors)


def _places(*sizes: int) -> list[Array]:
    return [each.astype(jnp.int32) for each in jnp.indices(sizes)]


def _by_batch(numbers: Any, batch: int) -> Array:
    return jnp.broadcast_to(jnp.asarray(numbers, jnp.int32), (batch,))[:, None, None, None]


def _by_pair(function: Callable[..., Array]) -> Callable[..., Array]:
    for _ in range(4):
        function = jax.vmap(function)
    return function


def _visible(
    places: list[Array], here: Array, mask: Any, *, is_causal: bool = False, window: Any = None,
    segment_ids: Any = None, query_lengths: Any = None, key_lengths: Any = None, mask_mod: Any = None,
) -> Array:  # fmt: skip
    batch, (_, _, row, column) = places[0].shape[0], places
    visible = jnp.ones(row.shape, bool) if mask is None else jnp.broadcast_to(mask, row.shape)
    back, ahead = window if isinstance(window, tuple) else (window, window)
    if is_causal:
        visible &= column <= here
    if back is not None:
        visible &= here - column <= back
    if ahead is not None:
        visible &= column - here <= ahead
    if query_lengths is not None:
        visible &= row < _by_batch(query_lengths, batch)
    if key_lengths is not None:
        visible &= column < _by_batch(key_lengths, batch)
    if segment_ids is not None:
        pair = segment_ids if isinstance(segment_ids, tuple) else (segment_ids, segment_ids)
        asking, looked_at = (jnp.broadcast_to(each, (batch, jnp.shape(each)[-1])) for each in pair)
        visible &= (asking[:, :, None] == looked_at[:, None, :])[:, None]
    return visible if mask_mod is None else visible & _by_pair(mask_mod)(*places)


def _average(scores: Array, value: Array, sinks: Any, factors: Any) -> tuple[Array, Array]:
    peak = jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf)
    if sinks is not None:
        sinks = jnp.broadcast_to(sinks, (scores.shape[1],))[None, :, None, None]
        peak = jnp.maximum(peak, sinks)
    peak = jax.lax.stop_gradient(jnp.where(jnp.isneginf(peak), 0, peak))
    weights = jnp.exp(scores - peak)
    mass = jnp.sum(weights, axis=-1, keepdims=True) + (0 if sinks is None else jnp.exp(sinks - peak))
    is_empty = mass == 0
    log_sums = jnp.where(is_empty, -jnp.inf, peak + jnp.log(jnp.where(is_empty, 1, mass)))
    weights = weights / jnp.where(is_empty, 1, mass) * (1 if factors is None else factors)
    return jnp.einsum("bhqk,bkhc->bqhc", weights, value), jnp.swapaxes(log_sums[..., 0], 1, 2)


def _dot(query: Array, key: Array, _: float) -> Array:
    return jnp.einsum("bqhw,bkhw->bhqk", query, key)


def _squares(rows: Array) -> Array:
    return jnp.swapaxes(jnp.sum(jnp.square(rows), axis=-1), 1, 2)


def _unit(rows: Array) -> Array:
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


def _cosh(query: Array, key: Array, radius: float) -> Array:
    """Return R^2 cosh of the distance on the hyperboloid."""
    times = [jnp.sqrt(_squares(rows) + radius) for rows in (query, key)]
    return times[0][:, :, :, None] * times[1][:, :, None, :] - _dot(query, key, 0)


def _fidelity(query: Array, key: Array, _: float) -> Array:
    half = query.shape[-1] // 2
    asking, looked_at = (jax.lax.complex(rows[..., :half], rows[..., half:]) for rows in (_unit(query), _unit(key)))
    overlaps = jnp.einsum("bqhw,bkhw->bhqk", asking, looked_at.conj())
    return jnp.square(overlaps.real) + jnp.square(overlaps.imag)


_SCORES: dict[str, Callable[[Array, Array, float], Array]] = {
    "dot": _dot,
    "gauss": lambda query, key, radius: _dot(query, key, radius) - _squares(key)[:, :, None, :] / 2,
    "cosine": lambda query, key, radius: _dot(_unit(query), _unit(key), radius),
    "hyperbolic": lambda query, key, radius: radius - _cosh(query, key, radius),
    "fidelity": _fidelity,
    "born": lambda query, key, radius: jnp.log(_fidelity(query, key, radius)),
    "born_hyperbolic": lambda query, key, radius: -2 * radius * jnp.log(_cosh(query, key, radius) / radius),
}
