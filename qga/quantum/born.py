"""Born attention: weights are probabilities of measurement outcomes, and all keys fit into one operator."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..attention.scores import lift_to_rays
from ..errors import OptionError, ShapeError, describe, refuse

Rows = Float[Array, "queries width"]


class Truncated(NamedTuple):
    """An approximation with what it may be off by.

    Attributes:
        mass: <q|rho_r|q> of each query, a lower bound of the mean fidelity <q|rho|q>.
        error: lambda_(r+1), the largest eigenvalue left out: the true one is at most ``mass`` + ``error``.
    """

    mass: Float[Array, " queries"]
    error: Float[Array, ""]


def born_attention(
    queries: Rows, keys: Float[Array, "keys width"], values: Float[Array, "keys channels"]
) -> Float[Array, "queries channels"]:
    """Mix values by the probabilities of a measurement: p_j = |<k_j|q>|^2 / sum_l |<k_l|q>|^2.

    out = <q|M|q> / <q|rho|q>,  rho = mean |k><k|,  M = mean |k><k| (x) v

    A combination: linear attention with the kernel of squared overlaps, which is the Born rule exactly; no novelty and
    no speed-up of a quantum kind is claimed. All keys enter through rho and M, so that the cost of a query does not
    depend on their number. Under a unitary of all rows, or a phase of any, nothing changes.

    Args:
        queries: read as rays: first half real, second half imaginary (``qga.attention.lift_to_rays``).
        keys: likewise.
        values: one row for each key.

    Returns:
        One row for each query; NaN for a query orthogonal to every key, which no outcome fits.

    Raises:
        ShapeError: shapes do not fit together, or the width is odd.

    Cost: keys width^2 channels to build, width^2 channels for each query.
    Error: a few eps sqrt(keys) over the mean fidelity.
    Source: Born 1926; theory of this project.
    """
    _check(queries, keys, values)
    asking, looked_at = _rays(queries), _rays(keys)
    states = asking.shape[1]
    # Hermitian products as real planes: |<k|q>|^2 = q^T (k k^dagger) q, kept as features of pairs of components.
    pairs_of_keys = (looked_at[:, :, None] * looked_at.conj()[:, None, :]).reshape(-1, states * states)
    pairs_of_queries = (asking.conj()[:, :, None] * asking[:, None, :]).reshape(-1, states * states)
    mixed = pairs_of_keys.T @ values.astype(pairs_of_keys.dtype)
    total = jnp.real(pairs_of_queries @ mixed)
    mass = jnp.real(pairs_of_queries @ jnp.sum(pairs_of_keys, axis=0))
    # An overlap of rounding is none: no outcome fits, and a quotient would be any number.
    seen = mass > 8 * jnp.finfo(mass.dtype).eps * keys.shape[0]
    return jnp.where(seen[:, None], total / jnp.where(seen, mass, 1)[:, None], jnp.nan)


def born_masses(queries: Rows, keys: Float[Array, "keys width"], *, rank: int) -> Truncated:
    """Compute the mean fidelity of each query with the keys from the leading eigenvectors of their density matrix.

    |<q|rho - rho_r|q>| <= lambda_(r+1)(rho) for every unit q

    Args:
        queries: as in ``born_attention``.
        keys: likewise.
        rank: eigenvectors kept, at least 1.

    Raises:
        ShapeError: the widths differ or are odd.
        OptionError: ``rank`` is below 1 or above half of the width.

    Needs an eigenvalue solver, which the CPU has.

    Source: Courant and Fischer.
    """
    _check(queries, keys, keys)
    asking, looked_at = _rays(queries), _rays(keys)
    states = asking.shape[1]
    if not 1 <= rank <= states:
        refuse(
            OptionError,
            "born_masses: a rank counts directions of the states.",
            got=f"rank={rank}, states of {states} components",
            want=f"1 <= rank <= {states}",
            fix="keep fewer eigenvectors.",
        )
    rho = looked_at.T @ looked_at.conj() / looked_at.shape[0]
    values, vectors = jnp.linalg.eigh(rho)
    overlaps = asking.conj() @ vectors[:, states - rank :]
    squares = jnp.square(jnp.real(overlaps)) + jnp.square(jnp.imag(overlaps))
    left = values[states - rank - 1] if rank < states else jnp.zeros((), values.dtype)
    return Truncated(squares @ jnp.maximum(values[states - rank :], 0), jnp.maximum(left, 0))


def _rays(rows: Array) -> Complex[Array, "rows states"]:
    real, imaginary = jnp.split(lift_to_rays(rows), 2, axis=-1)
    return lax.complex(real, imaginary)


def _check(queries: Array, keys: Array, values: Array) -> None:
    shapes = queries.shape, keys.shape, values.shape
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1] or shapes[1][0] != shapes[2][0]:
        refuse(
            ShapeError,
            "born_attention: keys must have the width of queries and one value each.",
            got=f"queries {describe(queries)}, keys {describe(keys)}, values {describe(values)}",
            want="[queries, width], [keys, width], [keys, channels]",
            fix="map over heads and batches with jax.vmap.",
        )
