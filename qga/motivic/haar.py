"""The weight filtration: a signal as the sum of what it has at each scale of halving."""

from __future__ import annotations

from itertools import pairwise

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse


def weights(signal: Float[Array, " rows *rest"]) -> Float[Array, "levels rows *rest"]:
    """Split a signal into its graded pieces: what each scale adds to the one above.

    W_k = signals constant on blocks of rows / 2^k,  A_k = the mean over those blocks,  gr_k x = A_k x - A_{k-1} x

    An analogy, not motivic cohomology: the grading shares with a weight filtration that it is increasing, exhaustive
    and multiplicative on tensor products. It knows nothing of mixed motives.

    Args:
        signal: a power of two of rows; the levels are then those of a complete binary tree of tiles.

    Returns:
        log2(rows) + 1 pieces, coarsest (the mean) first. They add up to the signal, are orthogonal to each other, and
        their squared lengths add up to the squared length of the signal. Where the block means are floating-point
        numbers (integers of moderate size are), both hold exactly.

    Raises:
        ShapeError: the number of rows is not a power of two.

    Source: Haar 1910.

    Example:
        >>> weights(jnp.array([3.0, 1.0])).tolist()
        [[2.0, 2.0], [1.0, -1.0]]
    """
    means = _block_means(signal)
    rows = signal.shape[0]
    smooth = [jnp.repeat(mean, rows // mean.shape[0], axis=0) for mean in means]
    return jnp.stack([smooth[0], *(fine - coarse for coarse, fine in pairwise(smooth))])


def energies(signal: Float[Array, " rows *rest"]) -> Float[Array, " levels *rest"]:
    """Measure the squared length of each graded piece over the rows, without forming the pieces.

    |gr_k x|^2 = (block / 2) sum over blocks of (left mean - right mean)^2 / 2,  block = rows / 2^(k-1)

    Returns:
        log2(rows) + 1 numbers for each column that add up to the squared length of the signal (Parseval).

    Raises:
        ShapeError: the number of rows is not a power of two.

    Error: a few eps of the squared length; exact for integers of moderate size.
    Source: Haar 1910; Mallat 1989 (multiresolution).

    Example:
        >>> energies(jnp.array([3.0, 1.0, 0.0, 0.0])).tolist()
        [4.0, 4.0, 2.0]
    """
    means = _block_means(signal)
    rows = signal.shape[0]
    parts = [rows * jnp.square(means[0][0])]
    for fine in means[1:]:
        difference = fine[0::2] - fine[1::2]
        # Each half block deviates by half the difference: 2 halves of rows / len(fine) rows each.
        parts.append(rows / fine.shape[0] / 2 * jnp.sum(jnp.square(difference), axis=0))
    return jnp.stack(parts)


def apply(signal: Float[Array, " rows *rest"], gains: Float[Array, " levels"]) -> Float[Array, " rows *rest"]:
    """Scale each graded piece of a signal: a filter on the scales of the tile tree.

    y = sum_k gains_k gr_k x;  gains of one are the identity, gains of (1, 0, ..., 0) the mean.

    Args:
        signal: a power of two of rows.
        gains: one factor for each level, coarsest first.

    Raises:
        ShapeError: the rows are no power of two, or the gains are not one for each level.

    Error: a few eps of the largest gain times the largest row.
    Source: Haar 1910.

    Example:
        >>> apply(jnp.array([3.0, 1.0]), jnp.array([1.0, 0.0])).tolist()
        [2.0, 2.0]
    """
    means = _block_means(signal)
    if gains.shape != (len(means),):
        refuse(
            ShapeError,
            "motivic.apply: there must be one gain for each level.",
            got=f"gains {describe(gains)}, signal {describe(signal)}",
            want=f"gains [{len(means)}]",
            fix="pass log2(rows) + 1 gains, coarsest first.",
        )
    result = gains[0] * means[0]
    for level, (coarse, fine) in enumerate(pairwise(means), start=1):
        result = jnp.repeat(result, 2, axis=0) + gains[level] * (fine - jnp.repeat(coarse, 2, axis=0))
    return result


def _block_means(signal: Float[Array, " rows *rest"]) -> list[Array]:
    """Average over 1, 2, 4, ... blocks, coarsest first; the last entry is the signal."""
    rows = signal.shape[0] if signal.ndim else 0
    if rows < 1 or rows & (rows - 1):
        refuse(
            ShapeError,
            "motivic: the number of rows must be a power of two.",
            got=describe(signal),
            want="1, 2, 4, 8, ... rows",
            fix="pad the signal, or cut it into tiles of a power of two with qga.tiling.split.",
        )
    means = [signal]
    while means[0].shape[0] > 1:
        means.insert(0, (means[0][0::2] + means[0][1::2]) / 2)
    return means
