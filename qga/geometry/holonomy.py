"""Holonomy along long sequences: what a phase or a frame becomes on the way, from links between neighbours only.

A link U_(t, t+1) turns components in the frame of place t + 1 into components in that of place t. A change of frames g
sends it to g_t U g_(t+1)^-1. Phases are links of one complex number, rotations links of [rank, rank] matrices.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float, Int

from ..errors import ShapeError, describe, refuse

Phases = Complex[Array, " steps"]
Rotations = Float[Array, "steps rank rank"]
States = Complex[Array, "places width"]
Frames = Float[Array, "places width rank"]
Places = Int[Array, " loops"]


def state_links(states: States) -> Phases:
    """Compute the phase between each state and the next: U_(t, t+1) = <s_(t+1)|s_t> / |<s_(t+1)|s_t>|.

    The neighbours of ``gauge.phase`` without its table of all pairs.

    Args:
        states: in order, of any length.

    Returns:
        One less than there are states; NaN where two neighbours are orthogonal up to rounding and have no phase.

    Raises:
        ShapeError: there is no sequence of at least two states.

    Source: Pancharatnam 1956.
    """
    _check("state_links", states, 2, "[places, width], at least two places")
    return _phase(states[:-1], states[1:])


def frame_links(frames: Frames) -> Rotations:
    """Compute the rotation between each frame and the next: the orthogonal factor of F_t^T F_(t+1).

    Of all orthogonal matrices it is the one that brings the next frame nearest to this one; a reflection, where the two
    are turned over. Along a curve of tangent spaces of a
    surface in flat space it is parallel transport, up to the square of the step for a whole loop.

    Args:
        frames: F, orthonormal columns, in order; such as the leading directions of each tile.

    Returns:
        One less than there are frames; NaN where a direction of one frame is orthogonal to all of the next. The
        derivative divides by sums of singular values of F_t^T F_(t+1), never by gaps.

    Raises:
        ShapeError: there is no sequence of at least two frames.

    Needs a singular value solver, which the CPU has.

    Source: Schoenemann 1966 (the nearest rotation); Singer and Wu 2012.
    """
    _check("frame_links", frames, 3, "[places, width, rank], at least two places")
    return _rotation(frames[:-1], frames[1:])


def carry(links: Phases | Rotations) -> Phases | Rotations:
    """Multiply links up from the first place: T_0 = 1, T_t = U_01 U_12 ... U_(t-1, t).

    T_t takes components at place t to the frame of place 0, and T_s^-1 T_t to that of place s along the path. All of
    them are one pass, by products of products: about 2 log2(steps) products deep, memory of the links.

    Args:
        links: from ``state_links``, ``frame_links`` or elsewhere.

    Returns:
        One more than there are links.

    Raises:
        ShapeError: the links are neither numbers nor square matrices in a row.

    Error: about 2 eps sqrt(steps), typically.
    """
    _check_links("carry", links)
    if links.ndim == 1:
        return jnp.concatenate([jnp.ones_like(links[:1]), lax.associative_scan(jnp.multiply, links)])
    one = jnp.eye(links.shape[1], dtype=links.dtype)
    return jnp.concatenate([one[None], lax.associative_scan(jnp.matmul, links)])


def around(links: Phases | Rotations) -> Complex[Array, ""] | Float[Array, "rank rank"]:
    """Multiply the links of a closed path: U_01 U_12 ... U_(n0), by halves.

    One, or the identity, on every loop exactly where the connection is flat, U_ij = g_i g_j^-1. A change of frames
    turns it by that of its first place alone, H -> g_0 H g_0^-1, so that its trace and its ``rotation_angles`` are the
    loop's own. It is transport against the walk, from the end to the start: on a sphere a loop walked anticlockwise
    turns by minus its area.

    Args:
        links: in order, the last one back to the first place.

    Raises:
        ShapeError: the links are neither numbers nor square matrices in a row.

    Example:
        >>> around(jnp.array([1j, 1j, 1.0])).tolist()
        (-1+0j)
    """
    _check_links("around", links)
    multiply = jnp.multiply if links.ndim == 1 else jnp.matmul
    while links.shape[0] > 1:
        even = links.shape[0] // 2 * 2
        links = jnp.concatenate([multiply(links[:even:2], links[1:even:2]), links[even:]])
    return links[0]


def loop_phases(states: States, starts: Places, ends: Places) -> Float[Array, " loops"]:
    """Measure the geometric phase of stretches of a sequence, each closed by the link from its end to its start.

    phi = arg U_(s, s+1) ... U_(e-1, e) U_(e, s)

    It is the ``quantum.berry_phase`` of states s to e, but of all stretches together: one pass over the states, and
    then a constant number of products for each loop.

    Args:
        states: in order, of any length; no phase of theirs matters.
        starts: s, a place for each loop.
        ends: e, at least s; from s to s + 1 there is no area, and the phase is zero.

    Returns:
        From -pi to pi; NaN for a loop one of whose links joins orthogonal states. The others are not touched by that.

    Raises:
        ShapeError: there is no sequence of at least two states.

    Cost: (places + loops) width operations, and as much memory.
    Error: a few eps sqrt(places), over the smallest overlap of a link.
    Source: Pancharatnam 1956; Simon and Mukunda 1993.
    """
    links = state_links(states)
    lost = ~jnp.isfinite(jnp.real(links))
    transports = carry(jnp.where(lost, 1, links))
    around_it = transports[starts].conj() * transports[ends] * _phase(states[ends], states[starts])
    return jnp.where(_any_between(lost, starts, ends), jnp.nan, jnp.angle(around_it))


def loop_rotations(frames: Frames, starts: Places, ends: Places) -> Float[Array, "loops rank rank"]:
    """Compute the holonomy of stretches of a sequence of frames, each closed by the link from its end to its start.

    H = U_(s, s+1) ... U_(e-1, e) U_(e, s),  on components in the frame of place s

    Args:
        frames: orthonormal columns, in order.
        starts: s, a place for each loop.
        ends: e, at least s.

    Returns:
        Orthogonal matrices; NaN for a loop one of whose links is undefined.

    Raises:
        ShapeError: there is no sequence of at least two frames.

    Needs a singular value solver, which the CPU has.

    Cost: (places + loops) width rank^2 operations, and memory of the frames and links.
    """
    links = frame_links(frames)
    lost = ~jnp.isfinite(links[:, 0, 0])
    transports = carry(jnp.where(lost[:, None, None], jnp.eye(links.shape[1], dtype=links.dtype), links))
    there = jnp.matmul(jnp.swapaxes(transports[starts], -1, -2), transports[ends])
    around_it = jnp.matmul(there, _rotation(frames[ends], frames[starts]))
    return jnp.where(_any_between(lost, starts, ends)[:, None, None], jnp.nan, around_it)


def rotation_angles(rotation: Float[Array, "*batch rank rank"]) -> Float[Array, "*batch rank"]:
    """Compute the angles of an orthogonal matrix: the phases of its eigenvalues, ascending, from -pi to pi.

    They come in pairs a, -a, besides 0 and pi, and are what of a holonomy no change of frames changes. pi an odd number
    of times is a reflection: the loop cannot be oriented.

    Args:
        rotation: orthogonal up to rounding.

    Returns:
        Differentiable where they differ from each other; at the identity they have a cusp.

    Raises:
        ShapeError: the matrices are not square.

    Needs an eigenvalue solver, which the CPU has.

    Example:
        >>> rotation_angles(jnp.array([[0.0, -1.0], [1.0, 0.0]])).round(4).tolist()
        [-1.5707999467849731, 1.5707999467849731]
    """
    if rotation.ndim < 2 or rotation.shape[-1] != rotation.shape[-2]:
        refuse(
            ShapeError,
            "rotation_angles: a rotation is square.",
            got=describe(rotation),
            want="[*batch, rank, rank]",
            fix="pass what qga.geometry.holonomy.around or loop_rotations returns.",
        )
    values = jnp.linalg.eigvals(rotation)
    return jnp.sort(jnp.atan2(jnp.imag(values), jnp.real(values)), axis=-1)


def _phase(here: States, there: States) -> Phases:
    """Compute the phase that takes components there to components here."""
    overlaps = jnp.sum(there.conj() * here, axis=-1)
    size = jnp.sqrt(_square(overlaps))
    longest = jnp.sqrt(jnp.sum(_square(here), axis=-1) * jnp.sum(_square(there), axis=-1))
    seen = size > 8 * jnp.finfo(size.dtype).eps * longest
    return overlaps / jnp.where(seen, size, jnp.nan).astype(overlaps.dtype)


def _rotation(here: Frames, there: Frames) -> Rotations:
    return _polar(jnp.einsum("twi,twj->tij", here, there))


@jax.custom_jvp
def _polar(matrices: Rotations) -> Rotations:
    """Return the orthogonal factor W Z of M = W s Z, NaN where the smallest singular value is rounding."""
    return _polar_parts(matrices)[0]


@_polar.defjvp
def _polar_jvp(primals: tuple[Rotations], tangents: tuple[Rotations]) -> tuple[Array, Array]:
    polar, left, values, right = _polar_parts(primals[0])
    inside = jnp.matmul(jnp.matmul(jnp.swapaxes(left, -1, -2), tangents[0]), jnp.swapaxes(right, -1, -2))
    turn = (inside - jnp.swapaxes(inside, -1, -2)) / (values[:, :, None] + values[:, None, :])
    return polar, jnp.matmul(jnp.matmul(left, turn), right)


def _polar_parts(matrices: Rotations) -> tuple[Array, Array, Array, Array]:
    left, values, right = jnp.linalg.svd(matrices)
    seen = values[:, -1] > 8 * jnp.finfo(values.dtype).eps
    return jnp.where(seen[:, None, None], jnp.matmul(left, right), jnp.nan), left, values, right


def _any_between(lost: Array, starts: Places, ends: Places) -> Array:
    before = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(lost.astype(jnp.int32))])
    return before[ends] > before[starts]


def _square(value: Array) -> Array:
    return jnp.square(jnp.real(value)) + jnp.square(jnp.imag(value))


def _check(name: str, sequence: Array, axes: int, want: str) -> None:
    if sequence.ndim != axes or sequence.shape[0] < 2:
        refuse(
            ShapeError,
            f"holonomy.{name}: a path joins places of a sequence.",
            got=describe(sequence),
            want=want,
            fix="stack the places along the first axis, and map over batches with jax.vmap.",
        )


def _check_links(name: str, links: Array) -> None:
    is_matrix = links.ndim == 3 and links.shape[1] == links.shape[2]
    if not (links.ndim == 1 or is_matrix) or links.shape[0] == 0:
        refuse(
            ShapeError,
            f"holonomy.{name}: links are numbers or square matrices, one for each step.",
            got=describe(links),
            want="[steps] or [steps, rank, rank], at least one step",
            fix="make them with qga.geometry.holonomy.state_links or frame_links.",
        )
