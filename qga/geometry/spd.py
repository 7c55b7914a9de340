"""Positive matrices with the Bures-Wasserstein distance, and Gaussians with the 2-Wasserstein distance.

Everything here needs an eigenvalue solver, which the CPU has. The square root itself is ``qga.quantum.square_root``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse

Matrix = Float[Array, "width width"]


@jax.custom_jvp
def bures_wasserstein_squared(first: Matrix, second: Matrix) -> Float[Array, ""]:
    """Measure the squared Bures-Wasserstein distance: Tr A + Tr B - 2 Tr (A^1/2 B A^1/2)^1/2.

    It is the squared 2-Wasserstein distance of the centred Gaussians with covariances A and B. Needs an eigenvalue
    solver, which the CPU has. The derivative goes through the optimal maps, <I - T_AB, dA> + <I - T_BA, dB>, and
    divides by no difference of eigenvalues; eigenvalues below eps times the largest count as that.

    Args:
        first: A, symmetric, positive.
        second: B, symmetric, positive.

    Raises:
        ShapeError: the matrices are not square or not of one size.

    Error: a few eps (Tr A + Tr B), absolute, for well-conditioned matrices; sqrt(eps) of it for singular ones.

    Source: Bhatia, Jain, Lim 2019.

    Example:
        >>> float(bures_wasserstein_squared(jnp.eye(2), 4 * jnp.eye(2)))
        2.0
    """
    _check("bures_wasserstein_squared", first, second)
    half = _power(first, 0.5)
    eigenvalues = jnp.linalg.eigvalsh(half @ second @ half)
    cross = jnp.sum(jnp.sqrt(jnp.maximum(eigenvalues, 0)))
    return jnp.trace(first) + jnp.trace(second) - 2 * cross


@bures_wasserstein_squared.defjvp
def _bures_wasserstein_squared_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix, Matrix]
) -> tuple[Array, Array]:
    (first, second), (d_first, d_second) = primals, tangents
    half, inverse_half = _power(first, 0.5), _power(first, -0.5)
    middle = half @ second @ half
    to_second = inverse_half @ _power(middle, 0.5) @ inverse_half
    to_first = half @ _power(middle, -0.5) @ half
    slope = jnp.trace(d_first) - jnp.sum(to_second * d_first) + jnp.trace(d_second) - jnp.sum(to_first * d_second)
    return bures_wasserstein_squared(first, second), slope


def gaussian_wasserstein_squared(
    first_mean: Float[Array, " width"], first: Matrix, second_mean: Float[Array, " width"], second: Matrix
) -> Float[Array, ""]:
    """Measure the squared 2-Wasserstein distance of two Gaussians: |m - n|^2 + the Bures-Wasserstein part.

    Needs an eigenvalue solver, which the CPU has.

    Args:
        first_mean: m.
        first: covariance of the first Gaussian.
        second_mean: n.
        second: covariance of the second Gaussian.

    Raises:
        ShapeError: as ``bures_wasserstein_squared``.

    Source: Dowson, Landau 1982.
    """
    return jnp.sum(jnp.square(first_mean - second_mean)) + bures_wasserstein_squared(first, second)


def _power(matrix: Matrix, exponent: float) -> Matrix:
    eigenvalues, vectors = jnp.linalg.eigh(matrix)
    floor = jnp.finfo(eigenvalues.dtype).eps * eigenvalues[-1] if exponent < 0 else 0.0
    return (vectors * (jnp.maximum(eigenvalues, floor) ** exponent)[None, :]) @ vectors.T


def _check(name: str, first: Matrix, second: Matrix) -> None:
    if first.ndim != 2 or first.shape[0] != first.shape[1] or second.shape != first.shape:
        refuse(
            ShapeError,
            f"{name}: matrices are square and of one size.",
            got=f"{describe(first)} and {describe(second)}",
            want="[width, width]",
            fix="pass two covariance matrices of the same width, and map over batches with jax.vmap.",
        )
