"""Functions of Hermitian matrices, with derivatives that divide by no gap between eigenvalues."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from ..errors import ShapeError, describe, refuse

Matrix = Complex[Array, "width width"] | Float[Array, "width width"]


@jax.custom_jvp
def square_root(matrix: Matrix) -> Matrix:
    """Take the positive square root of a positive Hermitian matrix; negative eigenvalues, which are rounding, are 0.

    The derivative solves S dS + dS S = dM: in the eigenbasis a division by sums of roots, never by gaps. Where two
    roots are both below sqrt(eps) of the largest it is taken as zero, as the true one need not exist there.

    Needs an eigenvalue solver, which the CPU has.
    """
    values, vectors = jnp.linalg.eigh(matrix)
    return _compose(vectors, jnp.sqrt(jnp.maximum(values, 0)))


@square_root.defjvp
def _square_root_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Array, Array]:
    (matrix,), (moved,) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix)
    roots = jnp.sqrt(jnp.maximum(values, 0))
    sums = roots[:, None] + roots[None]
    regular = sums > jnp.finfo(values.dtype).eps ** 0.5 * jnp.max(roots)
    inside = dagger(vectors) @ moved @ vectors
    slopes = jnp.where(regular, 1 / jnp.where(regular, sums, 1), 0).astype(inside.dtype)
    return _compose(vectors, roots), vectors @ (slopes * inside) @ dagger(vectors)


@jax.custom_jvp
def absolute_trace(matrix: Matrix) -> Float[Array, ""]:
    """Sum the absolute eigenvalues of a Hermitian matrix: its trace norm.

    The derivative is Tr[sign(M) dM], with sign(0) = 0: the middle of the subgradients where an eigenvalue is zero.

    Needs an eigenvalue solver, which the CPU has.
    """
    return jnp.sum(jnp.abs(jnp.linalg.eigvalsh(matrix)))


@absolute_trace.defjvp
def _absolute_trace_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Array, Array]:
    (matrix,), (moved,) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix)
    size = jnp.max(jnp.abs(values), initial=0)
    signs = jnp.where(jnp.abs(values) > 8 * jnp.finfo(values.dtype).eps * size, jnp.sign(values), 0)
    slope = _compose(vectors, signs)
    return jnp.sum(jnp.abs(values)), inner(slope, moved)


def is_density(rho: Matrix, *, tolerance: float) -> Bool[Array, ""]:
    """Tell whether a matrix is a state: Hermitian, positive, of trace one, each within a tolerance.

    Raises:
        ShapeError: the matrix is not square.

    Needs an eigenvalue solver, which the CPU has.
    """
    check_square("is_density", rho)
    skew = jnp.max(jnp.abs(rho - dagger(rho)))
    lowest = jnp.min(jnp.linalg.eigvalsh(rho))
    return (skew <= tolerance) & (lowest >= -tolerance) & (jnp.abs(jnp.real(jnp.trace(rho)) - 1) <= tolerance)


def inner(first: Matrix, second: Matrix) -> Float[Array, ""]:
    """Return the real part of Tr(A B) of two square matrices."""
    return jnp.real(jnp.sum(first * second.T))


def dagger(matrix: Array) -> Array:
    """Return the conjugate transpose."""
    return matrix.conj().T


def check_square(name: str, *matrices: Array) -> None:
    """Refuse what is no pair of operators on one space."""
    if any(each.ndim != 2 or each.shape != (matrices[0].shape[0],) * 2 for each in matrices):
        refuse(
            ShapeError,
            f"{name}: states of one system are square matrices of one size.",
            got=", ".join(map(describe, matrices)),
            want="[width, width]",
            fix="build them with qga.quantum.density, and map over batches with jax.vmap.",
        )


def _compose(vectors: Array, values: Array) -> Array:
    return (vectors * values[None, :].astype(vectors.dtype)) @ dagger(vectors)
