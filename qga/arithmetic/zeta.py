"""The dynamical zeta function of an operator: traces of its powers, cycles, poles."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Complex, Float, PRNGKeyArray

from ..errors import OptionError, ShapeError, describe, refuse

Operator = Float[Array, "rows rows"]


class Estimate(NamedTuple):
    """Numbers drawn with their statistical error.

    Attributes:
        value: mean over the probes.
        error: standard error of the mean.
    """

    value: Float[Array, " powers"]
    error: Float[Array, " powers"]


def zeta_log_determinant(matrix: Operator, points: Complex[Array, "*points"]) -> Complex[Array, "*points"]:
    """Evaluate the logarithm of the dynamical zeta function of an operator.

    log zeta(z) = sum_n Tr(A^n) z^n / n = -log det(I - z A),   zeta(z) = prod over prime cycles (1 - w z^length)^-1

    With z = e^(-s) this has an Euler product over cycles, and its poles are the inverse eigenvalues: an L-series of a
    walk. It is not the L-function of a number field or a variety. For a stochastic A the pole at 1 is simple exactly
    when there is one recurrent class. A causal A is triangular: its only prime cycles are places that see
    themselves, zeta = prod_i (1 - A_ii z)^-1, and it says nothing that the diagonal does not (``is_triangular``).

    Args:
        matrix: A.
        points: z. Beyond the nearest pole the value is the analytic continuation, with log the sum of the principal
            logarithms of 1 - z lambda.

    Needs a general eigenvalue solver, which the CPU has; its derivative is that of -log det, taken from an inverse.

    Raises:
        ShapeError: A is not square.

    Error: eps times the condition of the eigenvalues.
    Source: Ruelle 1976; Parry and Pollicott 1990.
    """
    require_square("zeta_log_determinant", matrix)
    return _zeta(matrix, points.astype(complex_of(matrix)))


def require_square(name: str, matrix: Array | np.ndarray) -> None:
    """Refuse what is not one square matrix."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        refuse(
            ShapeError,
            f"{name}: an operator on places is a square matrix.",
            got=describe(matrix),
            want="[rows, rows]",
            fix="pass one operator, and map over batches with jax.vmap.",
        )


def complex_of(array: Array) -> jnp.dtype:
    """Return the complex dtype of an array's precision."""
    return jnp.dtype(jnp.complex128 if jnp.finfo(array.dtype).bits > 32 else jnp.complex64)


@jax.custom_jvp
def _zeta(matrix: Array, points: Array) -> Array:
    values = jnp.linalg.eigvals(matrix)
    return -jnp.sum(jnp.log(1 - jnp.multiply.outer(points, values)), axis=-1)


@_zeta.defjvp
def _zeta_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (matrix, points), (d_matrix, d_points) = primals, tangents
    flat, operator = points.reshape(-1), matrix.astype(points.dtype)
    identity = jnp.eye(matrix.shape[0], dtype=points.dtype)
    inverses = jnp.linalg.inv(identity[None] - jnp.multiply.outer(flat, operator))
    # d(-log det(I - z A)) = Tr (I - z A)^-1 (z dA + dz A)
    along_matrix = flat * jnp.einsum("pij,ji->p", inverses, d_matrix.astype(points.dtype))
    along_points = jnp.einsum("pij,ji->p", inverses, operator) * d_points.reshape(-1)
    return _zeta(matrix, points), (along_matrix + along_points).reshape(points.shape)


def trace_powers(matrix: Operator, count: int) -> Float[Array, " powers"]:
    """Compute Tr(A), Tr(A^2), ..., Tr(A^count): the weight of all closed walks of each length.

    Raises:
        OptionError: ``count`` is below 1.
        ShapeError: A is not square.

    Cost: rows^3 count operations.
    """
    _check_count("trace_powers", count)
    require_square("trace_powers", matrix)

    def step(power: Array, _: None) -> tuple[Array, Array]:
        return power @ matrix, jnp.trace(power)

    return lax.scan(step, matrix, None, length=count)[1]


def trace_powers_estimate(
    operator: Callable[[Float[Array, "rows probes"]], Float[Array, "rows probes"]],
    rows: int,
    count: int,
    key: PRNGKeyArray,
    *,
    probes: int = 16,
) -> Estimate:
    """Estimate the traces of the powers of an operator that is only known by what it does to a field.

    Tr(A^n) = E[x^T A^n x],  x of independent signs

    Args:
        operator: f -> A f, such as ``qga.operators.operate`` with its operator bound.
        rows: of a field.
        count: the highest power.
        key: for the signs.
        probes: fields that are averaged over, at least 2.

    Returns:
        The traces with their standard errors: an estimate and no bound.

    Raises:
        OptionError: ``count`` is below 1 or ``probes`` below 2.

    Cost: ``count`` passes of ``probes`` channels.
    Source: Hutchinson 1990.
    """
    _check_count("trace_powers_estimate", count)
    if probes < 2:
        refuse(
            OptionError,
            "trace_powers_estimate: an error needs at least two probes.",
            got=f"probes={probes}",
            want="probes >= 2",
            fix="raise probes; the error falls like their square root.",
        )
    # From bits, so that both precisions draw the same signs.
    bits = jax.random.bits(key, (rows, probes), jnp.uint32)
    signs = jnp.where(bits & 1 == 0, 1, -1).astype(jnp.result_type(float))

    def step(field: Array, _: None) -> tuple[Array, Array]:
        field = operator(field)
        return field, jnp.sum(signs * field, axis=0)

    drawn = lax.scan(step, signs, None, length=count)[1]
    variance = jnp.var(drawn, axis=1, ddof=1) / probes
    # Diagonal operators have no spread at all, and a square root no derivative there.
    spread = variance > 0
    error = jnp.where(spread, jnp.sqrt(jnp.where(spread, variance, 1)), variance)
    return Estimate(jnp.mean(drawn, axis=1), error)


def is_triangular(matrix: Operator) -> Bool[Array, ""]:
    """Tell whether every place sees itself and earlier places only: then zeta and all cycles are in the diagonal.

    Example:
        >>> bool(is_triangular(jnp.tril(jnp.ones((3, 3))))), bool(is_triangular(jnp.ones((3, 3))))
        (True, False)
    """
    return jnp.all(jnp.triu(matrix, 1) == 0)


def prime_cycles(matrix: np.ndarray, length: int) -> list[tuple[tuple[int, ...], float]]:
    """List the prime cycles of a small operator up to a length, with their weights, for Euler products.

    A prime cycle is a closed walk that repeats no shorter one, counted once for all its starts.

    Runs on the host; not traceable.

    Args:
        matrix: A, of NumPy.
        length: of the longest cycles, at least 1.

    Returns:
        Places in the order they are walked, beginning with the smallest turn, and the product of the weights of the
        steps; short cycles first. Cycles of weight zero are left out.

    Raises:
        OptionError: ``length`` is below 1.
        ShapeError: A is not square.

    Cost: their number grows like rows^length.
    Source: Parry and Pollicott 1990.

    Example:
        >>> prime_cycles(np.array([[0.0, 2.0], [3.0, 0.0]]), 4)
        [((0, 1), 6.0)]
    """
    _check_count("prime_cycles", length)
    require_square("prime_cycles", matrix)
    rows, found = len(matrix), []
    walks: list[tuple[tuple[int, ...], float]] = [((start,), 1.0) for start in range(rows)]
    for steps in range(1, length + 1):
        for nodes, weight in walks:
            closing = weight * matrix[nodes[-1], nodes[0]]
            turns = [nodes[at:] + nodes[:at] for at in range(steps)]
            if closing and nodes == min(turns) and turns.count(nodes) == 1:
                found.append((nodes, float(closing)))
        walks = [
            ((*nodes, place), weight * matrix[nodes[-1], place])
            for nodes, weight in walks
            for place in range(nodes[0], rows)
            if matrix[nodes[-1], place]
        ]
    return found


def _check_count(name: str, count: int) -> None:
    if count < 1:
        refuse(
            OptionError,
            f"{name}: powers are counted from one.",
            got=f"count={count}",
            want="count >= 1",
            fix="raise the count, or the length of cycles.",
        )
