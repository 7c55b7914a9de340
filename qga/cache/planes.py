"""A cache in two planes: a tile of rows is a grid of 16-bit numbers, whose high bytes lie apart from the low ones.

x = s (16 m + h + l / 256),  s a step and m a centre for each channel of a tile, all of h, l and m bytes

Whoever reads the high plane alone is off by at most s / 2 for each element, and knows by how much a row is off: the
lengths of what is missing are measured when a tile is written. Rows that fill no tile yet are kept as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse
from .cache import Counts
from .paged import NO_PAGE, claim
from .planes_bytes import CENTRE, WORD, decode, encode, pack

# Rows of a tile: fewer have more scales to read, more are left out less often.
_TILE = 16
# How many of the 127 steps to either side of a centre are left when it is off by half.
_REACH = 119
# Numbers of a grid, so that the high byte and the signed low byte are bytes.
_LARGEST = 32639
# Room for the rounding of a length that is measured: squares, their sum and the root.
_MARGIN = 1 + 2.0**-12

KEPT = tuple(jnp.dtype(each) for each in (jnp.float16, jnp.bfloat16, jnp.float32))
Words = Int[Array, "batch key_heads tiles tile words"]
OfTile = Float[Array, "batch key_heads tiles"]
Rows = Float[Array, "*batch tile width"]


class Planes(NamedTuple):
    """Tiles of rows in two planes.

    Attributes:
        high: bytes h, four channels to a word, the first in the lowest bits.
        low: bytes l, likewise.
        grid: codes of the steps s, then bytes m, likewise.
        error_high: at least the distance of any row of a tile from what h and the grid say.
        error_both: at least its distance from what both planes say.
        size: of values, at least the length of any row of a tile; of keys, that of the vector of the largest terms
            which an inner product with the tile adds up in each channel.
    """

    high: Words
    low: Words
    grid: Int[Array, "batch key_heads tiles two words"]
    error_high: OfTile
    error_both: OfTile
    size: OfTile


class PlaneCache(NamedTuple):
    """Keys and values in two planes of 8 bits, and the rows that fill no tile yet: a pytree.

    Attributes:
        keys: tiles of keys; behind ``lengths`` they mean nothing.
        values: likewise.
        recent_keys: rows of the tile that is not full, as they were appended.
        recent_values: likewise.
        squares: sum of the squares of the values of each tile, for their scale.
        lengths: how many rows were appended to each entry. Above the capacity, the last ones were dropped.
        table: where the tiles of each entry lie, if all entries share them out: the arrays of tiles have one entry
            then; -1 where there is none yet. None where tiles lie in order.
    """

    keys: Planes
    values: Planes
    recent_keys: Float[Array, "batch key_heads tile width"]
    recent_values: Float[Array, "batch key_heads tile channels"]
    squares: OfTile
    lengths: Counts
    table: Int[Array, "batch tiles"] | None = None

    @property
    def tile(self) -> int:
        """Rows of a tile."""
        return self.recent_keys.shape[2]

    @property
    def tiles(self) -> int:
        """Tiles that an entry has room for."""
        return self.keys.high.shape[2] if self.table is None else self.table.shape[1]

    @property
    def page_rows(self) -> int:
        """Rows of a page, which is a tile."""
        return self.tile

    @property
    def capacity(self) -> int:
        """Rows that an entry has room for."""
        return self.tiles * self.tile

    @property
    def places(self) -> Counts:
        """Tiles that each entry has places for."""
        if self.table is None:
            return jnp.full_like(self.lengths, self.tiles)
        return jnp.sum(self.table != NO_PAGE, axis=1, dtype=jnp.int32)

    @property
    def room(self) -> Counts:
        """Rows that each entry has room for: in its places, and in the tile that is not full."""
        return jnp.minimum((self.places + 1) * self.tile - 1, self.capacity)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch entries, keys that each may have, and heads."""
        batch, heads = self.recent_keys.shape[:2]
        return batch, self.capacity, heads

    @property
    def full_tiles(self) -> Counts:
        """Tiles of each entry that are full."""
        return jnp.minimum(self.lengths // self.tile, self.places)

    @property
    def recent(self) -> Counts:
        """Rows of each entry that fill no tile."""
        return jnp.where(self.lengths <= self.room, self.lengths % self.tile, 0)


def empty_plane_cache(
    batch: int,
    capacity: int,
    key_heads: int,
    width: int,
    channels: int | None = None,
    *,
    dtype: jax.typing.DTypeLike = jnp.float16,
    tile: int = _TILE,
    pages: int | None = None,
) -> PlaneCache:
    """Make a cache in two planes, without rows.

    Args:
        batch: entries, each with a length of its own.
        capacity: rows that each has room for, whole tiles.
        key_heads: heads of keys and values.
        width: of a key, a multiple of 4.
        channels: of a value, likewise; ``width`` by default.
        dtype: of the rows that are appended: float16, bfloat16 or float32. Steps between numbers of a tile go from
            2^-22 to 960, which is all that float16 needs; larger numbers are cut off, as the certificate says.
        tile: rows of a tile. Its grid takes 2 (width + channels) bytes.
        pages: tiles that all entries share out, each taking the lowest free one when it has filled one; None where each
            has its own, in order.

    Raises:
        OptionError: the dtype is none of these, or a size is out of range.

    Cost: as many bytes as rows of 16 bits, 1 / tile more for grids, and 28 for each tile.

    Example:
        >>> cache = empty_plane_cache(2, 128, 4, 64)
        >>> cache.keys.high.nbytes, cache.keys.grid.nbytes
        (65536, 8192)
    """
    sizes = batch, capacity, key_heads, width, width if channels is None else channels
    if (
        jnp.dtype(dtype) not in KEPT
        or min(*sizes, tile - 1, pages or 0) < 0
        or capacity % tile
        or any(n % WORD for n in sizes[3:])
    ):
        refuse(
            OptionError, "empty_plane_cache: rows lie in whole tiles and whole words.",
            got=f"sizes {sizes}, tile={tile}, dtype={jnp.dtype(dtype).name}",
            want=f"a capacity of whole tiles, multiples of {WORD} for width and channels, and one of "
            f"{', '.join(each.name for each in KEPT)}",
            fix="round the capacity up to whole tiles, or keep the rows in an empty_cache.",
        )  # fmt: skip
    shape = (batch, key_heads, capacity // tile) if pages is None else (1, key_heads, pages)

    def planes(width: int) -> Planes:
        # One array for each, so that all can be donated.
        high, low = (jnp.zeros((*shape, tile, width // WORD), jnp.int32) for _ in range(2))
        grid = jnp.zeros((*shape, 2, width // WORD), jnp.int32)
        one, both, size = (jnp.zeros(shape, jnp.float32) for _ in range(3))
        return Planes(high, low, grid, one, both, size)

    recent_keys, recent_values = (jnp.zeros((batch, key_heads, tile, last), dtype) for last in sizes[3:])
    squares, lengths = jnp.zeros(shape, jnp.float32), jnp.zeros((batch,), jnp.int32)
    table = None if pages is None else jnp.full((batch, capacity // tile), NO_PAGE, jnp.int32)
    return PlaneCache(planes(sizes[3]), planes(sizes[4]), recent_keys, recent_values, squares, lengths, table)


def claim_tiles(cache: PlaneCache, counts: Counts) -> PlaneCache:
    """Lengthen a cache, and give its entries places for the tiles that fill; one that has lost rows takes no more."""
    lengths = cache.lengths + counts
    if cache.table is None:
        return cache._replace(lengths=lengths)
    wanted = jnp.where(cache.lengths > cache.room, cache.places, lengths // cache.tile)
    return cache._replace(lengths=lengths, table=claim(cache.table, cache.keys.high.shape[2], wanted))


def append_planes(cache: PlaneCache, longer: PlaneCache, key: Array, value: Array) -> PlaneCache:
    """Append rows, [batch, rows, key_heads, ...]: whole tiles are written once, the rest is kept as it is.

    Args:
        cache: what to append to.
        longer: with the lengths and places that it has then.
        key: new rows; of each entry as many as it grows by exist.
        value: likewise.
    """
    keys, values = (
        _cut(cache, recent, jnp.swapaxes(rows, 1, 2))
        for recent, rows in ((cache.recent_keys, key), (cache.recent_values, value))
    )
    ends = cache.recent + longer.lengths - cache.lengths
    last = jnp.minimum(ends // cache.tile, keys.shape[2] - 1)[:, None, None, None, None]
    places = _find(cache, longer, ends, keys.shape[2])
    squares = jnp.sum(jnp.square(values.astype(jnp.float32)), axis=(3, 4))

    def put(kept: Array, new: Array) -> Array:
        return kept.at[places[0], :, places[1]].set(jnp.swapaxes(new, 1, 2), mode="drop", unique_indices=True)

    recent_keys, recent_values = (jnp.take_along_axis(each, last, axis=2)[:, :, 0] for each in (keys, values))
    return longer._replace(
        keys=jax.tree.map(put, cache.keys, _key_planes(keys)),
        values=jax.tree.map(put, cache.values, _value_planes(values)),
        recent_keys=recent_keys,
        recent_values=recent_values,
        squares=put(cache.squares, squares),
    )


def _cut(cache: PlaneCache, recent: Array, new: Array) -> Float[Array, "batch heads tiles tile width"]:
    """Put new rows behind recent ones and cut them into tiles."""
    rows, tile = new.shape[2], cache.tile
    count = max(1, -(-(tile - 1 + rows) // tile))
    places, start = jnp.arange(count * tile, dtype=jnp.int32)[None], cache.recent[:, None]
    source = jnp.where(places < start, places, jnp.minimum(tile + places - start, tile + rows - 1))
    joined = jnp.concatenate([recent, new.astype(recent.dtype)], axis=2)
    taken = jnp.take_along_axis(joined, source[:, None, :, None], axis=2)
    return taken.reshape(*new.shape[:2], count, tile, new.shape[3])


def _find(cache: PlaneCache, longer: PlaneCache, ends: Counts, tiles: int) -> tuple[Array, Array]:
    """Return where in the arrays tiles go, [batch, tiles]: those that are full and have a place."""
    batch = len(ends)
    numbers = jnp.arange(tiles, dtype=jnp.int32)[None]
    first = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32)[:, None], (batch, tiles))
    places = (cache.lengths // cache.tile)[:, None] + numbers
    is_full = ((numbers + 1) * cache.tile <= ends[:, None]) & (places < longer.full_tiles[:, None])
    # No two tiles go to one place, not even beyond the arrays.
    nowhere = cache.keys.high.shape[2] + first * tiles + numbers
    if longer.table is None:
        return first, jnp.where(is_full, places, nowhere)
    pages = jnp.take_along_axis(longer.table, places, axis=1, mode="fill", fill_value=NO_PAGE)
    return jnp.zeros_like(first), jnp.where(is_full, pages, nowhere)


def _key_planes(rows: Rows) -> Planes:
    planes, centres, steps, _ = _quantise(rows)
    # What an inner product adds up: a centre, and as much as rows are away from it.
    away = jnp.max(jnp.abs(rows.astype(jnp.float32) - centres), axis=-2) + steps[..., 0, :]
    largest = jnp.abs(centres[..., 0, :]) + away
    return planes._replace(size=_MARGIN * jnp.sqrt(jnp.sum(jnp.square(largest), axis=-1)))


def _value_planes(rows: Rows) -> Planes:
    planes, _, _, wide = _quantise(rows)
    return planes._replace(size=_longest(wide))


def _quantise(rows: Rows) -> tuple[Planes, Array, Array, Array]:
    """Write tiles of rows in two planes; return also the centres, the steps and the rows in float32."""
    wide = rows.astype(jnp.float32)
    low, high = jnp.min(wide, axis=-2, keepdims=True), jnp.max(wide, axis=-2, keepdims=True)
    middle = low / 2 + high / 2
    wanted = jnp.maximum((high / 2 - low / 2) / _REACH, jnp.abs(middle) / (127 * CENTRE))
    codes = encode(wanted)
    steps = decode(codes)
    centre = jnp.clip(jnp.round(middle / (CENTRE * steps)), -127, 127)
    centres = CENTRE * steps * centre
    numbers = jnp.clip(jnp.round((wide - centres) * (256 / steps)), -_LARGEST, _LARGEST).astype(jnp.int32)
    upper = (numbers + 128) >> 8
    lower = numbers - (upper << 8)
    one, both = (_longest(wide - (centres + steps * each)) for each in (upper.astype(wide.dtype), numbers / 256))
    grid = jnp.concatenate([codes, centre.astype(jnp.int32)], axis=-2)
    return Planes(pack(upper), pack(lower), pack(grid), one, both, size=one), centres, steps, wide


def _longest(rows: Array) -> Array:
    """Return at least the length of the longest row of each tile."""
    return _MARGIN * jnp.sqrt(jnp.max(jnp.sum(jnp.square(rows), axis=-1), axis=-1))


def check_planes(cache: PlaneCache, key: Array, value: Array) -> None:
    """Refuse rows that do not fit kept ones."""
    batch, _, heads = cache.shape
    kept = cache.recent_keys, cache.recent_values
    fits = key.ndim == value.ndim == 4 and key.shape[:2] == value.shape[:2]
    for new, old in zip((key, value), kept, strict=True):
        fits = fits and new.shape[::2] == (batch, heads) and new.shape[3:] == old.shape[3:] and new.dtype == old.dtype
    if not fits:
        width, channels = (each.shape[-1] for each in kept)
        refuse(
            ShapeError, "append: new rows must fit those that are kept.",
            got=f"key {describe(key)}, value {describe(value)}",
            want=f"[{batch}, rows, {heads}, {width}] and [{batch}, rows, {heads}, {channels}], {kept[0].dtype.name}",
            fix="append what the cache was made for, or make it of another dtype.",
        )  # fmt: skip
