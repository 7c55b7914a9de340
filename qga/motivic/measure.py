"""The measure of a multiset of scores: adds on disjoint unions, multiplies on products."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import ShapeError, describe, refuse
from ..tiling.state import State, state_read

Scores = Float[Array, "*batch members"]
Measure = Float[Array, "*batch"]


@jax.jit
def measure(
    scores: Scores, scale: float | Float[Array, ""] = 1.0, *, exists: Bool[Array, "*#batch members"] | None = None
) -> Measure:
    """Measure a multiset of scores, as a logarithm: log mu = log sum_j e^(beta s_j).

    An analogy: a ring homomorphism from multisets of scores, not a motivic measure. Disjoint union is the sum and
    all pairwise sums the product of multisets, and

    mu(A + B) = mu(A) + mu(B),  mu(A x B) = mu(A) mu(B),  mu({0}) = 1,  and mu counts where beta = 0

    Like a point count or an Euler characteristic it respects cutting and products. No Grothendieck ring of varieties
    and no arcs are computed.

    Args:
        scores: s, in nats, one multiset along the last axis; minus infinity removes a member at every scale.
        scale: beta, the inverse temperature; any finite number.
        exists: True where a member exists; what stands elsewhere is not looked at.

    Returns:
        log mu of each multiset; minus infinity, with derivatives of zero, where nothing exists. NaN for a score of
        plus infinity.

    Raises:
        ShapeError: ``scores`` has no axis, or ``exists`` has another number of members.

    Error: a few eps of |log mu| and of the largest |beta s|.

    Example:
        >>> round(float(measure(jnp.log(jnp.array([1.0, 2.0, 3.0])))), 5) == round(float(jnp.log(6.0)), 5)
        True
    """
    if scores.ndim == 0 or (exists is not None and (exists.ndim == 0 or exists.shape[-1] != scores.shape[-1])):
        refuse(
            ShapeError,
            "measure: a multiset lies along the last axis.",
            got=f"scores {describe(scores)}, exists {'none' if exists is None else describe(exists)}",
            want="scores [..., members], exists [..., members]",
            fix="write a single score as an array of one, and mark each member once.",
        )
    # "Not equal", so that NaN is no removed member and reaches the result.
    there = scores != -jnp.inf if exists is None else exists & (scores != -jnp.inf)
    exponents = jnp.where(there, jnp.asarray(scale, scores.dtype) * jnp.where(there, scores, 0), -jnp.inf)
    peak = lax.stop_gradient(jnp.max(exponents, axis=-1, initial=-jnp.inf))
    peak = jnp.where(peak == -jnp.inf, 0, peak)
    shifted = jnp.where(there, exponents, 0) - jnp.where(there, peak[..., None], 0)
    mass = jnp.sum(jnp.where(there, jnp.exp(shifted), 0), axis=-1)
    empty = mass == 0
    return jnp.where(empty, -jnp.inf, peak + jnp.log(jnp.where(empty, 1, mass)))


def measure_merge(first: Measure, second: Measure) -> Measure:
    """Measure a disjoint union: log(mu_A + mu_B); minus infinity is the empty set, the unit.

    Args:
        first: log measures.
        second: log measures, of the same or a broadcastable shape.

    Example:
        >>> round(float(jnp.exp(measure_merge(jnp.log(2.0), jnp.log(3.0)))), 5)
        5.0
    """
    return measure(jnp.stack(jnp.broadcast_arrays(first, second), axis=-1))


def measure_product(first: Measure, second: Measure) -> Measure:
    """Measure a product, all pairwise sums of two multisets: log mu_A + log mu_B; zero is {0}, the unit.

    Scores that are a sum of a row and a column part, s_ij = a_i + b_j, are such a product.

    Args:
        first: log measures.
        second: log measures, of the same or a broadcastable shape.

    Example:
        >>> round(float(jnp.exp(measure_product(jnp.log(2.0), jnp.log(3.0)))), 5)
        6.0
    """
    return first + second


def multiset_product(first: Scores, second: Scores) -> Scores:
    """List all pairwise sums of two multisets: the product that ``measure_product`` measures without listing it.

    Args:
        first: scores; members vary slowest in the result.
        second: scores with the same leading axes.

    Returns:
        As many members as the two numbers of members multiply to.

    Raises:
        ShapeError: one has no axis of members, or the leading axes do not fit together.

    Example:
        >>> multiset_product(jnp.array([1.0, 2.0]), jnp.array([10.0, 20.0])).tolist()
        [11.0, 21.0, 12.0, 22.0]
    """
    if first.ndim == 0 or second.ndim == 0 or first.shape[:-1] != second.shape[:-1]:
        refuse(
            ShapeError,
            "multiset_product: two multisets lie along the last axes.",
            got=f"first {describe(first)}, second {describe(second)}",
            want="[..., members] each, with the same leading axes",
            fix="broadcast the leading axes first; a single score is an array of one.",
        )
    pairs = first[..., :, None] + second[..., None, :]
    return pairs.reshape(*pairs.shape[:-2], first.shape[-1] * second.shape[-1])


def state_measure(state: State) -> Measure:
    """Read the log measures of tiles from their softmax states: log mu = m + log l.

    Args:
        state: of one tile, or of tiles along leading axes.

    Returns:
        What ``measure`` gives for the scores of each tile; over all tiles they add up to the log of the partition
        sum, ``measure(state_measure(states))``.
    """
    return state_read(state)[1]
