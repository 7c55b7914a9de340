"""Kernels that read a cache in two planes: scores of all tiles by high bytes, then sums over the tiles that count.

Each row of a tile has a softmax state of its own for every query, so that nothing crosses a workgroup before the end.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..kernels.call import Block, Kernel, Place, launch
from .planes import WORD, Planes, unpack, unpack_centres, unpack_steps

SKIP, HIGH, FINE, BOTH = 0, 1, 2, 3
"""What is read of a tile besides the high plane of its keys: nothing; that of its values; also the low plane of its
keys; or all of it."""

SUMMED = 32
"""Tiles that a program looks at to sum."""

# Tiles that a program scores.
_SCORED = 4

Asking = Float[Array, "batch key_heads group four words"]
Places = Int[Array, "batch tiles"]
OfRows = Float[Array, "batch key_heads group tiles tile"]
OfTiles = Float[Array, "batch key_heads group tiles"]
OfParts = Float[Array, "batch key_heads parts group"]


@jax.jit
def score_tiles(queries: Asking, places: Places, keys: Planes) -> tuple[OfRows, OfTiles]:
    """Score the keys of tiles by their high plane; return also the log of what each tile weighs.

    Args:
        queries: scaled; channels in the order of ``unpack``.
        places: where tiles lie; those that do not exist may lie anywhere.
        keys: of the cache.
    """
    (_, heads, _, tile, _), (batch, tiles) = keys.high.shape, places.shape
    group, count = queries.shape[2], min(_SCORED, tiles)
    kernel = Kernel(
        partial(_score, count=count),
        (batch, heads, -(-tiles // count)),
        [
            Block((None, count), lambda entry, head, part: (entry, part)),
            _of_head(queries), _all(keys.high), _all(keys.grid),
        ],
        [
            Block((None, None, group, count, tile), lambda entry, head, part: (entry, head, 0, part, 0)),
            Block((None, None, group, count), lambda entry, head, part: (entry, head, 0, part)),
        ],
        [jax.ShapeDtypeStruct((batch, heads, group, tiles, *last), jnp.float32) for last in ((tile,), ())],
        "plane_scores",
    )  # fmt: skip
    scores, log_sums = launch(kernel, places, queries, keys.high, keys.grid)
    return scores, log_sums


@jax.jit
def sum_tiles(
    queries: Asking,
    places: Places,
    levels: Int[Array, "batch key_heads tiles"],
    scores: OfRows,
    planes: tuple[Planes, Planes],
) -> tuple[OfParts, OfParts, Float[Array, "batch key_heads parts group channels"]]:
    """Return peak, mass and total of the softmax state of each query for each part of the tiles.

    Args:
        queries: as in ``score_tiles``.
        places: likewise.
        levels: what is read of each tile.
        scores: of ``score_tiles``.
        planes: keys and values of the cache.
    """
    keys, values = planes
    (batch, heads, tiles), group, words = levels.shape, queries.shape[2], values.high.shape[4]
    count = min(SUMMED, tiles)
    parts = -(-tiles // count)
    shapes = [(batch, heads, parts, group, *last) for last in ((), (), (WORD, words))]
    stored = keys.low, keys.grid, values.high, values.low, values.grid
    kernel = Kernel(
        partial(_sum, count=count),
        (batch, heads, parts),
        [
            Block((None, None, count), lambda entry, head, part: (entry, head, part)),
            Block((None, count), lambda entry, head, part: (entry, part)),
            _of_head(queries), _all(scores), *map(_all, stored),
        ],
        [Block((None, None, None, *shape[3:]), partial(_part, len(shape))) for shape in shapes],
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        "plane_sums",
    )  # fmt: skip
    peak, mass, total = launch(kernel, levels, places, queries, scores, *stored)
    return peak, mass, jnp.swapaxes(total, 4, 5).reshape(batch, heads, parts, group, WORD * words)


def _all(array: Array) -> Block:
    """Give every program the whole array, of which it reads what it finds by its place."""
    return Block(array.shape, lambda entry, head, part: (0,) * array.ndim)


def _of_head(array: Array) -> Block:
    return Block((None, None, *array.shape[2:]), lambda entry, head, part: (entry, head, *(0,) * (array.ndim - 2)))


def _part(rank: int, entry: Any, head: Any, part: Any) -> tuple[Any, ...]:
    return (entry, head, part, *(0,) * (rank - 3))


def _score(place: Place, places: Any, queries: Any, high: Any, grid: Any, *results: Any, count: int) -> None:
    (entry, head, _), (scores, log_sums) = place, results
    owner = _owner(entry, high)
    asking = [[queries[row, part] for part in range(WORD)] for row in range(queries.shape[0])]
    for number in range(count):
        at = places[number]
        codes = grid[owner, head, at]
        parts, steps, centres = unpack(high[owner, head, at]), unpack_steps(codes[0]), unpack_centres(codes[1])
        for row, query in enumerate(asking):
            factors = [each * step for each, step in zip(query, steps, strict=True)]
            terms = _dot(factors, centres)[None] + _dot([each[None] for each in factors], parts)
            score = jnp.sum(terms, axis=1)
            peak = jnp.max(score)
            scores[row, number] = score
            log_sums[row, number] = peak + jnp.log(jnp.sum(jnp.exp(score - peak)))


def _sum(place: Place, levels: Any, places: Any, queries: Any, scores: Any, *refs: Any, count: int) -> None:
    key_low, key_grid, high, low, grid, peak, mass, total = refs
    entry, head, part = place
    group, (tile, words) = queries.shape[0], high.shape[3:]
    nothing = (
        jnp.full((tile,), -jnp.inf, jnp.float32),
        jnp.zeros((tile,), jnp.float32),
        *[jnp.zeros((tile, words), jnp.float32)] * WORD,
    )

    def step(number: Array, states: Any) -> Any:
        at = _owner(entry, high), head, places[number]

        def read(level: int, states: Any) -> Any:
            found = [scores[entry, head, row, part * count + number] for row in range(group)]
            if level >= FINE:
                added = _low_scores(queries, key_low[at], key_grid[at][0])
                found = [score + more for score, more in zip(found, added, strict=True)]
            return _add(states, found, _values(high[at], low[at] if level == BOTH else None, grid[at]))

        branches = lambda states: states, *(partial(read, level) for level in (HIGH, FINE, BOTH))
        return lax.switch(levels[number], branches, states)

    states = lax.fori_loop(0, count, step, (nothing,) * group)
    for row, (peaks, masses, *totals) in enumerate(states):
        highest = jnp.max(peaks)
        factors = jnp.exp(peaks - _finite(highest))
        peak[row], mass[row] = highest, jnp.sum(factors * masses)
        for channel, each in enumerate(totals):
            total[row, channel] = jnp.sum(factors[:, None] * each, axis=0)


def _owner(entry: Any, tiles: Any) -> Any:
    """Return the first index of an entry's tiles in arrays that have one entry where all share them."""
    return entry if tiles.shape[0] > 1 else 0


def _low_scores(queries: Any, low: Array, codes: Array) -> list[Array]:
    """Return what the low plane of a tile adds to the scores of each query."""
    parts, steps = unpack(low), [step * (1 / 256) for step in unpack_steps(codes)]
    factors = [[queries[row, part] * step for part, step in enumerate(steps)] for row in range(queries.shape[0])]
    return [jnp.sum(_dot([each[None] for each in query], parts), axis=1) for query in factors]


def _values(high: Array, low: Array | None, codes: Array) -> list[Array]:
    """Read the values of a tile."""
    parts, steps, centres = unpack(high), unpack_steps(codes[0]), unpack_centres(codes[1])
    if low is not None:
        parts = [part + rest * (1 / 256) for part, rest in zip(parts, unpack(low), strict=True)]
    return [step[None] * (centre[None] + part) for part, step, centre in zip(parts, steps, centres, strict=True)]


def _add(states: Any, scores: list[Array], values: list[Array]) -> Any:
    """Add a tile to the state of each of its rows, for each query."""
    added: list[Any] = []
    for (peak, mass, *totals), score in zip(states, scores, strict=True):
        higher = jnp.maximum(peak, score)
        base = _finite(higher)
        decay, weight = jnp.exp(peak - base), jnp.exp(score - base)
        sums = [total * decay[:, None] + weight[:, None] * value for total, value in zip(totals, values, strict=True)]
        added.append((higher, mass * decay + weight, *sums))
    return tuple(added)


def _dot(factors: list[Array], parts: list[Array]) -> Array:
    """Add up the products of the channels that lie in a word, in pairs."""
    first, second, third, fourth = (factor * part for factor, part in zip(factors, parts, strict=True))
    return (first + second) + (third + fourth)


def _finite(peak: Array) -> Array:
    return jnp.where(peak == -jnp.inf, 0, peak)
