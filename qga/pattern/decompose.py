"""What a head's map is made of: a constant, a preference for keys, a preference for distances, and the rest."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse

Map = Float[Array, "rows rows"]


class Decomposition(NamedTuple):
    """The parts of a map; they add up to it, and their squared lengths to its own.

    Attributes:
        constant: the mean everywhere.
        column: what each key gets more or less than the mean, whoever asks: sinks.
        positional: what each distance gets beyond both: local and periodic attention.
        rest: what depends on query and key: content.
    """

    constant: Map
    column: Map
    positional: Map
    rest: Map

    @property
    def energies(self) -> Float[Array, " parts"]:
        """Squared lengths of the four parts, in order; they add up to that of the map."""
        return jnp.stack([jnp.sum(jnp.square(part)) for part in self])


def decompose(matrix: Map) -> Decomposition:
    """Split a bidirectional map into orthogonal parts: constant, key, distance, content.

    constant: mean of all;   column: mean of a column - constant;   positional: mean of a wrapped diagonal - constant

    A combination: the projections onto constant, column and circulant matrices commute, with the constants as product
    of the other two, so the energies of the parts add up (Pythagoras). Distances wrap around: i - j modulo rows.

    Args:
        matrix: any square map, such as attention weights. For causal maps use ``decompose_causal``.

    Raises:
        ShapeError: the map is not square.

    Cost: a few passes over the map.
    """
    _check("decompose", matrix)
    constant = jnp.broadcast_to(jnp.mean(matrix), matrix.shape)
    column = jnp.broadcast_to(jnp.mean(matrix, axis=0, keepdims=True), matrix.shape) - constant
    positional = _along_diagonals(jnp.mean(_diagonals(matrix), axis=0)) - constant
    return Decomposition(constant, column, positional, matrix - constant - column - positional)


def decompose_causal(matrix: Map) -> Decomposition:
    """Split a causal map into orthogonal parts, on the places that a causal mask leaves.

    Wrapped diagonals do not exist under the mask, and column and diagonal means do not commute. The parts are nested:
    the column part is the projection onto functions of the key, and the positional part is what functions of key and
    distance together explain beyond it. Each is an orthogonal projection inside of the next, so energies add up.

    Args:
        matrix: square; entries above the diagonal are not looked at.

    Raises:
        ShapeError: the map is not square.

    The fit a_j + b_d of key j and distance d solves S b = r, r_d the sum of diagonal d less the column means on it,

    S_de = [d = e] (rows - d) - (H_rows - H_max(d, e)),   H the harmonic numbers.

    Its neighbouring rows differ by a recurrence, and constants solve it for r = 0, so that sums do:

    v_d = (d r_d - r_0 - ... - r_(d-1)) / (d (d + 1) (rows - d)),   w_d = -v_(d+1) - v_(d+2) - ...,   b_d = w_d + d v_d

    Error: eps rows times the largest entry.
    Cost: a few passes over the map.
    Source: two-way fits with missing cells; Searle 1971. The sums are ours, tested against a solver.
    """
    _check("decompose_causal", matrix)
    rows = matrix.shape[0]
    seen = jnp.tril(jnp.ones_like(matrix))
    kept = matrix * seen
    counts = jnp.arange(rows, 0, -1, dtype=matrix.dtype)
    mean = jnp.sum(kept) / jnp.sum(counts)
    column_means = jnp.sum(kept, axis=0) / counts
    # Of what columns leave; diagonal d holds keys 0 to rows - 1 - d.
    left = jnp.sum(_skew((kept - column_means[None]) * seen), axis=0)
    place = jnp.arange(rows, dtype=matrix.dtype)
    before = jnp.cumsum(left) - left
    rises = (place * left - before) / (jnp.maximum(place, 1) * (place + 1) * counts)
    rises = jnp.where(place > 0, rises, 0)
    levels = rises - jnp.flip(jnp.cumsum(jnp.flip(rises)))
    distances = levels + place * rises
    # Key j meets distances 0 to rows - 1 - j, whose mean is the level of the last.
    keys = column_means - jnp.flip(levels)
    fitted = (keys[None] + _unskew(distances)) * seen
    constant, column = mean * seen, (column_means[None] - mean) * seen
    return Decomposition(constant, column, fitted - constant - column, kept - fitted)


def symbol(matrix: Map) -> Complex[Array, " rows"]:
    """Compute the symbol of the positional part of a map: its eigenvalues, one for each wave number.

    The discrete Fourier transform of the mean over wrapped diagonals. Entry k says what the head does to a wave of k
    periods: entry 0 is the mean row sum.

    Raises:
        ShapeError: the map is not square.

    Needs a Fourier transform, which the CPU has.

    Source: Gray 2006 (circulant matrices).
    """
    _check("symbol", matrix)
    return jnp.fft.fft(jnp.mean(_diagonals(matrix), axis=0))


def block_part(matrix: Map, tile: int) -> Map:
    """Project a map onto maps that are constant on tiles of queries and keys: what a tile operator can see.

    Args:
        matrix: square, its rows a multiple of ``tile``.
        tile: rows of one tile.

    Raises:
        ShapeError: the map is not square.
        OptionError: ``tile`` does not divide the rows.
    """
    _check("block_part", matrix)
    rows = matrix.shape[0]
    if tile < 1 or rows % tile:
        refuse(
            OptionError,
            "block_part: tiles must fill the map.",
            got=f"tile={tile}, {rows} rows",
            want="a divisor of the rows",
            fix="choose another tile, or cut the map.",
        )
    blocks = matrix.reshape(rows // tile, tile, rows // tile, tile)
    means = jnp.mean(blocks, axis=(1, 3), keepdims=True)
    return jnp.broadcast_to(means, blocks.shape).reshape(rows, rows)


def _diagonals(matrix: Map) -> Float[Array, "rows distances"]:
    """Shift row i left by i, so that column d holds the entries at distance j - i = d, wrapped."""
    rows = matrix.shape[0]
    place = jnp.arange(rows)
    return jnp.take_along_axis(matrix, (place[:, None] + place[None]) % rows, axis=1)


def _along_diagonals(means: Float[Array, " distances"]) -> Map:
    place = jnp.arange(means.shape[0])
    return means[(place[None] - place[:, None]) % means.shape[0]]


def _skew(matrix: Map) -> Float[Array, "rows distances"]:
    """Put the entry at distance i - j = d into column d; zero where there is none."""
    rows = matrix.shape[0]
    place = jnp.arange(rows)
    behind = place[:, None] - place[None]
    return jnp.where(behind >= 0, jnp.take_along_axis(matrix, jnp.maximum(behind, 0), axis=1), 0)


def _unskew(values: Float[Array, " distances"]) -> Map:
    place = jnp.arange(values.shape[0])
    return values[jnp.maximum(place[:, None] - place[None], 0)]


def _check(name: str, matrix: Array) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        refuse(
            ShapeError,
            f"{name}: a map of self-attention is square.",
            got=describe(matrix),
            want="[rows, rows]",
            fix="map over heads with jax.vmap.",
        )
