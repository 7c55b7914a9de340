"""Kernels that read a cache in two planes: scores of all tiles by high bytes, then sums over the tiles that count.

A workgroup is one subgroup. Words are two axes: d that lie side by side and are loaded at once, and c of those groups,
which invocations share out. Scores give each other invocation another tile, so that nobody unpacks a grid twice; sums
read one tile at a time, b of whose rows stand side by side while each invocation holds a others itself.
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
from .planes import Planes
from .planes_bytes import CENTRE, OF_STEPS, WORD, of_bytes, unpack, unpack_steps

SKIP, HIGH, FINE, BOTH = 0, 1, 2, 3
"""What is read of a tile besides the high plane of its keys: nothing; that of its values; also the low plane of its
keys; or all of it."""

SUMMED = 8
"""Tiles that a program looks at to sum."""

# Words that are loaded at once in sums and in scores.
_TWO, _FOUR = 2, 4

GROUPED = _FOUR * WORD
"""Channels whose products an invocation adds up before all that hold a row do."""

# Words that a program asks for before it scores the first, and tiles at a time, times queries: more take more registers
# than there are.
_ASKED, _MOST_SCORED = 2048, 32
# Rows of a tile that stand side by side in sums.
_SIDE_BY_SIDE = 4
# Certificates count a driver's exponential, and what is no number makes sums none.
_PROMISE = Promise(subgroups=1, driver_exp=True, nan_in_extrema=False)

OfRows = Float[Array, "batch key_heads tiles group tile"]
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

    def operands(self, together: int) -> list[Array]:
        """Return what kernels read of it, so many words together."""
        words = self.queries.shape[3]
        together = gcd(words, together)
        queries = self.queries.reshape(*self.queries.shape[:3], words // together, together, WORD)
        return [self.rows, queries, *([] if self.table is None else [self.table])]

    def blocks(self, together: int) -> list[Block]:
        """Return how they read it: all operands but the queries as they lie."""
        rows, queries, *table = self.operands(together)
        of_head = Block((None, None, *queries.shape[2:]), lambda entry, head, _: (entry, head, *(0,) * 4))
        return [_all(rows), of_head, *map(_all, table)]


def score_tiles(asking: Asking, keys: Planes, tiles: int) -> tuple[OfRows, OfTiles]:
    """Score the keys of tiles by their high plane; return also the log of what each tile weighs.

    Where an entry has no tile, results are any numbers.

    Args:
        asking: of all entries.
        keys: of the cache.
        tiles: that an entry has room for.
    """
    (batch, heads, group), tile = asking.queries.shape[:3], keys.high.shape[3]
    high, grid = _in_groups(keys.high, _FOUR), _in_groups(keys.grid, _FOUR)
    most = min(_ASKED // max(1, high[0, 0, 0].size), _MOST_SCORED // group)
    count = next(size for size in (8, 4, 2, 1) if size <= max(1, most) and tiles % size == 0)

    def block(array: Array) -> Block:
        if asking.table is not None:
            return _all(array)
        return Block((None, None, count, *array.shape[3:]), partial(_part, array.ndim))

    sizes = group * tile, group
    results = [jax.ShapeDtypeStruct((batch, heads, tiles * size), jnp.float32) for size in sizes]
    kernel = Kernel(
        partial(_score, count=count, tile=tile, scale=asking.scale),
        (batch, heads, tiles // count),
        [*asking.blocks(_FOUR), block(high), block(grid)],
        [Block((None, None, count * size), partial(_part, 3)) for size in sizes],
        results,
        "plane_scores",
        _PROMISE,
    )
    scores, log_sums = launch(kernel, *asking.operands(_FOUR), high, grid)
    whole = batch, heads, tiles, group
    return scores.reshape(*whole, tile), log_sums.reshape(whole)


def sum_tiles(
    asking: Asking, levels: Int[Array, "batch key_heads tiles"], scores: OfRows, planes: tuple[Planes, Planes]
) -> tuple[OfParts, OfParts, Float[Array, "batch key_heads parts group channels"]]:
    """Return peak, mass and total of the softmax state of each query for each part of the tiles.

    A part is every so many tiles, since those that count lie together.

    Args:
        asking: as in ``score_tiles``.
        levels: what is read of each tile; nothing where an entry has none.
        scores: of ``score_tiles``.
        planes: keys and values of the cache.
    """
    keys, values = planes
    (batch, heads, tiles), group, tile = levels.shape, asking.queries.shape[2], keys.high.shape[3]
    parts, side = -(-tiles // SUMMED), gcd(tile, _SIDE_BY_SIDE)
    low, high, rest = (
        _in_groups(each.reshape(*each.shape[:3], tile // side, side, each.shape[4]), _TWO)
        for each in (keys.low, values.high, values.low)
    )
    stored = low, _in_groups(keys.grid, _TWO), high, rest, _in_groups(values.grid, _TWO)
    scores = scores.reshape(*scores.shape[:4], tile // side, side)
    columns, together = high.shape[5:]
    shapes = [(batch, heads, parts, group, *last) for last in ((), (), (columns, together, WORD))]
    kernel = Kernel(
        partial(_sum, count=-(-tiles // parts), parts=parts, scale=asking.scale),
        (batch, heads, parts),
        [*asking.blocks(_TWO), *map(_all, (levels, scores, *stored))],
        [Block((None, None, None, *shape[3:]), partial(_part, len(shape))) for shape in shapes],
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        "plane_sums",
        _PROMISE,
    )
    peak, mass, totals = launch(kernel, *asking.operands(_TWO), levels, scores, *stored)
    return peak, mass, totals.reshape(batch, heads, parts, group, -1)


def _in_groups(words: Shaped[Array, "*batch words"], together: int) -> Shaped[Array, "*batch c d"]:
    """Return words as two axes, of which the last is loaded at once."""
    together = gcd(words.shape[-1], together)
    return words.reshape(*words.shape[:-1], words.shape[-1] // together, together)


def _all(array: Array) -> Block:
    """Give every program the whole array, of which it reads what it finds by its place."""
    return Block(array.shape, lambda entry, head, part: (0,) * array.ndim)


def _part(rank: int, entry: Any, head: Any, part: Any) -> tuple[Any, ...]:
    return (entry, head, part, *(0,) * (rank - 3))


def _score(place: Place, rows: Any, queries: Any, *refs: Any, count: int, tile: int, scale: float) -> None:
    (entry, _, part), (*table, high, grid, scores, log_sums) = place, refs

    def read() -> tuple[Array, Array]:
        # Tiles and groups of words lie in invocations, all else inside of each.
        words, codes = (jnp.transpose(_tiles(ref, table, place, count), (3, 1, 0, 2)) for ref in (high, grid))
        # [four, d, group, 1, c], times steps [four, d, 1, tiles, c].
        asked = _ask(queries, scale)[:, :, :, None]
        factors = asked * unpack_steps(codes[:, 0])[:, :, None]
        centres = CENTRE * jnp.sum(factors * unpack(codes[:, 1])[:, :, None], axis=(0, 1))
        terms = factors[:, :, None] * unpack(words)[:, :, :, None]
        score = jnp.sum(jnp.sum(terms, axis=(0, 1)) + centres[None], axis=3)
        # Each invocation has all rows of a tile, and needs nobody for their sum.
        peak = jnp.max(score, axis=0)
        log_sum = peak + jnp.log(jnp.sum(jnp.exp(score - peak[None]), axis=0))
        return jnp.transpose(score, (2, 1, 0)).reshape(scores.shape), log_sum.T.reshape(log_sums.shape)

    def nothing() -> tuple[Array, Array]:
        return jnp.zeros(scores.shape, jnp.float32), jnp.zeros(log_sums.shape, jnp.float32)

    scores[...], log_sums[...] = lax.cond(part * count < rows[entry] // tile, read, nothing)


def _ask(queries: Any, scale: float) -> Float[Array, "four d group c"]:
    """Return scaled queries, as factors of what is unpacked."""
    asked = jnp.transpose(queries[...].astype(jnp.float32), (3, 2, 0, 1))
    return asked * of_bytes(asked[0], scale * OF_STEPS)


def _tiles(ref: Any, table: list[Any], place: Place, count: int) -> Array:
    """Return the tiles of a program: its block of the array, or what a table says of the whole array."""
    if not table:
        return ref[...]
    entry, head, part = place
    numbers = [table[0][entry, part * count + number] for number in range(count)]
    return jnp.stack([ref[0, head, number] for number in numbers])


def _sum(place: Place, rows: Any, queries: Any, *refs: Any, count: int, parts: int, scale: float) -> None:
    *table, levels, scores, key_low, key_grid, high, low, grid, peak, mass, total = refs
    entry, head, part = place
    del rows
    (tiles, group), (side, columns, together) = scores.shape[2:4], high.shape[4:]
    asked = _ask(queries, scale / 256)
    nothing = (
        jnp.full((group,), -jnp.inf, jnp.float32),
        jnp.zeros((group, side), jnp.float32),
        jnp.zeros((WORD, together, group, side, columns), jnp.float32),
    )

    def look(number: Array) -> Array:
        at = part + parts * number
        return jnp.where(at < tiles, levels[entry, head, jnp.minimum(at, tiles - 1)], SKIP)

    def step(number: Array, carry: Any) -> Any:
        level, state = carry
        at = part + parts * number
        # What comes next is asked for before this is looked at.
        following = look(number + 1)

        def read(level: int, state: Any) -> Any:
            lies = (0, head, table[0][entry, at]) if table else (entry, head, at)
            score = scores[entry, head, at]
            if level >= FINE:
                factors = asked * unpack_steps(key_grid[lies][0].T)[:, :, None]
                terms = factors[:, :, :, None, None] * unpack(_inside(key_low[lies]))[:, :, None]
                score += jnp.sum(terms, axis=(0, 1, 5))
            numbers = _numbers(high[lies], low[lies] if level == BOTH else None, grid[lies][1])
            return _add(state, score, numbers, unpack_steps(grid[lies][0].T))

        branches = lambda state: state, *(partial(read, level) for level in (HIGH, FINE, BOTH))
        return following, lax.switch(level, branches, state)

    _, (peak[...], masses, sums) = lax.fori_loop(0, count, step, (look(jnp.int32(0)), nothing))
    mass[...] = jnp.sum(masses, axis=1)
    total[...] = jnp.transpose(OF_STEPS * jnp.sum(sums, axis=3), (2, 3, 1, 0))


def _inside(words: Int[Array, "a b c d"]) -> Int[Array, "d a b c"]:
    """Put the words that an invocation holds itself first."""
    return jnp.transpose(words, (3, 0, 1, 2))


def _numbers(high: Array, low: Array | None, centres: Array) -> Float[Array, "four d a b c"]:
    """Read the values of a tile in steps, exactly."""
    words, centre = _inside(high), centres.T
    numbers = unpack(words) * of_bytes(words) + (CENTRE * unpack(centre) * of_bytes(centre))[:, :, None, None]
    return numbers if low is None else numbers + unpack(_inside(low)) * of_bytes(words, 1 / 256)


def _add(state: Any, scores: Float[Array, "group a b"], numbers: Float[Array, "four d a b c"], steps: Array) -> Any:
    """Add a tile to the state of each query: one peak for all rows, sums for each of those that stand side by side."""
    peak, mass, total = state
    higher = jnp.maximum(peak, jnp.max(scores, axis=(1, 2)))
    base = jnp.where(higher == -jnp.inf, 0, higher)
    decay, weights = jnp.exp(peak - base), jnp.exp(scores - base[:, None, None])
    sums = jnp.sum(weights[None, None, :, :, :, None] * numbers[:, :, None], axis=3)
    total = total * decay[None, None, :, None, None] + steps[:, :, None, None] * sums
    return higher, mass * decay[:, None] + jnp.sum(weights, axis=1), total
