"""How mixed a state is: von Neumann entropy, purity, effective rank; and the entropy of an attention row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from ..errors import ShapeError, describe, refuse

Density = Complex[Array, "width width"] | Float[Array, "width width"]


def density(
    states: Complex[Array, "states width"] | Float[Array, "states width"],
    probabilities: Float[Array, " states"] | None = None,
) -> Density:
    """Mix pure states into a density matrix: rho = sum_j p_j |k_j><k_j|.

    Args:
        states: unit vectors, one a row.
        probabilities: weights that sum to one; equal by default.

    Raises:
        ShapeError: not one probability for each state.
    """
    given = "none" if probabilities is None else describe(probabilities)
    if states.ndim != 2 or (probabilities is not None and probabilities.shape != states.shape[:1]):
        refuse(
            ShapeError,
            "density: there must be one probability for each state.",
            got=f"states {describe(states)}, probabilities {given}",
            want="states [states, width], probabilities [states]",
            fix="pass one weight for each row, or none for equal weights.",
        )
    if probabilities is None:
        return states.T @ states.conj() / states.shape[0]
    return (states * probabilities[:, None].astype(states.dtype)).T @ states.conj()


@jax.custom_jvp
def entropy(rho: Density) -> Float[Array, ""]:
    """Compute the von Neumann entropy in nats: S = -Tr rho log rho.

    Needs an eigenvalue solver, which the CPU has. The derivative -Tr[(log rho + I) d rho] takes eigenvalues below
    eps as eps, so it is finite at pure states.

    Args:
        rho: Hermitian, positive, trace one.

    Raises:
        ShapeError: ``rho`` is not square.
    """
    _check("entropy", rho)
    eigenvalues = jnp.linalg.eigvalsh(rho)
    positive = jnp.where(eigenvalues > 0, eigenvalues, 1)
    return -jnp.sum(positive * jnp.log(positive))


@entropy.defjvp
def _entropy_jvp(primals: tuple[Density], tangents: tuple[Density]) -> tuple[Array, Array]:
    (rho,), (d_rho,) = primals, tangents
    eigenvalues, vectors = jnp.linalg.eigh(rho)
    logs = jnp.log(jnp.maximum(eigenvalues, jnp.finfo(eigenvalues.dtype).eps))
    slope = (vectors * (logs + 1)[None, :].astype(vectors.dtype)) @ vectors.conj().T
    return entropy(rho), -jnp.real(jnp.sum(slope * d_rho.T))


def effective_rank(rho: Density) -> Float[Array, ""]:
    """Count the directions a state really uses: e^S, from 1 (pure) to the width (fully mixed).

    Raises:
        ShapeError: ``rho`` is not square.

    Needs an eigenvalue solver, which the CPU has.
    """
    return jnp.exp(entropy(rho))


def purity(rho: Density) -> Float[Array, ""]:
    """Compute Tr rho^2, the mean fidelity of two states drawn from the mixture; no eigenvalues needed.

    Raises:
        ShapeError: ``rho`` is not square.
    """
    _check("purity", rho)
    return jnp.sum(jnp.square(jnp.real(rho)) + jnp.square(jnp.imag(rho)))


def collision_entropy(rho: Density) -> Float[Array, ""]:
    """Compute the Renyi entropy of order two in nats: -log Tr rho^2, a lower bound of ``entropy``.

    Raises:
        ShapeError: ``rho`` is not square.
    """
    return -jnp.log(purity(rho))


def row_entropy(weights: Float[Array, "*batch keys"]) -> Float[Array, "*batch"]:
    """Compute the Shannon entropy of each attention row in nats: H = -sum_j p_j log p_j.

    Args:
        weights: rows that sum to one; zero entries count as zero, with zero derivative.

    Returns:
        From 0 (one key) to log(keys) (all keys alike); e^H is the number of keys a row effectively looks at.
    """
    positive = jnp.where(weights > 0, weights, 1)
    return -jnp.sum(positive * jnp.log(positive), axis=-1)


def _check(name: str, rho: Density) -> None:
    if rho.ndim != 2 or rho.shape[0] != rho.shape[1]:
        refuse(
            ShapeError,
            f"{name}: a density matrix is square.",
            got=describe(rho),
            want="[width, width]",
            fix="build it with qga.quantum.density, and map over batches with jax.vmap.",
        )
