"""Softmax attention of one head as a kernel: a program for each tile of queries walks over the tiles of keys.

for each tile of keys:  scores -> leaf state -> merged into the running state
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..tiling.state import State, mix_plainly, state_add, state_read
from .call import Block, Kernel, Place, Promise
from .pair import hide, key_tile_of, modify
from .problem import Problem, Sizes, TilePlan, by_query, channels_of, is_steady, sizes_of, split_refs, tile_of
from .score import score_tile
from .steps import Steps, key_steps, lead_steps, over_tiles, together_of
from .storage import unit_of
from .target import Target

# Weights that stand for wider numbers go up to 2^14, far below the largest number of 16 bits and far from the smallest.
_HEADROOM = 14.0
# Rows of a subgroup where sums are relative to a number that stays, and the longest rows for which it has registers.
_BAND, _SHORT = 32, 64
# Rows of a tile of queries for which it pays to look at a first tile of keys twice.
_LED_ROWS = 64
# Keys that a program of a split kernel looks at, at least.
_PART = 256


def promise_of(plan: TilePlan, problem: Problem) -> Promise:
    """Say what a compiler may rely on: weights that are rounded to 16 bits need no exponential of 24."""
    is_loose = plan.modifier is not None and plan.modifier.driver_tanh
    return Promise(driver_exp=problem.dtype.itemsize == 2, driver_tanh=is_loose)


def cut_forward(plan: TilePlan, problem: Problem, target: Target = Target.VULKAN) -> tuple[Sizes, Promise]:
    """Cut a problem for the way forward.

    Where sums are relative to a number that stays and rows are short, a subgroup has registers for more rows, and reads
    keys and values less often; of keys it then takes fewer at a time.
    """
    sizes, promise = sizes_of(plan, problem, target), promise_of(plan, problem)
    is_short = max(sizes.width, sizes.channels) <= _SHORT
    if target is Target.LOOP or not (is_short and is_steady(plan, problem)):
        return sizes, promise
    return sizes._replace(key_tile=min(sizes.key_tile, _SHORT)), replace(promise, band=_BAND)


def attention_kernel(plan: TilePlan, problem: Problem, target: Target = Target.VULKAN) -> Kernel:
    """Return the kernel that computes the softmax state of each query: peak, mass, total.

    Error: a state of n keys rounds like n / tile merges of sums of tile terms (docs/theory/softmax_state.md).
    Source: Milakov and Gimelshein 2018; Rabe and Staats 2021; Dao 2022.
    """
    (sizes, promise), dtype = cut_forward(plan, problem, target), problem.scale.dtype
    rows, columns = problem.planes[0].shape[0], channels_of(plan, problem)
    return Kernel(
        partial(_attend, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        by_query(sizes, problem),
        [tile_of(sizes.query_tile), tile_of(sizes.query_tile), tile_of(sizes.query_tile, max(1, columns))],
        [jax.ShapeDtypeStruct(shape, dtype) for shape in ((rows,), (rows,), (rows, columns))],
        "attention_state",
        promise,
    )


def average_kernel(plan: TilePlan, problem: Problem, target: Target = Target.VULKAN) -> Kernel:
    """Return the kernel that computes the averaged values and log sum of each query: ``attention_kernel``, read."""
    (sizes, promise), dtype = cut_forward(plan, problem, target), problem.scale.dtype
    rows, columns = problem.planes[0].shape[0], channels_of(plan, problem)
    return Kernel(
        partial(_average, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        by_query(sizes, problem),
        [tile_of(sizes.query_tile, max(1, columns)), tile_of(sizes.query_tile)],
        [
            jax.ShapeDtypeStruct((rows, columns), problem.dtype if plan.products == "given" else dtype),
            jax.ShapeDtypeStruct((rows,), dtype),
        ],
        "attention",
        # A score that is NaN makes its weight NaN, and with it the average and the log sum. A peak would lose it.
        replace(promise, nan_in_extrema=False, last_first=together_of(plan, problem)),
    )


def is_led(plan: TilePlan, problem: Problem) -> bool:
    """Tell whether ``led_kernel`` can do the work of ``average_kernel``, and faster."""
    sizes = sizes_of(plan, problem)
    is_worth_it = sizes.key_tiles > 1 and sizes.query_tile >= _LED_ROWS
    return is_steady(plan, problem) and plan.bound is None and is_worth_it


def led_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that averages relative to the largest score of one tile of keys.

    No maximum is followed and nothing is rescaled: a weight of 16 bits has room for 2^16 times that score's. Where a
    row needs more, an infinite weight leaves averages that are no numbers, or finite ones of small values an infinite
    sum. The log sum of the row is no finite number then, and ``mend_kernel`` computes it again. It does so where a
    plan's ``near`` modifier would not do as well.
    """
    return replace(average_kernel(plan, problem), body=partial(_lead, plan=plan, sizes=cut_forward(plan, problem)[0]))


def mend_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return ``average_kernel`` for some tiles of queries; the others keep what they have.

    Three more operands: for each tile whether it is computed, averages and log sums so far.
    """
    kernel, (sizes, _) = average_kernel(plan, problem), cut_forward(plan, problem)
    return replace(
        kernel,
        body=partial(_mend, plan=plan, sizes=sizes),
        inputs=[*kernel.inputs, tile_of(1), *kernel.outputs],
        name="attention_mend",
        guard=lambda place, *refs: split_refs(sizes, refs)[1][0][0] > 0,
    )


def pass_kernel(plan: TilePlan, problem: Problem, target: Target = Target.VULKAN) -> Kernel:
    """Return the kernel that computes mass and total of each query relative to a known peak, one more operand.

    It is one pass of an attention operator: no maximum is followed, nothing is rescaled. The peak may be any number
    that is not far below the largest score of its row, such as the row's log sum.
    """
    (sizes, promise), dtype = cut_forward(plan, problem, target), problem.scale.dtype
    rows, columns = problem.planes[0].shape[0], channels_of(plan, problem)
    return Kernel(
        partial(_pass, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        [*by_query(sizes, problem), tile_of(sizes.query_tile)],
        [tile_of(sizes.query_tile), tile_of(sizes.query_tile, max(1, columns))],
        [jax.ShapeDtypeStruct(shape, dtype) for shape in ((rows,), (rows, columns))],
        "attention_pass",
        promise,
    )


def split_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes the softmax state of each query for each part of the keys, parts in front.

    For few queries: programs share out the keys, and ``join_kernel`` joins what they find.
    """
    (sizes, promise), dtype = cut_forward(plan, problem), problem.scale.dtype
    # Rows that fill the tiles of queries up are results as well: who joins parts passes over them.
    rows, columns = sizes.query_tiles * sizes.query_tile, channels_of(plan, problem)
    parts = parts_of(plan, sizes)

    def tile(*columns: int) -> Block:
        return Block((None, sizes.query_tile, *columns), lambda i, part: (part, i, *(0 for _ in columns)))

    return Kernel(
        partial(_attend_part, plan=plan, sizes=sizes, parts=parts),
        (sizes.query_tiles, parts),
        [replace(block, at=partial(_first, block.at)) for block in by_query(sizes, problem)],
        [tile(), tile(), tile(max(1, columns))],
        [jax.ShapeDtypeStruct((parts, *shape), dtype) for shape in ((rows,), (rows,), (rows, columns))],
        "attention_split",
        promise,
    )


def join_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that joins what ``split_kernel`` finds: averaged values and log sum of each query.

    A program has one query: sums of parts have one order, and no query waits for another.
    """
    rows, columns, dtype = problem.planes[0].shape[0], max(1, channels_of(plan, problem)), problem.scale.dtype
    parts = parts_of(plan, sizes_of(plan, problem))

    def of_query(*columns: int) -> Block:
        return Block((parts, None, *columns), lambda i: (0, i, *(0 for _ in columns)))

    return Kernel(
        _join,
        (rows,),
        [of_query(), of_query(), of_query(columns)],
        [Block((None, columns), lambda i: (i, 0)), Block((1,), lambda i: (i,))],
        [
            jax.ShapeDtypeStruct((rows, columns), problem.dtype if plan.products == "given" else dtype),
            jax.ShapeDtypeStruct((rows,), dtype),
        ],
        "attention_join",
        replace(promise_of(plan, problem), nan_in_extrema=False),
    )


def parts_of(plan: TilePlan, sizes: Sizes) -> int:
    """Return into how many parts the keys of few queries are split; 1 where that does not pay."""
    if sizes.query_tiles > 1:
        return 1
    tiles = max(1, -(-_PART // sizes.key_tile))
    return max(1, min(plan.parts, sizes.key_tiles // tiles))


def _first(at: Callable[..., Any], i: Any, part: Any) -> Any:
    del part
    return at(i)


def _attend(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (peak, mass, total) = split_refs(sizes, refs)
    peak[...], mass[...], total[...] = _state(plan, sizes, place[0], given)


def _attend_part(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes, parts: int) -> None:
    given, (peak, mass, total) = split_refs(sizes, refs)

    def narrow(steps: Steps) -> Steps:
        # What there is to look at is shared out, however much that is.
        tiles = (steps.stop - steps.start + parts - 1) // parts
        start = jnp.minimum(steps.start + place[1] * tiles, steps.stop)
        stop = jnp.minimum(start + tiles, steps.stop)
        return steps._replace(start=start, opened=jnp.clip(steps.opened, start, stop), stop=stop)

    peak[...], mass[...], total[...] = _state(plan, sizes, place[0], given, narrow)


def _join(place: Place, peaks: Any, masses: Any, totals: Any, out: Any, log_sums: Any) -> None:
    del place
    peak = jnp.max(peaks[...])
    # A row that sees nothing has no peak, and a sum of zero.
    factors = jnp.exp(peaks[...] - jnp.where(peak == -jnp.inf, 0, peak))
    mass = jnp.sum(factors * masses[...])
    total = jnp.sum(factors[:, None] * totals[...], axis=0)
    average, log_sum = state_read(State(peak[None], mass[None], total[None]))
    out[...], log_sums[...] = average[0].astype(out.dtype), log_sum


def _average(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    _average_to(plan, sizes, place, *split_refs(sizes, refs))


def _average_to(plan: TilePlan, sizes: Sizes, place: Place, given: Problem, results: Sequence[Any]) -> None:
    out, log_sums = results
    average, log_sums[...] = state_read(_state(plan, sizes, place[0], given))
    out[...] = average.astype(out.dtype)


def _lead(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (out, log_sums) = split_refs(sizes, refs)
    rows, dtype, unit, near = sizes.query_tile, given.scale.dtype, math.log(2), plan.near
    modified = plan if near is None else replace(plan, modifier=near.modifier)
    taken = given if near is None else given._replace(scale=jnp.ones((1, 1), dtype))
    over_keys = partial(fold_keys, modified, sizes, place[0], taken, unit=unit if near is None else 1.0)

    def look(largest: Array, scores: Array, values: Array, *, factors: None) -> Array:
        del values, factors
        return jnp.maximum(largest, scores)

    nothing = jnp.full((rows, sizes.key_tile), -jnp.inf, dtype)
    peak = jnp.max(over_keys(look, nothing, narrow=partial(lead_steps, plan, sizes, place[0])), axis=1)
    if sizes.has_reference:
        visits: Any = given.visits
        peak = jnp.maximum(peak, visits.reference[0] * (1 / unit))
    sums = jnp.zeros((rows,), dtype), jnp.zeros((rows, sizes.channels), dtype)
    mass, total = over_keys(partial(_add_known, peak[:, None], exp=jnp.exp2), sums, narrow=None)
    # Neither infinity nor NaN lies below infinity.
    is_lost = jnp.max(jnp.where(jnp.abs(total) < jnp.inf, jnp.zeros_like(total), 1), axis=1) > 0
    if near is not None:
        is_lost |= (peak < near.low) | (peak > near.high)
    log_sums[...] = jnp.where(is_lost, jnp.nan, peak * unit + jnp.log(mass))
    out[...] = (total / mass[:, None]).astype(out.dtype)


def _mend(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (_, *results) = split_refs(sizes, refs)
    _average_to(plan, sizes, place, given, results)


def _state(
    plan: TilePlan,
    sizes: Sizes,
    number: int | Array,
    given: Problem,
    narrow: Callable[[Steps], Steps] | None = None,
) -> State:
    """Return the state of each query of a tile.

    Of 16-bit numbers it is summed in units of log 2. With a known bound no maximum is followed.
    """
    rows, dtype = sizes.query_tile, given.scale.dtype
    columns = sizes.channels // 2 if plan.products == "split" else sizes.channels
    nothing = jnp.zeros((rows,), dtype), jnp.zeros((rows, columns), dtype)
    is_in_bits = given.dtype.itemsize == 2
    unit = math.log(2) if is_in_bits else 1.0
    over_keys = partial(fold_keys, plan, sizes, number, given, unit=unit, narrow=narrow)
    if plan.bound is not None:
        peak = jnp.full((rows,), plan.bound, dtype)
        add = partial(_add_known, plan.bound / unit, exp=jnp.exp2 if is_in_bits else jnp.exp)
        mass, total = over_keys(add, nothing)
        return State(peak, mass, _in_full(given, total))
    start = State(jnp.full((rows,), -jnp.inf, dtype), *nothing)
    add = partial(state_add, exp=jnp.exp2 if is_in_bits else jnp.exp)
    if plan.products != "given":
        mix = _mix_split if plan.products == "split" else mix_plainly
        add = partial(add, headroom=_HEADROOM if is_in_bits else _HEADROOM * math.log(2), mix=mix)
    state = over_keys(add, start)
    return State(state.peak * unit if is_in_bits else state.peak, state.mass, _in_full(given, state.total))


def _in_full(given: Problem, total: Array) -> Array:
    """Undo the unit in which scales of values are taken, a power of two."""
    return total if given.storage.value_scales is None else total * (1 / unit_of(given.values.dtype))


def _mix_split(weights: Array, values: tuple[Array, Array], dtype: jnp.dtype) -> Array:
    """Mix values by weights, each in two parts, without the product of both low parts."""
    product = partial(jnp.matmul, preferred_element_type=dtype)
    high = weights.astype(values[0].dtype)
    low = (weights - high.astype(weights.dtype)).astype(high.dtype)
    return product(high, values[0]) + product(low, values[0]) + product(high, values[1])


def _pass(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (peak, mass, total) = split_refs(sizes, refs)
    start = jnp.zeros(mass.shape, mass.dtype), jnp.zeros(total.shape, total.dtype)
    add = partial(_add_known, peak[...][:, None])
    sums = fold_keys(plan, sizes, place[0], given, add, start, unit=1.0, narrow=None)
    mass[...], total[...] = sums[0], _in_full(given, sums[1])


def _add_known(
    peak: float | Array,
    sums: tuple[Array, Array],
    scores: Array,
    values: Array,
    *,
    factors: Array | None = None,
    exp: Callable[[Array], Array] = jnp.exp,
) -> tuple[Array, Array]:
    """Add a tile to mass and total relative to a peak that stays."""
    weights = exp(scores - peak)
    mixed = weights if factors is None else weights * factors
    total = jnp.matmul(mixed.astype(values.dtype), values, preferred_element_type=sums[1].dtype)
    return sums[0] + jnp.sum(weights, axis=1), sums[1] + total


def fold_keys(
    plan: TilePlan,
    sizes: Sizes,
    number: int | Array,
    given: Problem,
    add: Callable[..., Any],
    start: Any,
    *,
    unit: float,
    narrow: Callable[[Steps], Steps] | None,
) -> Any:
    """Fold ``add`` (carry, scores, values, factors) over the tiles of keys that tile ``number`` of queries sees.

    Scores come in a unit; what modifies them is given nats.
    """
    first, is_plain = number * sizes.query_tile, plan.modifier is None
    scale = given.scale[0, 0] / unit if is_plain else given.scale[0, 0]
    planes = tuple(ref[...] for ref in given.planes)

    def step(number: Array, carry: Any, *, is_open: bool) -> Any:
        keys, values, read, allowed = key_tile_of(given, sizes, number, is_split=plan.products == "split")
        first_key = number * sizes.key_tile
        key_scales, value_scales = given.storage.read_scales(number, sizes.key_tile, sizes.page_tiles)
        scores = score_tile(plan.score, planes, keys, scale, key_scales)
        scores, factors = modify(plan, sizes, scores, first, first_key, read)
        scores = scores if is_plain or unit == 1 else scores * (1 / unit)
        if not is_open:
            scores = hide(plan, sizes, scores, first, first_key, allowed)
        if value_scales is not None:
            weight = value_scales[None, :] * unit_of(given.values.dtype)
            factors = jnp.broadcast_to(weight, scores.shape) if factors is None else factors * weight
        return add(carry, scores, values, factors=factors)

    steps = key_steps(plan, sizes, first, given)
    return over_tiles(steps if narrow is None else narrow(steps), step, start)
