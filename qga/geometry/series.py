"""Functions of a squared angle that stay smooth at zero, and a root whose derivative at zero is zero."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

Number = Float[Array, "*batch"]

# Below this, twelve terms of each series are exact in double precision; above, no closed form divides by a small root.
_SMALL = 0.03
_TERMS = 12


def root(squared: Number) -> Number:
    """Take the square root of a number that is not negative, with derivative zero at zero."""
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0 * squared)


def cosine(squared: Number, *, is_negative: bool) -> Number:
    """Compute cos(sqrt z), which is cosh(sqrt(-z)) for z < 0; the sign of z is static."""
    size, is_small = _split(squared)
    closed = jnp.cosh(size) if is_negative else jnp.cos(size)
    factors = [-1 / ((2 * k + 1) * (2 * k + 2)) for k in range(_TERMS)]
    return jnp.where(is_small, _sum(squared, is_small, factors), closed)


def sine_ratio(squared: Number, *, is_negative: bool) -> Number:
    """Compute sin(sqrt z) / sqrt z, which is sinh(sqrt(-z)) / sqrt(-z) for z < 0."""
    size, is_small = _split(squared)
    closed = (jnp.sinh(size) if is_negative else jnp.sin(size)) / size
    factors = [-1 / ((2 * k + 2) * (2 * k + 3)) for k in range(_TERMS)]
    return jnp.where(is_small, _sum(squared, is_small, factors), closed)


def angle_over_sine(squared: Number, other: Number, *, is_negative: bool) -> Number:
    """Compute a / sin(a) from sin(a)^2 and cos(a) >= 0; a / sinh(a) from -sinh(a)^2 and cosh(a).

    The cosine is passed, since near a right angle the sine no longer knows it.
    """
    size, is_small = _split(squared)
    closed = (jnp.asinh(size) if is_negative else jnp.atan2(size, other)) / size
    factors = [(2 * k + 2) / (2 * k + 3) for k in range(_TERMS)]
    return jnp.where(is_small, other * _sum(squared, is_small, factors), closed)


def _split(squared: Number) -> tuple[Number, Array]:
    is_small = jnp.abs(squared) < _SMALL
    return jnp.sqrt(jnp.where(is_small, 1 / 2, jnp.abs(squared))), is_small


def _sum(squared: Number, is_small: Array, factors: list[float]) -> Number:
    """Sum 1 + f_0 z (1 + f_1 z (1 + ...))."""
    squared = jnp.where(is_small, squared, 0)
    total = jnp.ones_like(squared)
    for factor in reversed(factors):
        total = 1 + factor * squared * total
    return total
