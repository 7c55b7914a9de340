"""Attention over points: through the nodes of a grid where they resolve the kernel, else by near pairs of tiles."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, refuse
from ..exact.family import member_of
from ..exact.grouped import Options, attend_grouped
from ..exact.multi_head import Attended, Heads, KeyHeads, ValueHeads
from ..exact.prepare import prepare
from ..kernels.problem import DEFAULT_TILE, program_rows
from ..kernels.visits import Visits
from ..tiling.certificate import Certificate
from ..tiling.plan import Certified
from ..tiling.state import accumulator_dtype
from .arrange import Arranged, Cut, arrange, cut_rows
from .nodes import Nodes, Windows, ask, deposit, nodes_of, place_windows, to_nodes
from .point_certificate import Far, Known, Near, certify_points
from .point_plan import Left, plan_pairs

# Part of a promise that is for what windows lose; grids take a tenth, and what is skipped its own share.
_LOST_SHARE = 0.25
# More axes than these have too many nodes.
_MOST_AXES = 3
# Tiles of a side at most, and the part of the operations of exact attention that nodes must save.
_MOST_TILES, _PAYS = 1024, 0.2
# Part of the pairs of tiles that must have windows, or nodes are not asked.
_WORTH = 0.25


class Layout(NamedTuple):
    """How points are cut and which nodes they are summed over, before any point is known.

    Attributes:
        nodes: the grid.
        rows: of a tile of points.
        cuts: of queries and keys.
        operations: of products and sums over nodes, of a head.
        exact: of exact attention.
    """

    nodes: Nodes
    rows: int
    cuts: tuple[Cut, Cut]
    operations: float
    exact: float


def layout_of(counts: tuple[int, int], width: int, channels: int, tile: int, resolution: Certified) -> Layout | None:
    """Cut points; None where nodes would not save most of the operations, as for few points or many axes.

    Args:
        counts: of queries and keys.
        width: of both.
        channels: of values.
        tile: rows of a tile that is scored.
        resolution: the promise.
    """
    if not 0 < width <= _MOST_AXES or not all(counts):
        return None
    nodes, rows = nodes_of(width, resolution.eps, _LOST_SHARE * resolution.eps), tile
    while -(-max(counts) // rows) > _MOST_TILES:
        rows *= 4
    cuts = cut_rows(counts[0], rows, width), cut_rows(counts[1], rows, width)
    columns, window, along = channels + 1, nodes.window, nodes.along(cuts)
    each = 2 * window**width * (columns + 1)
    joined = sum(
        math.prod(cuts[1].slabs[: axis + 1]) * window**axis * along ** (width - axis) * columns for axis in range(width)
    )
    operations = float(each * sum(cut.total for cut in cuts) + joined)
    exact = 2.0 * counts[0] * counts[1] * (width + channels)
    return Layout(nodes, rows, cuts, operations, exact) if operations <= _PAYS * exact else None


def structured_attention(
    query: Heads, key: KeyHeads, value: ValueHeads, *,
    resolution: Certified, scale: float | Float[Array, "*#batch #heads"] | None = None,
) -> tuple[Attended, Certificate]:  # fmt: skip
    """Average values over points near a query, in about N log N operations, and certify each query.

    out_i = sum_j e^(-scale / 2 |q_i - k_j|^2) v_j / sum_j e^(-scale / 2 |q_i - k_j|^2)

    This is ``qga.attention`` with ``metric="gauss"``: Nadaraya-Watson regression with a Gaussian kernel of bandwidth
    scale^(-1 / 2), or, for rows of length 1, cosine attention. Queries and keys are put in an order in which tiles are
    boxes, so they need none of their own, and there are no masks. Keys are added up at the nodes of a grid near their
    tile, and queries read those near theirs: sums of positive products that are the kernel but for a known factor of
    each weight. Tiles that are too wide for this, as with narrow kernels, are scored by the kernels of
    ``qga.attention``, unless they provably weigh too little.

    Args:
        query: [batch, queries, heads, width], or without batch.
        key: [batch, keys, key_heads, width].
        value: [batch, keys, key_heads, channels].
        resolution: ``Certified(eps)``: half the sum of the differences of a query's weights is at most eps; up to
            ``skip_share`` of it for what is left out, the rest for nodes and rounding. ``products`` must be "given" and
            ``coarse`` False.
        scale: inverse square of the bandwidth, zero or more, by head where it is an array; by default
            width^(-1 / 2).

    Returns:
        [batch, queries, heads, channels] in the dtype of ``value``, and a certificate of each query, [batch, queries,
        heads]; in its counts a tile that nodes hold is coarse. First reverse derivatives are those of the plan as it
        is, which is a constant.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range.

    Error: in the certificate.
    Call it under ``jax.jit``: a plan is hundreds of small operations.
    Cost: proportional to N, and to N log N for the order, of points in the plane or in space whose tiles are as wide as
        a few bandwidths at most; else that of the scored pairs, up to that of attention; that of attention in more than
        three dimensions, and for so few points that nodes cannot save most of it.
    Source: Greengard and Lee 2004 (Gaussian functions on grids); theory of this project for the certificate
        (docs/theory/structured.md).

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
    by_head = [lax.collapse(jnp.moveaxis(each, 2, 1), 0, 2).astype(dtype) for each in rows]
    batch, _, heads, _ = rows[0].shape
    scales = jnp.broadcast_to(jnp.asarray(prepared.member.scale, dtype), (batch, heads)).reshape(-1)
    tile = program_rows(dtype.itemsize, by_head[1].shape[2], by_head[2].shape[2])
    counts = by_head[0].shape[1], by_head[1].shape[1]
    layout = layout_of(counts, by_head[1].shape[2], by_head[2].shape[2], tile, resolution)
    given = prepared.member.scale
    task = _Task(scales, given if isinstance(given, float) else None, resolution, prepared.options, tile)
    found = _score_all(by_head, task) if layout is None else _attend(by_head, task, layout)

    def put_back(each: Array) -> Array:
        each = each.reshape(batch, heads, *each.shape[1:])
        return jnp.moveaxis(each, 1, 2) if prepared.call.has_batch else jnp.moveaxis(each[0], 0, 1)

    out, certificate = jax.tree.map(put_back, found)
    return out.astype(value.dtype), certificate


class _Task(NamedTuple):
    """What is asked for: the promise, the options of exact attention, and rows of its tiles.

    The scale is that of each head, and the number of Python that it is where it is one: kernels have it for a constant.
    """

    scale: Float[Array, " heads"]
    number: float | None
    resolution: Certified
    options: Options
    tile: int


def _score_all(by_head: list[Array], task: _Task) -> tuple[Array, Certificate]:
    """Attend to every key, where nothing can be saved."""
    query, key, value = by_head
    middle = lax.stop_gradient(jnp.sum(key, axis=1, keepdims=True) / max(1, key.shape[1]))
    points = query - jnp.repeat(middle, len(query) // len(key), axis=0), key - middle
    out, log_sums = _score(points, value, task, None)
    tiles, others = (-(-each.shape[1] // task.tile) for each in points)
    left = Left(jnp.full((len(query), tiles), -jnp.inf, out.dtype), jnp.zeros((len(query), tiles), jnp.int32))
    near = Near(out, log_sums, left, jnp.full_like(left.tiles, others))
    known = Known(points, value, task.scale, task.tile, task.resolution.eps, 0)
    return out, lax.stop_gradient(certify_points(known, None, None, near))


def _attend(by_head: list[Array], task: _Task, layout: Layout) -> tuple[Array, Certificate]:
    query, key, value = by_head
    points = arrange(query, key, value, layout.rows)
    far = _ask_nodes(points, task, layout)
    near = _score_pairs(points, task, far)
    terms = layout.rows + sum(layout.cuts[1].slabs) + layout.nodes.window ** key.shape[2] + 16
    known = Known(points.there, points.values, task.scale, task.tile, task.resolution.eps, terms)
    certificate = lax.stop_gradient(certify_points(known, layout.nodes, far, near))
    back = jax.vmap(lambda rows, order: rows[order])
    return jax.tree.map(lambda each: back(each, points.places), (_merge(far, near), certificate))


def _ask_nodes(points: Arranged, task: _Task, layout: Layout) -> Far:
    """Sum over the nodes of a grid, and forget what they found for tiles that would lose too much."""
    nodes, (queries, keys), group = layout.nodes, layout.cuts, points.group
    units = to_nodes((points.queries, jnp.repeat(points.keys, group, axis=0)), task.scale, nodes)
    asking, held = place_windows(units, layout.cuts, nodes)
    columns = jnp.repeat(points.columns, group, axis=0)
    by_tile = columns.reshape(len(columns), keys.tiles, keys.rows, -1)

    def sums(asking: Windows, held: Windows, by_tile: Array) -> Array:
        return ask(nodes, asking, deposit(nodes, held, by_tile, keys.slabs, nodes.along(layout.cuts)))

    def nothing(asking: Windows, held: Windows, by_tile: Array) -> Array:
        del held
        return jnp.zeros((*asking.steps.shape[1:], by_tile.shape[3]), by_tile.dtype)

    pays = jnp.mean(asking.fits) * jnp.mean(held.fits) >= _WORTH
    total = lax.cond(pays, sums, nothing, asking, held, by_tile)
    members = jnp.where(held.fits, jnp.sum(by_tile[..., 0], axis=2), 0)
    lost = asking.lost * jnp.sum(members, axis=1, keepdims=True) + jnp.sum(members * held.lost, axis=1, keepdims=True)
    log_lost, log_found = jnp.log(lost)[..., None], jnp.log(lax.stop_gradient(total[..., 0]))
    is_there = (jnp.arange(queries.total) < queries.count).reshape(queries.tiles, -1)
    is_kept = log_lost - log_found <= math.log(_LOST_SHARE * task.resolution.eps)
    asked = asking.fits & jnp.all(is_kept | ~is_there[None], axis=2)
    total = jnp.where(asked[..., None, None], total, 0).reshape(len(total), queries.total, -1)
    log_lost = jnp.where(asked[..., None], jnp.broadcast_to(log_lost, is_kept.shape), -jnp.inf).reshape(len(total), -1)
    part = layout.rows // task.tile
    done = [
        jnp.repeat(each, part, axis=1)[:, : -(-cut.count // task.tile)]
        for each, cut in ((asked, queries), (held.fits, keys))
    ]
    return Far(total[:, : queries.count], log_lost[:, : queries.count], done[0], done[1])


def _score_pairs(points: Arranged, task: _Task, far: Far) -> Near:
    """Score pairs of tiles that nodes do not do, if there are any."""
    (asking, keys), tiles = points.there, far.queries.shape
    queries, others = lax.stop_gradient((points.queries, points.keys))

    def some(asking: Array, keys: Array, values: Array, scale: Array) -> Near:
        share = task.resolution.skip_share * task.resolution.eps
        still = points._replace(queries=queries, keys=others)
        scored, left = plan_pairs(still, lax.stop_gradient(scale), (far.queries, far.keys), task.tile, share)
        found = _score((asking, keys), values, task._replace(scale=scale), scored)
        return Near(*found, left, jnp.sum(scored, axis=2, dtype=jnp.int32))

    def none(asking: Array, keys: Array, values: Array, scale: Array) -> Near:
        del keys, scale
        log_sums = jnp.full(asking.shape[:2], -jnp.inf, asking.dtype)
        left = Left(jnp.full(tiles, -jnp.inf, asking.dtype), jnp.zeros(tiles, jnp.int32))
        return Near(jnp.zeros((*log_sums.shape, values.shape[2]), values.dtype), log_sums, left, left.tiles)

    is_done = jnp.all(far.queries) & jnp.all(far.keys)
    return lax.cond(is_done, none, some, asking, keys, points.values, task.scale)


def _score(points: tuple[Array, Array], values: Array, task: _Task, visited: Array | None) -> tuple[Array, Array]:
    """Attend to the tiles that are scored: averages, and logs of sums of e^(-scale / 2 distance^2)."""
    (asking, keys), scale = points, task.scale
    groups, queries = len(keys), asking.shape[1]
    group = len(asking) // groups
    rows = jnp.moveaxis(asking.reshape(groups, group, *asking.shape[1:]), 1, 2), keys[:, :, None]
    given = scale.reshape(groups, group) if task.number is None else task.number
    member = member_of("gauss", *rows, given, -1.0)
    visits = None
    if visited is not None:
        is_whole = jnp.arange(visited.shape[2]) < keys.shape[1] // task.tile
        table = visited.reshape(groups, group, *visited.shape[1:])
        visits = Visits(table, table & is_whole[None, None, None])
    results = attend_grouped(member, values[:, :, None], task.options, visits)
    out, log_sums = (jnp.moveaxis(each, 2, 1).reshape(len(scale), queries, *each.shape[3:]) for each in results)
    return out, log_sums - scale[:, None] / 2 * jnp.sum(jnp.square(asking), axis=2)


def _merge(far: Far, near: Near) -> Array:
    """Average over what nodes found and what was scored."""
    weight = far.total[..., 0]
    base = lax.stop_gradient(jnp.maximum(jnp.where(weight > 0, jnp.log(weight), -jnp.inf), near.log_sums))
    base = jnp.where(base == -jnp.inf, 0, base)
    unit, scored = (jnp.exp(each)[..., None] for each in (jnp.where(weight > 0, -base, 0), near.log_sums - base))
    return (unit * far.total[..., 1:] + scored * near.out) / (unit * weight[..., None] + scored)


def _check(resolution: Any, scale: Any) -> None:
    match resolution:
        case Certified(eps, share, "given", False):
            is_good = 0 < eps < 1 and 0 < share < 1
        case _:
            is_good = False
    if not is_good or (isinstance(scale, float | int) and not scale >= 0):
        refuse(
            OptionError,
            "structured_attention: weights fall with the distance, and a resolution says how far off they are.",
            got=f"resolution={resolution!r}, scale={scale!r}",
            want="qga.tiling.Certified(eps) with 0 < eps < 1, 0 < skip_share < 1, products 'given' and not coarse, "
            "scale >= 0",
            fix="pass resolution=qga.tiling.Certified(1e-2).",
        )
