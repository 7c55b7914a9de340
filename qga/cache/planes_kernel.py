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
from ..kernels.problem import tile_of, whole
from .planes import WORD, Planes, unpack, unpack_centres, unpack_steps

SKIP, HIGH, FINE, BOTH = 0, 1, 2, 3
"""What is read of a tile besides the high plane of its keys: nothing; that of its values; also the low plane of its
keys; or all of it."""

SUMMED = 32
"""Tiles that a program looks at to sum."""

# Tiles that a program scores.
_SCORED = 4

Asking = Float[Array, "queries four words"]
Places = Int[Array, " tiles"]


@jax.jit
def score_tiles(queries: Asking, places: Places, keys: Planes) -> Float[Array, "queries tiles tile"]:
    """Score the keys of tiles by their high plane.

    Args:
        queries: of the heads that share the keys, scaled; channels in the order of ``unpack``.
        places: where tiles lie; those that do not exist may lie anywhere.
        keys: of one head.
    """
    tiles, tile, words = keys.high.shape
    group, count = len(queries), min(_SCORED, len(places))
    kernel = Kernel(
        partial(_score, count=count),
        (-(-len(places) // count),),
        [tile_of(count), whole(group, WORD, words), whole(tiles, tile, words), whole(tiles, 2, words)],
        [Block((group, count, tile), lambda i: (0, i, 0))],
        [jax.ShapeDtypeStruct((group, len(places), tile), jnp.float32)],
        "plane_scores",
    )
    return launch(kernel, places, queries, keys.high, keys.grid)[0]


@jax.jit
def sum_tiles(
    queries: Asking,
    places: Places,
    levels: Int[Array, " tiles"],
    scores: Float[Array, "queries tiles tile"],
    planes: tuple[Planes, Planes],
) -> tuple[Float[Array, "parts queries"], Float[Array, "parts queries"], Float[Array, "parts queries channels"]]:
    """Return peak, mass and total of the softmax state of each query for each part of the tiles.

    Args:
        queries: as in ``score_tiles``.
        places: likewise.
        levels: what is read of each tile.
        scores: of ``score_tiles``.
        planes: keys and values of one head.
    """
    keys, values = planes
    (tiles, tile, words), channels = keys.high.shape, values.high.shape[2]
    group, count = len(queries), min(SUMMED, len(places))
    parts = -(-len(places) // count)
    stored = [whole(tiles, tile, words), whole(tiles, 2, words)]
    kernel = Kernel(
        partial(_sum, count=count),
        (parts,),
        [
            tile_of(count), tile_of(count), whole(group, WORD, words),
            whole(*scores.shape), *stored, *[whole(tiles, tile, channels)] * 2, whole(tiles, 2, channels),
        ],
        [Block((None, group), lambda i: (i, 0))] * 2
        + [Block((None, group, WORD, channels), lambda i: (i, 0, 0, 0))],
        [jax.ShapeDtypeStruct((parts, group, *last), jnp.float32) for last in ((), (), (WORD, channels))],
        "plane_sums",
    )  # fmt: skip
    peak, mass, total = launch(
        kernel, levels, places, queries, scores, keys.low, keys.grid, values.high, values.low, values.grid
    )
    return peak, mass, jnp.swapaxes(total, 2, 3).reshape(parts, group, WORD * channels)


def _score(place: Place, places: Any, queries: Any, high: Any, grid: Any, scores: Any, *, count: int) -> None:
    del place
    asking = [[queries[row, part] for part in range(WORD)] for row in range(queries.shape[0])]
    for number in range(count):
        at = places[number]
        codes = grid[at]
        parts, steps, centres = unpack(high[at]), unpack_steps(codes[0]), unpack_centres(codes[1])
        for row, query in enumerate(asking):
            factors = [each * step for each, step in zip(query, steps, strict=True)]
            terms = _dot(factors, centres)[None] + _dot([each[None] for each in factors], parts)
            scores[row, number] = jnp.sum(terms, axis=1)


def _sum(place: Place, levels: Any, places: Any, queries: Any, scores: Any, *refs: Any, count: int) -> None:
    *given, peak, mass, total = refs
    group, (tile, words) = queries.shape[0], given[2].shape[1:]
    nothing = (
        jnp.full((tile,), -jnp.inf, jnp.float32),
        jnp.zeros((tile,), jnp.float32),
        *[jnp.zeros((tile, words), jnp.float32)] * WORD,
    )

    def step(number: Array, states: Any) -> Any:
        at, first = places[number], place[0] * count

        def read(level: int, states: Any) -> Any:
            found = [scores[row, first + number] for row in range(group)]
            if level >= FINE:
                found = [score + _low_scores(at, queries, row, *given[:2]) for row, score in enumerate(found)]
            return _add(states, found, _values(at, *given[2:], is_whole=level == BOTH))

        branches = lambda states: states, *(partial(read, level) for level in (HIGH, FINE, BOTH))
        return lax.switch(levels[number], branches, states)

    states = lax.fori_loop(0, count, step, (nothing,) * group)
    for row, (peaks, masses, *totals) in enumerate(states):
        highest = jnp.max(peaks)
        factors = jnp.exp(peaks - _finite(highest))
        peak[row], mass[row] = highest, jnp.sum(factors * masses)
        for part, each in enumerate(totals):
            total[row, part] = jnp.sum(factors[:, None] * each, axis=0)


def _low_scores(at: Array, queries: Any, row: int, low: Any, grid: Any) -> Array:
    """Return what the low plane of a tile adds to its scores."""
    steps = unpack_steps(grid[at, 0])
    factors = [queries[row, part] * (step * (1 / 256)) for part, step in enumerate(steps)]
    return jnp.sum(_dot([each[None] for each in factors], unpack(low[at])), axis=1)


def _values(at: Array, high: Any, low: Any, grid: Any, *, is_whole: bool) -> list[Array]:
    """Read the values of a tile."""
    codes = grid[at]
    parts, steps, centres = unpack(high[at]), unpack_steps(codes[0]), unpack_centres(codes[1])
    if is_whole:
        parts = [part + rest * (1 / 256) for part, rest in zip(parts, unpack(low[at]), strict=True)]
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
