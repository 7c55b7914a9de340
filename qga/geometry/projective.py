"""Complex projective space: unit vectors modulo phase, with the Fubini-Study distance."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from ..errors import ShapeError, describe, refuse
from ..exact import metrics
from .series import cosine, root, sine_ratio

State = Complex[Array, "*batch width"]

# Below this squared sine four terms of the series are exact to double precision.
_SMALL = 1e-3


def lift(vectors: Float[Array, "*batch doubled"]) -> State:
    """Read real rows of even width as unit complex vectors: first half real part, second half imaginary part.

    A row of zeros has no ray and stays zero, as in fidelity attention. Its derivative there, which does not exist, is
    taken as zero.

    Raises:
        ShapeError: the width is odd.
    """
    return metrics.lift(vectors, metric="fidelity")


def unlift(states: State) -> Float[Array, "*batch doubled"]:
    """Write complex vectors as real rows, real parts first: the inverse of ``lift`` on unit vectors."""
    return jnp.concatenate([jnp.real(states), jnp.imag(states)], axis=-1)


def fidelity(first: State, second: State) -> Float[Array, "*batch"]:
    """Compute the squared overlap of unit vectors: F = |<a|b>|^2, from 0 (orthogonal) to 1 (the same ray).

    Smooth everywhere; prefer it, or 1 - F, to the distance where a gradient is needed.

    Raises:
        ShapeError: the widths differ.
    """
    _check("fidelity", first, second)
    return _square(_overlap(first, second))


def distance(first: State, second: State) -> Float[Array, "*batch"]:
    """Measure the Fubini-Study distance in radians: arccos |<a|b>|, from 0 to pi / 2.

    As atan2(|b - <a|b> a|, |<a|b>|), so that near rays lose no digits. Its derivative at equal and at orthogonal
    rays, where the distance has a cusp, is finite.

    Args:
        first: unit vectors.
        second: unit vectors.

    Raises:
        ShapeError: the widths differ.

    Source: Fubini 1904, Study 1905.

    Example:
        >>> round(float(distance(jnp.array([1, 0j]), jnp.array([0, 1j]))), 6)
        1.570796
    """
    _check("distance", first, second)
    overlap = _overlap(first, second)
    rest = second - overlap[..., None] * first
    return jnp.atan2(root(jnp.sum(_square(rest), axis=-1)), root(_square(overlap)))


def geodesic(first: State, second: State, time: float | Float[Array, ""]) -> State:
    """Walk from one ray (time 0) to another (time 1) at constant speed, along the shortest path.

    psi(t) = (sin((1 - t) a) psi + sin(t a) phi) / sin a,  phi in phase with psi,  a = arccos |<psi|phi>|

    Smooth at equal rays. Orthogonal rays have many geodesics; the one to phi with its own phase is taken, with
    a derivative that is not finite.

    Args:
        first: psi, unit vectors.
        second: phi, unit vectors.
        time: dimensionless; outside [0, 1] the path goes on.

    Raises:
        ShapeError: the widths differ.
    """
    _check("geodesic", first, second)
    overlap = _overlap(first, second)
    cos = root(_square(overlap))
    phase = jnp.where(cos > 0, overlap / jnp.where(cos > 0, cos, 1).astype(overlap.dtype), 1)
    rest = second * phase.conj()[..., None] - cos[..., None].astype(first.dtype) * first
    sin_squared = jnp.sum(_square(rest), axis=-1)
    # a / sin a: from both sides of the triangle, and by its series where the sine is small and has no smooth root.
    is_small = sin_squared < _SMALL
    sine = jnp.sqrt(jnp.where(is_small, 1, sin_squared))
    series = 1 + sin_squared * (1 / 6 + sin_squared * (3 / 40 + sin_squared * (5 / 112 + sin_squared * 35 / 1152)))
    over_sine = jnp.where(is_small, series, jnp.atan2(sine, cos) / sine)
    walked = jnp.square(jnp.asarray(time, cos.dtype) * over_sine) * sin_squared
    ahead = time * over_sine * sine_ratio(walked, is_negative=False)
    stay = cosine(walked, is_negative=False)
    return stay[..., None].astype(first.dtype) * first + ahead[..., None].astype(first.dtype) * rest


def _overlap(first: State, second: State) -> Complex[Array, "*batch"]:
    return jnp.sum(first.conj() * second, axis=-1)


def _square(value: Array) -> Array:
    return jnp.square(jnp.real(value)) + jnp.square(jnp.imag(value))


def _check(name: str, first: State, second: State) -> None:
    if first.ndim == 0 or second.ndim == 0 or first.shape[-1] != second.shape[-1]:
        refuse(
            ShapeError,
            f"projective.{name}: states have the same width.",
            got=f"{describe(first)} and {describe(second)}",
            want="two complex arrays [*batch, width]",
            fix="make them with qga.geometry.projective.lift.",
        )
