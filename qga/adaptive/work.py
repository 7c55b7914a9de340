"""What attention over some tiles does and reads, in operations and bytes, beside exact attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..exact.scores import FIDELITY
from ..tiling.level_map import LEVEL_NAMES, LevelMap
from .bounds import PairBounds, Visited
from .levels import Level, Word

TileCounts = Int[Array, "batch heads query_tiles"]


class Price(NamedTuple):
    """What one tile of keys costs a tile of queries at a level.

    Attributes:
        bytes: of its keys and values.
        flops: of both products, for each query.
    """

    bytes: int
    flops: int


class Work(NamedTuple):
    """What was done for each tile of queries, and what exact attention does.

    Attributes:
        coarse: tiles that were one row each.
        half: tiles that were scored in one product of 16-bit numbers.
        split: in three.
        exact: in the given numbers.
        left: tiles that were left out.
        hidden: tiles in which no query sees a key.
        extra: tiles that were scored for the plan, or in vain.
        bytes: of keys and values that were read.
        bytes_exact: that exact attention reads.
        flops: of products, for each query.
        flops_exact: of exact attention.
    """

    coarse: TileCounts
    half: TileCounts
    split: TileCounts
    exact: TileCounts
    left: TileCounts
    hidden: TileCounts
    extra: TileCounts
    bytes: Float[Array, "batch heads query_tiles"]
    bytes_exact: Float[Array, "batch heads query_tiles"]
    flops: Float[Array, "batch heads query_tiles"]
    flops_exact: Float[Array, "batch heads query_tiles"]


def price(level: Level, tile: int) -> Price:
    """Return what a tile of this many keys costs at a level, as its arrays are wide.

    Multiplications and additions of the products of rows and of weights and values, one operation each, of numbers of
    any width. A tile that is one row was asked by a pilot first: twice, for its mean key and its mean value, which all
    queries of a tile share.
    """
    keys, values = level.member.keys, level.values
    width, channels = keys.shape[-1], values.shape[-1]
    read = width * keys.dtype.itemsize + channels * values.dtype.itemsize
    # Rays are complex: a key meets two rows of the query. Rows of pairs stand side by side, high and low; of weights
    # and values low times low is left out.
    met = 2 * width if level.member.score is FIDELITY else width
    averaged = 3 * channels // 2 if level.products == "split" else channels
    if level.word == "coarse":
        return Price(read, 2 * (met + averaged) + 2 * (3 * width + channels))
    return Price(tile * read, tile * 2 * (met + averaged))


def count_work(
    bounds: PairBounds,
    parts: Sequence[tuple[Level, Visited]],
    extra: Sequence[tuple[Level, Visited]],
    audited_rows: int = 0,
) -> Work:
    """Count tiles, operations and bytes of each tile of queries.

    Args:
        bounds: of all pairs.
        parts: each level with its tiles, which results are made of; the last one is exact attention's.
        extra: what was scored besides.
        audited_rows: queries of a head that were computed once more over all keys, which all queries share.
    """
    count = lambda table: jnp.sum(table, axis=3, dtype=jnp.int32)  # noqa: E731
    done, besides = ([(level, count(table)) for level, table in each] for each in (parts, extra))
    hidden = count(bounds.upper == -jnp.inf)
    seen, nothing = bounds.upper.shape[3] - hidden, jnp.zeros(bounds.slack.shape, jnp.int32)
    by_word = {word: sum((tiles for level, tiles in done if level.word == word), nothing) for word in get_args(Word)}
    (query_tiles, tiles), tile = bounds.upper.shape[2:], bounds.tile
    exact, scored = price(parts[-1][0], tile), [(price(level, tile), found) for level, found in (*done, *besides)]

    def spend(unit: str, audited_tiles: float) -> Array:
        # In floating point, for a head may read more than 2^31 bytes.
        start = jnp.full(nothing.shape, audited_tiles / max(query_tiles, 1) * getattr(exact, unit), bounds.upper.dtype)
        return sum((getattr(each, unit) * found.astype(start.dtype) for each, found in scored), start)

    # An audit reads keys once for each tile of its own rows.
    read, computed = spend("bytes", -(-audited_rows // tile) * tiles), spend("flops", audited_rows / tile * tiles)
    wide = seen.astype(read.dtype)
    left, again = seen - sum(by_word.values()), sum((found for _, found in besides), nothing)
    return Work(
        **by_word, left=left, hidden=hidden, extra=again, bytes=read, bytes_exact=wide * exact.bytes, flops=computed,
        flops_exact=wide * exact.flops,
    )  # fmt: skip


def map_levels(bounds: PairBounds, parts: Sequence[tuple[Level, Visited, Array]]) -> LevelMap:
    """Say at which level each pair of tiles was looked at.

    Args:
        bounds: of all pairs.
        parts: each level with the tiles that results are made of, which no two levels share.
    """
    hidden, left = (LEVEL_NAMES.index(word) for word in ("hidden", "left out"))
    levels = jnp.where(bounds.upper == -jnp.inf, hidden, left)
    for level, table, _ in parts:
        levels = jnp.where(table, LEVEL_NAMES.index(level.word), levels)
    return LevelMap(levels.astype(jnp.int32), bounds.tile)
