"""Attention that leaves tiles of keys out, within a promise, and certifies every query."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..exact.grouped import Results, attend_grouped, chain_of
from ..exact.metrics import Metric
from ..exact.multi_head import Attended, Heads, KeyHeads, Lengths, Mask, Segments, Table, ValueHeads, Window
from ..exact.pairs import MaskMod, ScoreMod
from ..exact.prepare import Prepared, prepare
from ..exact.tiled import finite
from ..kernels.problem import DEFAULT_TILE, program_rows
from ..kernels.visits import Visits, list_some
from ..tiling.audit import Audit, Audited
from ..tiling.certificate import Certificate, perturbation_bounds
from ..tiling.level_map import LevelMap
from ..tiling.plan import Budget, Certified, Resolution
from ..tiling.summary import Around, surround_blocks, surround_heads
from .audit import audit_results, check_audit
from .bounds import PairBounds, bound_pairs
from .budget import keep_heaviest, tile_counts
from .certify import certify, score_slack
from .choose import keep_within, log_odds, may_leave, seed_reference, seed_slack, seed_visits
from .coarse import attend_coarse, choose_coarse, coarse_level
from .levels import Level, given_level, largest_error, level_rounds, narrow_levels
from .means import blocks_of, keep_by_means
from .resolution import check_coarse, check_resolution, tile_of
from .work import map_levels, price


def adaptive_attention(
    query: Heads, key: KeyHeads, value: ValueHeads, bias: Table | None = None, mask: Mask | None = None, *,
    resolution: Resolution, scale: float | Float[Array, "*#batch #heads"] | None = None,
    is_causal: bool = False, window: Window | None = None, softcap: float | None = None,
    alibi: Float[Array, " heads"] | None = None, segment_ids: Segments | None = None,
    query_lengths: Lengths | None = None, key_lengths: Lengths | None = None,
    query_offset: int | Lengths | None = None, score_mod: ScoreMod | None = None, mask_mod: MaskMod | None = None,
    metric: Metric = "dot", curvature: float = -1.0, audit: Audit | None = None, audit_key: PRNGKeyArray | None = None,
) -> tuple[Attended, Certificate]:  # fmt: skip
    """Compute ``qga.attention`` without the tiles of keys that provably do not matter, and certify each query.

    out_i = sum_(T kept) sum_(j in T) e^(s_ij) v_j / sum_(T kept) sum_(j in T) e^(s_ij)

    A tile's weight is bounded from the balls that its keys and the queries lie in and, through biases, masks and
    whatever ``score_mod`` does, by interval arithmetic of the traced functions. The partition sum is bounded from below
    by means of keys, or by the tiles next to a query where scores are no inner products and ALiBi. The lightest tiles
    are left out while their bounds sum to at most eps of it. Who has ALiBi, a forget gate, distance buckets, a window
    or segments writes no mask; where nothing decays nothing is left out, and the certificate says so.

    Args:
        query: [batch, queries, heads, width], or without batch; here and below as in ``qga.attention``.
        key: [batch, keys, key_heads, width].
        value: [batch, keys, key_heads, channels].
        bias: added to scores.
        mask: True where a query may see a key.
        resolution: ``Certified(eps)`` leaves out at most eps of the weight of any query, or ``skip_share`` of it where
            products may be of 16 bits, or tiles ``coarse``: one row, for queries that are nearly alike.
            ``Budget(tiles=..., bytes=... or flops=...)`` keeps the tiles next to a query and the heaviest by their
            bounds, until it is spent: a whole number of tiles for each query, bytes or operations of a head, or a share
            of what exact attention does for a head. ``Fixed(tile)`` leaves out nothing. Tiles are those of the kernels:
            128 rows of 16-bit numbers, 64 of 32-bit ones, fewer of wide rows; those of ``Fixed`` may be multiples.
        scale: inverse temperature.
        is_causal: let query i see keys 0 to i only.
        window: how many keys before and after its own place a query sees.
        softcap: c of s -> c tanh(s / c).
        alibi: slopes.
        segment_ids: of each row, or of queries and of keys.
        query_lengths: of each batch entry.
        key_lengths: of each batch entry.
        query_offset: place of the first query among the keys.
        score_mod: (score, batch, head, query, key) -> score, traceable.
        mask_mod: (batch, head, query, key) -> whether the query sees the key, traceable.
        metric: geometry of scores.
        curvature: of the hyperbolic metrics.
        audit: computes ``rows`` random queries of each head again, exactly, and the whole head where more of them are
            off than ``share`` and ``confidence`` allow. For what no bound covers; the certificate says what was found.
        audit_key: of the random queries, such as ``jax.random.key(0)``.

    Returns:
        [batch, queries, heads, channels] in the dtype of ``value``, and a certificate of each query,
        [batch, queries, heads]. The bounds hold against the exact softmax of the exact scores of these inputs, rounding
        included; ``skipped`` without rounding. Gradients are those of the attention over the kept tiles, which are
        constants.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range.

    Error: in the certificate. ``sound`` is False where rounding alone may exceed eps, such as eps = 1e-6 in float32.
    Call it under ``jax.jit``: a plan is hundreds of small operations.
    Cost: that of the kept tiles and a pass over the arrays; with a softcap, a bias, a ``score_mod``, lengths, segments
        or offsets two or three tiles for each tile of queries before.
    Source: theory of this project (docs/theory/adaptive_attention.md); Gray and Moore 2001; Press et al. 2022.

    Example:
        >>> x = jnp.sin(jnp.arange(4096.0)).reshape(1, 512, 1, 8)
        >>> out, certificate = adaptive_attention(
        ...     x, x, x, resolution=Certified(1e-3), is_causal=True, alibi=jnp.array([0.5])
        ... )
        >>> bool(jnp.all(certificate.skipped <= 1e-3)), int(jnp.max(certificate.tiles_exact))
        (True, 3)
    """
    out, certificate, _ = attend_and_map(
        query, key, value, bias, mask, resolution=resolution, audit=audit, audit_key=audit_key, scale=scale,
        is_causal=is_causal, window=window, softcap=softcap, alibi=alibi, segment_ids=segment_ids,
        query_lengths=query_lengths, key_lengths=key_lengths, query_offset=query_offset, score_mod=score_mod,
        mask_mod=mask_mod, metric=metric, curvature=curvature,
    )  # fmt: skip
    return out, certificate


def attend_and_map(
    query: Heads, key: KeyHeads, value: ValueHeads, bias: Table | None = None, mask: Mask | None = None, *,
    resolution: Resolution, audit: Audit | None = None, audit_key: PRNGKeyArray | None = None, metric: Metric = "dot",
    **options: Any,
) -> tuple[Attended, Certificate, LevelMap]:  # fmt: skip
    """Compute ``adaptive_attention`` and say at which level each tile of keys was looked at.

    Args:
        query: as in ``adaptive_attention``, here and below.
        key: likewise.
        value: likewise.
        bias: likewise.
        mask: likewise.
        resolution: likewise.
        audit: likewise.
        audit_key: likewise.
        metric: likewise.
        options: the other options of ``adaptive_attention``.

    Returns:
        Averages, certificates, and the map [batch, heads, query tiles, key tiles] of the tiles that the averages are
        made of: what was scored for the plan alone, or for a result that an audit threw away, is not in it.

    Raises:
        ShapeError: as in ``adaptive_attention``.
        OptionError: likewise.

    Example:
        >>> x = jnp.sin(jnp.arange(4096.0)).reshape(1, 512, 1, 8)
        >>> _, _, found = attend_and_map(
        ...     x, x, x, resolution=Certified(1e-3), is_causal=True, alibi=jnp.array([0.5])
        ... )
        >>> from qga.tiling import LEVEL_NAMES
        >>> [LEVEL_NAMES[number] for number in found.levels[0, 0, 3, :5].tolist()]
        ['left out', 'exact', 'exact', 'exact', 'hidden']
    """
    check_resolution(resolution, query, metric)
    check_coarse(resolution, metric, bias=bias, **options)
    check_audit(audit, audit_key)
    prepared = prepare(
        "adaptive_attention", query, key, value, bias=bias, mask=mask, metric=metric, tile=DEFAULT_TILE,
        derivatives="reverse", **options,
    )  # fmt: skip
    out, certificate, (levels, tile) = _attend(prepared, resolution, audit, audit_key)
    found = (out, certificate, levels)
    out, certificate, levels = found if prepared.call.has_batch else jax.tree.map(lambda each: each[0], found)
    return out, certificate, LevelMap(levels, tile)


def _attend(
    prepared: Prepared, resolution: Resolution, audit: Audit | None, audit_key: Array | None
) -> tuple[Attended, Certificate, LevelMap]:
    is_half = isinstance(resolution, Certified) and resolution.products == "half"
    own = _rows(prepared, 2 if is_half else prepared.values.dtype.itemsize)
    tile = tile_of(resolution, own)
    _, member, values, options = prepared
    blocks = blocks_of(prepared, resolution, tile)
    places, sums = _surround(prepared, tile, blocks)
    bounds = bound_pairs(member, places, options, tile, 3 if is_half else 1)
    given = given_level(member, values, bounds)
    levels = (*narrow_levels(member, values, bounds), given) if is_half else (given,)
    plan = _plan(prepared, resolution, bounds, levels, (blocks, sums))
    results, parts = _follow(prepared, bounds, levels, plan)
    audited: tuple[int, Audited | None] = (0, None)
    extra = plan.extra
    if audit is not None and audit_key is not None:
        again = partial(_exactly, prepared, bounds)
        results, parts, thrown, found = audit_results(prepared, bounds, (results, parts), again, audit, audit_key)
        extra, audited = [*extra, *thrown], (audit.rows, found)
    rounds = max(level_rounds(level, tile) for level in levels)
    promise = getattr(resolution, "eps", 1.0)
    certificate = certify(bounds, parts, promise=promise, rounds=rounds, extra=extra, audited=audited)
    return results[0], certificate, map_levels(bounds, parts)


class _Plan(NamedTuple):
    """What is done with which tiles.

    Attributes:
        visits: tiles that are scored.
        tables: those of each level of products.
        coarse: those that are one row each, and how; None where none may be.
        extra: what was scored for the plan.
    """

    visits: Visits
    tables: list[Array]
    coarse: tuple[Level, Array] | None
    extra: list[tuple[Level, Array]]


def _plan(
    prepared: Prepared, resolution: Resolution, bounds: PairBounds, levels: tuple[Level, ...],
    by_means: tuple[int, Array | None],
) -> _Plan:  # fmt: skip
    # A bound that is not a number is no reason to leave anything out.
    visits, given = Visits(~(bounds.upper == -jnp.inf), bounds.is_open), levels[-1]
    if isinstance(resolution, Certified):
        slack = score_slack(bounds, visits.visited)
        share = _shares(resolution, slack)
        blocks, sums = by_means
        if blocks:
            lead = "least" if _is_biased(prepared) else "tile"
            visits = keep_by_means(prepared, bounds, levels[0], sums, (slack, share[0]), lead=lead)
            return _Plan(visits, _assign(bounds, levels, visits.visited, share[1]), None, [])
        coarse = coarse_level(prepared, given, bounds) if resolution.coarse else None
        return _keep(prepared, bounds, levels, slack, share, coarse)
    if isinstance(resolution, Budget):
        counts = tile_counts(resolution, visits.visited, price(given, bounds.tile), bounds.tile)
        visits = visits._replace(visited=keep_heaviest(bounds.upper, _seeds(prepared, bounds), counts))
    return _Plan(visits, [visits.visited], None, [])


def _follow(
    prepared: Prepared, bounds: PairBounds, levels: tuple[Level, ...], plan: _Plan
) -> tuple[Results, list[tuple[Level, Array, Array]]]:
    """Attend as planned; return results, and the log sums of each level."""
    _, member, values, options = prepared
    visits, tile = _refined(plan.visits, prepared, bounds.tile), bounds.tile
    if len(levels) == 1:
        results = attend_grouped(member, values, options, visits)
        sums = [lax.stop_gradient(results[1])]
    else:
        tables = [Visits(table, bounds.is_open) for table in plan.tables]
        found = [_at_level(prepared, *each, tile) for each in zip(levels, tables, strict=True)]
        sums = [log_sums for _, log_sums in found]
        results = attend_grouped(member, values, options, visits, _merge(found, values.dtype))
    parts = list(zip(levels, plan.tables, sums, strict=True))
    if plan.coarse is not None:
        level, table = plan.coarse

        def join() -> tuple[Results, Array]:
            found = attend_coarse(prepared, bounds, table)
            return _merge([found, results], values.dtype), found[1]

        # Where nothing is coarse nobody is asked.
        alone = results, jnp.full_like(results[1], -jnp.inf)
        results, log_sums = lax.cond(jnp.any(table), join, lambda: alone)
        parts = [(level, table, lax.stop_gradient(log_sums)), *parts]
    return results, parts


def _exactly(prepared: Prepared, bounds: PairBounds, visited: Array) -> Results:
    """Attend to some tiles in the given numbers."""
    visits = _refined(Visits(visited, bounds.is_open), prepared, bounds.tile)
    return attend_grouped(*prepared[1:], visits)


def _surround(prepared: Prepared, tile: int, blocks: int) -> tuple[tuple[Around, ...], Array | None]:
    """Find where the tiles of queries, keys and values lie, and the sums of several blocks of keys of each tile."""
    member = prepared.member
    keys, sums = surround_blocks(member.keys, tile, blocks) if blocks > 1 else (surround_heads(member.keys, tile), None)
    return (surround_heads(member.queries, tile), keys, surround_heads(prepared.values, tile)), sums


def _rows(prepared: Prepared, bytes_each: int) -> int:
    """Return the rows of a program's tile in numbers of this many bytes."""
    width, channels = prepared.member.keys.shape[-1], prepared.values.shape[-1]
    return program_rows(bytes_each, max(1, width), max(1, channels))


def _shares(resolution: Certified, slack: Array) -> tuple[Array, Array]:
    """Share out a promise: to what is left out or light, and to the rest; rounding takes its part first."""
    rounding = perturbation_bounds(2 * slack).total_variation
    # Rounding that takes half of it or more makes the promise unsound, which the certificate says.
    rest = jnp.maximum(resolution.eps - rounding, resolution.eps / 2)
    share = resolution.skip_share if resolution.products == "half" or resolution.coarse else 1.0
    return share * rest, (1 - share) * rest


def _seeds(prepared: Prepared, bounds: PairBounds) -> Array:
    """Return the tiles that are kept whatever else is chosen."""
    return seed_visits(bounds.upper, _first_places(prepared, bounds.upper.shape[2], bounds.tile), bounds.tile)


def _keep(
    prepared: Prepared, bounds: PairBounds, levels: tuple[Level, ...], slack: Array, share: tuple[Array, Array],
    coarse: Level | None,
) -> _Plan:  # fmt: skip
    """Choose what is kept, by partition sums of the tiles nearby in the cheapest products; say what was scored."""
    seeds, level = _seeds(prepared, bounds), levels[0]
    weight, is_less, narrow = bounds.upper, None, share[1]
    if coarse is not None:
        # Spread alone and fewer bits share what is for both.
        narrow = share[1] / len(levels)
        coarse, (weight, is_less) = choose_coarse(coarse, bounds, seeds, narrow)
    # What was summed may be too high, by no more than anything that may be summed.
    error = largest_error(bounds, level)
    reference, rounds = seed_reference(bounds), level_rounds(level, bounds.tile)
    log_room = log_odds(share[0], bounds) - error - slack - seed_slack(bounds, reference, rounds)
    # Where the bounds alone say that nothing can be left out, nothing is scored for it.
    looks = may_leave(weight, log_room)
    scored = seeds & looks[..., None]
    listed = jax.vmap(jax.vmap(list_some))(seeds, bounds.is_open, looks)
    listed = listed._replace(reference=reference[..., None])
    _, log_sums = _at_level(prepared, level, Visits(scored, bounds.is_open, listed), bounds.tile, sums_only=True)
    lead = "each" if _is_biased(prepared) else "tile"
    visits = keep_within(bounds._replace(upper=weight), seeds, log_sums, log_room, lead=lead)
    # No value was read.
    extra = [(level._replace(values=level.values[..., :0]), scored)]
    tables = _assign(bounds, levels, visits.visited, narrow)
    if coarse is None or is_less is None:
        return _Plan(visits, tables, None, extra)
    return _Plan(visits, tables, (coarse, is_less & ~visits.visited), extra)


def _is_biased(prepared: Prepared) -> bool:
    """Tell whether whole tiles lead, which costs more than references do; else a part of one does."""
    return bool(chain_of(prepared.member, prepared.options, is_plain=False).score_mods)


def _assign(bounds: PairBounds, levels: tuple[Level, ...], visited: Array, eps: Array) -> list[Array]:
    """Give each tile the first level whose score errors change a softmax by at most eps; the last one is exact."""
    tables, rest = [], visited
    for level in levels[:-1]:
        fits = rest & (jnp.expm1(level.score_error) * jnp.exp(2 * level.score_error) <= eps[..., None])
        tables.append(fits)
        rest &= ~fits
    return [*tables, rest]


def _at_level(
    prepared: Prepared, level: Level, visits: Visits, tile: int, *, sums_only: bool = False
) -> tuple[Array, Array]:
    """Attend to some tiles in the numbers of a level, without derivatives."""
    options = dataclasses.replace(prepared.options, products=level.products, sums_only=sums_only)
    if level.products == "given":
        visits = _refined(visits, prepared, tile)
    out, log_sums = lax.stop_gradient(attend_grouped(level.member, level.values, options, visits))
    return out if level.value_unit is None else out * level.value_unit, log_sums


def _refined(visits: Visits, prepared: Prepared, tile: int) -> Visits:
    """Cut tiles into those of a program in the given numbers."""
    own = _rows(prepared, prepared.values.dtype.itemsize)
    counts = [-(-rows.shape[1] // own) for rows in (prepared.member.queries, prepared.member.keys)]

    def cut(table: Array) -> Array:
        for axis, count in zip((2, 3), counts, strict=True):
            table = lax.slice_in_dim(jnp.repeat(table, tile // own, axis=axis), 0, count, axis=axis)
        return table

    return visits if own == tile else Visits(cut(visits.visited), cut(visits.is_open))


def _merge(found: list[tuple[Array, Array]], dtype: Any) -> tuple[Array, Array]:
    """Merge averages over disjoint sets of keys by the logs of their partition sums."""
    base = lax.stop_gradient(finite(jnp.max(jnp.stack([sums for _, sums in found]), axis=0)))
    masses = [jnp.exp(sums - base) for _, sums in found]
    mass = jnp.asarray(sum(masses))
    # Where no key is there is no derivative either.
    whole = jnp.where(mass == 0, 1, mass)
    out = sum((part / whole)[..., None] * out.astype(mass.dtype) for part, (out, _) in zip(masses, found, strict=True))
    return jnp.asarray(out).astype(dtype), jnp.where(mass == 0, -jnp.inf, base + jnp.log(whole))


def _first_places(prepared: Prepared, tiles: int, tile: int) -> Array:
    """Return the place of the first query of each tile among the keys."""
    offsets = prepared.options.offsets
    offsets = jnp.zeros((len(prepared.values),), jnp.int32) if offsets is None else offsets
    return offsets[:, None] + jnp.arange(tiles, dtype=jnp.int32)[None] * tile
