"""Attention over points: far tiles of keys by expansions, near ones exactly, with a certificate for each query."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, refuse
from ..exact.family import member_of
from ..exact.grouped import Options, attend_grouped
from ..exact.multi_head import Attended, Heads, KeyHeads, ValueHeads
from ..exact.prepare import prepare
from ..kernels.problem import DEFAULT_TILE
from ..kernels.visits import Visits
from ..tiling.certificate import Certificate
from ..tiling.plan import Certified
from ..tiling.state import accumulator_dtype
from .arrange import Arranged, arrange
from .expand import Sums, add_expanded, no_sums
from .expansion import Expansion, best_order, expansion
from .point_certificate import certify_points
from .point_plan import Balls, Chosen, LevelPlan, longest_of, plan_points

# Part of a promise that is kept for rounding.
_ROUNDING_SHARE = 0.1


def structured_attention(
    query: Heads, key: KeyHeads, value: ValueHeads, *,
    resolution: Certified, scale: float | Float[Array, "*#batch #heads"] | None = None,
) -> tuple[Attended, Certificate]:  # fmt: skip
    """Average values over points near a query, in about N log N operations, and certify each query.

    out_i = sum_j e^(-scale / 2 |q_i - k_j|^2) v_j / sum_j e^(-scale / 2 |q_i - k_j|^2)

    This is ``qga.attention`` with ``metric="gauss"``: Nadaraya-Watson regression with a Gaussian kernel of bandwidth
    scale^(-1 / 2), or, for rows of length 1, cosine attention. Queries and keys are put in order along a Hilbert curve,
    so they need none of their own, and there are no masks. From the coarsest tiles to the finest, a pair of tiles is
    left out where it provably weighs too little, is replaced by a few moments of its keys where e^(scale e.d), of the
    steps e and d of queries and keys from the centres of their tiles, is near its Chebyshev series, and else looked at
    in parts; pairs of the finest tiles are scored by the kernels of ``qga.attention``.

    Args:
        query: [batch, queries, heads, width], or without batch.
        key: [batch, keys, key_heads, width].
        value: [batch, keys, key_heads, channels].
        resolution: ``Certified(eps)``: half the sum of the differences of a query's weights is at most eps; up to
            ``skip_share`` of it for what is left out, the rest for expansions and rounding. ``products`` must be
            "given".
        scale: inverse square of the bandwidth, zero or more, by head where it is an array; by default
            width^(-1 / 2).

    Returns:
        [batch, queries, heads, channels] in the dtype of ``value``, and a certificate of each query, [batch, queries,
        heads]; in its counts a tile that is expanded or left out is as many as it has tiles of the finest level. First
        reverse derivatives are those of the plan as it is, which is a constant.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range.

    Error: in the certificate.
    Call it under ``jax.jit``: a plan is hundreds of small operations.
    Cost: of points in the plane with a bandwidth of a part of their extent, proportional to N; in many dimensions, or
    with a bandwidth below the distance of neighbours times 8, that of the scored pairs, up to that of attention.
    Source: Greengard and Strain 1991 (fast Gauss transform); Yang, Duraiswami and Davis 2004 (factored exponents);
    Gray and Moore 2001 (dual trees); theory of this project for the certificate (docs/theory/structured.md).

    Example:
        >>> x = jnp.linspace(0, 1, 4096)[:, None, None]
        >>> out, certificate = structured_attention(x, x, jnp.sin(6 * x), scale=100.0, resolution=Certified(1e-2))
        >>> bool(jnp.all(certificate.sound)), float(jnp.mean(certificate.saved)) > 0.8
        (True, True)
    """
    _check(resolution, scale)
    prepared = prepare(
        "structured_attention", query, key, value, scale=scale, metric="gauss", tile=DEFAULT_TILE, derivatives="reverse"
    )
    rows = [each if prepared.call.has_batch else each[None] for each in (query, key, value)]
    dtype = accumulator_dtype(*rows)
    by_head = [jnp.moveaxis(each, 2, 1).reshape(-1, each.shape[1], each.shape[3]).astype(dtype) for each in rows]
    batch, _, heads, _ = rows[0].shape
    scales = jnp.broadcast_to(jnp.asarray(prepared.member.scale, dtype), (batch, heads)).reshape(-1)
    points = arrange(*by_head)
    found = _attend(points, scales, resolution, prepared.options)
    places = points.places

    def put_back(each: Array) -> Array:
        each = jax.vmap(lambda rows, order: rows[order])(each, places).reshape(batch, heads, *each.shape[1:])
        return jnp.moveaxis(each, 1, 2) if prepared.call.has_batch else jnp.moveaxis(each[0], 0, 1)

    out, certificate = jax.tree.map(put_back, found)
    return out.astype(value.dtype), certificate


def _attend(points: Arranged, scale: Array, resolution: Certified, options: Options) -> tuple[Array, Certificate]:
    held = lax.stop_gradient(scale)
    known = expansion_of(points.keys.shape[2], resolution)
    plans, scored = plan_of(points, held, resolution)
    sums = no_sums(points.queries, points.columns.shape[2])
    rows = points.queries, points.keys
    for plan, asking, keys in zip(plans, points.query_balls, points.key_balls, strict=True):
        sums = add_expanded(sums, rows, (asking, keys), points.columns, plan.expanded, scale, known)
    sums = Sums(*(each[:, : points.counts[0]] for each in sums))
    scored = scored[:, : points.tiles[0], : points.tiles[1]]
    near = _score(points, scale, options, scored)
    certificate = certify_points(points, lax.stop_gradient((sums, near[1])), plans, scored, held, known, resolution.eps)
    return _merge(sums, near), certificate


def expansion_of(width: int, resolution: Certified) -> Expansion:
    """Return the expansion that a promise is kept with."""
    return expansion(width, best_order(width, _shares(resolution)[1] / 2))


def plan_of(points: Arranged, scale: Float[Array, " heads"], resolution: Certified) -> tuple[list[LevelPlan], Chosen]:
    """Return what is done at each level, and the pairs of the finest tiles that are scored."""
    width, channels = points.keys.shape[2], points.columns.shape[2] - 1
    known = expansion_of(width, resolution)
    keys = [Balls(*(jnp.repeat(each, points.group, axis=0) for each in balls)) for balls in points.key_balls]
    longest = longest_of(points.queries, points.keys)
    # Two products with the moments, against two with the keys and the values.
    pays = [2 * known.terms * (channels + 1) <= size * (width + channels) for size in points.sizes]
    share = _shares(resolution)
    return plan_points(points.query_balls, keys, scale, longest, order=known.order, pays=pays, share=share)


def _shares(resolution: Certified) -> tuple[float, float]:
    """Share out a promise: to what is left out, and to expansions."""
    eps = resolution.eps * (1 - _ROUNDING_SHARE)
    return resolution.skip_share * eps, (1 - resolution.skip_share) * eps


def _score(points: Arranged, scale: Array, options: Options, visited: Chosen) -> tuple[Array, Array]:
    """Attend to the tiles that are scored: averages, and logs of sums of e^(-scale / 2 distance^2)."""
    groups, group, (queries, keys) = len(points.keys), points.group, points.counts
    asking = points.queries[:, :queries]
    rows = jnp.moveaxis(asking.reshape(groups, group, queries, -1), 1, 2), points.keys[:, :keys, None]
    member = member_of("gauss", *rows, scale.reshape(groups, group), -1.0)
    is_whole = jnp.arange(visited.shape[2]) < keys // points.tile
    table = visited.reshape(groups, group, *visited.shape[1:])
    visits = Visits(table, table & is_whole[None, None, None])
    results = attend_grouped(member, points.values[:, :, None], options, visits)
    out, log_sums = (jnp.moveaxis(each, 2, 1).reshape(len(scale), queries, *each.shape[3:]) for each in results)
    return out, log_sums - scale[:, None] / 2 * jnp.sum(jnp.square(asking), axis=2)


def _merge(sums: Sums, near: tuple[Array, Array]) -> Array:
    """Average over what was expanded and what was scored."""
    base = lax.stop_gradient(jnp.maximum(sums.peak, near[1]))
    far, weight = (jnp.exp(each - jnp.where(base == -jnp.inf, 0, base))[..., None] for each in (sums.peak, near[1]))
    return (far * sums.total[..., 1:] + weight * near[0]) / (far * sums.total[..., :1] + weight)


def _check(resolution: Any, scale: Any) -> None:
    match resolution:
        case Certified(eps, share, "given"):
            is_good = 0 < eps < 1 and 0 < share < 1
        case _:
            is_good = False
    if not is_good or (isinstance(scale, float | int) and not scale >= 0):
        refuse(
            OptionError,
            "structured_attention: weights fall with the distance, and a resolution says how far off they are.",
            got=f"resolution={resolution!r}, scale={scale!r}",
            want="qga.tiling.Certified(eps) with 0 < eps < 1, 0 < skip_share < 1 and products 'given', scale >= 0",
            fix="pass resolution=qga.tiling.Certified(1e-2).",
        )
