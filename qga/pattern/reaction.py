"""Reaction and diffusion on a periodic grid, with systems whose thresholds are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse

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

    Raises:
        ShapeError: the field has not two axes.
        OptionError: ``spacing`` is not above 0.

    Error: spacing^2 / 12 times the fourth derivatives.
    """
    _check_grid("laplacian", field, spacing)
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

    Raises:
        ShapeError: the fields have not three axes, there is not one diffusivity for each, or the reaction changes the
            shape or the dtype.
        OptionError: ``spacing`` is not above 0.

    Error: of first order in the duration.
    Source: textbook; thresholds in Cross and Hohenberg 1993.
    """
    _check_step(fields, reaction, diffusivities)
    spread = jax.vmap(lambda field: laplacian(field, spacing=spacing))(fields)
    return fields + duration * (diffusivities[:, None, None] * spread + reaction(fields))


def gray_scott(fields: Fields, feed: Scalar, kill: Scalar) -> Fields:
    """React as Gray and Scott's model: (-u v^2 + F (1 - u), u v^2 - (F + k) v). See ``gray_scott_saddle``.

    Raises:
        ShapeError: there are not two species.
    """
    _check_pair("gray_scott", "fields", fields)
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
    """React as the Brusselator: (A - (B + 1) u + u^2 v, B u - u^2 v), at rest in (A, B / A).

    Raises:
        ShapeError: there are not two species.
    """
    _check_pair("brusselator", "fields", fields)
    first, second = fields
    made = first * first * second
    return jnp.stack([source - (drive + 1) * first + made, drive * first - made])


def brusselator_turing(source: Scalar, diffusivities: Float[Array, " species"]) -> Turing:
    """Return where the rest state of ``brusselator`` turns into waves.

    B = (1 + A sqrt(D_u / D_v))^2,   q^2 = A / sqrt(D_u D_v)

    Raises:
        ShapeError: there are not two diffusivities.

    Source: Nicolis and Prigogine 1977.
    """
    _check_pair("brusselator_turing", "diffusivities", diffusivities)
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

    Raises:
        ShapeError: J is not square, there is not one diffusivity for each species, or the waves are no vector.

    Needs a general eigenvalue solver, which the CPU has.

    Source: Turing 1952.
    """
    _check_dispersion(jacobian, diffusivities, squared_wavenumbers)
    shifted = jacobian[None] - squared_wavenumbers[:, None, None] * jnp.diag(diffusivities)[None]
    return jnp.max(jnp.real(jnp.linalg.eigvals(shifted)), axis=1)


def swift_hohenberg_step(field: Field, drive: Scalar, duration: Scalar, *, spacing: float = 1.0) -> Field:
    """Advance u_t = (r - (1 + laplacian)^2) u - u^3 by one explicit step.

    A gradient flow: ``swift_hohenberg_energy`` does not rise in a step of duration at most 2 / L,

    L = max(1, (8 / spacing^2 - 1)^2) - r + 3 M^2,

    as long as |u| stays at most M during it: L bounds the curvature of the energy. Stripes of wave number near 1 are
    selected.

    Raises:
        ShapeError: the field has not two axes.
        OptionError: ``spacing`` is not above 0.

    Error: of first order in the duration.
    Source: Swift and Hohenberg 1977.
    """
    _check_grid("swift_hohenberg_step", field, spacing)
    return field - duration * jax.grad(swift_hohenberg_energy)(field, drive, spacing=spacing)


def swift_hohenberg_energy(field: Field, drive: Scalar, *, spacing: float = 1.0) -> Float[Array, ""]:
    """Return what Swift and Hohenberg's flow descends: sum of ((1 + laplacian) u)^2 / 2 - r u^2 / 2 + u^4 / 4.

    Raises:
        ShapeError: the field has not two axes.
        OptionError: ``spacing`` is not above 0.
    """
    _check_grid("swift_hohenberg_energy", field, spacing)
    bent = field + laplacian(field, spacing=spacing)
    return jnp.sum(jnp.square(bent) / 2 - drive * jnp.square(field) / 2 + field**4 / 4)


def _check_grid(name: str, field: Array, spacing: float) -> None:
    if field.ndim != 2 or 0 in field.shape:
        refuse(
            ShapeError,
            f"{name}: a grid has two axes.",
            got=describe(field),
            want="[rows, columns], at least one of each",
            fix="map over further axes with jax.vmap.",
        )
    if not isinstance(spacing, jax.Array) and not spacing > 0:
        refuse(
            OptionError,
            f"{name}: places of a grid are apart.",
            got=f"spacing={spacing}",
            want="spacing > 0",
            fix="pass the distance of neighbours.",
        )


def _check_step(fields: Array, reaction: Callable[[Fields], Fields], diffusivities: Array) -> None:
    if fields.ndim != 3 or diffusivities.shape != fields.shape[:1]:
        refuse(
            ShapeError,
            "reaction_diffusion_step: each species has a grid and a diffusivity.",
            got=f"fields {describe(fields)}, diffusivities {describe(diffusivities)}",
            want="[species, rows, columns] and [species]",
            fix="stack the grids of all species, and their diffusivities.",
        )
    rates = jax.eval_shape(reaction, fields)
    if rates.shape != fields.shape or rates.dtype != fields.dtype:
        refuse(
            ShapeError,
            "reaction_diffusion_step: a reaction has one rate for each species and place.",
            got=f"fields {describe(fields)}, rates {describe(rates)}",
            want="rates like the fields",
            fix="stack the rates of all species.",
        )


def _check_pair(name: str, role: str, array: Array) -> None:
    if array.ndim < 1 or array.shape[0] != 2:
        refuse(
            ShapeError,
            f"{name}: two species react.",
            got=f"{role} {describe(array)}",
            want="two along the first axis",
            fix="stack what belongs to the two species along the first axis.",
        )


def _check_dispersion(jacobian: Array, diffusivities: Array, squared_wavenumbers: Array) -> None:
    is_square = jacobian.ndim == 2 and jacobian.shape[0] == jacobian.shape[1]
    if not is_square or diffusivities.shape != jacobian.shape[:1] or squared_wavenumbers.ndim != 1:
        refuse(
            ShapeError,
            "dispersion: each species has a row of J and a diffusivity, each wave a number.",
            got=f"J {describe(jacobian)}, D {describe(diffusivities)}, q^2 {describe(squared_wavenumbers)}",
            want="[species, species], [species] and [waves]",
            fix="take J of one place at rest, and pass one wave as q2[None].",
        )
