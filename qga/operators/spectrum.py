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

# How far above rounding of a Gram matrix a column must stand out of it: what is taken is orthonormal to an eighth then.
_MARGIN = 8
# Two rounds keep directions with more than 1e-7 of the mass in single precision, and bounds hold whatever is kept.
_ROUNDS = 2


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
    basis = orthonormalise(amplify(operator, directions, weights), rounds=_ROUNDS)

    def iterate(_: int, basis: Array) -> Array:
        directions = orthonormalise(amplify_transposed(operator, basis, weights), rounds=_ROUNDS)
        return orthonormalise(amplify(operator, directions, weights), rounds=_ROUNDS)

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


@partial(jax.jit, static_argnames="rounds")
def orthonormalise(columns: Float[Array, "rows rank"], *, rounds: int = 4) -> Float[Array, "rows rank"]:
    """Orthonormalise columns by block Gram-Schmidt, so that rows are touched by a few matrix products only.

    A round takes columns, from the left, that are so independent of those it took before that their Gram matrix shows
    it. What is left is projected away from them twice and comes with the next round, if it is longer than
    tiny = eps sqrt(rows) times the column it comes from.

    No factorisation is needed, so it runs on every platform. A column that depends on others becomes zero.

    Args:
        columns: of any lengths.
        rounds: how many. A column that is not taken shrinks about to a share of 3 sqrt(tiny). Two rounds take what
            is more than 8 tiny away from the others, four what is more than tiny away even where the columns are those
            of a Hilbert matrix. Columns never taken become zero.

    Error: orthogonal to a few eps, whatever the columns.
    Cost: for each round 10 products of rows rank^2 and rank steps on rank x 2 rank numbers.
    Source: Stathopoulos and Wu 2002 (orthonormal columns from Gram matrices); Giraud, Langou and Rozloznik 2005
        (twice is enough).
    """
    tiny = jnp.finfo(columns.dtype).eps * columns.shape[0] ** 0.5

    def take(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, rest = state
        squares = jnp.sum(jnp.square(rest), axis=0, keepdims=True)
        is_left = squares > tiny**2
        units = jnp.where(is_left, rest * lax.rsqrt(jnp.where(is_left, squares, 1)), 0)
        combinations = _combine(units.T @ units, _MARGIN * tiny)
        is_taken = jnp.diagonal(combinations)[None] > 0
        basis = _polish(basis + units @ combinations)
        rest = jnp.where(is_left & ~is_taken, rest, 0)
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        return basis, rest

    squares = jnp.sum(jnp.square(columns), axis=0, keepdims=True)
    units = columns * lax.rsqrt(jnp.where(squares > 0, squares, 1))
    return lax.fori_loop(0, rounds, take, (jnp.zeros_like(columns), units))[0]


def _combine(gram: Float[Array, "rank rank"], least: float) -> Float[Array, "rank rank"]:
    """Return the upper triangle that makes unit columns orthonormal, with zeros for columns that are not taken.

    Elimination in the table [gram | 1]: a row ends as what is left of a column's inner products, with its square on
    the diagonal, beside the combination of columns that leaves it. A column is taken where its square is above
    ``least`` times that of its combination: rounding of the Gram matrix then grows by 1 / ``least`` at most.
    """
    rank = gram.shape[0]
    places = jnp.arange(2 * rank)

    def step(index: int, table: Array) -> Array:
        row = table[index]
        square = jnp.sum(jnp.where(places == index, row, 0))
        is_taken = square > least * jnp.sum(jnp.where(places >= rank, jnp.square(row), 0))
        weight = jnp.where(is_taken, 1 / jnp.where(is_taken, square, 1), 0)
        # Below the row the left half is symmetric, so the row says what to subtract from those below it.
        below = jnp.where(places > index, row, 0)[:rank, None]
        is_row = (places == index)[:rank, None]
        return jnp.where(is_row & (weight == 0), 0, table - weight * below * row[None])

    table = lax.fori_loop(0, rank, step, jnp.concatenate([gram, jnp.eye(rank, dtype=gram.dtype)], axis=1))
    squares = jnp.diagonal(table)[None]
    return table[:, rank:].T * jnp.where(squares > 0, lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)


def _polish(basis: Float[Array, "rows rank"]) -> Float[Array, "rows rank"]:
    """Make nearly orthonormal columns orthonormal; zeros stay. Twice Q (1 - E / 2 + 3 E^2 / 8), E = Q^T Q - 1."""
    for _ in range(2):
        gram = basis.T @ basis
        away = gram - jnp.diag((jnp.diagonal(gram) > 0).astype(gram.dtype))
        basis = basis - basis @ (away / 2 - 3 * (away @ away) / 8)
    return basis


def _times_log(value: Array) -> Array:
    return jnp.where(value > 0, value * jnp.log(jnp.where(value > 0, value, 1)), 0)
