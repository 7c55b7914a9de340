"""Threshold dynamics of a mask: blur, keep the largest entries, again. Least surface at an exact budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import DomainError, OptionError, ShapeError, describe, refuse

Mask = Bool[Array, "rows columns"]
Heat = Float[Array, "rows columns"]


def threshold_dynamics(mask: Mask, width: float | Float[Array, ""], *, steps: int, active: int) -> Mask:
    """Shape a mask by volume-preserving threshold dynamics (MBO): compact regions with exactly ``active`` entries.

    chi <- the ``active`` largest entries of G * chi,  G the heat kernel of a grid with reflecting borders

    A geometric flow of masks: motion by mean curvature as the blur gets small. From the first mask with ``active``
    entries on, each step lowers ``threshold_energy`` or leaves the mask alone.

    Args:
        mask: where to begin.
        width: of the blur, in entries, at least 0; the heat kernel runs for width^2 / 2.
        steps: of the flow; with none, the mask comes back as it is.
        active: entries kept; ties go to the lower index, rows first.

    Returns:
        The mask after ``steps`` steps, with exactly ``active`` entries after the first. Truths cannot be NaN: a traced
        width that is not finite gives any such mask, and a ``threshold_energy`` of NaN.

    Raises:
        DomainError: ``width`` is negative or not finite (checked when it is a plain number).
        OptionError: ``active`` is not between 0 and the number of entries, or ``steps`` is negative.
        ShapeError: the mask is no boolean matrix.

    Error: entries whose heat differs by less than rounding, a few eps, may change places; the energy then rises by
        no more than that. What rounds below zero counts as zero.
    Cost: two products with a square matrix for each axis, and a count of the mask for each bit of a number, a step.
    Source: Merriman, Bence and Osher 1992; Jacobs, Merkurjev and Esedoglu 2018.

    Example:
        >>> corner = jnp.zeros((3, 3), bool).at[0, 0].set(True)
        >>> threshold_dynamics(corner, 1.0, steps=1, active=3).astype(int).tolist()
        [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    _check("threshold_dynamics", mask, width)
    if not 0 <= active <= mask.size or steps < 0:
        refuse(
            OptionError,
            "threshold_dynamics: the budget counts entries of the mask, and steps start at zero.",
            got=f"active={active}, steps={steps}, {mask.size} entries",
            want=f"0 <= active <= {mask.size}, steps >= 0",
            fix="choose a budget within the mask.",
        )
    return _flow(mask, width, steps, active)


def threshold_energy(mask: Mask, width: float | Float[Array, ""]) -> Float[Array, ""]:
    """Compute what threshold dynamics lowers: sum (1 - chi) (G * chi), the heat that leaves the mask.

    Divided by the width it tends to the length of the border.

    Args:
        mask: True where the heat begins.
        width: of the blur, in entries, at least 0.

    Raises:
        DomainError: ``width`` is negative or not finite (checked when it is a plain number).
        ShapeError: the mask is no boolean matrix.

    Error: a few eps of the number of entries that the mask has along its border.
    Source: Esedoglu and Otto 2015.

    Example:
        >>> float(threshold_energy(jnp.ones((3, 4), bool), 1.0))
        0.0
    """
    _check("threshold_energy", mask, width)
    heated = _blur_of(mask, width)(mask)
    return jnp.sum(jnp.where(mask, 0, heated))


@partial(jax.jit, static_argnames=("steps", "active"))
def _flow(mask: Mask, width: float | Array, steps: int, active: int) -> Mask:
    blur = _blur_of(mask, width)
    return lax.fori_loop(0, steps, lambda _, current: _largest(blur(current), active), mask)


def _blur_of(mask: Mask, width: float | Array) -> Callable[[Mask], Heat]:
    dtype = jnp.result_type(float)
    across, along = (_heat_kernel(size, jnp.asarray(width, dtype)) for size in mask.shape)
    return lambda current: across @ current.astype(dtype) @ along


def _heat_kernel(size: int, width: Float[Array, ""]) -> Float[Array, "size size"]:
    """Return e^(t L), t = width^2 / 2, L the Laplacian of a path: symmetric, positive, rows that sum to one.

    The modes of a path with free ends are the cosines of the discrete cosine transform (Strang 1999),
    L cos(pi k (i + 1/2) / n) = -4 sin(pi k / 2 n)^2 cos(pi k (i + 1/2) / n).
    """
    # Tables, not device code: a shader's sine and cosine are only as good as its driver.
    waves = np.arange(size)
    modes = np.cos(np.pi / max(size, 1) * np.outer(waves + 0.5, waves))
    modes *= np.sqrt(np.where(waves == 0, 1, 2) / max(size, 1))
    rates = 4 * np.sin(np.pi / (2 * max(size, 1)) * waves) ** 2
    table = jnp.asarray(modes, width.dtype)
    return (table * jnp.exp(-(width**2) / 2 * jnp.asarray(rates, width.dtype))[None]) @ table.T


def _largest(heat: Heat, active: int) -> Mask:
    """Keep the largest entries, the lower index among equals: by halving the level instead of sorting."""
    # Numbers that are not negative are ordered as their bits are.
    bits, whole = jnp.finfo(heat.dtype).bits, jnp.int64 if heat.dtype == jnp.float64 else jnp.int32
    order = lax.bitcast_convert_type(jnp.maximum(heat, 0), whole)

    def halve(place: int, level: Array) -> Array:
        raised = level | jnp.left_shift(jnp.asarray(1, whole), jnp.asarray(bits - 2 - place, whole))
        return jnp.where(jnp.sum(order >= raised, dtype=jnp.int32) >= active, raised, level)

    # The highest level that at least ``active`` entries reach, bit by bit below the sign.
    level = lax.fori_loop(0, bits - 1, halve, jnp.zeros((), whole))
    above, equal = order > level, order == level
    missing = active - jnp.sum(above, dtype=jnp.int32)
    turn = jnp.cumsum(equal.reshape(-1), dtype=jnp.int32).reshape(heat.shape)
    return above | (equal & (turn <= missing))


def _check(name: str, mask: Mask, width: float | Array) -> None:
    if mask.ndim != 2 or mask.dtype != bool:
        refuse(
            ShapeError,
            f"{name}: a mask has two axes, of truths.",
            got=describe(mask),
            want="bool[rows, columns]",
            fix="compare with a level first, and map over further axes with jax.vmap.",
        )
    if isinstance(width, int | float) and not 0 <= width < math.inf:
        refuse(
            DomainError,
            f"{name}: heat spreads over a width of zero or more.",
            got=f"width={width}",
            want="0 <= width < inf",
            fix="use one or two entries; borders are smoothed at that scale.",
        )
