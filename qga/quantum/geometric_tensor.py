"""The geometry of families of states: quantum geometric tensor, Berry phase, Chern number."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from ..errors import ShapeError, describe, refuse


def geometric_tensor(
    states: Callable[[Float[Array, " parameters"]], Complex[Array, " width"]], point: Float[Array, " parameters"]
) -> Complex[Array, "parameters parameters"]:
    """Compute the quantum geometric tensor of a family of states.

    Q_mn = <d_m psi| 1 - |psi><psi| / <psi|psi> |d_n psi> / <psi|psi>

    Its real part is the Fubini-Study metric, how fast the state changes; -2 Im Q is the Berry curvature. Phase and
    length of psi do not matter. Real states, such as the amplitudes sqrt(p) of a row, have no curvature; four
    times their metric is the Fisher metric of p.

    Args:
        states: parameters -> psi, differentiable, not zero.
        point: where.

    Returns:
        Hermitian, positive.

    Cost: one forward derivative for each parameter.
    Source: Provost and Vallee 1980; Berry 1984.
    """
    state = states(point)
    slopes = jax.jacfwd(lambda where: _parts(states(where)))(point)
    slopes = jax.lax.complex(slopes[0], slopes[1])
    state = state.astype(slopes.dtype)
    norm = jnp.real(jnp.vdot(state, state)).astype(slopes.dtype)
    along = state.conj() @ slopes
    return (slopes.conj().T @ slopes - along.conj()[:, None] * along[None] / norm) / norm


def berry_phase(path: Complex[Array, "steps width"]) -> Float[Array, ""]:
    """Compute the phase that a state gathers on a closed path, from the states along it.

    gamma = -arg prod_t <psi_t|psi_(t+1)>,  the last step back to the first state

    Gauge invariant: the phases of the states do not matter. For a fine path it is Berry's phase; for three states it is
    the Bargmann invariant's.

    Args:
        path: states in order, not closed: the first is not repeated.

    Returns:
        From -pi to pi. NaN where two neighbours are orthogonal: the phase is then undefined.

    Raises:
        ShapeError: the path has not two axes.

    Error: the path's discretisation, of second order in its step.
    Source: Pancharatnam 1956; Simon and Mukunda 1993.
    """
    if path.ndim != 2:
        refuse(
            ShapeError,
            "berry_phase: a path is a list of states.",
            got=describe(path),
            want="[steps, width]",
            fix="stack the states along a leading axis.",
        )
    overlaps = jnp.sum(path.conj() * jnp.roll(path, -1, axis=0), axis=1)
    sizes = jnp.abs(overlaps)
    units = overlaps / jnp.where(sizes > 0, sizes, 1).astype(overlaps.dtype)
    phase = -jnp.angle(jnp.prod(units))
    return jnp.where(jnp.all(sizes > 0), phase, jnp.nan)


def chern_number(states: Complex[Array, "rows columns width"]) -> Float[Array, ""]:
    """Compute the Chern number of a family of states on a closed surface of two angles, an integer for every grid.

    The sum over plaquettes of arg(U_1 U_2 U_1'^* U_2'^*) over 2 pi,  U overlaps of neighbours. It is minus the sum of
    their ``berry_phase``, and so minus the integral of the Berry curvature over 2 pi.

    Args:
        states: on a periodic grid, the phases as they come.

    Returns:
        The integer, as a float, since only a float can say NaN: where a state is not finite, or two neighbours are
        orthogonal up to rounding, there is no phase and no integer. Right when no plaquette holds a flux of pi or
        more, that is on a fine enough grid.

    Raises:
        ShapeError: the states do not lie on a grid of two angles.

    Error: none besides the grid: each plaquette's phase is gauge invariant and their sum a multiple of 2 pi.
    Source: Fukui, Hatsugai and Suzuki 2005.
    """
    if states.ndim != 3:
        refuse(
            ShapeError,
            "chern_number: a closed surface is a grid of states, periodic in both directions.",
            got=describe(states),
            want="[rows, columns, width]",
            fix="sample both angles on a regular grid, without the end points.",
        )
    down, right = _links(states, axis=0), _links(states, axis=1)
    loops = down * jnp.roll(right, -1, axis=0) * jnp.roll(down, -1, axis=1).conj() * right.conj()
    return jnp.round(jnp.sum(jnp.angle(loops)) / (2 * jnp.pi))


def _links(states: Array, axis: int) -> Array:
    """Compute the phases of the overlaps with the next state along an axis, NaN where an overlap is rounding."""
    after = jnp.roll(states, -1, axis=axis)
    overlaps = jnp.sum(states.conj() * after, axis=-1)
    longest = jnp.linalg.norm(states, axis=-1) * jnp.linalg.norm(after, axis=-1)
    sizes = jnp.abs(overlaps)
    seen = sizes > 8 * jnp.finfo(sizes.dtype).eps * longest
    return overlaps / jnp.where(seen, sizes, jnp.nan).astype(overlaps.dtype)


def _parts(state: Array) -> Array:
    return jnp.stack([jnp.real(state), jnp.imag(state)])
