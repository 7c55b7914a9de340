"""How far two states are apart: fidelity, Bures distance, trace distance, relative entropy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from .entropy import Density
from .hermitian import absolute_trace, check_square, dagger, inner, square_root

Ket = Complex[Array, " width"] | Float[Array, " width"]


def fidelity(first: Density, second: Density) -> Float[Array, ""]:
    """Compute the squared fidelity of two states.

    F(rho, sigma) = (Tr sqrt(sqrt(rho) sigma sqrt(rho)))^2

    Our convention is the squared one, the probability for pure states; Nielsen and Chuang's, and QuTiP's, is its root.

    Args:
        first: rho, Hermitian, positive, trace one.
        second: sigma, likewise.

    Returns:
        From 0 (orthogonal) to 1 (equal). Symmetric. The derivative is exact for states of full rank.

    Raises:
        ShapeError: the states are not square matrices of one size.

    Needs an eigenvalue solver, which the CPU has.

    Error: sqrt(eps) of the largest eigenvalue where a state is not of full rank.
    Source: Uhlmann 1976; Jozsa 1994.
    """
    return jnp.square(root_fidelity(first, second))


def root_fidelity(first: Density, second: Density) -> Float[Array, ""]:
    """Compute the root of the fidelity, Tr sqrt(sqrt(rho) sigma sqrt(rho)), concave in each state.

    Raises:
        ShapeError: the states are not square matrices of one size.

    Needs an eigenvalue solver, which the CPU has.

    Error: as ``fidelity``.
    """
    check_square("fidelity", first, second)
    root = square_root(first)
    middle = root @ second @ root
    return jnp.real(jnp.trace(square_root((middle + dagger(middle)) / 2)))


def pure_fidelity(state: Ket, rho: Density) -> Float[Array, ""]:
    """Compute the fidelity of a pure state with any state: F = <psi|rho|psi>, no eigenvalues needed.

    For a tile's density matrix it is the mean fidelity of the tile's keys: every mean score is linear in rho.

    Raises:
        ShapeError: ``rho`` is not square.
    """
    check_square("pure_fidelity", rho)
    return jnp.real(jnp.vdot(state, rho @ state))


def bures_squared(first: Density, second: Density) -> Float[Array, ""]:
    """Compute the squared Bures distance: d^2 = 2 - 2 sqrt(F).

    For near states, four times it is the quantum Fisher line element.

    Raises:
        ShapeError: the states are not square matrices of one size.

    Needs an eigenvalue solver, which the CPU has.

    Error: a few eps, absolute, for states of full rank, so that near states have no digits below that; sqrt(eps) else.
    Source: Bures 1969.
    """
    return 2 - 2 * root_fidelity(first, second)


def trace_distance(first: Density, second: Density) -> Float[Array, ""]:
    """Compute half the trace norm of the difference of two states: T = |rho - sigma|_1 / 2.

    |<q|rho - sigma|q>| <= T for every q: merging two tiles changes no mean fidelity by more. No measurement tells the
    states apart with a better chance than (1 + T) / 2.   1 - sqrt(F) <= T <= sqrt(1 - F)

    Returns:
        From 0 to 1. The derivative is the middle of the subgradients where the difference has a kernel.

    Raises:
        ShapeError: the states are not square matrices of one size.

    Needs an eigenvalue solver, which the CPU has.

    Source: Helstrom 1969; Fuchs and van de Graaf 1999.
    """
    check_square("trace_distance", first, second)
    return absolute_trace(first - second) / 2


@jax.custom_jvp
def relative_entropy(first: Density, second: Density) -> Float[Array, ""]:
    """Compute the relative entropy of two states in nats: S(rho|sigma) = Tr rho (log rho - log sigma).

    Args:
        first: rho.
        second: sigma; where rho has weight on its kernel the value is infinite, as far as eps can tell.

    Returns:
        At least 0; at least 2 T^2 (Pinsker). The derivative is exact for states of full rank.

    Raises:
        ShapeError: the states are not square matrices of one size.

    Needs an eigenvalue solver, which the CPU has.

    Source: Umegaki 1962.
    """
    return _relative_entropy(first, second)


def _relative_entropy(first: Density, second: Density) -> Float[Array, ""]:
    check_square("relative_entropy", first, second)
    own = jnp.linalg.eigvalsh(first)
    values, vectors = jnp.linalg.eigh(second)
    weights = jnp.real(jnp.sum(vectors.conj() * (first @ vectors), axis=0))
    tiny = 8 * jnp.finfo(values.dtype).eps
    outside = values <= tiny * jnp.max(values)
    crossed = jnp.where(outside, 0, weights * jnp.log(jnp.where(outside, 1, values)))
    escapes = jnp.any(outside & (weights > tiny**0.5))
    positive = jnp.where(own > 0, own, 1)
    return jnp.where(escapes, jnp.inf, jnp.sum(positive * jnp.log(positive)) - jnp.sum(crossed))


@relative_entropy.defjvp
def _relative_entropy_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (first, second), (d_first, d_second) = primals, tangents
    slope_first = _logarithm(first) - _logarithm(second)
    # d log(sigma) = int_0^1 ds (1 + s (sigma - 1))^-1 dsigma (...)^-1: divided differences of the logarithm.
    values, vectors = jnp.linalg.eigh(second)
    floor = jnp.maximum(values, jnp.finfo(values.dtype).eps)
    inside = dagger(vectors) @ d_second @ vectors
    moved = vectors @ (_log_differences(floor).astype(inside.dtype) * inside) @ dagger(vectors)
    slope = inner(slope_first, d_first) + jnp.real(jnp.trace(d_first)) - inner(first, moved)
    return _relative_entropy(first, second), slope


def _logarithm(rho: Array) -> Array:
    values, vectors = jnp.linalg.eigh(rho)
    logs = jnp.log(jnp.maximum(values, jnp.finfo(values.dtype).eps))
    return (vectors * logs[None].astype(vectors.dtype)) @ dagger(vectors)


def _log_differences(values: Array) -> Array:
    """Return (log a - log b) / (a - b), smooth where a = b: 2 artanh(x) / (x (a + b)) with x = (a - b) / (a + b)."""
    sums = values[:, None] + values[None]
    x = (values[:, None] - values[None]) / sums
    small = jnp.abs(x) < 1e-3
    safe = jnp.where(small, 0.5, x)
    series = 1 + x**2 / 3 + x**4 / 5
    return 2 / sums * jnp.where(small, series, jnp.arctanh(safe) / safe)
