"""How far attention over points can be from the exact one, for each query, rounding included."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..tiling.certificate import Certificate, perturbation_bounds, rounding_of_exp, skipped_weight
from .nodes import Nodes, extent_of, least_of
from .point_plan import Left, longest_of

PerQuery = Float[Array, "heads queries"]


class Far(NamedTuple):
    """What the nodes of a grid found.

    Attributes:
        total: sums of weights times (1, value).
        log_lost: at least the log of what the keys weigh that windows lost; minus infinity where nothing was asked.
        queries: tiles whose queries asked them.
        keys: tiles whose keys they hold.
    """

    total: Float[Array, "heads queries columns"]
    log_lost: PerQuery
    queries: Bool[Array, "heads query_tiles"]
    keys: Bool[Array, "heads key_tiles"]


class Near(NamedTuple):
    """What pairs of tiles found.

    Attributes:
        out: averages.
        log_sums: logs of sums of weights.
        left: what was left out.
        scored: how many tiles of keys were scored for a tile of queries.
    """

    out: Float[Array, "heads queries channels"]
    log_sums: PerQuery
    left: Left
    scored: Int[Array, "heads query_tiles"]


class Known(NamedTuple):
    """What a certificate is made of besides.

    Attributes:
        points: queries and keys, near the origin.
        values: of the keys.
        scale: inverse temperature.
        tile: rows of a tile that counts.
        promise: largest total variation that was promised.
        terms: numbers at most that are added up one after another for a sum over nodes.
    """

    points: tuple[Array, Array]
    values: Float[Array, "key_heads keys channels"]
    scale: Float[Array, " heads"]
    tile: int
    promise: float
    terms: int


def certify_points(known: Known, nodes: Nodes | None, far: Far | None, near: Near) -> Certificate:
    """Bound the errors of attention over points, for each query.

    left <= S / (S + Z'),  S = what was left out and what windows lost;   D = (largest - least) error of a log weight
    TV <= left + tanh(D / 4) + w,   KL <= -log(1 - left) + D^2 / 8

    with w the rounding of sums: leaving parts of weights out and then changing what is left.
    """
    log_sums, log_left = near.log_sums, known_rows(near.left.log_weight, known)
    exponent, summed = _round_near(known, near)
    ripple: float | Array = 0.0
    if nodes is not None and far is not None:
        asked = far.log_lost > -jnp.inf
        log_sums = jnp.logaddexp(jnp.log(far.total[..., 0]), log_sums)
        log_left = jnp.logaddexp(log_left, far.log_lost)
        width = known.points[0].shape[2]
        ripple = jnp.where(asked, width * math.log1p(2 * nodes.ripple / (1 - nodes.ripple)), 0)
        exponent = jnp.maximum(exponent, jnp.where(asked, _round_far(known, nodes)[:, None], 0))
        summed = summed + jnp.where(asked, float(jnp.finfo(log_sums.dtype).eps) * known.terms, 0)
    raised = log_left + 4 * jnp.finfo(log_left.dtype).eps * (known.points[1].shape[1] + jnp.abs(log_left))
    left = skipped_weight(log_sums - ripple - exponent - summed, raised)
    left = jnp.where(log_left == -jnp.inf, 0, left)
    changed = perturbation_bounds(ripple + 2 * exponent)
    total_variation = jnp.minimum(left + changed.total_variation + 2 * summed, 1)
    # What is no number has no bound; largest lengths may have lost it. Without keys there is nothing to bound.
    is_known = jnp.isfinite(log_sums) | (known.points[1].shape[1] == 0)
    left, total_variation = (jnp.where(is_known, each, jnp.nan) for each in (left, total_variation))
    return _certificate(known, far, near, (left, total_variation, changed.kl - jnp.log1p(-left), summed))


def known_rows(tiles: Array, known: Known) -> Array:
    """Give every query what its tile has."""
    return jnp.repeat(tiles, known.tile, axis=1)[:, : known.points[0].shape[1]]


def _certificate(known: Known, far: Far | None, near: Near, bounds: tuple[Array, ...]) -> Certificate:
    left, total_variation, kl, summed = bounds
    group = len(known.points[0]) // len(known.points[1])
    away, longest, rms = (jnp.repeat(each, group)[:, None] for each in _values(known.values))
    error = total_variation * 2 * away + (4 * summed + jnp.finfo(known.values.dtype).eps) * longest
    kl, total_variation, left, error = (
        jnp.where(jnp.isnan(each), most, each)
        for each, most in ((kl, jnp.inf), (total_variation, 1), (left, 1), (error, jnp.inf))
    )
    scored, skipped = (known_rows(each, known) for each in (near.scored, near.left.tiles))
    coarse = jnp.zeros_like(scored)
    if far is not None:
        held = jnp.sum(far.keys, axis=1, dtype=jnp.int32)[:, None]
        coarse = known_rows(jnp.where(far.queries, held, 0), known)
    is_sound = jnp.isfinite(error) & (total_variation <= known.promise)
    rms = jnp.broadcast_to(rms, kl.shape)
    nothing = jnp.zeros_like(scored)
    return Certificate(kl, total_variation, left, error, rms, scored, nothing, coarse, skipped, is_sound)


def _round_near(known: Known, near: Near) -> tuple[PerQuery, PerQuery]:
    """Bound the rounding of an exponent and of sums.

    A score s (q.k - |k|^2 / 2) is off by s (|q| + |k|)^2 / 2 times width + 8 halves of eps: those of products and sums
    of ``width`` terms, of the scale, of the difference, and two for the points, which were moved near the origin.
    """
    dtype = known.values.dtype
    eps, width = float(jnp.finfo(dtype).eps), known.points[0].shape[2]
    scored = known_rows(near.scored.astype(dtype), known)
    moved = eps / 2 * (width + 8) * known.scale / 2 * jnp.square(longest_of(*known.points))
    exponent = jnp.where(scored > 0, moved[:, None], 0) + 2 * rounding_of_exp(dtype)
    return exponent, eps * (known.tile + 8 + 3 * scored)


def _round_far(known: Known, nodes: Nodes) -> Float[Array, " heads"]:
    """Bound the rounding of a product of exponentials: of two points and of all axes.

    Points are moved by three units of their length: by those of a difference, of a product and of a quotient.
    """
    dtype, width = known.values.dtype, known.points[0].shape[2]
    eps, window, square = float(jnp.finfo(dtype).eps), nodes.window, nodes.decay**2
    length = longest_of(*known.points) * jnp.sqrt(known.scale) / nodes.decay + 1
    each = 2 * square * window * 3 * eps * length + 4 * eps * square * window**2 + rounding_of_exp(dtype)
    queries, keys = known.points
    extent = extent_of(queries, jnp.repeat(keys, len(queries) // len(keys), axis=0))
    # Scales are raised up to the least one, which rounds differently there.
    raised = jnp.where(known.scale * extent < 2 * least_of(dtype), least_of(dtype) / 2, 0)
    return 2 * width * each + raised


def _values(values: Array) -> tuple[Array, ...]:
    """Return how far values lie from their mean and from the origin at most, and their root mean square length."""
    squares = jnp.sum(jnp.square(values), axis=2)
    count = max(1, values.shape[1])
    away = values - jnp.sum(values, axis=1, keepdims=True) / count
    farthest = jnp.sqrt(jnp.max(jnp.sum(jnp.square(away), axis=2), axis=1, initial=0))
    return farthest, jnp.sqrt(jnp.max(squares, axis=1, initial=0)), jnp.sqrt(jnp.sum(squares, axis=1) / count)
