"""Softmax attention of one head as a kernel: a program for each tile of queries walks over the tiles of keys.

for each tile of keys:  scores -> leaf state -> merged into the running state
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Float

from ..tiling.state import State, state_add, state_read
from .call import Block, Kernel, Place, Promise
from .score import Planes, Score, score_tile

# Rows of a tile at most, by bytes of a number: the weights of a pair of tiles take half of 32 KiB, the shared memory
# that nearly every device gives a workgroup, or all of it for numbers of 2 bytes, which matrix units hold. On the CPU
# tiles of 128 rows of 4 bytes would be up to a third faster.
_ROWS = {2: 128, 4: 64, 8: 32}
# Keys and values of a tile, in numbers of 2 bytes: what passes through shared memory at a time.
_STAGED = 16384
# Numbers at most that a program carries through its loop, in each of its results.
_CARRIED = 16384

Derivatives = Literal["all", "reverse"]


@dataclass(frozen=True)
class TilePlan:
    """What is known about a tiled attention before any array is.

    Attributes:
        score: the lift-inner-link score.
        tile: keys scored at a time, at most.
        is_causal: whether query i sees keys 0 to i only.
        derivatives: "all" modes and orders, or "reverse" mode of first order alone, by kernels.
        scale_moves: whether the scale has a derivative; a number of Python has none.
    """

    score: Score
    tile: int
    is_causal: bool
    derivatives: Derivatives = "all"
    scale_moves: bool = True


class Problem(NamedTuple):
    """The arrays of one head: what a kernel reads.

    Attributes:
        planes: the lifted queries.
        keys: one row for each place looked at.
        values: what each place holds.
        scale: inverse temperature, in the dtype that sums are taken in.
        mask: True where a query may see a key; None where every query may see every key.
    """

    planes: Planes
    keys: Float[Array, "keys width"]
    values: Float[Array, "keys channels"]
    scale: Float[Array, ""]
    mask: Bool[Array, "queries keys"] | None


class Sizes(NamedTuple):
    """Lengths of a problem's axes and of the tiles they are cut into, and which arrays there are."""

    planes: int
    is_masked: bool
    queries: int
    keys: int
    width: int
    channels: int
    query_tile: int
    key_tile: int

    @property
    def query_tiles(self) -> int:
        """Tiles of queries, at least one."""
        return max(1, -(-self.queries // self.query_tile))

    @property
    def key_tiles(self) -> int:
        """Tiles of keys, at least one: a problem without keys has a tile of keys that do not exist."""
        return max(1, -(-self.keys // self.key_tile))


def sizes_of(plan: TilePlan, problem: Problem) -> Sizes:
    """Cut a problem: tiles are as long as fits a workgroup, and key tiles no longer than the plan says."""
    (queries, width), (keys, channels) = problem.planes[0].shape, problem.values.shape
    bytes_each = problem.keys.dtype.itemsize
    fitting = _ROWS.get(bytes_each, min(_ROWS.values()))
    while fitting > 1 and fitting * max(width, channels) > _CARRIED:
        fitting //= 2
    query_tile, key_tile = max(1, min(fitting, queries)), max(1, min(fitting, plan.tile, keys))
    while bytes_each == 2 and key_tile > 64 and key_tile * (width + channels) > _STAGED:
        key_tile //= 2
    present = len(problem.planes), problem.mask is not None
    # A block has at least one element; what an empty array lacks is padded with zeros.
    return Sizes(*present, queries, keys, max(1, width), max(1, channels), query_tile, key_tile)


def promise_of(problem: Problem) -> Promise:
    """Say what a compiler may rely on: weights that are rounded to 16 bits need no exponential of 24."""
    return Promise(driver_exp=problem.keys.dtype.itemsize == 2)


def attention_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes the softmax state of each query: peak, mass, total.

    Error: a state of n keys rounds like n / tile merges of sums of tile terms (docs/theory/softmax_state.md).
    Source: Milakov and Gimelshein 2018; Rabe and Staats 2021; Dao 2022.
    """
    sizes, dtype = sizes_of(plan, problem), problem.scale.dtype
    rows, columns = problem.planes[0].shape[0], problem.values.shape[1]
    return Kernel(
        partial(_attend, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        by_query(sizes),
        [tile_of(sizes.query_tile), tile_of(sizes.query_tile), tile_of(sizes.query_tile, sizes.channels)],
        [jax.ShapeDtypeStruct(shape, dtype) for shape in ((rows,), (rows,), (rows, columns))],
        "attention_state",
        promise_of(problem),
    )


def average_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes the averaged values and log sum of each query: ``attention_kernel``, read."""
    sizes = sizes_of(plan, problem)
    rows, columns = problem.planes[0].shape[0], problem.values.shape[1]
    return Kernel(
        partial(_average, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        by_query(sizes),
        [tile_of(sizes.query_tile, sizes.channels), tile_of(sizes.query_tile)],
        [
            jax.ShapeDtypeStruct((rows, columns), problem.values.dtype),
            jax.ShapeDtypeStruct((rows,), problem.scale.dtype),
        ],
        "attention",
        # A score that is NaN makes its weight NaN, and with it the average and the log sum. A peak would lose it.
        replace(promise_of(problem), nan_in_extrema=False),
    )


def pass_kernel(plan: TilePlan, problem: Problem) -> Kernel:
    """Return the kernel that computes mass and total of each query relative to a known peak, one more operand.

    It is one pass of an attention operator: no maximum is followed, nothing is rescaled. The peak may be any number
    that is not far below the largest score of its row, such as the row's log sum.
    """
    sizes, dtype = sizes_of(plan, problem), problem.scale.dtype
    rows, columns = problem.planes[0].shape[0], problem.values.shape[1]
    return Kernel(
        partial(_pass, plan=plan, sizes=sizes),
        (sizes.query_tiles,),
        [*by_query(sizes), tile_of(sizes.query_tile)],
        [tile_of(sizes.query_tile), tile_of(sizes.query_tile, sizes.channels)],
        [jax.ShapeDtypeStruct(shape, dtype) for shape in ((rows,), (rows, columns))],
        "attention_pass",
        promise_of(problem),
    )


def operands(problem: Problem) -> list[Array]:
    """List what a kernel is launched with."""
    mask = [] if problem.mask is None else [problem.mask]
    return [*problem.planes, problem.keys, problem.values, problem.scale.reshape(1, 1), *mask]


def split_refs(sizes: Sizes, refs: Sequence[Any]) -> tuple[Problem, Sequence[Any]]:
    """Tell the references to ``operands`` from those that come after them."""
    planes, (keys, values, scale, *rest) = tuple(refs[: sizes.planes]), refs[sizes.planes :]
    mask = rest.pop(0) if sizes.is_masked else None
    return Problem(planes, keys, values, scale, mask), rest


def by_query(sizes: Sizes) -> list[Block]:
    """Cut the operands for a program that has one tile of queries and all keys."""
    keys = sizes.key_tiles * sizes.key_tile
    planes = [tile_of(sizes.query_tile, sizes.width)] * sizes.planes
    mask = [tile_of(sizes.query_tile, keys)] if sizes.is_masked else []
    return [*planes, whole(keys, sizes.width), whole(keys, sizes.channels), whole(1, 1), *mask]


def tile_of(rows: int, *columns: int) -> Block:
    """Cut the first axis: program i has block i."""
    return Block((rows, *columns), lambda i: (i, *(0 for _ in columns)))


def whole(*shape: int) -> Block:
    """Give every program the whole array."""
    return Block(shape, lambda i: tuple(0 for _ in shape))


def hide(
    plan: TilePlan,
    sizes: Sizes,
    scores: Float[Array, "queries tile"],
    first_query: int | Array,
    first_key: int | Array,
    allowed: Bool[Array, "queries tile"] | None,
    axes: tuple[int, int] = (0, 1),
) -> Float[Array, "queries tile"]:
    """Give minus infinity to every key that does not exist or must not be seen.

    ``axes`` are those of queries and of keys.
    """
    key = first_key + lax.broadcasted_iota(jnp.int32, scores.shape, axes[1])
    visible = key < sizes.keys
    if plan.is_causal:
        visible &= key <= first_query + lax.broadcasted_iota(jnp.int32, scores.shape, axes[0])
    if allowed is not None:
        visible &= allowed
    return jnp.where(visible, scores, -jnp.inf)


def key_steps(plan: TilePlan, sizes: Sizes, first_query: int | Array) -> int | Array:
    """Count the tiles of keys that a tile of queries must look at."""
    if not plan.is_causal:
        return sizes.key_tiles
    last = first_query + sizes.query_tile
    return jnp.minimum((last + sizes.key_tile - 1) // sizes.key_tile, sizes.key_tiles)


def open_steps(plan: TilePlan, sizes: Sizes, first_query: int | Array) -> int | Array:
    """Count the tiles of keys, from the first on, that every query of a tile sees whole: nothing in them is hidden."""
    whole_tiles = sizes.keys // sizes.key_tile
    if sizes.is_masked:
        return 0
    if not plan.is_causal:
        return whole_tiles
    return jnp.minimum((first_query + 1) // sizes.key_tile, whole_tiles)


def _attend(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (peak, mass, total) = split_refs(sizes, refs)
    peak[...], mass[...], total[...] = _state(plan, sizes, place[0], given)


def _average(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (out, log_sums) = split_refs(sizes, refs)
    average, log_sums[...] = state_read(_state(plan, sizes, place[0], given))
    out[...] = average.astype(out.dtype)


def _state(plan: TilePlan, sizes: Sizes, number: int | Array, given: Problem) -> State:
    """Return the state of each query of a tile; of 16-bit numbers it is summed in units of log 2."""
    rows, dtype = sizes.query_tile, given.scale.dtype
    is_narrow = given.keys.dtype.itemsize == 2
    exp, unit = (jnp.exp2, math.log(2)) if is_narrow else (jnp.exp, 1.0)
    start = State(
        jnp.full((rows,), -jnp.inf, dtype), jnp.zeros((rows,), dtype), jnp.zeros((rows, sizes.channels), dtype)
    )

    state = _over_keys(plan, sizes, number, given, partial(state_add, exp=exp), start, given.scale[0, 0] / unit)
    return state._replace(peak=state.peak * unit) if is_narrow else state


def _pass(place: Place, *refs: Any, plan: TilePlan, sizes: Sizes) -> None:
    given, (peak_ref, mass, total) = split_refs(sizes, refs)
    peak = peak_ref[...]

    def add(sums: tuple[Array, Array], scores: Array, values: Array) -> tuple[Array, Array]:
        weights = jnp.exp(scores - peak[:, None])
        mixed = jnp.matmul(weights.astype(values.dtype), values, preferred_element_type=peak.dtype)
        return sums[0] + jnp.sum(weights, axis=1), sums[1] + mixed

    start = jnp.zeros(mass.shape, mass.dtype), jnp.zeros(total.shape, total.dtype)
    mass[...], total[...] = _over_keys(plan, sizes, place[0], given, add, start, given.scale[0, 0])


def _over_keys(
    plan: TilePlan,
    sizes: Sizes,
    number: int | Array,
    given: Problem,
    add: Callable[..., Any],
    start: Any,
    scale: Array,
) -> Any:
    """Fold ``add`` (carry, scores, values) over the tiles of keys that tile ``number`` of queries sees."""
    first = number * sizes.query_tile
    planes = tuple(ref[...] for ref in given.planes)

    def step(number: Array, carry: Any, *, is_open: bool) -> Any:
        rows = pl.ds(number * sizes.key_tile, sizes.key_tile)
        scores = score_tile(plan.score, planes, given.keys[rows, :], scale)
        if not is_open:
            allowed = None if given.mask is None else given.mask[:, rows]
            scores = hide(plan, sizes, scores, first, number * sizes.key_tile, allowed)
        return add(carry, scores, given.values[rows, :])

    return over_tiles(open_steps(plan, sizes, first), key_steps(plan, sizes, first), step, start)


def over_tiles(opened: int | Array, steps: int | Array, step: Callable[..., Any], start: Any) -> Any:
    """Fold ``step`` (number, carry, is_open) over tiles, of which the first ones hide nothing."""
    is_known = isinstance(opened, int)
    if not (is_known and opened == 0):
        start = lax.fori_loop(0, opened, partial(step, is_open=True), start)
    if is_known and isinstance(steps, int) and opened == steps:
        return start
    return lax.fori_loop(opened, steps, partial(step, is_open=False), start)
