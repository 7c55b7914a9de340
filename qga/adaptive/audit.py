"""Audits of adaptive attention: random queries are computed again exactly, and heads that fail are, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, refuse
from ..exact import pairs
from ..exact.grouped import Options, Results, attend_grouped
from ..exact.prepare import Prepared
from ..tiling.audit import Audit, Audited, allowed_failures, share_bounds
from .bounds import PairBounds, Visited
from .levels import Level

Part = tuple[Level, Visited, Float[Array, "batch queries heads"]]
Rows = Int[Array, "batch rows"]


class Checked(NamedTuple):
    """A result that was audited.

    Attributes:
        results: averages and logs of partition sums; exact for heads that failed.
        parts: each level with its tiles and logs of partition sums, likewise.
        extra: levels and tiles of what was thrown away.
        audited: what was found.
    """

    results: Results
    parts: list[Part]
    extra: list[tuple[Level, Visited]]
    audited: Audited


def check_audit(audit: Any, key: Any) -> None:
    """Refuse an audit that nothing can pass, or that has no key.

    Raises:
        OptionError: a number is out of range, too few rows are asked for, or one of audit and key is missing.
    """
    if (audit is None) != (key is None):
        refuse(
            OptionError,
            "adaptive_attention: an audit draws its rows with a key.",
            got=f"audit={audit!r}, audit_key={'None' if key is None else 'a key'}",
            want="both or neither",
            fix="pass audit=qga.tiling.Audit() and audit_key=jax.random.key(0).",
        )
    if audit is None:
        return
    is_good = isinstance(audit, Audit) and _is_count(audit.rows) and audit.tolerance >= 0
    if not is_good or not 0 < audit.share < 1 or not 0 < audit.confidence < 1:
        refuse(
            OptionError,
            "adaptive_attention: an audit is of some rows, with a confidence below certainty.",
            got=repr(audit),
            want="a whole number rows >= 1, tolerance >= 0, 0 < share < 1, 0 < confidence < 1",
            fix="pass audit=qga.tiling.Audit().",
        )
    if allowed_failures(audit) < 0:
        least = share_bounds(audit.rows, audit.confidence)[0]
        refuse(
            OptionError,
            "adaptive_attention: an audit can pass.",
            got=f"{audit!r}, which says no less than a share of {least:.3g}",
            want="(1 - share)^rows <= 1 - confidence",
            fix="raise rows or share, or lower confidence.",
        )


def _is_count(rows: Any) -> bool:
    return isinstance(rows, int) and rows >= 1


def audit_results(
    prepared: Prepared, bounds: PairBounds, found: tuple[Results, Sequence[Part]],
    attend: Callable[[Visited], Results], audit: Audit, key: Array,
) -> Checked:  # fmt: skip
    """Compare random queries with exact attention, and compute heads of which too many are off exactly.

    Args:
        prepared: the call.
        bounds: of all pairs of tiles.
        found: its results, and the parts that they were made of; the last level is exact.
        attend: to some tiles, exactly.
        audit: what is asked for.
        key: of the random rows, which are the same for all heads of a batch entry.
    """
    results, parts = found
    if results[0].shape[1]:
        rows = draw_rows(prepared, audit.rows, key)
        exact, _ = attend_grouped(*_at_rows(prepared, rows))
        taken = jax.vmap(lambda each, places: each[places])(results[0], rows)
    else:
        # Of no queries none is off.
        batch, _, heads, channels = results[0].shape
        taken = exact = jnp.zeros((batch, audit.rows, heads, channels), results[0].dtype)
    largest, unit = (
        jnp.repeat(each, bounds.group, axis=1) for each in _measure(prepared.values.astype(bounds.upper.dtype))
    )
    taken, exact = (each.astype(largest.dtype) / largest[:, None, :, None] for each in (taken, exact))
    audited = lax.stop_gradient(judge(taken, exact, unit, audit))
    failed = audited.is_again
    again = failed[:, :, None, None] & (bounds.upper != -jnp.inf)

    def compute() -> Results:
        out, log_sums = attend(again)
        by_query = failed[:, None]
        return jnp.where(by_query[..., None], out, results[0]), jnp.where(by_query, log_sums, results[1])

    results = lax.cond(jnp.any(failed), compute, lambda: results)
    sums = lax.stop_gradient(results[1])
    thrown = [(level, table & failed[:, :, None, None]) for level, table, _ in parts]
    kept = [
        (level, table & ~failed[:, :, None, None], jnp.where(failed[:, None], -jnp.inf, log_sums))
        for level, table, log_sums in parts
    ]
    level, table, log_sums = kept[-1]
    kept[-1] = level, table | again, jnp.where(failed[:, None], sums, log_sums)
    return Checked(results, kept, thrown, audited)


def _measure(values: Float[Array, "batch keys key_heads channels"]) -> tuple[Array, Array]:
    """Return the largest number of each head, 1 if it is none, and the root mean square length of values over it.

    Squares of what is divided by it neither overflow nor vanish together.
    """
    _, keys, heads, channels = values.shape
    if not keys * channels:
        return jnp.ones((len(values), heads), values.dtype), jnp.zeros((len(values), heads), values.dtype)
    largest = jnp.max(jnp.abs(values), axis=(1, 3))
    largest = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    squares = jnp.sum(jnp.square(values / largest[:, None, :, None]), axis=3)
    return largest, jnp.sqrt(jnp.mean(squares, axis=1))


def draw_rows(prepared: Prepared, count: int, key: Array) -> Rows:
    """Draw queries of each batch entry, independently and of those that exist."""
    queries, lengths = prepared.member.queries.shape[1], prepared.options.query_lengths
    batch = len(prepared.values)
    limits = jnp.full((batch,), queries, jnp.int32) if lengths is None else jnp.clip(lengths, 1, queries)
    return jax.random.randint(key, (batch, count), 0, limits[:, None].astype(jnp.int32), jnp.int32)


def judge(
    out: Float[Array, "batch rows heads channels"], exact: Float[Array, "batch rows heads channels"],
    unit: Float[Array, "batch heads"], audit: Audit,
) -> Audited:  # fmt: skip
    """Count how many rows are off, and say what that means for all.

    Args:
        out: averages of random rows.
        exact: likewise, as they should be.
        unit: of errors, the root mean square length of values.
        audit: what is asked for.
    """
    difference = out.astype(unit.dtype) - exact.astype(unit.dtype)
    errors = jnp.sqrt(jnp.sum(jnp.square(difference), axis=3))
    # What is not a number is off, and so is everything in a unit that is none.
    is_near = (errors <= audit.tolerance * unit[:, None]) & (unit < jnp.inf)[:, None]
    failures = jnp.sum(~is_near, axis=1, dtype=jnp.int32)
    largest = jnp.max(errors, axis=1)
    largest = jnp.where(unit > 0, largest / jnp.where(unit > 0, unit, 1), jnp.where(largest == 0, 0, jnp.inf))
    bounds = jnp.asarray(share_bounds(audit.rows, audit.confidence), unit.dtype)
    share = jnp.minimum(bounds * (1 + jnp.finfo(unit.dtype).eps), 1)[failures]
    is_again = failures > allowed_failures(audit)
    of_head = [jnp.full(unit.shape, each, unit.dtype) for each in (audit.tolerance, audit.confidence)]
    return Audited(failures, largest, share, is_again, jnp.full(unit.shape, audit.rows, jnp.int32), *of_head)


def _at_rows(prepared: Prepared, rows: Rows) -> tuple[Any, Array, Options]:
    """Return the exact problem of some queries, which keep their places in everything that happens to a pair."""
    _, member, values, options = prepared

    def placed(mod: Any) -> Any:
        # (score,) batch, head, query, key
        return mod and (lambda *given: mod(*given[:-2], rows[given[-4], given[-2]], given[-1]))

    def taken(table: Any) -> Any:
        if table is None or table.shape[2] == 1:
            return table
        table = jnp.broadcast_to(table, (len(rows), *table.shape[1:]))
        return jax.vmap(lambda each, places: each[:, places])(table, rows)

    masks = [options.query_lengths is not None and pairs.query_length_mod(options.query_lengths), options.mask_mod]
    if (options.window[0], options.ahead) != (None, None):
        masks.append(pairs.near_mod(options.offsets, options.window[0], options.ahead))
    scores = [options.alibi is not None and pairs.alibi_mod(options.alibi, options.offsets), options.score_mod]
    segments = options.segments and (
        jax.vmap(lambda each, places: each[places])(options.segments[0], rows),
        options.segments[1],
    )
    member = member._replace(
        queries=jax.vmap(lambda each, places: each[places])(member.queries, rows),
        mods=tuple(placed(mod) for mod in member.mods),
    )
    options = dataclasses.replace(
        options, is_causal=False, window=(None, None), offsets=None, query_lengths=None, segments=segments,
        bias=taken(options.bias), mask=taken(options.mask), alibi=None, score_mod=_all_scores(scores, placed),
        mask_mod=_all_masks(masks, placed),
    )  # fmt: skip
    return member, values, options


def _all_scores(mods: list[Any], placed: Callable[[Any], Any]) -> Any:
    """Return score mods as one, one after the other; None where there is none."""
    mods = [placed(mod) for mod in mods if mod]
    if not mods:
        return None
    return lambda score, *places: pairs.Pairs(tuple(mods), ())(score, *places)[0]


def _all_masks(masks: list[Any], placed: Callable[[Any], Any]) -> Any:
    masks = [placed(mask) for mask in masks if mask]
    if not masks:
        return None

    def seen(*places: Any) -> Bool[Array, ""]:
        visible = jnp.asarray(True)
        for mask in masks:
            visible = visible & mask(*places)
        return visible

    return seen
