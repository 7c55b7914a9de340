"""Steps that keep the symplectic form, or the norm of a state, by their construction."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse

Coordinates = Float[Array, "*shape"]
Gradient = Callable[[Coordinates], Coordinates]
Step = float | Float[Array, ""]


class Phase(NamedTuple):
    """A place in phase space.

    Attributes:
        position: q.
        momentum: p.
    """

    position: Coordinates
    momentum: Coordinates


def verlet(
    velocity: Gradient, slope: Gradient, position: Coordinates, momentum: Coordinates, step: Step, *, steps: int
) -> Phase:
    """Follow H(q, p) = T(p) + V(q) by Stormer-Verlet: half a kick, a drift, half a kick.

    p -= h/2 grad V(q);  q += h grad T(p);  p -= h/2 grad V(q)

    Each step is symplectic and reversible to rounding; the error at a fixed time is of order h^2, and the energy
    of an analytic H stays within order h^2 of its start for a time exponential in 1/h, while the orbit stays bounded.

    Args:
        velocity: grad T.
        slope: grad V.
        position: q.
        momentum: p.
        step: h; negative goes back in time.
        steps: how many, at least 0.

    Raises:
        OptionError: ``steps`` is negative.

    Source: Verlet 1967; Hairer, Lubich, Wanner 2006.
    """
    if steps < 0:
        refuse(
            OptionError,
            "verlet: steps are counted from zero.",
            got=f"steps={steps}",
            want="steps >= 0",
            fix="turn the sign of step to go back in time.",
        )

    def advance(state: Phase, _: None) -> tuple[Phase, None]:
        middle = state.momentum - step / 2 * slope(state.position)
        position = state.position + step * velocity(middle)
        return Phase(position, middle - step / 2 * slope(position)), None

    return lax.scan(advance, Phase(position, momentum), None, length=steps)[0]


def implicit_midpoint(form: Float[Array, "rows rows"], step: Step) -> Float[Array, "rows rows"]:
    """Compute the step of the quadratic energy z^T S z / 2: M = (I - h/2 J S)^-1 (I + h/2 J S), symplectic.

    Needs a linear solver, which the CPU has. Keeps the energy itself, not only nearly.

    Args:
        form: S, symmetric; z is (q, p), positions first.
        step: h.

    Raises:
        ShapeError: the form is not square of even size.
    """
    _check_even("implicit_midpoint", form)
    half = step / 2 * (_unit(form) @ form)
    one = jnp.eye(form.shape[0], dtype=form.dtype)
    return jnp.linalg.solve(one - half, one + half)


def cayley_unitary(hamiltonian: Complex[Array, "width width"], step: Step) -> Complex[Array, "width width"]:
    """Compute the Crank-Nicolson step U = (I + i h/2 H)^-1 (I - i h/2 H), unitary and commuting with H.

    Needs a linear solver, which the CPU has. Its error against exp(-i h H) is |h H|^3 / 12 at most.

    Args:
        hamiltonian: H, Hermitian.
        step: h, times energy dimensionless.

    Raises:
        ShapeError: the Hamiltonian is not square.
    """
    if hamiltonian.ndim != 2 or hamiltonian.shape[0] != hamiltonian.shape[1]:
        refuse(
            ShapeError,
            "cayley_unitary: a Hamiltonian is square.",
            got=describe(hamiltonian),
            want="[width, width]",
            fix="pass a Hermitian matrix, and map over batches with jax.vmap.",
        )
    half = lax.complex(-jnp.imag(hamiltonian), jnp.real(hamiltonian)) * jnp.asarray(step / 2, hamiltonian.dtype)
    one = jnp.eye(hamiltonian.shape[0], dtype=half.dtype)
    return jnp.linalg.solve(one + half, one - half)


def is_symplectic(matrix: Float[Array, "rows rows"], *, tolerance: float = 1e-5) -> Bool[Array, ""]:
    """Ask whether M^T J M = J, up to ``tolerance`` times the largest square sum of a column.

    Args:
        matrix: M, on (q, p), positions first.
        tolerance: relative, at least the rounding of the matrix.

    Raises:
        ShapeError: the matrix is not square of even size.

    Example:
        >>> bool(is_symplectic(jnp.array([[1.0, 3.0], [0.0, 1.0]])))
        True
    """
    _check_even("is_symplectic", matrix)
    unit = _unit(matrix)
    defect = jnp.max(jnp.abs(matrix.T @ unit @ matrix - unit))
    return defect <= tolerance * jnp.max(jnp.sum(jnp.square(matrix), axis=0))


def _unit(like: Array) -> Array:
    half = like.shape[0] // 2
    one, zero = jnp.eye(half, dtype=like.dtype), jnp.zeros((half, half), like.dtype)
    return jnp.block([[zero, one], [-one, zero]])


def _check_even(name: str, matrix: Array) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] % 2:
        refuse(
            ShapeError,
            f"{name}: phase space has as many momenta as positions.",
            got=describe(matrix),
            want="[2 n, 2 n]",
            fix="order the coordinates as positions, then momenta.",
        )
