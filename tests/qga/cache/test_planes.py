"""Rows in two planes of bits: what is read of them is within its measure, and attention within its certificate."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import OptionError, ShapeError
from qga.cache import PlaneCache, append, attend, decode, empty_plane_cache, is_overflowed, release, share_prefix
from qga.cache.planes import Planes
from qga.tiling import Certified

HEADS, KEY_HEADS, WIDTH, CHANNELS, TILE, CAPACITY = 4, 2, 8, 4, 4, 48
LENGTHS = np.int32([48, 31, 4, 3])
EPS = 3e-2
BATCH, ROWS = len(LENGTHS), CAPACITY


class Drawn(NamedTuple):
    """A query for each entry, and rows of which each entry has its length."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray


def draw(random: np.random.Generator) -> Drawn:
    shapes = (BATCH, 1, HEADS, WIDTH), (BATCH, ROWS, KEY_HEADS, WIDTH), (BATCH, ROWS, KEY_HEADS, CHANNELS)
    return Drawn(*(random.normal(size=shape).astype(np.float16) for shape in shapes))


def gaussian(random: np.random.Generator) -> Drawn:
    return draw(random)


def sharp(random: np.random.Generator) -> Drawn:
    """Scores that differ by tens: most tiles weigh nothing, some a little."""
    drawn = draw(random)
    return drawn._replace(query=drawn.query * np.float16(6))


def needles(random: np.random.Generator) -> Drawn:
    """One key in tiles of others that are far away is what a query looks for; its value is the largest."""
    drawn = draw(random)
    key, value = -0.2 * drawn.key, drawn.value.copy()
    asked = drawn.query[:, 0, ::2]
    for place in (1, 22, 30):
        key[:, place], value[:, place] = 2 * asked, 10
    return drawn._replace(key=key.astype(np.float16), value=value, query=drawn.query * np.float16(3))


def huge(random: np.random.Generator) -> Drawn:
    """Numbers up to the largest of float16."""
    drawn = draw(random)
    key = np.clip(drawn.key * np.float32(3e4), -65504, 65504).astype(np.float16)
    return drawn._replace(key=key, query=drawn.query * np.float16(2.0**-12), value=drawn.value * np.float16(9e3))


def tiny(random: np.random.Generator) -> Drawn:
    """Values below the normal numbers of float16."""
    drawn = draw(random)
    return drawn._replace(value=(drawn.value * np.float32(3e-6)).astype(np.float16))


def alike(random: np.random.Generator) -> Drawn:
    """Keys that are all the same, and values that are not."""
    drawn = draw(random)
    return drawn._replace(key=np.repeat(drawn.key[:, :1], ROWS, axis=1))


def graded(random: np.random.Generator) -> Drawn:
    """Weights of all sizes, so that every level has its tiles."""
    drawn = draw(random)
    key = drawn.key.astype(np.float32) * 0.3
    asked = drawn.query[:, 0, ::2].astype(np.float32)
    asked /= np.linalg.norm(asked, axis=2, keepdims=True)
    key += np.linspace(0, 14, ROWS)[None, :, None, None] * asked[:, None]
    query = np.repeat(3 * asked, 2, axis=1)[:, None]
    return drawn._replace(key=key.astype(np.float16), query=query.astype(np.float16))


CASES = {each.__name__: each for each in (gaussian, sharp, needles, huge, tiny, alike, graded)}


def fill(key: Any, value: Any) -> PlaneCache:
    cache = empty_plane_cache(BATCH, CAPACITY, KEY_HEADS, WIDTH, CHANNELS, tile=TILE)
    return append(cache, key, value, rows=jnp.asarray(LENGTHS))


@jax.jit
def run(cache: PlaneCache, query: Any) -> tuple[Any, Any]:
    """Attend within a promise."""
    return attend(cache, query, resolution=Certified(EPS))


filled = jax.jit(fill)


def truth(drawn: Drawn) -> np.ndarray:
    """Return exact averages, in float64."""
    out = np.zeros((BATCH, 1, HEADS, CHANNELS))
    for entry, length in enumerate(LENGTHS):
        key, value = (np.repeat(each[entry, :length].astype(float), 2, axis=1) for each in (drawn.key, drawn.value))
        scores = np.einsum("hw,khw->hk", drawn.query[entry, 0].astype(float), key) * WIDTH**-0.5
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[entry, 0] = np.einsum("hk,khc->hc", weights / weights.sum(axis=1, keepdims=True), value)
    return out


def holds(drawn: Drawn, out: Any, certificate: Any) -> bool:
    """Tell whether every error is within its bound, and not because nothing was promised."""
    error = np.linalg.norm(np.asarray(out, float) - truth(drawn), axis=3)
    return bool(np.all(error <= np.asarray(certificate.out_error, float)) and np.isfinite(error).all())


def check(random: np.random.Generator) -> None:
    levels = np.zeros(4)
    for name, case in CASES.items():
        drawn = case(random)
        cache = filled(drawn.key, drawn.value)
        out, certificate = run(cache, drawn.query)
        assert holds(drawn, out, certificate), name
        names = "tiles_skipped", "tiles_half", "tiles_mixed", "tiles_exact"
        levels += [np.sum(getattr(certificate, each)) for each in names]
        # Measures that say that nothing is missing are no bounds.
        blind = [each._replace(error_high=0 * each.size, error_both=0 * each.size) for each in cache[:2]]
        broken = run(cache._replace(keys=blind[0], values=blind[1]), drawn.query)
        assert name not in ("gaussian", "graded") or not holds(drawn, *broken), name
    assert np.all(levels > 0)


def test_bounds_hold_for_every_query(random: np.random.Generator) -> None:
    check(random)


def test_bounds_hold_for_every_query_on_vulkan(vulkan: Any, random: np.random.Generator) -> None:
    with jax.default_device(vulkan):
        check(random)


def test_promises_are_kept_or_said_to_be_broken(random: np.random.Generator) -> None:
    for name in ("gaussian", "sharp", "needles", "alike", "graded"):
        drawn = CASES[name](random)
        cache = filled(drawn.key, drawn.value)
        certificate = run(cache, drawn.query)[1]
        assert np.all(certificate.relative_error <= EPS)
        assert np.all(certificate.sound), name
    # Scores of thousands have no digits left in float32: nothing is promised, nothing is left out wrongly.
    drawn = huge(random)
    drawn = drawn._replace(query=np.sign(drawn.query) * np.float16(60000))
    out, certificate = run(filled(drawn.key, drawn.value), drawn.query)
    assert not np.any(certificate.sound[:3])
    assert np.isfinite(np.asarray(out)).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), sharpness=st.floats(-3, 5), spread=st.floats(-8, 5), shift=st.floats(-4, 4),
    shared=st.sampled_from([0.0, 0.9, 1.0]),
)  # fmt: skip
def test_bounds_hold_whatever_is_drawn(seed: int, sharpness: float, spread: float, shift: float, shared: float) -> None:
    random = np.random.default_rng(seed)
    drawn = draw(random)
    key = drawn.key * (1 - shared) + drawn.key[:, :1] * shared + shift * random.normal(size=(1, 1, 1, WIDTH))
    heavy = drawn.value * np.exp(random.normal(size=drawn.value.shape)) * 2.0**spread
    drawn = drawn._replace(
        key=key.astype(np.float16), value=heavy.astype(np.float16),
        query=(drawn.query * 2.0**sharpness).astype(np.float16),
    )  # fmt: skip
    assert holds(drawn, *run(filled(drawn.key, drawn.value), drawn.query))


def test_what_is_left_out_is_not_read_and_keeps_its_weight(random: np.random.Generator) -> None:
    drawn = sharp(random)
    cache = filled(drawn.key, np.ones_like(drawn.value))
    out, certificate = run(cache, drawn.query)
    missing = 1 - np.asarray(out, float)
    assert np.all(missing <= np.asarray(certificate.skipped + certificate.total_variation)[..., None] + 1e-3)
    assert missing.max() > 1e-3

    # Bytes of values of tiles that nobody reads may be anything; of those that are read they show.
    drawn = graded(random)
    cache = filled(drawn.key, drawn.value)
    before, certificate = run(cache, drawn.query)
    shows = np.zeros((HEADS,), int)
    for tile in range(CAPACITY // TILE):
        spoiled = cache.values._replace(high=cache.values.high.at[0, :, tile].set(0x40404040))
        after = run(cache._replace(values=spoiled), drawn.query)[0]
        shows += np.any(np.asarray(before != after)[0, 0], axis=1)
    assert np.array_equal(shows, CAPACITY // TILE - np.asarray(certificate.tiles_skipped)[0, 0])
    assert 0 < shows.min() <= shows.max() < CAPACITY // TILE


def rows_of(planes: Planes, *, is_whole: bool) -> np.ndarray:
    """Read planes by the formula, in float64."""

    def signed(words: Any) -> np.ndarray:
        return np.ascontiguousarray(words, "<i4").view(np.int8).astype(float)

    codes = np.ascontiguousarray(planes.grid[..., 0, :], "<i4").view(np.uint8).astype(int)
    steps = (1 + (codes & 7) / 8) * 2.0 ** ((codes >> 3) - 22)
    rest = signed(planes.low) / 256 if is_whole else 0
    return steps[..., None, :] * (16 * signed(planes.grid[..., 1, :])[..., None, :] + signed(planes.high) + rest)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(-26, 16), shift=st.floats(-26, 15), shared=st.booleans())
def test_rows_are_as_far_from_their_planes_as_is_measured(seed: int, spread: float, shift: float, shared: bool) -> None:
    random = np.random.default_rng(seed)
    shape = BATCH, ROWS, KEY_HEADS, WIDTH
    key = random.normal(size=shape) * 2.0**spread + random.normal(size=(1, 1, 1, WIDTH)) * 2.0**shift * shared
    key = np.clip(key, -65504, 65504).astype(np.float16)
    cache = jax.tree.map(np.asarray, filled(key, key[..., :CHANNELS]))
    tiles = key.astype(float).reshape(BATCH, -1, TILE, KEY_HEADS, WIDTH).swapaxes(2, 3).swapaxes(1, 2)
    for planes, rows in ((cache.keys, tiles), (cache.values, tiles[..., :CHANNELS])):
        for is_whole, error in ((False, planes.error_high), (True, planes.error_both)):
            missing = np.linalg.norm(rows - rows_of(planes, is_whole=is_whole), axis=4).max(axis=3)
            for entry, length in enumerate(LENGTHS // TILE):
                assert np.all(missing[entry, :, :length] <= error[entry, :, :length])
            largest = np.abs(rows[0]).max()
            assert error[0].max() <= largest * (0.05 if not is_whole else 4e-4) + 2.0**-21
    # Another byte is another row.
    flipped = cache.keys._replace(high=cache.keys.high ^ 16)
    moved = np.linalg.norm(tiles - rows_of(flipped, is_whole=True), axis=4).max(axis=3)
    assert np.all(moved[0] > cache.keys.error_both[0])


def test_rows_that_come_one_by_one_lie_as_those_that_come_at_once(random: np.random.Generator) -> None:
    drawn, count = draw(random), 11

    @jax.jit
    def write(cache: PlaneCache, query: Any, key: Any, value: Any) -> Any:
        def step(cache: PlaneCache, rows: Any) -> Any:
            (out, certificate), cache = decode(
                cache, query, *(each[:, None] for each in rows), resolution=Certified(1e-2)
            )
            return cache, (out, certificate.sound)

        return jax.lax.scan(step, cache, tuple(jnp.moveaxis(each, 1, 0) for each in (key, value)))

    empty = empty_plane_cache(BATCH, CAPACITY, KEY_HEADS, WIDTH, CHANNELS, tile=TILE)
    few = drawn.key[:, :count], drawn.value[:, :count]
    stepped, (outs, sound) = write(empty, drawn.query, *few)
    whole = jax.jit(append)(empty, *few)
    for one, other in zip(jax.tree.leaves(stepped), jax.tree.leaves(whole), strict=True):
        assert np.allclose(one, other, rtol=1e-6, atol=0)
    assert np.all(sound)
    assert outs.shape == (count, BATCH, 1, HEADS, CHANNELS)
    assert whole.full_tiles.tolist() == [2] * BATCH
    assert whole.recent.tolist() == [3] * BATCH


def test_rows_without_room_are_dropped_and_counted(random: np.random.Generator) -> None:
    drawn = draw(random)
    cache = filled(drawn.key, drawn.value)
    longer = jax.jit(append)(cache, drawn.key[:, :7], drawn.value[:, :7])
    assert is_overflowed(longer).tolist() == [True, False, False, False]
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(cache.keys, longer.keys, strict=True))
    assert np.array_equal(longer.squares[0], cache.squares[0])
    assert not np.array_equal(cache.keys.high[1], longer.keys.high[1])
    assert np.array_equal(run(longer, drawn.query)[0][0], run(cache, drawn.query)[0][0])


def test_tiles_that_entries_share_out_say_the_same(vulkan: Any, random: np.random.Generator) -> None:
    drawn = graded(random)

    @jax.jit
    def share(drawn: Drawn) -> PlaneCache:
        cache = empty_plane_cache(BATCH, CAPACITY, KEY_HEADS, WIDTH, CHANNELS, tile=TILE, pages=30)
        for first in (0, 24):
            rows = jnp.clip(jnp.asarray(LENGTHS) - first, 0, 24)
            cache = append(cache, drawn.key[:, first : first + 24], drawn.value[:, first : first + 24], rows=rows)
        return cache

    want = run(filled(drawn.key, drawn.value), drawn.query)
    with jax.default_device(vulkan):
        cache = share(drawn)
        got = run(cache, drawn.query)
    assert cache.table[1].tolist() == [6, 7, 8, 9, 10, 11, 19, *[-1] * 5]
    assert np.allclose(got[0], want[0], atol=2e-3)
    for one, other in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        assert np.allclose(one, other, rtol=1e-2, atol=1e-6)
    # Another tile is another value.
    swapped = cache._replace(table=cache.table.at[0, 11].set(7))
    with jax.default_device(vulkan):
        assert not np.allclose(run(swapped, drawn.query)[0][0], want[0][0], atol=2e-3)


def test_tiles_are_shared_released_and_run_out(random: np.random.Generator) -> None:
    drawn = draw(random)
    empty = empty_plane_cache(2, 16, KEY_HEADS, WIDTH, CHANNELS, tile=TILE, pages=4)
    write = jax.jit(append)
    rows = drawn.key[:2, :12], drawn.value[:2, :12]
    cache = write(empty, *rows, rows=jnp.array([10, 0]))
    cache = share_prefix(cache, 0, 1, 8)
    assert cache.table.tolist() == [[0, 1, -1, -1]] * 2
    cache = write(cache, *rows, rows=jnp.array([2, 12]))
    # The second entry gets the last tile that is free, and loses what it has no place for.
    assert cache.table.tolist() == [[0, 1, 2, -1], [0, 1, 3, -1]]
    assert is_overflowed(cache).tolist() == [False, True]
    assert (cache.full_tiles.tolist(), cache.recent.tolist()) == ([3, 3], [0, 0])
    cache = release(cache, jnp.array([False, True]))
    assert cache.table.tolist() == [[0, 1, 2, -1], [-1] * 4]
    cache = write(cache, *rows, rows=jnp.array([4, 3]))
    assert (cache.table[0].tolist(), cache.recent.tolist()) == ([0, 1, 2, 3], [0, 3])


def test_numbers_that_are_none_are_not_lost(random: np.random.Generator) -> None:
    drawn = gaussian(random)
    for place in (2, 30):
        for name in ("key", "value"):
            rows = getattr(drawn, name).copy()
            rows[1, place] = np.nan
            spoiled = drawn._replace(**{name: rows})
            out, certificate = run(filled(spoiled.key, spoiled.value), drawn.query)
            assert np.isnan(np.asarray(out[1])).all(), name
            assert np.isinf(np.asarray(certificate.out_error[1])).all(), name
            assert not np.isnan(np.asarray(out[0])).any()


def test_bytes_are_those_of_what_is_read(random: np.random.Generator) -> None:
    drawn = graded(random)
    certificate = run(filled(drawn.key, drawn.value), drawn.query)[1]
    said = {name: each for name, each in certificate._asdict().items() if each is not None}
    read = {name: np.asarray(each)[:, 0] for name, each in said.items()}
    keys, values, grid = TILE * WIDTH, TILE * CHANNELS, 2 * CHANNELS
    want = (LENGTHS // TILE * (keys + 2 * WIDTH + 28) + LENGTHS % TILE * 2 * (WIDTH + CHANNELS))[:, None]
    want = want + read["tiles_half"] * (values + grid) + read["tiles_mixed"] * (keys + values + grid)
    want += read["tiles_exact"] * (keys + 2 * values + grid)
    assert np.array_equal(read["bytes_read"], want)
    total = sum(read[each] for each in ("tiles_exact", "tiles_half", "tiles_mixed", "tiles_skipped"))
    assert np.array_equal(total, np.repeat(LENGTHS[:, None] // TILE, HEADS, axis=1))


def test_planes_say_what_they_are_asked_for_wrongly() -> None:
    cache = empty_plane_cache(1, 8, 1, 4, tile=4)
    row = jnp.ones((1, 1, 1, 4), jnp.float16)
    with pytest.raises(
        OptionError, match=r"empty_plane_cache: rows lie in whole tiles and whole words\.\n  got:  sizes"
    ):
        empty_plane_cache(1, 10, 1, 4, tile=4)
    with pytest.raises(OptionError, match="multiples of 4 for width and channels"):
        empty_plane_cache(1, 8, 1, 6, tile=4)
    with pytest.raises(ShapeError, match=r"want: \[1, rows, 1, 4\] and \[1, rows, 1, 4\], float16"):
        append(cache, row.astype(jnp.float32), row)
    with pytest.raises(OptionError, match="a cache in planes is read within a promise"):
        attend(cache, row, resolution=Certified(0.0))
    with pytest.raises(ShapeError, match="the last row asks a cache in planes"):
        attend(cache, jnp.ones((1, 2, 1, 4), jnp.float16), resolution=Certified(0.1))
    with pytest.raises(OptionError, match="rows need room"):
        append(cache, jnp.ones((1, 9, 1, 4), jnp.float16), jnp.ones((1, 9, 1, 4), jnp.float16))
    with pytest.raises(OptionError, match="release: entries share out the pages of a cache"):
        release(cache, jnp.array([True]))
