"""Attention as an exponential family: the Fisher metric of a query, its divergence, its Jacobian, its temperature."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from .series import root

Query = Float[Array, " width"]
Keys = Float[Array, "keys width"]
Scale = float | Float[Array, ""]


def fisher_rao(first: Float[Array, "*batch keys"], second: Float[Array, "*batch keys"]) -> Float[Array, "*batch"]:
    """Measure the Fisher-Rao distance of two attention rows: 2 arccos sum_j sqrt(p_j r_j), from 0 to pi.

    As 4 atan2(|sqrt p - sqrt r|, |sqrt p + sqrt r|), so that near rows lose no digits. Derivatives at entries that
    are zero, and at equal rows, are taken as zero.

    Args:
        first: p, rows that sum to one.
        second: r, rows that sum to one.

    Source: Rao 1945.

    Example:
        >>> round(float(fisher_rao(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))), 5)
        3.14159
    """
    p, r = root(first), root(second)
    return 4 * jnp.atan2(_length(p - r), _length(p + r))


def attention_metric(query: Query, keys: Keys, scale: Scale) -> Float[Array, "width width"]:
    """Compute the Fisher metric that attention pulls back to query space: G(q) = beta^2 Cov_p(k).

    Established as the Fisher metric of an exponential family; reading it as a metric on queries is ours. It equals
    four times the Fubini-Study metric of the amplitudes sqrt p. Directions in which all keys agree have length zero.

    Args:
        query: q.
        keys: one row for each place.
        scale: beta, the inverse temperature.

    Raises:
        ShapeError: query and keys do not fit together.
    """
    weights, centred = _centre(query, keys, scale)
    return jnp.square(jnp.asarray(scale, keys.dtype)) * ((weights[:, None] * centred).T @ centred)


def attention_metric_form(query: Query, keys: Keys, direction: Query, scale: Scale) -> Float[Array, ""]:
    """Compute u^T G(q) u = beta^2 Var_p(<k, u>) without forming G: keys times width operations.

    Args:
        query: q.
        keys: one row for each place.
        direction: u, a change of the query.
        scale: beta, the inverse temperature.

    Raises:
        ShapeError: query, keys and direction do not fit together.
    """
    weights, centred = _centre(query, keys, scale)
    return jnp.sum(weights * jnp.square(scale * (centred @ direction)))


def bregman(query: Query, other: Query, keys: Keys, scale: Scale) -> Float[Array, ""]:
    """Compute how much attention changes from one query to another: KL(p_q || p_q'), in nats.

    KL(p_q || p_q') = A(q') - A(q) - <grad A(q), q' - q>,  A(q) = log sum_j exp(beta <q, k_j>)

    Args:
        query: q.
        other: q'.
        keys: one row for each place.
        scale: beta, the inverse temperature.

    Raises:
        ShapeError: query and keys do not fit together.

    Error: a few eps times the largest change of a score, absolute.

    Source: Amari 1985.
    """
    _check(query, keys)
    log_weights = jax.nn.log_softmax(scale * (keys @ query))
    change = scale * (keys @ (other - query))
    centred = change - jnp.sum(jnp.exp(log_weights) * change)
    return logsumexp(log_weights + centred)


def output_jacobian(
    query: Query, keys: Keys, values: Float[Array, "keys channels"], scale: Scale
) -> Float[Array, "channels width"]:
    """Compute the derivative of the output of attention in its query: beta Cov_p(v, k).

    Args:
        query: q.
        keys: one row for each place.
        values: one row for each key.
        scale: beta, the inverse temperature.

    Raises:
        ShapeError: query, keys and values do not fit together.
    """
    weights, centred = _centre(query, keys, scale)
    if values.ndim != 2 or values.shape[0] != keys.shape[0]:
        refuse(
            ShapeError,
            "output_jacobian: keys and values must have the same number of rows.",
            got=f"keys {describe(keys)}, values {describe(values)}",
            want=f"values with {keys.shape[0]} rows",
            fix="pass one value row for each key row.",
        )
    return scale * (values.T @ (weights[:, None] * centred))


def lipschitz(query: Query, keys: Keys, values: Float[Array, "keys channels"], scale: Scale) -> Float[Array, ""]:
    """Measure how fast the output can move with the query: beta |Cov_p(v, k)|_2, the local Lipschitz constant.

    Needs a singular value solver, which the CPU has. The derivative is that of the largest singular value,
    u^T dJ v; where two are equal it is one of the subgradients.

    Raises:
        ShapeError: as ``output_jacobian``.
    """
    return _operator_norm(output_jacobian(query, keys, values, scale))


def temperature_slope(scores: Float[Array, "*batch keys"], scale: Scale) -> Float[Array, "*batch keys"]:
    """Compute the change of attention with the inverse temperature: dp/dbeta = p (s - <s>), p = softmax(beta s).

    The natural gradient flow of the mean score; its Fisher-Rao speed is the standard deviation of s under p.

    Args:
        scores: s, before the temperature.
        scale: beta, the inverse temperature.

    Example:
        >>> temperature_slope(jnp.array([0.0, 1.0]), 0.0).tolist()
        [-0.25, 0.25]
    """
    weights = jax.nn.softmax(scale * scores, axis=-1)
    return weights * (scores - jnp.sum(weights * scores, axis=-1, keepdims=True))


@jax.custom_jvp
def _operator_norm(matrix: Float[Array, "rows columns"]) -> Float[Array, ""]:
    return jnp.linalg.svd(matrix, compute_uv=False)[0]


@_operator_norm.defjvp
def _operator_norm_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (matrix,), (d_matrix,) = primals, tangents
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    return values[0], left[:, 0] @ d_matrix @ right[0]


def _length(rows: Array) -> Array:
    return root(jnp.sum(jnp.square(rows), axis=-1))


def _centre(query: Query, keys: Keys, scale: Scale) -> tuple[Float[Array, " keys"], Keys]:
    """Return the attention weights and the keys less their mean under them."""
    _check(query, keys)
    weights = jax.nn.softmax(scale * (keys @ query))
    return weights, keys - (weights @ keys)[None, :]


def _check(query: Query, keys: Keys) -> None:
    if query.ndim != 1 or keys.ndim != 2 or keys.shape[1] != query.shape[0]:
        refuse(
            ShapeError,
            "information: a query and keys have the same width.",
            got=f"query {describe(query)}, keys {describe(keys)}",
            want="query [width], keys [keys, width]",
            fix="pass one query; map over more with jax.vmap.",
        )
