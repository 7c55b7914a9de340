"""Kernels that read a cache in two planes: scores of all tiles by high bytes, then sums over the tiles that count.

A workgroup is one subgroup and asks for several tiles before it uses the first. Rows of a tile are two axes: b that
stand side by side in the subgroup, a that an invocation holds itself, so that sums over a cross nothing.
"""

from __future__ import annotations

from functools import partial
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from ..kernels.call import Block, Kernel, Place, Promise, launch
from .planes import WORD, Planes, unpack, unpack_centres, unpack_steps

SKIP, HIGH, FINE, BOTH = 0, 1, 2, 3
"""What is read of a tile besides the high plane of its keys: nothing; that of its values; also the low plane of its
keys; or all of it."""

SUMMED = 16
"""Tiles that a program looks at to sum."""

# Words that a program asks for before it scores the first, and tiles at a time, times queries: more take more registers
# than there are.
_ASKED, _MOST_SCORED = 2048, 32
# Rows of a tile that stand side by side.
_SIDE_BY_SIDE = 8
# Certificates count a driver's exponential, and what is no number makes sums none.
_PROMISE = Promise(subgroups=1, driver_exp=True, nan_in_extrema=False)

OfRows = Float[Array, "batch key_heads tiles group a b"]
OfTiles = Float[Array, "batch key_heads tiles group"]
OfParts = Float[Array, "batch key_heads parts group"]


class Asking(NamedTuple):
    """What asks, and how much there is to look at.

    Attributes:
        queries: not scaled, in words, as they were given.
        rows: how many rows each entry has; what it has no room for does not count.
        table: where tiles lie, of entries that share them out; those that do not exist lie at 0.
        scale: of scores.
    """

    queries: Shaped[Array, "batch key_heads group words four"]
    rows: Int[Array, " batch"]
    table: Int[Array, "batch tiles"] | None
    scale: float

    @property
    def operands(self) -> list[Array]:
        """What kernels read of it."""
        return [self.rows, self.queries, *([] if self.table is None else [self.table])]

    @property
    def blocks(self) -> list[Block]:
        """How they read it: all operands but the queries as they lie."""
        of_head = Block((None, None, *self.queries.shape[2:]), lambda entry, head, _: (entry, head, 0, 0, 0))
        return [_all(self.rows), of_head, *([] if self.table is None else [_all(self.table)])]


def score_tiles(asking: Asking, keys: Planes, tiles: int) -> tuple[OfRows, OfTiles]:
    """Score the keys of tiles by their high plane; return also the log of what each tile weighs.

    Where an entry has no tile, results are any numbers.

    Args:
        asking: of all entries.
        keys: of the cache.
        tiles: that an entry has room for.
    """
    (batch, heads, group), (high, tile) = asking.queries.shape[:3], _in_rows(keys.high)
    most = min(_ASKED // max(1, high[0, 0, 0].size), _MOST_SCORED // group)
    count = next(size for size in (8, 4, 2, 1) if size <= max(1, most) and tiles % size == 0)

    def block(array: Array) -> Block:
        if asking.table is not None:
            return _all(array)
        return Block((None, None, count, *array.shape[3:]), partial(_part, array.ndim))

    shapes = [(batch, heads, tiles * group, *last) for last in ((tile,), ())]
    kernel = Kernel(
        partial(_score, count=count, tile=tile, scale=asking.scale),
        (batch, heads, tiles // count),
        [*asking.blocks, block(high), block(keys.grid)],
        [Block((None, None, count * group, *shape[3:]), partial(_part, len(shape))) for shape in shapes],
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        "plane_scores",
        _PROMISE,
    )
    scores, log_sums = launch(kernel, *asking.operands, high, keys.grid)
    whole = batch, heads, tiles, group
    return scores.reshape(*whole, *high.shape[3:5]), log_sums.reshape(whole)


def sum_tiles(
    asking: Asking, levels: Int[Array, "batch key_heads tiles"], scores: OfRows, planes: tuple[Planes, Planes]
) -> tuple[OfParts, OfParts, list[Float[Array, "batch key_heads parts group words"]]]:
    """Return peak, mass and total of the softmax state of each query for each part of the tiles.

    A part is every so many tiles, since those that count lie together. Totals are four arrays, the channels of a word.

    Args:
        asking: as in ``score_tiles``.
        levels: what is read of each tile; nothing where an entry has none.
        scores: of ``score_tiles``.
        planes: keys and values of the cache.
    """
    keys, values = planes
    (batch, heads, tiles), group, words = levels.shape, asking.queries.shape[2], values.high.shape[4]
    parts = -(-tiles // SUMMED)
    low, high, rest = (_in_rows(each)[0] for each in (keys.low, values.high, values.low))
    stored = low, keys.grid, high, rest, values.grid
    shapes = [(batch, heads, parts, group, *last) for last in ((), (), *[(words,)] * WORD)]
    kernel = Kernel(
        partial(_sum, count=-(-tiles // parts), parts=parts, scale=asking.scale),
        (batch, heads, parts),
        [*asking.blocks, *map(_of_head, (levels, scores)), *map(_all, stored)],
        [Block((None, None, None, *shape[3:]), partial(_part, len(shape))) for shape in shapes],
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        "plane_sums",
        _PROMISE,
    )
    peak, mass, *totals = launch(kernel, *asking.operands, levels, scores, *stored)
    return peak, mass, totals


def _in_rows(plane: Int[Array, "some key_heads tiles tile words"]) -> tuple[Array, int]:
    """Return a plane with rows as two axes, and the rows of a tile."""
    tile = plane.shape[3]
    side = gcd(tile, _SIDE_BY_SIDE)
    return plane.reshape(*plane.shape[:3], tile // side, side, plane.shape[4]), tile


def _all(array: Array) -> Block:
    """Give every program the whole array, of which it reads what it finds by its place."""
    return Block(array.shape, lambda entry, head, part: (0,) * array.ndim)


def _of_head(array: Array) -> Block:
    return Block((None, None, *array.shape[2:]), lambda entry, head, part: (entry, head, *(0,) * (array.ndim - 2)))


def _part(rank: int, entry: Any, head: Any, part: Any) -> tuple[Any, ...]:
    return (entry, head, part, *(0,) * (rank - 3))


def _read_queries(queries: Any, scale: float) -> list[Float[Array, "group words"]]:
    """Return scaled queries, the channels of words apart."""
    wide = queries[...].astype(jnp.float32) * scale
    return [wide[:, :, place] for place in range(WORD)]


def _score(place: Place, rows: Any, queries: Any, *refs: Any, count: int, tile: int, scale: float) -> None:
    (entry, _, part), (*table, high, grid, scores, log_sums) = place, refs

    def read() -> tuple[Array, Array]:
        words, codes = (_tiles(ref, table, place, count) for ref in (high, grid))
        parts, steps, centres = unpack(words), unpack_steps(codes[:, 0]), unpack_centres(codes[:, 1])
        asked = _read_queries(queries, scale)
        factors = [each[None] * step[:, None] for each, step in zip(asked, steps, strict=True)]
        base = _dot(factors, [centre[:, None] for centre in centres])[:, :, None, None]
        terms = _dot([each[:, :, None, None] for each in factors], [each[:, None] for each in parts], base)
        # Scores of all tiles are dealt out anew, so that no two invocations take the same exponential.
        score = jnp.sum(terms, axis=4).reshape(scores.shape)
        peak = jnp.max(score, axis=1)
        return score, peak + jnp.log(jnp.sum(jnp.exp(score - peak[:, None]), axis=1))

    def nothing() -> tuple[Array, Array]:
        return jnp.zeros(scores.shape, jnp.float32), jnp.zeros(log_sums.shape, jnp.float32)

    scores[...], log_sums[...] = lax.cond(part * count < rows[entry] // tile, read, nothing)


def _tiles(ref: Any, table: list[Any], place: Place, count: int) -> Array:
    """Return the tiles of a program: its block of the array, or what a table says of the whole array."""
    if not table:
        return ref[...]
    entry, head, part = place
    numbers = [table[0][entry, part * count + number] for number in range(count)]
    return jnp.stack([ref[0, head, number] for number in numbers])


def _sum(place: Place, rows: Any, queries: Any, *refs: Any, count: int, parts: int, scale: float) -> None:
    *table, levels, scores, key_low, key_grid, high, low, grid, peak, mass, t0, t1, t2, t3 = refs
    entry, head, part = place
    del rows
    (tiles, group), (side, words) = scores.shape[:2], high.shape[4:]
    asked = _read_queries(queries, scale / 256)
    nothing = (
        jnp.full((group,), -jnp.inf, jnp.float32),
        jnp.zeros((group, side), jnp.float32),
        *[jnp.zeros((group, side, words), jnp.float32)] * WORD,
    )

    def look(number: Array) -> Array:
        at = part + parts * number
        return jnp.where(at < tiles, levels[jnp.minimum(at, tiles - 1)], SKIP)

    def step(number: Array, carry: Any) -> Any:
        level, state = carry
        at = part + parts * number
        # What comes next is asked for before this is looked at.
        following = look(number + 1)

        def read(level: int, state: Any) -> Any:
            lies = (0, head, table[0][entry, at]) if table else (entry, head, at)
            score = scores[at]
            if level >= FINE:
                steps = unpack_steps(key_grid[lies][0])
                factors = [(each * step[None])[:, None, None] for each, step in zip(asked, steps, strict=True)]
                score += jnp.sum(_dot(factors, [each[None] for each in unpack(key_low[lies])]), axis=3)
            return _add(state, score, _values(high[lies], low[lies] if level == BOTH else None, grid[lies]))

        branches = lambda state: state, *(partial(read, level) for level in (HIGH, FINE, BOTH))
        return following, lax.switch(level, branches, state)

    _, (peak[...], masses, *totals) = lax.fori_loop(0, count, step, (look(jnp.int32(0)), nothing))
    mass[...] = jnp.sum(masses, axis=1)
    for ref, total in zip((t0, t1, t2, t3), totals, strict=True):
        ref[...] = jnp.sum(total, axis=1)


def _values(high: Array, low: Array | None, codes: Array) -> list[Array]:
    """Read the values of a tile."""
    parts, steps, centres = unpack(high), unpack_steps(codes[0]), unpack_centres(codes[1])
    if low is not None:
        parts = [part + rest * (1 / 256) for part, rest in zip(parts, unpack(low), strict=True)]
    return [
        step[None, None] * (centre[None, None] + part) for part, step, centre in zip(parts, steps, centres, strict=True)
    ]


def _add(state: Any, scores: Float[Array, "group a b"], values: list[Float[Array, "a b words"]]) -> Any:
    """Add a tile to the state of each query: one peak for all rows, sums for each of those that stand side by side."""
    peak, mass, *totals = state
    higher = jnp.maximum(peak, jnp.max(scores, axis=(1, 2)))
    base = jnp.where(higher == -jnp.inf, 0, higher)
    decay, weights = jnp.exp(peak - base), jnp.exp(scores - base[:, None, None])
    sums = (
        total * decay[:, None, None] + jnp.sum(weights[:, :, :, None] * value[None], axis=1)
        for total, value in zip(totals, values, strict=True)
    )
    return (higher, mass * decay[:, None] + jnp.sum(weights, axis=1), *sums)


def _dot(factors: list[Array], parts: list[Array], base: Array | None = None) -> Array:
    """Add up the products of the channels that lie in a word, to ``base`` where there is one."""
    total = base
    for factor, part in zip(factors, parts, strict=True):
        total = factor * part if total is None else total + factor * part
    assert total is not None
    return total
