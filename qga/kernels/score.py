"""The scores a kernel can compute: a lift of the queries, inner products with keys, and a scalar link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jax import lax
from jaxtyping import Array, Float

Planes = tuple[Float[Array, "queries width"], ...]
Inners = tuple[Float[Array, "queries keys"], ...]


@dataclass(frozen=True)
class Score:
    """A member of the lift-inner-link family: s = link(<plane, k> for each plane of the lifted query, scale).

    Attributes:
        lift: (queries, scale) -> planes as wide as a key. Done once for each query, outside of kernels.
        link: (inner products with each plane, scale) -> scores. Done for each pair, inside.
    """

    lift: Callable[[Float[Array, "queries width"], Float[Array, ""]], Planes]
    link: Callable[[Inners, Float[Array, ""]], Float[Array, "queries keys"]]


def score_tile(
    score: Score,
    planes: Planes,
    keys: Float[Array, "keys width"],
    scale: Float[Array, ""],
    key_scales: Float[Array, " keys"] | None = None,
) -> Float[Array, "queries keys"]:
    """Score a tile of keys for lifted queries.

    Args:
        score: which score.
        planes: the lifted queries.
        keys: one row for each place looked at.
        scale: inverse temperature, in the dtype of the scores.
        key_scales: what each key is multiplied by, in the same dtype; None for 1.

    Returns:
        Scores in the dtype of ``scale``.
    """
    rows = (((1,), (1,)), ((), ()))
    inners = tuple(lax.dot_general(plane, keys, rows, preferred_element_type=scale.dtype) for plane in planes)
    if key_scales is not None:
        inners = tuple(inner * key_scales[None, :] for inner in inners)
    return score.link(inners, scale)
