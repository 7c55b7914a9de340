"""Keys merged once, when they are written, for every query that will ever ask: bounded scores allow it."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse
from ..exact.grouped import attend_grouped
from ..exact.metrics import lift
from ..exact.multi_head import Attended, Heads, KeyHeads, ValueHeads
from ..exact.prepare import prepare
from ..exact.scores import lift_to_rays
from ..kernels.problem import DEFAULT_TILE
from ..tiling.certificate import Certificate, perturbation_bounds, rounding_of_exp
from ..tiling.cut import split
from ..tiling.plan import Certified
from ..tiling.query_free import query_free_center, query_free_oscillation
from ..tiling.state import accumulator_dtype
from .curve import curve_order

MergeMetric = Literal["fidelity", "cosine"]

# Keys whose scores with all others say where a key stands in the order.
_PIVOTS = 3
# Part of a promise that is kept for rounding.
_ROUNDING_SHARE = 0.1


class MergedKeys(NamedTuple):
    """Keys and values of a cache, the tiles among them that are nearly one key replaced by it.

    Attributes:
        keys: that are kept, in front, at length 1.
        values: of these.
        kept: how many they are.
        centers: of tiles.
        means: of the values of tiles.
        members: keys that a tile was merged from; zero for tiles whose keys are kept.
        oscillation: by which the scores of a merged tile change at most, for any query, twice.
        spread: how far values lie from their mean at most, from the origin, and their root mean square length.
        tiles: that are kept, and merged.
        scale: inverse temperature.
        promise: largest total variation that was promised.
    """

    keys: Float[Array, "batch key_heads keys width"]
    values: Float[Array, "batch key_heads keys channels"]
    kept: Int[Array, "batch key_heads"]
    centers: Float[Array, "batch key_heads tiles width"]
    means: Float[Array, "batch key_heads tiles channels"]
    members: Float[Array, "batch key_heads tiles"]
    oscillation: Float[Array, "batch key_heads"]
    spread: Float[Array, "batch key_heads 3"]
    tiles: Int[Array, "batch key_heads 2"]
    scale: Float[Array, "batch key_heads"]
    promise: Float[Array, "batch key_heads"]


def merge_keys(
    key: KeyHeads, value: ValueHeads, *, resolution: Certified, scale: float, metric: MergeMetric = "fidelity",
    tile: int = 16,
) -> MergedKeys:  # fmt: skip
    """Merge tiles of keys whose scores hardly differ, whoever asks.

    TV <= tanh(D / 4),   D = 2 scale r,   r the largest sine of the angle of a ray and the tile's, or distance of units

    A tile is merged where that is at most eps; no query is needed for it. Keys are put in an order in which near ones
    stand together: along a Hilbert curve through their scores with three keys that are far from one another.

    Args:
        key: [batch, keys, key_heads, width], or without batch.
        value: [batch, keys, key_heads, channels].
        resolution: ``Certified(eps)``; its other numbers are not looked at.
        scale: inverse temperature, zero or more.
        metric: ``fidelity`` of rays or ``cosine``. The dot product has no bound for every query.
        tile: keys of a tile, at least 2.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range.

    Cost: linear in the keys, once. What is left for each query: the kept keys and one for each tile.
    Source: theory of this project (docs/theory/structured.md).

    Example:
        >>> keys = jnp.repeat(jnp.eye(4), 64, axis=0)[:, None]
        >>> merged = merge_keys(keys, keys, resolution=Certified(1e-2), scale=4.0)
        >>> merged.tiles.tolist()
        [[[0, 16]]]
    """
    _check(resolution, metric, scale, tile)
    prepared = prepare(
        "merge_keys", key, key, value, scale=scale, metric=metric, tile=DEFAULT_TILE, derivatives="reverse"
    )
    rows = [each if prepared.call.has_batch else each[None] for each in (key, value)]
    dtype = accumulator_dtype(*rows)
    keys, values = (jnp.swapaxes(each, 1, 2).astype(dtype) for each in rows)
    merge = partial(_merge, scale=scale, metric=metric, tile=tile, promise=resolution.eps)
    return jax.vmap(jax.vmap(merge))(_lift(keys, metric), values)


def attend_merged(
    query: Heads, merged: MergedKeys, *, metric: MergeMetric = "fidelity"
) -> tuple[Attended, Certificate]:
    """Attend to merged keys; the certificate is that of the merges, the same for every query.

    out_i = (sum_kept e^(s_ij) v_j + sum_merged |T| e^(s(q_i, c_T)) mean v) / (the same without values)

    Args:
        query: [batch, queries, heads, width], or without batch; heads are a multiple of those of the keys.
        merged: from ``merge_keys``.
        metric: that they were merged for.

    Returns:
        [batch, queries, heads, channels] in the dtype of ``query``, and a certificate of each query, [batch, queries,
        heads], against the attention over all keys, rounding included. The derivative is that of this sum.

    Raises:
        ShapeError: the query does not fit the keys.

    Error: in the certificate.
    Source: theory of this project (docs/theory/structured.md).
    """
    has_batch = query.ndim == 4
    asking = query if has_batch else query[None]
    (batch, heads, *_), queries = merged.keys.shape, asking.shape[1]
    if query.ndim not in (3, 4) or len(asking) != batch or asking.shape[2] % heads:
        refuse(
            ShapeError,
            "attend_merged: a query asks the keys of its batch entry and head.",
            got=f"query {describe(query)}, keys of {batch} entries and {heads} heads",
            want=f"[{batch}, queries, heads, width], heads a multiple of {heads}",
            fix="pass the query as for qga.attention.",
        )
    folded = jnp.moveaxis(asking.reshape(batch, queries, heads, -1, asking.shape[3]), 2, 1)
    folded = folded.reshape(batch * heads, *folded.shape[2:]).astype(merged.keys.dtype)
    out, log_sums = _sum(_lift(folded, metric), merged, "dot" if metric == "cosine" else metric)

    def unfold(each: Array) -> Array:
        each = jnp.moveaxis(each.reshape(batch, heads, *each.shape[1:]), 1, 2)
        return each.reshape(batch, queries, -1, *each.shape[4:])

    found = unfold(out).astype(query.dtype), _certify(merged, unfold(log_sums))
    return found if has_batch else jax.tree.map(lambda each: each[0], found)


def _sum(query: Array, merged: MergedKeys, metric: str) -> tuple[Array, Array]:
    """Average over the kept keys and over the merged ones, of every entry and key head."""
    fold = lambda each: each.reshape(-1, *each.shape[2:])  # noqa: E731
    members = fold(merged.members)[:, None, None]
    run = partial(_attend, query, scale=merged.scale.reshape(-1, 1), metric=metric)
    kept = run(fold(merged.keys), fold(merged.values), key_lengths=fold(merged.kept))
    log_members = jnp.log(jnp.maximum(members, 1))
    coarse = run(fold(merged.centers), fold(merged.means), bias=log_members, mask=members > 0)
    base = lax.stop_gradient(jnp.maximum(kept[1], coarse[1]))
    first, other = (jnp.exp(each - base)[..., None] for each in (kept[1], coarse[1]))
    return (first * kept[0] + other * coarse[0]) / (first + other), base


def _attend(query: Array, key: Array, value: Array, **options: Any) -> tuple[Array, Array]:
    prepared = prepare(
        "attend_merged", query, key[:, :, None], value[:, :, None], tile=DEFAULT_TILE, derivatives="reverse", **options
    )
    return attend_grouped(*prepared[1:])


def _lift(rows: Array, metric: MergeMetric) -> Array:
    return lift(rows, metric="cosine").astype(rows.dtype) if metric == "cosine" else lift_to_rays(rows)


def _merge(keys: Array, values: Array, *, scale: float, metric: MergeMetric, tile: int, promise: float) -> MergedKeys:
    """Merge the keys of one head, at length 1."""
    order = curve_order(_against_pivots(keys, metric))
    (tiles, exists), (held, _) = split(keys[order], tile), split(values[order], tile)
    oscillation = query_free_oscillation(tiles, exists, metric=metric, scale=scale)
    is_merged = perturbation_bounds(oscillation).total_variation <= promise * (1 - _ROUNDING_SHARE)
    # Kept tiles first, in their order: the one that is not full is the last of them.
    places = jnp.where(
        is_merged,
        jnp.sum(~is_merged, dtype=jnp.int32) - 1 + jnp.cumsum(is_merged, dtype=jnp.int32),
        jnp.cumsum(~is_merged, dtype=jnp.int32) - 1,
    )
    compact = lambda each: jnp.zeros_like(each).at[places].set(each, unique_indices=True)  # noqa: E731
    members = jnp.sum(exists, axis=1, dtype=keys.dtype)
    means = jnp.sum(jnp.where(exists[..., None], held, 0), axis=1) / jnp.maximum(members, 1)[:, None]
    away = values - jnp.mean(values, axis=0)[None]
    squares = jnp.sum(jnp.square(values), axis=1)
    spread = jnp.max(jnp.sum(jnp.square(away), axis=1)), jnp.max(squares), jnp.mean(squares)
    flat = lambda each: compact(each).reshape(-1, each.shape[2])  # noqa: E731
    return MergedKeys(
        flat(tiles), flat(held), jnp.sum(jnp.where(is_merged, 0, members)).astype(jnp.int32),
        query_free_center(tiles, exists, metric=metric)[:, 0], means, jnp.where(is_merged, members, 0),
        jnp.max(jnp.where(is_merged, oscillation, 0)), jnp.sqrt(jnp.stack(spread)),
        jnp.stack([jnp.sum(~is_merged, dtype=jnp.int32), jnp.sum(is_merged, dtype=jnp.int32)]),
        jnp.asarray(scale, keys.dtype), jnp.asarray(promise, keys.dtype),
    )  # fmt: skip


def _against_pivots(keys: Float[Array, "keys width"], metric: MergeMetric) -> Float[Array, "keys pivots"]:
    """Return the scores of keys with a few of them, each as far as any from those before."""
    half = keys.shape[1] // 2
    turned = jnp.concatenate([-keys[:, half:], keys[:, :half]], axis=1)
    nearest, found = jnp.full(len(keys), -jnp.inf, keys.dtype), []
    for _ in range(_PIVOTS):
        pivot = keys[jnp.argmin(nearest)]
        score = keys @ pivot
        if metric == "fidelity":
            score = jnp.square(score) + jnp.square(turned @ pivot)
        nearest = jnp.maximum(nearest, score)
        found.append(score)
    return jnp.stack(found, axis=1)


def _certify(merged: MergedKeys, log_sums: Float[Array, "batch queries heads"]) -> Certificate:
    """Bound the errors: those of the merges, and rounding of products of rows of length 1."""
    group = log_sums.shape[2] // merged.kept.shape[1]
    eps, width = float(jnp.finfo(merged.keys.dtype).eps), merged.keys.shape[3]
    exponent = eps * (merged.scale * 3 * (width + 16) + 16) + rounding_of_exp(merged.keys.dtype)
    rows = sum(each.shape[2] for each in (merged.keys, merged.centers))
    summed = eps * (DEFAULT_TILE + 3 * -(-rows // DEFAULT_TILE) + 16)
    distances = perturbation_bounds(merged.oscillation + 2 * exponent)
    total_variation = jnp.minimum(distances.total_variation + 2 * summed, 1)
    away, longest, rms = jnp.moveaxis(merged.spread, 2, 0)
    error = total_variation * 2 * away + (4 * summed + eps) * longest
    wide = lambda each: jnp.broadcast_to(jnp.repeat(each, group, axis=1)[:, None], log_sums.shape)  # noqa: E731
    kept, coarse = (wide(merged.tiles[..., side]) for side in (0, 1))
    zero = jnp.zeros_like(log_sums)
    is_sound = wide(total_variation <= merged.promise) & jnp.isfinite(wide(error)) & jnp.isfinite(log_sums)
    return Certificate(
        wide(distances.kl), wide(total_variation), zero, wide(error), wide(rms), kept, jnp.zeros_like(kept), coarse,
        jnp.zeros_like(kept), is_sound,
    )  # fmt: skip


def _check(resolution: Any, metric: str, scale: float, tile: int) -> None:
    is_good = isinstance(resolution, Certified) and 0 < resolution.eps < 1 and scale >= 0 and tile >= 2
    if not is_good or metric not in get_args(MergeMetric):
        refuse(
            OptionError,
            "merge_keys: scores with a bound for every query, and a promise.",
            got=f"resolution={resolution!r}, metric={metric!r}, scale={scale}, tile={tile}",
            want="qga.tiling.Certified(eps) with 0 < eps < 1, metric 'fidelity' or 'cosine', scale >= 0, tile >= 2",
            fix="pass resolution=qga.tiling.Certified(1e-2), metric='fidelity'.",
        )
