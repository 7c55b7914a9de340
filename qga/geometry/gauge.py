"""Phases carried along links: the Pancharatnam connection, its holonomy, and windings."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int

from ..errors import ShapeError, describe, refuse

Links = Complex[Array, "places places"]


def phase(
    queries: Complex[Array, "queries width"], keys: Complex[Array, "keys width"]
) -> Complex[Array, "queries keys"]:
    """Compute the Pancharatnam phase of each overlap: u_ij = <k_j|q_i> / |<k_j|q_i>|.

    Orthogonal states have no relative phase; their entry is NaN.

    Args:
        queries: states, one a row.
        keys: states, one a row.

    Raises:
        ShapeError: the widths differ.

    Source: Pancharatnam 1956.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        refuse(
            ShapeError,
            "phase: queries and keys have the same width.",
            got=f"queries {describe(queries)}, keys {describe(keys)}",
            want="[queries, width] and [keys, width]",
            fix="lift both with qga.geometry.projective.lift.",
        )
    overlaps = queries @ keys.conj().T
    size = jnp.sqrt(jnp.square(jnp.real(overlaps)) + jnp.square(jnp.imag(overlaps)))
    return overlaps / size.astype(overlaps.dtype)


def holonomy(links: Links, cycles: Int[Array, "cycles length"]) -> Complex[Array, " cycles"]:
    """Multiply the phases of the links around each cycle: U_01 U_12 ... U_l0 for the places 0, 1, ..., l.

    Unchanged by ``change_gauge``; one on every cycle exactly when the connection is flat, U_ij = g_i conj(g_j).

    Args:
        links: U, unit complex numbers with U_ji = conj(U_ij).
        cycles: places in the order in which they are visited; the last is linked to the first.

    Raises:
        ShapeError: the links are not square.

    Example:
        >>> holonomy(jnp.ones((3, 3), complex), jnp.array([[0, 1, 2]])).tolist()
        [(1+0j)]
    """
    if links.ndim != 2 or links.shape[0] != links.shape[1] or cycles.ndim != 2:
        refuse(
            ShapeError,
            "holonomy: links join places to places, and a cycle is a row of places.",
            got=f"links {describe(links)}, cycles {describe(cycles)}",
            want="links [places, places], cycles [cycles, length]",
            fix="pass the full matrix of links; cycles of one length at a time.",
        )
    steps = links[cycles, jnp.roll(cycles, -1, axis=1)]
    total = steps[:, 0]
    for step in range(1, cycles.shape[1]):
        total = total * steps[:, step]
    return total


def change_gauge(links: Links, phases: Complex[Array, " places"]) -> Links:
    """Turn the phase at each place: U_ij -> g_i U_ij conj(g_j)."""
    return phases[:, None] * links * phases.conj()[None, :]


def bargmann(
    first: Complex[Array, "*batch width"], second: Complex[Array, "*batch width"], third: Complex[Array, "*batch width"]
) -> Complex[Array, "*batch"]:
    """Compute the Bargmann invariant <a|b><b|c><c|a>; its argument is the geometric phase of the triangle.

    No phase of a state changes it. For qubits the argument is half the solid angle of the geodesic triangle
    on the Bloch sphere, counted anticlockwise.

    Source: Bargmann 1964.
    """

    def overlap(left: Array, right: Array) -> Array:
        return jnp.sum(left.conj() * right, axis=-1)

    return overlap(first, second) * overlap(second, third) * overlap(third, first)


def winding(loop: Complex[Array, " steps"]) -> Float[Array, ""]:
    """Count how often a closed loop goes anticlockwise around zero: the sum of its turns over 2 pi.

    Args:
        loop: numbers other than zero; the last is joined to the first, and no step turns by pi or more.

    Returns:
        An integer up to rounding, eps times the number of steps.
    """
    turns = loop.conj() * jnp.roll(loop, -1)
    return jnp.sum(jnp.atan2(jnp.imag(turns), jnp.real(turns))) / (2 * math.pi)
