"""Attention whose values are carried along the phase between key and query."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..kernels.problem import DEFAULT_TILE
from ..tiling.cut import split
from ..tiling.state import State, state_merge, state_read
from .metrics import lift

Halves = Float[Array, "rows halves"]


def gauge_attention(
    queries: Complex[Array, "queries states"],
    keys: Complex[Array, "keys states"],
    values: Complex[Array, "keys channels"],
    *,
    beta: float | Float[Array, ""],
    eps: float,
    tile: int = DEFAULT_TILE,
) -> Complex[Array, "queries channels"]:
    """Mix complex values by fidelity, each turned by the phase of its key against the query.

    out_i = sum_j p_ij u_ij v_j,  p_ij ~ e^(beta |x_ij|^2),  u_ij = x_ij / sqrt(|x_ij|^2 + eps^2),  x_ij = <k_j|q_i>

    Gauge covariant: where keys and their values turn by phases of their own, (k_j, v_j) -> e^(i a_j) (k_j, v_j), and
    queries by theirs, the output turns with the queries, out_i -> e^(i b_i) out_i, and with nothing else. u is the
    Pancharatnam phase: it carries a value along the geodesic from key to query, so this is attention as parallel
    transport, on rays. Every part is established; the use as values of attention is a combination. No quantum hardware
    is meant.

    Args:
        queries: one state a row, of any length, which is divided out; a row of zeros has fidelity zero with all.
        keys: likewise.
        values: one row for each key, of the same charge as the key.
        beta: inverse temperature.
        eps: overlap, above zero, below which a phase fades out, since orthogonal states have none; |u| falls short of
            one by about eps^2 / (2 |x|^2), and derivatives grow to 1 / eps there. Covariance is exact for every eps.
        tile: keys scored at a time.

    Returns:
        One row for each query. Differentiable in every array; scores are computed again instead of being kept.

    Raises:
        ShapeError: shapes do not fit together.
        OptionError: ``eps`` is not above zero, or ``tile`` below one.

    Error: a few eps(dtype) sqrt(keys) of the longest value; phases are exact to eps(dtype) / |x|.
    Cost: the two products of fidelity scores and four real products with the values; memory of queries times tile.
    Source: Pancharatnam 1956; theory of this project.

    Example:
        >>> state = jnp.asarray([[1.0, 0.0]], jnp.complex64)
        >>> gauge_attention(1j * state, state, jnp.ones((1, 1), jnp.complex64), beta=1.0, eps=1e-6).tolist()
        [[1j]]
    """
    _check(queries, keys, values, eps, tile)
    rays, looked_at = (_halves(lift(_halves(states), metric="fidelity")) for states in (queries, keys))
    (key_tiles, exists), (value_tiles, _) = split(looked_at, tile), split(_halves(values), tile)
    dtype, rows, channels = rays.dtype, len(queries), values.shape[1]
    step = partial(_add_tile, rays, jnp.asarray(beta, dtype), eps)
    unit = State(jnp.full((rows,), -jnp.inf, dtype), jnp.zeros((rows,), dtype), jnp.zeros((rows, 2 * channels), dtype))
    state, _ = lax.scan(jax.checkpoint(step, prevent_cse=False), unit, (key_tiles, value_tiles, exists))
    out, _ = state_read(state)
    return lax.complex(*jnp.split(out, 2, axis=1))


def _add_tile(
    queries: Halves, beta: Array, eps: float, state: State, tile: tuple[Halves, Halves, Bool[Array, " tile"]]
) -> tuple[State, None]:
    """Merge a tile into the state of each query; complex numbers are pairs of real halves, as states are real."""
    keys, values, exists = tile
    half = queries.shape[1] // 2
    turned = jnp.concatenate([queries[:, half:], -queries[:, :half]], axis=1)
    real, imaginary = queries @ keys.T, turned @ keys.T
    squared = jnp.square(real) + jnp.square(imaginary)
    scores = jnp.where(exists[None], beta * squared, -jnp.inf)
    # A tile has at least one key, and fidelities are finite: the peak is too.
    peak = lax.stop_gradient(jnp.max(scores, axis=1))
    weights = jnp.exp(scores - peak[:, None])
    carried = weights * lax.rsqrt(squared + eps**2)
    along, across = (carried * real) @ values, (carried * imaginary) @ values
    channels = values.shape[1] // 2
    total = jnp.concatenate(
        [along[:, :channels] - across[:, channels:], along[:, channels:] + across[:, :channels]], axis=1
    )
    return state_merge(state, State(peak, jnp.sum(weights, axis=1), total)), None


def _halves(states: Complex[Array, "rows states"]) -> Halves:
    return jnp.concatenate([jnp.real(states), jnp.imag(states)], axis=1)


def _check(queries: Array, keys: Array, values: Array, eps: float, tile: int) -> None:
    arrays = queries, keys, values
    fits = all(array.ndim == 2 and jnp.iscomplexobj(array) for array in arrays)
    if not fits or queries.shape[1] != keys.shape[1] or keys.shape[0] != values.shape[0]:
        refuse(
            ShapeError,
            "gauge_attention: states and values are complex rows, one value for each key.",
            got=f"queries {describe(queries)}, keys {describe(keys)}, values {describe(values)}",
            want="complex [queries, states], [keys, states], [keys, channels]",
            fix="lift real rows with qga.exact.lift, and map over heads with jax.vmap.",
        )
    if not eps > 0 or tile < 1:
        refuse(
            OptionError,
            "gauge_attention: a phase needs an overlap, and a tile a key.",
            got=f"eps={eps}, tile={tile}",
            want="eps > 0 and tile >= 1",
            fix="choose eps a little above the rounding of an overlap, such as 1e-6.",
        )
