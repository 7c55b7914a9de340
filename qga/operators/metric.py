"""The attention metric of dot attention at every query: its quadratic form, its mean and its curvature."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..exact.scores import DOT
from ..tiling.cut import join
from .masses import key_masses, uniform
from .operator import AttentionOperator
from .passes import operate, weigh
from .sweep import Block, sweep


@jax.jit
def metric_form(operator: AttentionOperator, direction: Float[Array, " width"]) -> Float[Array, " queries"]:
    """Measure how fast each row changes as its query moves: the attention metric along a direction.

    u^T G_i u = scale^2 Var_{P_i} <k, u>,  G the Fisher metric of the row as a family over the query

    Args:
        operator: of dot attention.
        direction: u.

    Raises:
        OptionError: the operator is not that of dot attention.
        ShapeError: the direction has not the width of a key.

    Error: a few eps sqrt(keys) of the variance; keys are centred on each row's own mean.
    Cost: two passes. The dense twin is ``qga.geometry.information.attention_metric_form``.
    """
    _check("metric_form", operator, direction[None], 1)
    second = _central_moments(operator, direction[None], [(0, 0)])[:, 0]
    return jnp.square(operator.scores.scale) * second


@jax.jit
def mean_metric(
    operator: AttentionOperator, query_weights: Float[Array, " queries"] | None = None
) -> Float[Array, "width width"]:
    """Average the attention metric over the queries.

    sum_i pi_i G_i = scale^2 (sum_j (pi P)_j k_j k_j^T - sum_i pi_i m_i m_i^T),  m = P k

    Its leading eigenvectors are the directions of a query that the pattern reacts to most.

    Args:
        operator: of dot attention.
        query_weights: pi, a distribution over the queries; uniform by default.

    Raises:
        OptionError: the operator is not that of dot attention.
        ShapeError: the distribution has not one number for each query.

    Error: keys are centred on their mean first; what is left is eps times their spread.
    Cost: two passes.
    """
    _check("mean_metric", operator, operator.scores.keys[:1], 1)
    weights = uniform(operator) if query_weights is None else query_weights
    masses = key_masses(operator, weights)
    keys = operator.scores.keys - (masses @ operator.scores.keys)[None]
    return metric_of_means(operator, keys, operate(operator, keys), weights, masses)


def metric_of_means(
    operator: AttentionOperator,
    keys: Float[Array, "keys width"],
    means: Float[Array, "queries width"],
    query_weights: Float[Array, " queries"],
    masses: Float[Array, " keys"],
) -> Float[Array, "width width"]:
    """Return what ``mean_metric`` does where centred keys, their means P k and the masses of keys are known."""
    second = (keys * masses[:, None]).T @ keys - (means * query_weights[:, None]).T @ means
    return jnp.square(operator.scores.scale) * second


@jax.jit
def metric_curvature(operator: AttentionOperator, directions: Float[Array, "2 width"]) -> Float[Array, " queries"]:
    """Compute the Gaussian curvature of the attention metric on a plane through each query.

    On q + x u + y w the metric is g = Hessian of A = log sum_j e^(scale <q, k_j>), so with T its third derivatives

    K = (sum_ab g^ab (T_12a T_12b - T_11a T_22b) / 4) / det g

    A family of rows that fills a simplex of three keys has K = 1/4, that of a sphere of radius 2; a negative K says
    that nearby queries part faster than in flat space. K does not depend on the scale.

    Args:
        operator: of dot attention.
        directions: u and w, linearly independent.

    Returns:
        K for each query; NaN where a row sees too few keys for a metric of rank two in its dtype.

    Raises:
        OptionError: the operator is not that of dot attention.
        ShapeError: the directions are not two rows of the width of a key.

    Error: relative, about eps sqrt(keys) times the squared condition number of g.
    Cost: two passes, the second with seven sums for each pair.
    Source: Shima 2007 (curvature of Hessian metrics).
    """
    _check("metric_curvature", operator, directions, 2)
    orders = [(0, 0), (0, 1), (1, 1), (0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    moments = _central_moments(operator, directions, orders)
    aa, ab, bb, aaa, aab, abb, bbb = (moments[:, order] for order in range(len(orders)))
    determinant = aa * bb - jnp.square(ab)
    regular = determinant > jnp.finfo(determinant.dtype).eps * aa * bb
    safe = jnp.where(regular, determinant, 1)
    # g^-1 = (bb, -ab; -ab, aa) / det
    total = bb * (aab * aab - aaa * abb) - ab * (2 * aab * abb - aaa * bbb - aab * abb) + aa * (abb * abb - aab * bbb)
    return jnp.where(regular, total / (4 * safe * safe), jnp.nan)


def _central_moments(
    operator: AttentionOperator, directions: Array, orders: list[tuple[int, ...]]
) -> Float[Array, "queries orders"]:
    """Average products of <k, direction> - its mean over each row; one column for each tuple of directions."""
    places = operator.scores.keys.astype(operator.scores.scale.dtype) @ directions.T
    means = operate(operator, places)
    start = jnp.zeros((operator.scores.block, len(orders)), means.dtype)

    def visit(block: Block, total: Array) -> tuple[Array, tuple]:
        log_sums, means = block.by_query
        weights = weigh(block, log_sums)
        away = [block.by_key[None, :, axis] - means[:, None, axis] for axis in range(directions.shape[0])]
        sums = []
        for order in orders:
            product = weights
            for axis in order:
                product = product * away[axis]
            sums.append(jnp.sum(product, axis=1))
        return total + jnp.stack(sums, axis=1), ()

    stack, _ = sweep(operator.scores, visit, start, by_query=(operator.rows.log_sums, means), by_key=places)
    return join(stack, operator.shape[0])


def _check(name: str, operator: AttentionOperator, directions: Array, count: int) -> None:
    if operator.scores.score != DOT:
        refuse(
            OptionError,
            f"{name}: the attention metric in this form is that of dot attention.",
            got="an operator of another score",
            want="attention_operator(..., metric='dot')",
            fix="for other scores take the second derivative of the log sum with jax.hessian.",
        )
    width = operator.scores.keys.shape[1]
    if directions.shape != (count, width):
        refuse(
            ShapeError,
            f"{name}: a direction is as wide as a key.",
            got=f"directions {describe(directions)}",
            want=f"[{count}, {width}]" if count > 1 else f"[{width}]",
            fix="pass directions in the space of queries.",
        )
