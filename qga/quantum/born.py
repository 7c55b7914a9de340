"""Born attention: weights are probabilities of measurement outcomes, and all keys fit into one operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..exact.metrics import lift
from ..kernels.problem import DEFAULT_TILE
from ..tiling.cut import split
from ..tiling.state import State, state_leaf, state_merge

Rows = Float[Array, "queries width"]
States = Complex[Array, "*batch states"]
# Weighted sum of values, sum of weights, and sum of fidelities, for each query.
Sums = tuple[Float[Array, "queries channels"], Float[Array, " queries"], Float[Array, " queries"]]


class Truncated(NamedTuple):
    """An approximation with what it may be off by.

    Attributes:
        mass: <q|rho_r|q> of each query, a lower bound of the mean fidelity <q|rho|q>.
        error: lambda_(r+1), the largest eigenvalue left out: the true one is at most ``mass`` + ``error``.
    """

    mass: Float[Array, " queries"]
    error: Float[Array, ""]


def born_attention(
    queries: Rows,
    keys: Float[Array, "keys width"],
    values: Float[Array, "keys channels"],
    *,
    power: float = 1.0,
    tile: int = DEFAULT_TILE,
) -> Float[Array, "queries channels"]:
    """Mix values by the probabilities of a measurement: p_j = |<k_j|q>|^(2 power) / sum_l |<k_l|q>|^(2 power).

    out = <q|M|q> / <q|rho|q>,  rho = mean |k><k|,  M = mean |k><k| (x) v,  for power = 1

    A combination: linear attention with the kernel of squared overlaps, which is the Born rule exactly; no novelty and
    no speed-up of a quantum kind is claimed. At power 1 all keys enter through rho and M, so that the cost of a query
    does not depend on their number; other powers are no measurement, and pay for each pair as attention does. Under a
    unitary of all rows, or a phase of any, nothing changes.

    Args:
        queries: read as rays: first half real, second half imaginary (``qga.exact.lift_to_rays``).
        keys: likewise.
        values: one row for each key.
        power: above zero; an inverse temperature of log |<k|q>|^2, static.
        tile: keys looked at in one step, at least 1.

    Returns:
        One row for each query; NaN for a query orthogonal to every key, which no outcome fits.

    Raises:
        ShapeError: shapes do not fit together, or the width is odd.
        OptionError: ``power`` is not above zero, or ``tile`` below 1.

    Cost: keys width^2 channels to build, width^2 channels for each query, and memory of the inputs, of width^2 channels
        and of a tile's features; keys queries (width + channels) operations for other powers, and memory of queries
        times tile. Derivatives compute tiles again.
    Error: a few eps sqrt(keys) over the mean fidelity; times the power.
    Source: Born 1926; theory of this project.
    """
    _check(queries, keys, values)
    if not (power > 0 and math.isfinite(power)) or tile < 1:
        refuse(
            OptionError,
            "born_attention: a power is a positive number, and a tile has a key.",
            got=f"power={power}, tile={tile}",
            want="power > 0 and tile >= 1",
            fix="use power=1.0 for the Born rule; it is static.",
        )
    asking, looked_at = _rays(queries), _rays(keys)
    tiles = split(looked_at, tile)[0], split(values.astype(jnp.real(asking).dtype), tile)[0]
    total, mass, fidelity = _measure(asking, *tiles) if power == 1 else _sharpen(asking, *tiles, power)
    # An overlap of rounding is none: no outcome fits, and a quotient would be any number.
    seen = ~(fidelity <= 8 * jnp.finfo(fidelity.dtype).eps * keys.shape[0])
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


def _measure(queries: States, keys: States, values: Array) -> Sums:
    """Sum |k><k| (x) v and |k><k| over tiles of keys, and look at the sums from each query."""

    def features(states: Complex[Array, "rows states"]) -> Complex[Array, "rows pairs"]:
        return (states[:, :, None] * states.conj()[:, None, :]).reshape(states.shape[0], -1)

    def add(sums: tuple[Array, Array], tile: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        pairs = features(tile[0])
        return (sums[0] + pairs.T @ tile[1].astype(pairs.dtype), sums[1] + jnp.sum(pairs, axis=0)), None

    pairs = queries.shape[1] ** 2
    zero = jnp.zeros((pairs, values.shape[2]), queries.dtype), jnp.zeros(pairs, queries.dtype)
    # Padded keys are zero, and so is what they add.
    (mixed, rho), _ = lax.scan(jax.checkpoint(add, prevent_cse=False), zero, (keys, values))

    asked = features(queries.conj())
    mass = jnp.real(asked @ rho)
    return jnp.real(asked @ mixed), mass, mass


def _sharpen(queries: States, keys: States, values: Array, power: float) -> Sums:
    """Run softmax over power log |<k|q>|^2 by tiles; orthogonal keys, and padded ones, have score minus infinity."""

    def add(carry: tuple[State, Array], tile: tuple[Array, Array]) -> tuple[tuple[State, Array], None]:
        overlaps = queries.conj() @ tile[0].T
        fidelities = jnp.square(jnp.real(overlaps)) + jnp.square(jnp.imag(overlaps))
        orthogonal = fidelities == 0
        scores = jnp.where(orthogonal, -jnp.inf, power * jnp.log(jnp.where(orthogonal, 1, fidelities)))
        here = jax.vmap(state_leaf, (0, None))(scores, tile[1])
        return (state_merge(carry[0], here), carry[1] + jnp.sum(fidelities, axis=1)), None

    rows, dtype = queries.shape[0], values.dtype
    unit = State(jnp.full(rows, -jnp.inf, dtype), jnp.zeros(rows, dtype), jnp.zeros((rows, values.shape[2]), dtype))
    start = unit, jnp.zeros(rows, dtype)
    (state, fidelity), _ = lax.scan(jax.checkpoint(add, prevent_cse=False), start, (keys, values))
    return state.total, state.mass, fidelity


def _rays(rows: Array) -> States:
    return lift(rows, metric="fidelity")


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
