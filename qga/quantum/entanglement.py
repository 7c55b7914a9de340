"""Entanglement: of the queries and keys of a pattern, and of two systems."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse
from .entropy import Density, entropy
from .hermitian import absolute_trace, check_square, dagger, inner


class Entanglement(NamedTuple):
    """How entangled the queries and keys of a pattern are.

    Attributes:
        entropy: E, of the squared Schmidt values, in nats.
        schmidt: squared Schmidt values, largest first; they sum to one.
    """

    entropy: Float[Array, ""]
    schmidt: Float[Array, " rank"]


def attention_entanglement(
    weights: Float[Array, "queries keys"], query_weights: Float[Array, " queries"]
) -> Entanglement:
    """Read a pattern as a state of two systems and compute their entanglement.

    Psi_ij = sqrt(pi_i P_ij),   E = -sum sigma^2 log sigma^2,  sigma the singular values of Psi

    A combination: ingredients are textbook, the reading is ours, and nothing quantum happens. e^E is the effective rank
    of the pattern. E = 0 exactly when all queries of some weight attend alike; the mutual information of query and key
    is at most 2 E.
    ``qga.operators.entanglement_bounds`` bounds it for long sequences.

    Args:
        weights: P, row-stochastic.
        query_weights: pi, a distribution over the queries.

    Needs an eigenvalue solver, which the CPU has. Zeros of P and pi stay zero under derivatives.

    Error: a few eps, absolute, for each squared Schmidt value, so that those near eps are rounding; for E,
    rank eps log(1 / eps).
    Source: Schmidt 1907; Bennett et al. 1996.
    """
    amplitudes = _root(query_weights)[:, None] * _root(weights)
    gram = amplitudes @ amplitudes.T if weights.shape[0] <= weights.shape[1] else amplitudes.T @ amplitudes
    return Entanglement(entropy(gram), jnp.maximum(jnp.linalg.eigvalsh(gram)[::-1], 0))


def truncation_fidelity(schmidt: Float[Array, " rank"], kept: int) -> Float[Array, ""]:
    """Return the fidelity of the best amplitude of a rank with the pattern: its largest ``schmidt``, added up.

    Exact, by Eckart and Young: the square root of the weights makes a truncation error a fidelity.

    Raises:
        OptionError: ``kept`` is not between 0 and the number of values.
    """
    if not 0 <= kept <= schmidt.shape[0]:
        refuse(
            OptionError,
            "truncation_fidelity: a rank counts Schmidt values.",
            got=f"kept={kept}, {schmidt.shape[0]} values",
            want=f"0 <= kept <= {schmidt.shape[0]}",
            fix="keep fewer.",
        )
    return jnp.sum(schmidt[:kept])


def partial_trace(rho: Density, sizes: Sequence[int], keep: Sequence[int]) -> Density:
    """Forget some of the systems that a state is on.

    Args:
        rho: on the product of all systems, the first one slowest.
        sizes: dimension of each system.
        keep: which systems stay, ascending.

    Raises:
        ShapeError: the sizes do not make up the state.
        OptionError: ``keep`` is not an ascending choice of systems.
    """
    _check_sizes("partial_trace", rho, sizes)
    if list(keep) != sorted(set(keep)) or any(not 0 <= each < len(sizes) for each in keep):
        refuse(
            OptionError,
            "partial_trace: systems are named once each, in ascending order.",
            got=f"keep={list(keep)}, {len(sizes)} systems",
            want=f"ascending numbers below {len(sizes)}",
            fix="sort keep.",
        )
    systems = len(sizes)
    rows = list(range(systems))
    columns = [each + systems if each in keep else each for each in rows]
    result = [*keep, *(each + systems for each in keep)]
    width = prod(sizes[each] for each in keep)
    return jnp.einsum(rho.reshape(*sizes, *sizes), rows + columns, result).reshape(width, width)


def partial_transpose(rho: Density, sizes: tuple[int, int]) -> Density:
    """Transpose the first of two systems. A separable state stays positive (Peres 1996).

    Raises:
        ShapeError: the sizes do not make up the state.
    """
    _check_sizes("partial_transpose", rho, sizes)
    width = prod(sizes)
    return jnp.swapaxes(rho.reshape(*sizes, *sizes), 0, 2).reshape(width, width)


def negativity(rho: Density, sizes: tuple[int, int]) -> Float[Array, ""]:
    """Compute the negativity of two systems: (|rho^T_A|_1 - 1) / 2, the sum of the negative eigenvalues' sizes.

    Zero for separable states, and only for them on 2 x 2 and 2 x 3 systems. What can be distilled is at most
    log(1 + 2 N) nats.

    Raises:
        ShapeError: the sizes do not make up the state.

    Needs an eigenvalue solver, which the CPU has.

    Source: Vidal and Werner 2002.
    """
    return (absolute_trace(partial_transpose(rho, sizes)) - 1) / 2


@jax.custom_jvp
def concurrence(rho: Complex[Array, "4 4"]) -> Float[Array, ""]:
    """Compute the concurrence of two qubits: max(0, l1 - l2 - l3 - l4).

    l are the roots of the eigenvalues of sqrt(rho) rho~ sqrt(rho), descending, rho~ the state with both spins flipped;
    here as the singular values of A^T (Y x Y) A, rho = A A^dagger.

    Concurrence is convex in the state, so that its derivative Tr(W drho) is a witness: C(sigma) >= Tr(W sigma) for
    every state, with equality at rho. Where rho is of full rank, W = 2 l1 |y1><y1| - (rho^-1 # rho~), # the geometric
    mean. Where it is not, as at a Bell state, C has one-sided derivatives only, which are not linear in the direction;
    W is then that of the state with its eigenvalues raised to sqrt(eps): a subgradient up to sqrt(eps), so that some
    directions lose less, and none more, than it says. Where C = 0 the derivative is zero, a subgradient too.

    Raises:
        ShapeError: the state is not one of two qubits.

    Needs an eigenvalue solver, which the CPU has.

    Error: a few eps; sqrt(eps) for the derivative where an eigenvalue is below sqrt(eps).
    Source: Wootters 1998.
    """
    _check_sizes("concurrence", rho, (2, 2))
    values, vectors = jnp.linalg.eigh(rho)
    roots = jnp.linalg.svd(_overlap(_factor(values, vectors)), compute_uv=False)
    return jnp.maximum(2 * roots[0] - jnp.sum(roots), 0)


@concurrence.defjvp
def _concurrence_jvp(primals: tuple[Density], tangents: tuple[Density]) -> tuple[Array, Array]:
    (rho,), (moved,) = primals, tangents
    values, vectors = jnp.linalg.eigh(rho)
    raised = jnp.maximum(values, jnp.finfo(values.dtype).eps ** 0.5 * jnp.max(values))
    _, roots, right = jnp.linalg.svd(_overlap(_factor(raised, vectors)))
    signed = roots * jnp.asarray([1, -1, -1, -1], roots.dtype)
    # The dual of A: its rows meet the columns of A in the identity.
    dual = vectors * lax.rsqrt(raised)[None].astype(vectors.dtype) @ dagger(right)
    witness = (dual * signed[None].astype(dual.dtype)) @ dagger(dual)
    value = concurrence(rho)
    return value, jnp.where(value == 0, 0, inner(witness, moved))


def _factor(values: Array, vectors: Array) -> Array:
    """Return A with A A^dagger = rho, from its eigenvalues and eigenvectors."""
    return vectors * jnp.sqrt(jnp.maximum(values, 0))[None].astype(vectors.dtype)


def _overlap(factor: Array) -> Array:
    # The flip of both spins has real entries: -1, 1, 1, -1 on the other diagonal.
    flip = jnp.asarray([[0, 0, 0, -1], [0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0]], factor.dtype)
    return factor.T @ flip @ factor


def _root(values: Array) -> Array:
    """Take square roots, with derivative zero at zero, where the true one is infinite."""
    positive = values > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1)), 0)


def _check_sizes(name: str, rho: Density, sizes: Sequence[int]) -> None:
    check_square(name, rho)
    if prod(sizes) != rho.shape[0]:
        refuse(
            ShapeError,
            f"{name}: the sizes of the systems must make up the state.",
            got=f"sizes {tuple(sizes)}, rho {describe(rho)}",
            want=f"sizes whose product is {rho.shape[0]}",
            fix="give one size for each system, the slowest first.",
        )
