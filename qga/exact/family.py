"""Members of the lift-inner-link family as kernels compute them: what is lifted, which score, what is done to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels.score import Score
from ..kernels.storage import Storage
from ..tiling.state import accumulator_dtype
from .metrics import Metric, lift
from .pairs import Number, Place, ScoreMod, at
from .scores import FIDELITY, dot_score, lift_to_rays

# Scales that queries of 16 bits hold, of length 1 otherwise: far below the largest number of 16 bits.
_MOST_HELD = 1024.0
_LOG_2 = math.log(2)

Rows = Float[Array, "batch rows heads width"]
Scale = float | Float[Array, "batch heads"]


class Member(NamedTuple):
    """How one metric is computed.

    Attributes:
        queries: lifted as far as keys are.
        keys: lifted, in the dtype that products are taken in.
        score: the inner products and their link.
        scale: that the link is given.
        mods: what is done to the score before anything else.
        limits: numbers that every score lies between; None where there are none.
        storage: of keys and values: scales, [batch, heads, rows], and pages of each batch entry. Where there are pages,
            keys are [pages, rows of a page, heads, width], values likewise, and scales [heads, pages, rows of a page].
    """

    queries: Rows
    keys: Rows
    score: Score
    scale: Scale
    mods: tuple[ScoreMod, ...] = ()
    limits: tuple[float, float] | None = None
    storage: Storage = Storage()


def member_of(metric: Metric, queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    """Return how a metric is computed for these rows.

    Args:
        metric: as in ``qga.exact.scores``.
        queries: [batch, rows, heads, width].
        keys: likewise, with heads that divide those of the queries.
        scale: inverse temperature, one number or one for each batch entry and head.
        curvature: of the hyperbolic metrics.
    """
    return _MEMBERS[metric](queries, keys, scale, curvature)


def _dot(queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    del curvature
    return Member(queries, keys, dot_score(queries.dtype), scale)


def _cosine(queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    del curvature
    asking, looked_at = (lift(rows, metric="cosine") for rows in (queries, keys))
    # Rounding may take a cosine beyond 1 by a little.
    limits = (-abs(scale), abs(scale)) if isinstance(scale, float) else None
    if isinstance(scale, float) and _can_hold(queries, scale):
        asking, scale = asking * (scale / _LOG_2), _LOG_2
    asking, looked_at = asking.astype(queries.dtype), looked_at.astype(keys.dtype)
    return Member(asking, looked_at, dot_score(queries.dtype), scale, limits=limits)


def _can_hold(queries: Rows, scale: float) -> bool:
    """Tell whether queries that are made anew, and rounded, hold the scale as well.

    They do so in units of log 2, those of kernels: no score is multiplied by anything then.
    """
    return queries.dtype.itemsize == 2 and abs(scale) <= _MOST_HELD


def _gauss(queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    squares, group = _squares(keys) / 2, queries.shape[2] // keys.shape[2]

    def mod(score: Number, batch: Place, head: Place, query: Place, key: Place) -> Number:
        return score - _number(scale, batch, head) * squares[batch, key, head // group]

    return _dot(queries, keys, scale, curvature)._replace(mods=(mod,))


def _hyperbolic(queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    apart = _apart(queries, keys, curvature)

    def mod(score: Number, batch: Place, head: Place, query: Place, key: Place) -> Number:
        return score - _number(scale, batch, head) * apart(batch, head, query, key)

    return _dot(queries, keys, scale, curvature)._replace(mods=(mod,))


def _born_hyperbolic(queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    apart = _apart(queries, keys, curvature)

    def mod(score: Number, batch: Place, head: Place, query: Place, key: Place) -> Number:
        # Rounding alone makes the distance negative, which the logarithm would not forgive.
        half_chord = jnp.maximum(apart(batch, head, query, key) - score, 0)
        return 2 / curvature * _number(scale, batch, head) * jnp.log1p(-curvature * half_chord)

    return _dot(queries, keys, 1.0, curvature)._replace(mods=(mod,))


def _fidelity(queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    del curvature
    limits = (min(scale, 0.0), max(scale, 0.0)) if isinstance(scale, float) else None
    asking = lift_to_rays(queries.astype(accumulator_dtype(queries)))
    if isinstance(scale, float) and scale > 0 and _can_hold(queries, scale):
        asking, scale = asking * math.sqrt(scale / _LOG_2), _LOG_2
    return Member(asking.astype(queries.dtype), lift_to_rays(keys), FIDELITY, scale, limits=limits)


def _born(queries: Rows, keys: Rows, scale: Scale, curvature: float) -> Member:
    def mod(score: Number, batch: Place, head: Place, query: Place, key: Place) -> Number:
        del query, key
        # Asked as "is it zero", so that NaN stays NaN.
        orthogonal = score == 0
        logarithm = jnp.log(jnp.where(orthogonal, 1, score))
        return jnp.where(orthogonal, -jnp.inf, _number(scale, batch, head) * logarithm)

    del curvature
    return Member(lift_to_rays(queries), lift_to_rays(keys), FIDELITY, 1.0, (mod,))


_MEMBERS: dict[Metric, Callable[[Rows, Rows, Scale, float], Member]] = {
    "dot": _dot, "gauss": _gauss, "cosine": _cosine, "hyperbolic": _hyperbolic, "fidelity": _fidelity, "born": _born,
    "born_hyperbolic": _born_hyperbolic,
}  # fmt: skip


def _apart(queries: Rows, keys: Rows, curvature: float) -> Callable[..., Number]:
    """Return t_q t_k - R^2, which less the inner product is half of the squared chord; R^2 divided out, exact at 0."""
    group = queries.shape[2] // keys.shape[2]
    asking, looked_at = (_rise(_squares(rows), curvature) for rows in (queries, keys))

    def apart(batch: Place, head: Place, query: Place, key: Place) -> Number:
        first, second = asking[batch, query, head], looked_at[batch, key, head // group]
        return first + second - curvature * first * second

    return apart


def _rise(squares: Array, curvature: float) -> Array:
    """Return R (t - R), for a spatial part of this square."""
    return squares / (1 + jnp.sqrt(1 - curvature * squares))


def _squares(rows: Rows) -> Float[Array, "batch rows heads"]:
    # Functions of a pair are traced even where there is none: they read the square of a row that does not exist.
    there = rows if rows.shape[1] else jnp.zeros((rows.shape[0], 1, *rows.shape[2:]), rows.dtype)
    return jnp.sum(jnp.square(there.astype(accumulator_dtype(rows))), axis=-1)


def _number(scale: Scale, batch: Place, head: Place) -> float | Number:
    return at(scale, batch, head) if isinstance(scale, jax.Array) else scale
