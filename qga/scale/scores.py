"""Scores of merged keys: exactly, by adding masses, and by centroids, with the gap between the two."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ShapeError, describe, refuse
from ..motivic.measure import measure
from .field import check_halvings

Scores = Float[Array, "*batch keys"]

# Up to here exp neither overflows nor loses the small gap; beyond, the gap is no longer small and logs lose nothing.
_LARGEST_HALF_DIFFERENCE = 8.0


def coarsen_scores(scores: Scores, *, levels: int = 1) -> Float[Array, "*batch blocks"]:
    """Merge keys in pairs and keep every partition sum: s'_i = log(e^s_2i + e^s_2i+1), ``levels`` times.

    Decimation: Z, and the mass of every block, are the same at every scale. It is ``qga.motivic.measure`` of each pair.

    Args:
        scores: s, in nats; minus infinity is no key. Keys on the last axis, a multiple of 2^levels.
        levels: how many halvings; 0 is the identity.

    Raises:
        OptionError: ``levels`` is negative.
        ShapeError: the keys cannot be halved that often.

    Error: a few eps of the largest |s| for each level.
    Source: Kadanoff 1966.

    Example:
        >>> [round(float(each), 4) for each in coarsen_scores(jnp.zeros(4))]
        [0.6931, 0.6931]
    """
    _check("coarsen_scores", scores, levels)
    for _ in range(levels):
        scores = measure(_pairs(scores))
    return scores


def centroid_scores(scores: Scores, *, levels: int = 1) -> Float[Array, "*batch blocks"]:
    """Merge keys in pairs at the mean score: s'_i = (s_2i + s_2i+1) / 2 + log 2, ``levels`` times.

    For scores linear in the key this is the score of the mean key, counted twice. By Jensen it never has more mass
    than ``coarsen_scores``, block by block; ``jensen_gap`` says how much less.

    Args:
        scores: s, in nats. Keys on the last axis, a multiple of 2^levels.
        levels: how many halvings; 0 is the identity.

    Raises:
        OptionError: ``levels`` is negative.
        ShapeError: the keys cannot be halved that often.
    """
    _check("centroid_scores", scores, levels)
    for _ in range(levels):
        scores = jnp.mean(_pairs(scores), axis=-1) + math.log(2)
    return scores


@partial(jax.jit, static_argnames="levels")
def jensen_gap(scores: Scores, *, levels: int | None = None) -> Float[Array, "*batch levels"]:
    """Compute what the partition sum loses when blocks of 1, 2, 4, ... keys share their mean score.

    gap_l = log Z - log Z(centroid_scores after l levels) = KL(q_l || p)

    where q_l shares the mass of each block evenly. Level by level, with w the centroid weights and d the difference
    within each pair,

    gap_l - gap_(l-1) = log sum_T w_T cosh(d_T / 2)

    Args:
        scores: s, finite, in nats. Keys on the last axis, a multiple of 2^levels.
        levels: how many halvings; as many as the keys allow by default.

    Returns:
        levels + 1 numbers in nats, indexed by the level: zero first, and never falling. Each step is at most the
        largest d^2 / 8 of its pairs.

    Raises:
        OptionError: ``levels`` is negative.
        ShapeError: the keys cannot be halved that often.

    Error: relative, a few eps, for scores within 16 nats of each other in each pair: the gap is not a difference of
    two large logarithms. Beyond, a few eps of the largest |s|.
    """
    keys = scores.shape[-1] if scores.ndim else 0
    if levels is None:
        levels = (keys & -keys).bit_length() - 1 if keys else 0
    _check("jensen_gap", scores, levels)
    steps = [jnp.zeros(scores.shape[:-1], scores.dtype)]
    for _ in range(levels):
        steps.append(steps[-1] + _step(scores))
        scores = centroid_scores(scores)
    return jnp.stack(steps, axis=-1)


def _step(scores: Scores) -> Float[Array, "*batch"]:
    """Compute log sum_T w_T cosh(d_T / 2) without cancellation where the differences are small."""
    pairs = _pairs(scores)
    halves = (pairs[..., 0] - pairs[..., 1]) / 2
    coarse = centroid_scores(scores)
    total = measure(coarse)
    is_small = jnp.all(jnp.abs(halves) <= _LARGEST_HALF_DIFFERENCE, axis=-1)
    safe = jnp.where(is_small[..., None], halves, 0)
    # cosh x - 1 = (e^x - 1)^2 e^-x / 2
    excess = jnp.square(jnp.expm1(safe)) * jnp.exp(-safe) / 2
    small = jnp.log1p(jnp.sum(jnp.exp(coarse - total[..., None]) * excess, axis=-1))
    return jnp.where(is_small, small, measure(scores) - total)


def _pairs(scores: Scores) -> Float[Array, "*batch blocks 2"]:
    return scores.reshape(*scores.shape[:-1], scores.shape[-1] // 2, 2)


def _check(name: str, scores: Scores, levels: int) -> None:
    if scores.ndim == 0:
        refuse(
            ShapeError,
            f"{name}: keys lie along the last axis.",
            got=describe(scores),
            want="[..., keys]",
            fix="write a single score as an array of one.",
        )
    check_halvings(name, scores, levels, rows=scores.shape[-1])
