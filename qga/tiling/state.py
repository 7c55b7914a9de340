"""The softmax state: what a set of keys contributes to one query, and how two sets merge."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse


class State(NamedTuple):
    """The softmax over a set of keys, unnormalised: (m, l, o) of the formula in ``state_leaf``.

    A NamedTuple and not a dataclass because it is a pytree as it stands.

    Attributes:
        peak: m, the exponent that ``mass`` and ``total`` are relative to; minus infinity for a set without keys.
        mass: l, the sum of the weights; zero for a set without keys.
        total: o, the weighted sum of the values.
    """

    peak: Float[Array, "*batch"]
    mass: Float[Array, "*batch"]
    total: Float[Array, "*batch channels"]


def accumulator_dtype(*arrays: Array) -> jnp.dtype:
    """Choose the dtype sums are kept in: at least float32, wider when an input is."""
    is_wide = any(jnp.finfo(array.dtype).bits > 32 for array in arrays)
    return jnp.dtype(jnp.float64 if is_wide else jnp.float32)


def state_unit(channels: int, dtype: jax.typing.DTypeLike = jnp.float32) -> State:
    """Make the state of a set without keys, the unit of ``state_merge``.

    Args:
        channels: width of one value.
        dtype: dtype of the sums.
    """
    return State(jnp.array(-jnp.inf, dtype), jnp.zeros((), dtype), jnp.zeros((channels,), dtype))


def state_leaf(scores: Float[Array, " keys"], values: Float[Array, "keys channels"]) -> State:
    """Summarise one tile of keys for one query.

    m = max_j s_j,  l = sum_j e^(s_j - m),  o = sum_j e^(s_j - m) v_j

    Args:
        scores: s, in nats; minus infinity removes a key.
        values: v, one row for each key.

    Returns:
        The state, summed in float32 or wider. ``peak`` carries no derivative: it is a choice of units that every
        read-out cancels, so the derivative of a read-out is exact.

    Raises:
        ShapeError: not one value row for each score.

    Source: Milakov and Gimelshein 2018; Rabe and Staats 2021.
    """
    if scores.ndim != 1 or values.ndim != 2 or scores.shape[0] != values.shape[0]:
        refuse(
            ShapeError,
            "state_leaf: scores and values must have the same number of keys.",
            got=f"scores {describe(scores)}, values {describe(values)}",
            want="scores [keys], values [keys, channels]",
            fix="pass one value row for each score; map further axes with jax.vmap.",
        )
    dtype = accumulator_dtype(scores, values)
    scores = scores.astype(dtype)
    peak = lax.stop_gradient(jnp.max(scores, initial=-jnp.inf))
    weights = jnp.exp(scores - _finite_reference(peak))
    total = jnp.matmul(weights.astype(values.dtype), values, preferred_element_type=dtype)
    return State(peak, jnp.sum(weights), total)


def state_merge(first: State, second: State) -> State:
    """Merge the states of two disjoint sets of keys into the state of their union.

    m = max(m1, m2),  l = l1 e^(m1 - m) + l2 e^(m2 - m),  o likewise

    Associative and commutative with unit ``state_unit``, so tiles may be merged in any order, on any device.
    Leading axes of the two states must agree or broadcast.
    """
    peak = lax.stop_gradient(jnp.maximum(first.peak, second.peak))
    reference = _finite_reference(peak)
    factors = jnp.exp(first.peak - reference), jnp.exp(second.peak - reference)
    mass = first.mass * factors[0] + second.mass * factors[1]
    total = first.total * factors[0][..., None] + second.total * factors[1][..., None]
    return State(peak, mass, total)


def mix_plainly(
    weights: Float[Array, "*batch keys"], values: Float[Array, "keys channels"], dtype: jnp.dtype
) -> Float[Array, "*batch channels"]:
    """Return the sum of weighted values: weights in the dtype of the values, sums in another."""
    return jnp.matmul(weights.astype(values.dtype), values, preferred_element_type=dtype)


def state_add(
    state: State,
    scores: Float[Array, "*batch keys"],
    values: Float[Array, "keys channels"],
    *,
    factors: Float[Array, "*batch keys"] | None = None,
    exp: Callable[[Array], Array] = jnp.exp,
    headroom: float = 0.0,
    mix: Callable[..., Array] = mix_plainly,
) -> State:
    """Merge the state of a tile of keys into a state of each query: ``state_merge`` with ``state_leaf`` in one step.

    The tile is weighed against the peak of the union, so that its sums need no factor of their own.

    Args:
        state: one for each query, in the dtype that sums are taken in.
        scores: of the tile's keys, for each query, in the same dtype.
        values: what each key holds.
        factors: of weights in ``total`` alone, where there are any: a weight that is left out still counts in ``mass``.
        exp: ``jnp.exp2`` for scores and states in units of log 2.
        headroom: how far above its peak a score may lie, so that weights are held as larger numbers.
        mix: (weights, values, dtype) -> sums of weighted values.

    Returns:
        The state of the union.

    Error: one rounding less for each tile than ``state_merge`` (docs/theory/softmax_state.md).
    Source: Milakov and Gimelshein 2018; Dao 2022.
    """
    highest = jnp.max(scores, axis=-1, initial=-jnp.inf)
    peak = lax.stop_gradient(jnp.maximum(state.peak, highest - headroom if headroom else highest))
    reference = _finite_reference(peak)
    decay = exp(state.peak - reference)
    weights = exp(scores - reference[..., None])
    kept = weights if factors is None else weights * factors
    mixed = mix(kept, values, state.total.dtype)
    return State(peak, state.mass * decay + jnp.sum(weights, axis=-1), state.total * decay[..., None] + mixed)


def state_read(state: State) -> tuple[Float[Array, "*batch channels"], Float[Array, "*batch"]]:
    """Read the softmax average of the values and the log of the partition sum.

    out = o / l,  logZ = m + log l

    Returns:
        ``out`` and ``logZ``. A set without keys gives zeros and minus infinity, which is also its flag; its
        derivatives are zero.
    """
    empty = state.mass == 0
    mass = jnp.where(empty, 1, state.mass)
    return state.total / mass[..., None], jnp.where(empty, -jnp.inf, state.peak + jnp.log(mass))


def _finite_reference(peak: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Replace a peak of minus infinity by zero, so that -inf - (-inf) is never formed."""
    return jnp.where(peak == -jnp.inf, 0, peak)
