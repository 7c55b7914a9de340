"""Reaction and diffusion on a periodic grid, with systems whose thresholds are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Fields = Float[Array, "species rows columns"]
Field = Float[Array, "rows columns"]
Scalar = float | Float[Array, ""]


class Turing(NamedTuple):
    """Where a uniform state loses its stability to waves.

    Attributes:
        threshold: the smallest parameter at which it does.
        squared_wavenumber: of the first waves to grow.
    """

    threshold: Float[Array, ""]
    squared_wavenumber: Float[Array, ""]


def laplacian(field: Field, *, spacing: float = 1.0) -> Field:
    """Apply the five-point Laplacian of a periodic grid: (sum of four neighbours - 4 u) / spacing^2.

    Symmetric, so the sum of the field is kept exactly in exact arithmetic.

    Error: spacing^2 / 12 times the fourth derivatives.
    """
    around = sum(jnp.roll(field, shift, axis) for axis in (0, 1) for shift in (1, -1))
    return (around - 4 * field) / spacing**2


def reaction_diffusion_step(
    fields: Fields,
    reaction: Callable[[Fields], Fields],
    diffusivities: Float[Array, " species"],
    duration: Scalar,
    *,
    spacing: float = 1.0,
) -> Fields:
    """Advance u_t = D laplacian(u) + f(u) by one explicit step of Euler's method.

    Args:
        fields: u, one grid for each species.
        reaction: f, at each place for itself.
        diffusivities: D, non-negative.
        duration: of the step. Diffusion alone keeps positivity and range where D duration <= spacing^2 / 4.
        spacing: of the grid.

    Error: of first order in the duration.
    Source: textbook; thresholds in Cross and Hohenberg 1993.
    """
    spread = jax.vmap(lambda field: laplacian(field, spacing=spacing))(fields)
    return fields + duration * (diffusivities[:, None, None] * spread + reaction(fields))


def gray_scott(fields: Fields, feed: Scalar, kill: Scalar) -> Fields:
    """React as Gray and Scott's model: (-u v^2 + F (1 - u), u v^2 - (F + k) v). See ``gray_scott_saddle``."""
    food, eater = fields
    eaten = food * eater * eater
    return jnp.stack([feed * (1 - food) - eaten, eaten - (feed + kill) * eater])


def gray_scott_saddle(feed: Scalar) -> Float[Array, ""]:
    """Return the kill rate at which the states with v > 0 of ``gray_scott`` vanish: k = sqrt(F) / 2 - F.

    Source: Pearson 1993.
    """
    feed = jnp.asarray(feed)
    return jnp.sqrt(feed) / 2 - feed


def brusselator(fields: Fields, source: Scalar, drive: Scalar) -> Fields:
    """React as the Brusselator: (A - (B + 1) u + u^2 v, B u - u^2 v), at rest in (A, B / A)."""
    first, second = fields
    made = first * first * second
    return jnp.stack([source - (drive + 1) * first + made, drive * first - made])


def brusselator_turing(source: Scalar, diffusivities: Float[Array, " species"]) -> Turing:
    """Return where the rest state of ``brusselator`` turns into waves.

    B = (1 + A sqrt(D_u / D_v))^2,   q^2 = A / sqrt(D_u D_v)

    Source: Nicolis and Prigogine 1977.
    """
    slow, fast = diffusivities
    return Turing(jnp.square(1 + source * jnp.sqrt(slow / fast)), source / jnp.sqrt(slow * fast))


def allen_cahn(fields: Fields) -> Fields:
    """React with two stable states, -1 and 1: u - u^3."""
    return fields - fields**3


def dispersion(
    jacobian: Float[Array, "species species"],
    diffusivities: Float[Array, " species"],
    squared_wavenumbers: Float[Array, " waves"],
) -> Float[Array, " waves"]:
    """Compute the growth rate of each wave about a rest state: the largest real part of the eigenvalues of J - q^2 D.

    Args:
        jacobian: J of the reaction at the rest state.
        diffusivities: D.
        squared_wavenumbers: q^2; on a grid the eigenvalues of minus the Laplacian.

    Needs a general eigenvalue solver, which the CPU has.

    Source: Turing 1952.
    """
    shifted = jacobian[None] - squared_wavenumbers[:, None, None] * jnp.diag(diffusivities)[None]
    return jnp.max(jnp.real(jnp.linalg.eigvals(shifted)), axis=1)


def swift_hohenberg_step(field: Field, drive: Scalar, duration: Scalar, *, spacing: float = 1.0) -> Field:
    """Advance u_t = (r - (1 + laplacian)^2) u - u^3 by one explicit step.

    A gradient flow: ``swift_hohenberg_energy`` does not rise in a step of duration at most 2 / L,

    L = max(1, (8 / spacing^2 - 1)^2) - r + 3 M^2,

    as long as |u| stays at most M during it: L bounds the curvature of the energy. Stripes of wave number near 1 are
    selected.

    Error: of first order in the duration.
    Source: Swift and Hohenberg 1977.
    """
    return field - duration * jax.grad(swift_hohenberg_energy)(field, drive, spacing=spacing)


def swift_hohenberg_energy(field: Field, drive: Scalar, *, spacing: float = 1.0) -> Float[Array, ""]:
    """Return what Swift and Hohenberg's flow descends: sum of ((1 + laplacian) u)^2 / 2 - r u^2 / 2 + u^4 / 4."""
    bent = field + laplacian(field, spacing=spacing)
    return jnp.sum(jnp.square(bent) / 2 - drive * jnp.square(field) / 2 + field**4 / 4)
