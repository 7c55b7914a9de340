"""Scores of the lift-inner-link family: one inner product of lifted vectors and a scalar link."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from ..kernels.score import Inners, Planes, Score, score_tile
from ..tiling.state import accumulator_dtype


def dot_scores(
    queries: Float[Array, "queries width"], keys: Float[Array, "keys width"], scale: Float[Array, ""]
) -> Float[Array, "queries keys"]:
    """Score keys by their inner product with each query: s = scale <q, k>.

    Args:
        queries: one row for each question.
        keys: one row for each place looked at.
        scale: inverse temperature.

    Returns:
        Scores in float32 or wider.
    """
    return _scores(DOT, queries, keys, scale)


def fidelity_scores(
    queries: Float[Array, "queries width"], keys: Float[Array, "keys width"], beta: Float[Array, ""]
) -> Float[Array, "queries keys"]:
    """Score keys by the squared overlap of states: s = beta |<k|q>|^2.

    The states are classical simulations of pure quantum states; no quantum hardware and no quantum speed-up is meant.

    Args:
        queries: rays from ``lift_to_rays``, real parts in the first half of a row, imaginary parts in the second.
        keys: rays in the same layout.
        beta: inverse temperature; scores lie between 0 and ``beta``.

    Returns:
        Scores in float32 or wider.
    """
    return _scores(FIDELITY, queries, keys, beta)


def lift_to_rays(vectors: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """Normalise real rows of even width as unit complex vectors of half the width.

    The first half of a row is the real part, the second half the imaginary part. A row of zeros has no ray and stays
    zero, so that its fidelity with every state is zero.

    Raises:
        ShapeError: the width is odd.
    """
    if vectors.ndim == 0 or vectors.shape[-1] % 2:
        refuse(
            ShapeError,
            "lift_to_rays: real and imaginary parts need an even width.",
            got=describe(vectors),
            want="a last axis of even length",
            fix="put real parts in the first half of a row and imaginary parts in the second.",
        )
    return unit_rows(vectors.astype(accumulator_dtype(vectors))).astype(vectors.dtype)


def unit_rows(vectors: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """Divide rows by their lengths, whatever their size; a row of zeros stays zero, and so does its derivative.

    Squares of numbers beyond the root of the largest one, or below that of the smallest, are taken in another unit.
    """
    bits = int(jnp.finfo(vectors.dtype).maxexp)
    far = unit = 2.0 ** (bits * 5 // 8)
    # What is not small has no part in the third sum, which would overflow and spoil derivatives.
    squares, large, small = (
        jnp.sum(jnp.square(each), axis=-1, keepdims=True)
        for each in (vectors, vectors * (1 / unit), jnp.clip(vectors, -1, 1) * unit)
    )
    is_large, is_small = squares > far, squares < 1 / far
    length = jnp.where(is_large, large, jnp.where(is_small, small, squares))
    factor = jnp.where(is_large, 1 / unit, jnp.where(is_small, unit, jnp.ones_like(squares)))
    # What is divided by nothing has no derivative either.
    empty = length == 0
    return jnp.where(empty, 0, vectors * factor * lax.rsqrt(jnp.where(empty, 1, length)))


def _scores(score: Score, queries: Array, keys: Array, scale: Array) -> Float[Array, "queries keys"]:
    scale = scale.astype(accumulator_dtype(queries, keys))
    return score_tile(score, score.lift(queries, scale), keys, scale)


def _lift_scaled(queries: Float[Array, "queries width"], scale: Float[Array, ""]) -> Planes:
    # Scaled before the product: compilers join a product with the subtraction of a row's peak and leave out its
    # rounding, so that for scores beyond 1e9 the best key would end far from its own peak.
    return ((scale * queries.astype(scale.dtype)).astype(queries.dtype),)


def _link_plainly(inners: Inners, scale: Float[Array, ""]) -> Float[Array, "queries keys"]:
    del scale
    return inners[0]


def _lift_to_planes(queries: Float[Array, "queries width"], scale: Float[Array, ""]) -> Planes:
    # <k|q> = (k_re - i k_im)(q_re + i q_im): two real products instead of one complex one, which every device has.
    del scale
    half = queries.shape[-1] // 2
    return queries, jnp.concatenate([queries[:, half:], -queries[:, :half]], axis=1)


def _link_squares(inners: Inners, scale: Float[Array, ""]) -> Float[Array, "queries keys"]:
    real, imaginary = inners
    return scale * (jnp.square(real) + jnp.square(imaginary))


def _lift_nothing(queries: Float[Array, "queries width"], scale: Float[Array, ""]) -> Planes:
    del scale
    return (queries,)


def _link_scaled(inners: Inners, scale: Float[Array, ""]) -> Float[Array, "queries keys"]:
    return scale * inners[0]


DOT = Score(_lift_scaled, _link_plainly)
# For 16-bit queries, which a scale would round once more.
DOT_NARROW = Score(_lift_nothing, _link_scaled)
FIDELITY = Score(_lift_to_planes, _link_squares)


def dot_score(dtype: jnp.dtype) -> Score:
    """Return the scaled inner product for queries of a dtype."""
    return DOT_NARROW if dtype.itemsize == 2 else DOT
