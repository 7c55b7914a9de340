"""Threshold dynamics of a mask: blur, keep the largest entries, again. Least surface at an exact budget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import OptionError, ShapeError, describe, refuse

Mask = Bool[Array, "rows columns"]


@partial(jax.jit, static_argnames=("steps", "active"))
def threshold_dynamics(mask: Mask, width: float | Float[Array, ""], *, steps: int, active: int) -> Mask:
    """Shape a mask by volume-preserving threshold dynamics (MBO): compact regions with exactly ``active`` entries.

    chi <- the ``active`` largest entries of G * chi,  G the heat kernel of a grid with reflecting borders

    A geometric flow of masks: motion by mean curvature as the blur gets small. From the first mask with ``active``
    entries on, each step lowers ``threshold_energy`` or leaves the mask alone.

    Args:
        mask: where to begin.
        width: of the blur, in entries; the heat kernel runs for width^2 / 2.
        steps: of the flow; with none, the mask comes back as it is.
        active: entries kept; ties go to the lower index.

    Raises:
        OptionError: ``active`` is not between 0 and the number of entries, or ``steps`` is negative.
        ShapeError: the mask has not two axes.

    Needs an eigenvalue solver and a sort, which the CPU has.

    Source: Merriman, Bence and Osher 1992; Jacobs, Merkurjev and Esedoglu 2018.
    """
    _check(mask)
    if not 0 <= active <= mask.size or steps < 0:
        refuse(
            OptionError,
            "threshold_dynamics: the budget counts entries of the mask, and steps start at zero.",
            got=f"active={active}, steps={steps}, {mask.size} entries",
            want=f"0 <= active <= {mask.size}, steps >= 0",
            fix="choose a budget within the mask.",
        )
    blur = _blur_of(mask, width)

    def step(_: int, current: Mask) -> Mask:
        order = jnp.argsort(-blur(current).reshape(-1), stable=True)
        kept = jnp.zeros(mask.size, bool).at[order[:active]].set(True)
        return kept.reshape(mask.shape)

    return lax.fori_loop(0, steps, step, mask)


def threshold_energy(mask: Mask, width: float | Float[Array, ""]) -> Float[Array, ""]:
    """Compute what threshold dynamics lowers: sum (1 - chi) (G * chi), the heat that leaves the mask.

    Divided by the width it tends to the length of the border.

    Raises:
        ShapeError: the mask has not two axes.

    Needs an eigenvalue solver, which the CPU has.

    Source: Esedoglu and Otto 2015.
    """
    _check(mask)
    heated = _blur_of(mask, width)(mask)
    return jnp.sum(jnp.where(mask, 0, heated))


def _blur_of(mask: Mask, width: float | Array) -> Callable[[Mask], Array]:
    dtype = jnp.result_type(float)
    across, along = (_heat_kernel(size, jnp.asarray(width, dtype)) for size in mask.shape)
    return lambda current: across @ current.astype(dtype) @ along


def _heat_kernel(size: int, width: Float[Array, ""]) -> Float[Array, "size size"]:
    """Return e^(t L), t = width^2 / 2, L the Laplacian of a path: symmetric, positive, rows that sum to one."""
    line = jnp.eye(size, k=1, dtype=width.dtype) + jnp.eye(size, k=-1, dtype=width.dtype)
    values, modes = jnp.linalg.eigh(line - jnp.diag(jnp.sum(line, axis=1)))
    return (modes * jnp.exp(width**2 / 2 * values)[None]) @ modes.T


def _check(mask: Mask) -> None:
    if mask.ndim != 2:
        refuse(
            ShapeError,
            "threshold: a mask has two axes.",
            got=describe(mask),
            want="[rows, columns]",
            fix="map over further axes with jax.vmap.",
        )
