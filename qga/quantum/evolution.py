"""How states move: unitary evolution, channels, and the Lindblad equation."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse
from .entropy import Density
from .hermitian import check_square, dagger

Operator = Complex[Array, "width width"]


def hamiltonian(weights: Float[Array, "rows rows"]) -> Float[Array, "rows rows"]:
    """Make the Hamiltonian of a pattern: H = 1 - (P + P^T) / 2, the energy of differences along attention.

    For a doubly stochastic P it is positive with the constants as ground states.

    Raises:
        ShapeError: the pattern is not square.
    """
    check_square("hamiltonian", weights)
    return jnp.eye(weights.shape[0], dtype=weights.dtype) - (weights + weights.T) / 2


def evolve(
    energy: Operator | Float[Array, "width width"], state: Complex[Array, " width"], time: float | Float[Array, ""]
) -> Complex[Array, " width"]:
    """Let a pure state evolve: psi(t) = e^(-i H t) psi.

    Args:
        energy: H, Hermitian.
        state: psi.
        time: t, in units of one over energy.

    Returns:
        The state, of the same length.

    Raises:
        ShapeError: the Hamiltonian is not square.

    Needs a linear solver, which the CPU has: the exponential is a Pade quotient with squarings.

    Error: a few eps |H| t.
    Source: Higham 2005.
    """
    check_square("evolve", energy)
    return jax.scipy.linalg.expm(-1j * energy.astype(state.dtype) * time) @ state


def apply_channel(kraus: Complex[Array, "outcomes width width"], rho: Density) -> Density:
    """Send a state through a channel: sum_a K_a rho K_a^dagger.

    Under a channel distances contract, fidelity does not fall and relative entropy does not rise.

    Args:
        kraus: K, with sum_a K_a^dagger K_a = 1 for a channel that keeps the trace.
        rho: the state.

    Raises:
        ShapeError: the operators are not on the state's space.

    Source: Kraus 1971.
    """
    check_square("apply_channel", rho)
    if kraus.ndim != 3 or kraus.shape[2] != rho.shape[0]:
        refuse(
            ShapeError,
            "apply_channel: the operators of a channel act on the state.",
            got=f"kraus {describe(kraus)}, rho {describe(rho)}",
            want=f"[outcomes, new width, {rho.shape[0]}]",
            fix="stack the Kraus operators along a leading axis.",
        )
    return jnp.einsum("aij,jk,alk->il", kraus, rho.astype(kraus.dtype), kraus.conj())


@partial(jax.jit, static_argnames="steps")
def lindblad(
    energy: Operator, jumps: Complex[Array, "jumps width width"], rho: Operator, time: float | Array, *, steps: int
) -> Operator:
    """Let a state evolve under the Lindblad equation, by Runge and Kutta's classical method.

    d rho / dt = -i [H, rho] + sum_a (L_a rho L_a^dagger - (L_a^dagger L_a rho + rho L_a^dagger L_a) / 2)

    The right side has trace zero, so that every step keeps the trace to rounding; positivity is kept within the error.

    Args:
        energy: H, Hermitian.
        jumps: L_a.
        rho: the state at time 0.
        time: how long.
        steps: of equal length.

    Returns:
        The state at ``time``.

    Raises:
        OptionError: ``steps`` is below 1.

    Error: of order (time / steps)^4; stable where |H| and |L|^2 times the step stay below about 2.
    Source: Lindblad 1976; Gorini, Kossakowski and Sudarshan 1976.
    """
    if steps < 1:
        refuse(
            OptionError,
            "lindblad: steps are counted from one.",
            got=f"steps={steps}",
            want="steps >= 1",
            fix="raise steps until the result stays.",
        )
    length = jnp.asarray(time / steps, rho.dtype)
    losses = jnp.einsum("aji,ajk->ik", jumps.conj(), jumps)
    drift = -1j * energy - losses / 2

    def rate(state: Array) -> Array:
        return drift @ state + state @ dagger(drift) + jnp.einsum("aij,jk,alk->il", jumps, state, jumps.conj())

    def step(_: int, state: Array) -> Array:
        first = rate(state)
        second = rate(state + length / 2 * first)
        third = rate(state + length / 2 * second)
        fourth = rate(state + length * third)
        return state + length / 6 * (first + 2 * second + 2 * third + fourth)

    return lax.fori_loop(0, steps, step, rho)
