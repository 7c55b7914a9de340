"""Attention of grouped heads in a batch: options become one plan and the arrays of each head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..kernels.modify import Cut, Extents, Given, cut_function
from ..kernels.near import Near, odd_cap
from ..kernels.problem import Derivatives, Problem, Products, Span, TilePlan
from ..kernels.storage import Storage
from ..kernels.visits import Visits
from ..tiling.state import accumulator_dtype
from . import pairs
from .family import Member
from .pairs import FactorMod, MaskMod, Pairs, ScoreMod
from .spans import span_of
from .tiled import attend, attend_known

Results = tuple[Float[Array, "batch queries heads channels"], Float[Array, "batch queries heads"]]

# Scores of a known range are weighed against its middle, if no weight leaves the numbers that values are held in.
_HALF_RANGE = {jnp.dtype(jnp.float16): 9.0}
_WIDE_HALF_RANGE = 40.0
# A driver's tangent for 16 bits is off by so much; of a row's values so many units may be lost, of 4 sqrt(keys).
_TANGENT, _UNITS = 2.0**-10.5, 5
# Programs that keep a large GPU's memory busy where each has few queries.
_PROGRAMS = 1024


@dataclass(frozen=True, eq=False)
class Options:
    """What was asked for, checked: tables have four axes, [batch or 1, heads or 1, queries or 1, keys or 1].

    Attributes:
        is_causal: whether a query sees keys up to its place only.
        window: how many keys before and after its place a query sees.
        offsets: place of the first query of each batch entry; None for 0.
        query_lengths: of each batch entry.
        key_lengths: likewise.
        segments: of queries and keys.
        softcap: cap of scores.
        bias: what is added to scores.
        mask: True where a query may see a key.
        alibi: slope of each head.
        score_mod: of the caller.
        mask_mod: of the caller.
        factor: of weights: dropout.
        tile: keys scored at a time, at most.
        derivatives: as in ``TilePlan``.
        products: as in ``TilePlan``.
        sums_only: likewise.
        rounds_caps: whether a cap may be off by no more than weights of 16 bits are: nobody counts on it.
    """

    is_causal: bool
    window: tuple[int | None, int | None]
    offsets: Int[Array, " batch"] | None
    query_lengths: Int[Array, " batch"] | None
    key_lengths: Int[Array, " batch"] | None
    segments: tuple[Int[Array, "batch queries"], Int[Array, "batch keys"]] | None
    softcap: float | None
    bias: Float[Array, ...] | None
    mask: Any
    alibi: Float[Array, " heads"] | None
    score_mod: ScoreMod | None
    mask_mod: MaskMod | None
    factor: FactorMod | None
    tile: int
    derivatives: Derivatives
    products: Products = "given"
    sums_only: bool = False
    rounds_caps: bool = False

    @property
    def ahead(self) -> int | None:
        """How many keys after its place a query sees."""
        return 0 if self.is_causal else self.window[1]


class _Shape(NamedTuple):
    """The axes of a call.

    ``is_folded`` where the one query of every head of a group is a row of one tile; ``is_plain`` where the causal rule
    and the window are those of a ``TilePlan``, places being counted from 0 in both.
    """

    batch: int
    groups: int
    group: int
    queries: int
    keys: int
    is_folded: bool
    is_plain: bool

    @property
    def heads(self) -> int:
        return self.groups * self.group


def attend_grouped(
    member: Member,
    values: Float[Array, "batch keys key_heads channels"],
    options: Options,
    visits: Visits | None = None,
    known: Results | None = None,
) -> Results:
    """Run attention for every batch entry and head.

    A single query takes the heads of its group along as rows of one tile, so that they share their keys and values;
    more queries go through a program of their own for each head. With visits, [batch, heads, query_tiles, key_tiles],
    they always do. Where results over more keys than these are known, they are returned, and only their first gradient
    is computed.
    """
    batch, queries, heads, _ = member.queries.shape
    (_, keys, groups, _), pages = member.keys.shape, member.storage.pages
    page_rows, keys = (None, keys) if pages is None else (keys, keys * pages.shape[1])
    has_one_scale = not isinstance(member.scale, jax.Array) or member.scale.shape[1] == 1
    is_folded = queries == 1 and heads > groups and has_one_scale and visits is None
    is_plain = not is_folded and options.offsets is None
    shape = _Shape(batch, groups, heads // groups, queries, keys, is_folded, is_plain)
    cut = _cut(member, options, shape, accumulator_dtype(member.queries))
    plan = TilePlan(
        member.score, options.tile, options.is_causal and is_plain, options.derivatives,
        scale_moves=isinstance(member.scale, jax.Array), window=options.window if is_plain else (None, None),
        modifier=cut and cut.modifier, near=_near(member, options, shape),
        bound=_bound(member, options, member.queries.dtype),
        parts=max(1, _PROGRAMS // max(1, batch * groups)), products=options.products, page_rows=page_rows,
        sums_only=options.sums_only,
    )  # fmt: skip
    return _map(plan, shape, (member, values, known), cut, _spans(options, shape), visits)


def chain_of(member: Member, options: Options, elements: dict[str, Array] | None = None, *, is_plain: bool) -> Pairs:
    """Collect what happens to a pair.

    Args:
        member: what the metric does.
        options: what the caller asked for.
        elements: of tables of all pairs, where they are cut into tiles elsewhere.
        is_plain: whether the causal rule and the window are somebody else's.
    """
    bias, mask = (elements or {}).get("bias"), (elements or {}).get("mask")
    scores = [*member.mods, options.softcap and pairs.softcap_mod(options.softcap)]
    if options.bias is not None:
        scores.append(pairs.added_mod(options.bias) if bias is None else pairs.plus_mod(bias))
    if options.alibi is not None:
        scores.append(pairs.alibi_mod(options.alibi, options.offsets))
    masks = [*_lengths(options), options.mask_mod]
    if options.mask is not None:
        masks.append(pairs.allowed_mod(options.mask) if mask is None else lambda *places: mask)
    if not is_plain and (options.ahead, options.window[0]) != (None, None):
        masks.append(pairs.near_mod(options.offsets, options.window[0], options.ahead))
    scores.append(options.score_mod)
    score_mods = tuple(mod for mod in scores if mod is not None)
    return Pairs(score_mods, tuple(mask for mask in masks if mask is not None), options.factor)


def _lengths(options: Options) -> list[MaskMod]:
    """List the masks of which rows there are, and which belong together."""
    masks: list[MaskMod] = []
    if options.key_lengths is not None:
        masks.append(pairs.key_length_mod(options.key_lengths))
    if options.query_lengths is not None:
        masks.append(pairs.query_length_mod(options.query_lengths))
    if options.segments is not None:
        masks.append(pairs.segment_mod(*options.segments))
    return masks


def _cut(member: Member, options: Options, shape: _Shape, dtype: Any) -> Cut | None:
    """Trace what happens to a pair, as a function of the rows and columns of tiles; None where nothing does."""
    if not chain_of(member, options, is_plain=shape.is_plain):
        return None
    tables = {"bias": options.bias, "mask": options.mask}
    full = {name: _by_row(each, shape) for name, each in tables.items() if each is not None and _is_full(each, shape)}

    def function(score: Array, batch: Array, head: Array, row: Array, key: Array, *elements: Array) -> tuple:
        chain = chain_of(member, options, dict(zip(full, elements, strict=True)), is_plain=shape.is_plain)
        if shape.is_folded:
            return chain(score, batch, head * shape.group + row, jnp.zeros_like(row), key)
        return chain(score, batch, head, row, key)

    heads, rows = (shape.groups, shape.group) if shape.is_folded else (shape.heads, shape.queries)
    has = [(each.shape[0] > 1, each.shape[1] > 1) for each in full.values()]
    arrays = [
        each.reshape(*(size for size, is_there in zip(each.shape[:2], flags, strict=True) if is_there), *each.shape[2:])
        for each, flags in zip(full.values(), has, strict=True)
    ]
    cut = cut_function(function, Extents(shape.batch, heads, rows, shape.keys), arrays, has, dtype)
    return cut._replace(modifier=replace(cut.modifier, driver_tanh=_is_loose(member, options, shape)))


def _is_loose(member: Member, options: Options, shape: _Shape) -> bool:
    """Tell whether the tangent of a cap, and nothing else, may be a driver's for 16 bits.

    Scores are off by c e then, e = 2^-10.5, and a row by tanh(c e / 2) of the diameter of the values.
    """
    dtype, cap = member.queries.dtype, options.softcap
    is_alone = len(chain_of(member, options, is_plain=shape.is_plain)) == 1
    is_small = cap is not None and dtype.itemsize == 2 and cap * _TANGENT <= _UNITS * float(jnp.finfo(dtype).eps)
    return options.rounds_caps and is_alone and is_small


def _near(member: Member, options: Options, shape: _Shape) -> Near | None:
    """Return what stands for a soft cap where nothing else happens to a pair, and weights are those of float16."""
    cap, scale, odd = options.softcap, member.scale, None
    is_rounded = options.rounds_caps and member.queries.dtype == jnp.float16
    if is_rounded and cap is not None and isinstance(scale, float):
        odd = odd_cap(cap, scale, shape.keys)
    if odd is None or len(chain_of(member, options, is_plain=shape.is_plain)) > 1:
        return None
    extents = Extents(shape.batch, shape.heads, shape.queries, shape.keys)
    mod, dtype = pairs.odd_mod(odd.factors), accumulator_dtype(member.queries)
    return Near(cut_function(lambda *pair: (mod(*pair),), extents, (), (), dtype).modifier, odd.low, odd.high)


def _is_full(table: Array, shape: _Shape) -> bool:
    """Tell whether a table has a number for each row and column of a tile, and so is cut into tiles."""
    if shape.is_folded:
        return table.shape[1] == shape.heads and table.shape[3] == shape.keys > 1
    return table.shape[2:] == (shape.queries, shape.keys) and shape.queries > 1 and shape.keys > 1


def _by_row(table: Array, shape: _Shape) -> Array:
    """Return a full table as [batch or 1, heads or 1, rows, keys]."""
    return table.reshape(table.shape[0], shape.groups, shape.group, shape.keys) if shape.is_folded else table


def _bound(member: Member, options: Options, dtype: Any) -> float | None:
    """Return the middle of a known range of scores; None where there is no range, or a wide one."""
    limits = member.limits if options.softcap is None else (-options.softcap, options.softcap)
    is_moved = any(each is not None for each in (options.bias, options.alibi, options.score_mod))
    if limits is None or is_moved:
        return None
    half = (limits[1] - limits[0]) / 2
    return (limits[0] + limits[1]) / 2 if half <= _HALF_RANGE.get(dtype, _WIDE_HALF_RANGE) else None


def _spans(options: Options, shape: _Shape) -> tuple[Span | None, int | None]:
    """Return the intervals of each batch entry, and their axis of batch entries; None where a plan says it all."""
    given = options.offsets, options.query_lengths, options.key_lengths, options.segments
    varies = any(each is not None for each in given)
    if not varies and (shape.is_plain or (options.window[0], options.ahead) == (None, None)):
        return None, None

    def one(offset: Any, query_length: Any, key_length: Any, segments: Any) -> Span:
        span = span_of(
            shape.queries, shape.keys, offset=offset, back=options.window[0], ahead=options.ahead,
            query_length=query_length, key_length=key_length, segments=segments,
        )  # fmt: skip
        if not shape.is_folded:
            return span
        # Rows are heads: each sees what the one query does, and a key is seen by all or none.
        rows = (jnp.broadcast_to(each, (shape.group,)) for each in span[:2])
        return Span(*rows, *(shape.group * each for each in span[2:]))

    if not varies:
        return one(*given), None
    return jax.vmap(one, axis_size=shape.batch)(*given), 0


def _map(
    plan: TilePlan, shape: _Shape, of_heads: tuple[Member, Array, Results | None], cut: Cut | None,
    spans: tuple[Span | None, int | None], visits: Visits | None,
) -> Results:  # fmt: skip
    """Map the attention of one head over batch entries, groups and, where they are not folded, heads of a group."""
    (member, values, known), (span, span_axis) = of_heads, spans
    batch, queries, split = shape.batch, shape.queries, (shape.groups, shape.group)
    arrays, structure = jax.tree.flatten(Given() if cut is None else cut.given)
    has: list[Any] = [] if cut is None else [each for part in cut.axes for each in part]
    scale = jnp.broadcast_to(jnp.asarray(member.scale, accumulator_dtype(member.queries)), (batch, shape.heads))
    scale, asking = scale.reshape(batch, *split), _by_group(shape, (member.queries, known))
    rows, row_axes = _rows_of_heads(member, values)
    is_grouped = shape.group > 1 and not shape.is_folded
    if visits is not None:
        visits = jax.tree.map(
            lambda each: each.reshape(batch, *(split if is_grouped else (shape.heads,)), *each.shape[2:]), visits
        )
    if is_grouped:
        arrays = [_split_heads(each, flag, split) for each, flag in zip(arrays, has, strict=True)]
    else:
        scale = scale[:, :, 0]

    def one(
        asking: tuple, rows: tuple[Array, Array, Storage], scale: Array, arrays: list[Array], visits: Any, span: Any
    ) -> Results:
        given = jax.tree.unflatten(structure, arrays)
        problem = Problem((asking[0],), *rows[:2], scale, None, given, span, visits, rows[2])
        return attend(plan, problem) if asking[1] is None else attend_known(plan, problem, asking[1])

    by_batch, by_head = ([0 if flag[number] else None for flag in has] for number in (0, 1))
    # Heads stay where they are, behind the rows: who cuts them out may do so in place.
    at = 0 if shape.is_folded else 1
    function: Any = one
    if is_grouped:
        function = jax.vmap(function, (at, None, 0, by_head, 0, None), at)
    function = jax.vmap(function, (at, (1, 1, Storage(0, 0, None)), 0, by_head, 0, None), at)  # type: ignore[arg-type]
    function = jax.vmap(function, (0, row_axes, 0, by_batch, 0, span_axis))
    out, log_sums = function(asking, rows, scale, arrays, visits, span)
    return out.reshape(batch, queries, shape.heads, out.shape[-1]), log_sums.reshape(batch, queries, shape.heads)


def _by_group(shape: _Shape, rows: Any) -> Any:
    """Split heads of what has rows of queries, [batch, queries, heads, ...], by groups where they have several."""

    def divide(each: Array) -> Array:
        if shape.group == 1:
            return each
        each = each.reshape(*each.shape[:2], shape.groups, shape.group, *each.shape[3:])
        # One query for each row of a group, or the rows of each head of a group.
        return each[:, 0] if shape.is_folded else each

    return jax.tree.map(divide, rows)


def _rows_of_heads(member: Member, values: Array) -> tuple[tuple[Array, Array, Storage], Any]:
    """Return keys and values as [entries, rows, heads, ...], or without entries, and the axes of entries."""
    storage = member.storage
    is_paged = storage.pages is not None
    # Pages belong to all entries, and their rows follow one another. Scales have heads in front.
    keys, values = (each.reshape(-1, *each.shape[2:]) if is_paged else each for each in (member.keys, values))
    key_scales, value_scales = (
        each.reshape(each.shape[0], -1) if is_paged and each is not None else each for each in storage[:2]
    )
    axis: Any = None if is_paged else 0
    axes: Any = Storage(axis, axis, 0)  # type: ignore[arg-type]
    return (keys, values, Storage(key_scales, value_scales, storage.pages)), (axis, axis, axes)


def _split_heads(array: Array, flag: tuple[bool, bool], split: tuple[int, int]) -> Array:
    axis = int(flag[0])
    return array.reshape(*array.shape[:axis], *split, *array.shape[axis + 1 :]) if flag[1] else array
