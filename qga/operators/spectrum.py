"""The Schmidt spectrum of a long pattern: a randomised sketch, and an interval that the entropy certainly lies in."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import OptionError, refuse
from .masses import uniform
from .operator import AttentionOperator
from .passes import amplify, amplify_transposed


class EntanglementBounds(NamedTuple):
    """What a sketch proves about the entanglement of queries and keys.

    Attributes:
        lower: a lower bound of the entanglement entropy in nats.
        upper: an upper bound; e to it bounds the effective rank.
        captured: sum of the squared Schmidt values of the sketch. It is the fidelity of the best pattern of the
            sketch's rank to the pattern itself, from below; 1 means that nothing was left out.
        schmidt: the squared Schmidt values of the sketch, largest first; each bounds the true one from below.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    captured: Float[Array, ""]
    schmidt: Float[Array, " rank"]


@partial(jax.jit, static_argnames=("rank", "iterations"))
def sketch_amplitudes(
    operator: AttentionOperator,
    key: PRNGKeyArray,
    *,
    query_weights: Float[Array, " queries"] | None = None,
    rank: int = 32,
    iterations: int = 1,
) -> Float[Array, "rank rank"]:
    """Compress the amplitudes Psi_ij = sqrt(pi_i P_ij) of a pattern to a few directions.

    gram = Q^T Psi Psi^T Q,  Q an orthonormal basis of the range of (Psi Psi^T)^iterations Psi Omega,  Omega Gaussian

    Args:
        operator: P.
        key: for the random directions; the bounds hold for every draw.
        query_weights: pi, a distribution over the queries; uniform by default.
        rank: directions kept, at most the smaller side.
        iterations: of the power method, two passes each; more separate a slowly falling spectrum better.

    Returns:
        The compressed density matrix of the queries; ``entanglement_bounds`` reads it.

    Raises:
        OptionError: ``rank`` is below 1 or above the smaller side, or ``iterations`` is negative.

    Cost: 2 + 2 iterations passes of ``rank`` channels, memory of ``rank`` rows of queries and keys.
    Source: Halko, Martinsson and Tropp 2011.
    """
    if not 1 <= rank <= min(operator.shape) or iterations < 0:
        refuse(
            OptionError,
            "sketch_amplitudes: directions are counted from one to the smaller side.",
            got=f"rank={rank}, iterations={iterations}, operator {operator.shape[0]} x {operator.shape[1]}",
            want=f"1 <= rank <= {min(operator.shape)}, iterations >= 0",
            fix="choose a rank in this range; 32 is a good start.",
        )
    weights = uniform(operator) if query_weights is None else query_weights
    directions = jax.random.normal(key, (operator.shape[1], rank), operator.scores.scale.dtype)
    basis = orthonormalise(amplify(operator, directions, weights))

    def iterate(_: int, basis: Array) -> Array:
        directions = orthonormalise(amplify_transposed(operator, basis, weights))
        return orthonormalise(amplify(operator, directions, weights))

    basis = lax.fori_loop(0, iterations, iterate, basis)
    compressed = amplify_transposed(operator, basis, weights)
    return compressed.T @ compressed


@partial(jax.jit, static_argnames="size")
def entanglement_bounds(gram: Float[Array, "rank rank"], size: int) -> EntanglementBounds:
    """Bound the entanglement entropy of a pattern from a sketch of it.

    With lambda the eigenvalues of ``gram``, c their sum and m = size - rank directions outside of the sketch,

    -sum lambda log lambda + c log c  <=  E  <=  -sum lambda log lambda - (1 - c) log((1 - c) / m)

    The left side is the mean entropy after asking whether the state lies in the sketch, which asking cannot raise;
    the right side that of the state cut into the two answers, which cutting cannot lower, with the outside spread
    evenly. Both are sums over a projection and hold for every sketch, good or bad.

    Args:
        gram: what ``sketch_amplitudes`` returned.
        size: the smaller side of the operator.

    Needs an eigenvalue solver, which the CPU has.

    Error: eigenvalues round to eps, so the bounds are good to about rank eps log(1 / eps).
    Source: Lindblad 1972 (measurements do not raise the mean entropy); concavity of the entropy.
    """
    values = jnp.maximum(jnp.linalg.eigvalsh(gram)[::-1], 0)
    captured = jnp.minimum(jnp.sum(values), 1)
    inside = -jnp.sum(_times_log(values))
    missing = 1 - captured
    outside = missing * jnp.log(max(size - gram.shape[0], 1)) - _times_log(missing)
    most = jnp.log(jnp.asarray(size, gram.dtype))
    return EntanglementBounds(
        jnp.clip(inside + _times_log(captured), 0, most), jnp.clip(inside + outside, 0, most), captured, values
    )


@jax.jit
def orthonormalise(columns: Float[Array, "rows rank"]) -> Float[Array, "rows rank"]:
    """Orthonormalise columns from the left by Gram-Schmidt, each against the earlier ones twice.

    No factorisation is needed, so it runs on every platform. A column that depends on earlier ones becomes zero.

    Error: orthogonal to a few eps, since twice is enough (Giraud, Langou and Rozloznik 2005).
    """
    tiny = jnp.finfo(columns.dtype).eps * columns.shape[0] ** 0.5

    def step(index: int, done: Array) -> Array:
        column = columns[:, index]
        size = jnp.sqrt(jnp.sum(jnp.square(column)))
        for _ in range(2):
            column = column - done @ (done.T @ column)
        length = jnp.sqrt(jnp.sum(jnp.square(column)))
        is_new = length > tiny * size
        unit = jnp.where(is_new, column / jnp.where(is_new, length, 1), 0)
        return lax.dynamic_update_slice(done, unit[:, None], (0, index))

    return lax.fori_loop(0, columns.shape[1], step, jnp.zeros_like(columns))


def _times_log(value: Array) -> Array:
    return jnp.where(value > 0, value * jnp.log(jnp.where(value > 0, value, 1)), 0)
