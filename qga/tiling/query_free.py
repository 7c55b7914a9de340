"""Bounds of tiles that hold for every query: what allows keys to be merged once, before anybody asks."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..exact.scores import lift_to_rays
from ..geometry.constant_curvature import distance, project

Keys = Float[Array, "tiles tile width"]
Exists = Bool[Array, "tiles tile"]
PerTile = Float[Array, " tiles"]
Metric = Literal["cosine", "fidelity", "born_hyperbolic"]


class StaticMerge(NamedTuple):
    """What replacing all scores of a tile by one costs at most, for the worst query.

    Attributes:
        oscillation: largest score of the tile minus smallest, in nats.
        excess: kappa_T = log Z_T - log |T| - mean score; merging every tile of excess at most K leaves
            KL(merged || exact) <= K for every query, and total variation at most sqrt(K / 2).
    """

    oscillation: PerTile
    excess: PerTile


def query_free_oscillation(
    keys: Keys, exists: Exists, *, metric: Metric, scale: float, curvature: float = -1.0
) -> PerTile:
    """Bound how much the scores of a tile can differ, for every query there is.

    fidelity: 2 scale sin r,  |F(q, k) - F(q, c)| <= sqrt(1 - F(k, c)) = sin(angle of the rays)
    cosine: 2 scale r,  r = max |k / |k| - c|
    born_hyperbolic: 2 (2 scale / sqrt(-curvature)) r,  r the geodesic radius

    c is a centre of the tile. The dot product has no such bound, because a query may be as long as it likes; this is
    the one provable advantage of bounded or Lipschitz scores for adaptive tiling.

    Args:
        keys: tiles from ``split``, as the scores of ``metric`` read them.
        exists: True where a key exists.
        metric: of ``qga.exact.scores``; the three whose scores are Lipschitz in the key, uniformly in the query.
        scale: inverse temperature, zero or more.
        curvature: of ``born_hyperbolic``, below zero.

    Returns:
        In nats, zero for an empty tile, raised by the rounding of its own computation. Without derivatives.

    Raises:
        OptionError: no bound exists for ``metric``, or a number is out of range.
        ShapeError: keys are no tiles, or of odd width under ``fidelity``.

    Source: theory of this project (trace distance of two pure states; |d log cosh x| <= dx).
    """
    _check(keys, exists, metric, scale, curvature)
    radius = _RADII[metric](lax.stop_gradient(keys), exists, curvature)
    steepness = 2 / (-curvature) ** 0.5 if metric == "born_hyperbolic" else 1.0
    return 2 * scale * steepness * jnp.max(jnp.where(exists, radius, 0), axis=1)


def static_merge(keys: Keys, exists: Exists, *, metric: Metric, scale: float, curvature: float = -1.0) -> StaticMerge:
    """Price the merging of each tile into one key of the mean score, for every future query.

    kappa_T <= oscillation^2 / 8;   fidelity also: kappa_T <= (1 - Tr rho_T^2) / 2 (e^scale - 1 - scale)

    The second is small where the keys of a tile are nearly one state, except for few.

    Args:
        keys: as in ``query_free_oscillation``.
        exists: True where a key exists.
        metric: likewise.
        scale: likewise.
        curvature: likewise.

    Raises:
        OptionError: as ``query_free_oscillation``.
        ShapeError: as ``query_free_oscillation``.

    Source: Hoeffding 1963; Bennett 1962; theory of this project.
    """
    oscillation = query_free_oscillation(keys, exists, metric=metric, scale=scale, curvature=curvature)
    excess = jnp.square(oscillation) / 8
    if metric == "fidelity":
        slope = jnp.expm1(jnp.asarray(scale, keys.dtype)) - scale
        excess = jnp.minimum(excess, _impurity(lax.stop_gradient(keys), exists) / 2 * slope)
    return StaticMerge(oscillation, excess)


def query_free_center(keys: Keys, exists: Exists, *, metric: Literal["cosine", "fidelity"]) -> Keys:
    """Return the centre that ``query_free_oscillation`` bounds each tile around, [tiles, 1, width]; zero without keys.

    Args:
        keys: tiles from ``split``.
        exists: True where a key exists.
        metric: ``cosine``, whose centre is the mean of the keys at length 1, or ``fidelity``.
    """
    if metric == "cosine":
        return _mean(_units(keys), exists)
    center = _ray_center(_states(keys), exists)
    return jnp.concatenate([jnp.real(center), jnp.imag(center)], axis=-1)


def _cosine_radius(keys: Keys, exists: Exists, curvature: float) -> Float[Array, "tiles tile"]:
    del curvature
    units = _units(keys)
    return _length(units - _mean(units, exists)) + _rounding(keys)


def _units(keys: Keys) -> Keys:
    size = jnp.sum(jnp.square(keys), axis=-1, keepdims=True)
    return keys * lax.rsqrt(jnp.maximum(size, jnp.finfo(keys.dtype).tiny))


def _ray_radius(keys: Keys, exists: Exists, curvature: float) -> Float[Array, "tiles tile"]:
    """Compute sqrt(1 - F) as |k - c <c|k>|, which near keys do not lose to rounding."""
    del curvature
    states = _states(keys)
    center = _ray_center(states, exists)
    away = states - center * jnp.sum(center.conj() * states, axis=-1, keepdims=True)
    # A key of zeros has no ray; its fidelity is zero with every query, so it lies as far as a ray can.
    return jnp.where(_length(states) > 0.5, _length(away), 1) + _rounding(keys)


def _ray_center(states: Array, exists: Exists) -> Array:
    # Any centre is sound. This one is the mean in the phases of the first key, which no eigenvalue solver has to find.
    first = states[:, :1]
    aligned = states * jnp.sum(states.conj() * first, axis=-1, keepdims=True)
    total = jnp.sum(jnp.where(exists[..., None], aligned, 0), axis=1, keepdims=True)
    size = _length(total)[..., None]
    return total / jnp.where(size > 0, size, 1).astype(total.dtype)


def _hyperbolic_radius(keys: Keys, exists: Exists, curvature: float) -> Float[Array, "tiles tile"]:
    points = project(keys, curvature=curvature)
    # The mean of the lifts, brought back to the hyperboloid; any point near it would be sound.
    mean = _mean(points, exists)
    square = jnp.square(mean[..., :1]) + curvature * jnp.sum(jnp.square(mean[..., 1:]), axis=-1, keepdims=True)
    center = project(mean[..., 1:] * lax.rsqrt(square), curvature=curvature)
    away = distance(points, jnp.broadcast_to(center, points.shape), curvature=curvature)
    farthest = jnp.maximum(points[..., 0], center[..., 0])
    return away * (1 + _rounding(keys) * farthest)


_RADII = {"cosine": _cosine_radius, "fidelity": _ray_radius, "born_hyperbolic": _hyperbolic_radius}


def _impurity(keys: Keys, exists: Exists) -> PerTile:
    """Compute 1 - Tr rho^2, the mean of 1 - F over all pairs of a tile."""
    states = jnp.where(exists[..., None], _states(keys), 0)
    overlaps = jnp.einsum("tad,tbd->tab", states, states.conj(), precision=lax.Precision.HIGHEST)
    members = jnp.maximum(jnp.sum(exists.astype(keys.dtype), axis=1), 1)
    fidelities = jnp.square(jnp.real(overlaps)) + jnp.square(jnp.imag(overlaps))
    purity = jnp.sum(fidelities, axis=(1, 2)) / jnp.square(members)
    return jnp.maximum(1 - purity, 0) + 2 * _rounding(keys)


def _states(keys: Keys) -> Array:
    real, imaginary = jnp.split(lift_to_rays(keys), 2, axis=-1)
    return lax.complex(real, imaginary)


def _mean(rows: Keys, exists: Exists) -> Float[Array, "tiles 1 width"]:
    total = jnp.sum(jnp.where(exists[..., None], rows, 0), axis=1, keepdims=True)
    return total / jnp.maximum(jnp.sum(exists.astype(rows.dtype), axis=1), 1)[:, None, None]


def _length(rows: Array) -> Float[Array, "tiles tile"]:
    return jnp.sqrt(jnp.sum(jnp.square(jnp.real(rows)) + jnp.square(jnp.imag(rows)), axis=-1))


def _rounding(keys: Keys) -> float:
    return float(jnp.finfo(keys.dtype).eps) * 2 * (keys.shape[-1] + 8)


def _check(keys: Keys, exists: Exists, metric: str, scale: float, curvature: float) -> None:
    if metric not in _RADII or not scale >= 0 or not curvature < 0:
        refuse(
            OptionError,
            "query_free_oscillation: there is a bound for scores that are Lipschitz in the key for every query.",
            got=f"metric={metric!r}, scale={scale}, curvature={curvature}",
            want=f"one of {', '.join(_RADII)}, scale >= 0, curvature < 0",
            fix="bound dot scores for given queries with qga.tiling.mass_bounds.",
        )
    if keys.ndim != 3 or exists.shape != keys.shape[:2]:
        refuse(
            ShapeError,
            "query_free_oscillation: keys come in tiles.",
            got=f"keys {describe(keys)}, exists {describe(exists)}",
            want="keys [tiles, tile, width], exists [tiles, tile]",
            fix="cut keys with qga.tiling.split.",
        )
