"""Summaries know what they summarise, and merge: sums add, boxes join, radii may only grow (theory T-5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from qga.errors import ShapeError
from qga.kernels import call_pallas, execute
from qga.kernels.summary import summary_kernel
from qga.tiling import (
    Summary,
    split,
    summarize,
    summary_center,
    summary_mean,
    summary_merge,
    summary_scatter,
    summary_unit,
)
from qga.tiling.summary import surround_blocks, surround_heads
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far, bound

RADII = ("radius", "value_radius")
LENGTHS = [1, 7, 8, 9, 37]


def draw(random: np.random.Generator, rows: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    return random.normal(size=(rows, 5)) + shift, random.normal(size=(rows, 3))


def whole(keys: np.ndarray, values: np.ndarray, dtype: np.dtype | str = "float32") -> Summary:
    """Summarise all rows as one tile."""
    there = jnp.ones((1, len(keys)), bool)
    made = summarize(jnp.asarray(keys, dtype)[None], jnp.asarray(values, dtype)[None], there)
    return jax.tree.map(lambda field: field[0], made)


def truth(keys: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    lengths = np.linalg.norm(keys, axis=1)
    return {
        "members": np.float64(len(keys)), "key_sum": keys.sum(0), "square_sum": (lengths**2).sum(),
        "radius": np.linalg.norm(keys - keys.mean(0), axis=1).max(), "low": keys.min(0), "high": keys.max(0),
        "longest": lengths.max(), "value_sum": values.sum(0),
        "value_radius": np.linalg.norm(values - values.mean(0), axis=1).max(),
    }  # fmt: skip


@pytest.mark.parametrize("rows", LENGTHS)
def test_a_summary_says_what_numpy_says(rows: int, random: np.random.Generator, dtype: np.dtype) -> None:
    keys, values = (array.astype(dtype).astype(float) for array in draw(random, rows))
    tiles, exists = split(jnp.asarray(keys, dtype), 8)
    got = summarize(tiles, split(jnp.asarray(values, dtype), 8, jnp.nan)[0], exists)
    for number in range(len(tiles)):
        part = slice(8 * number, min(8 * number + 8, rows))
        for name, want in truth(keys[part], values[part]).items():
            assert_close(getattr(got, name)[number], want, depth=8, scale=max(1.0, float(np.abs(want).max())))


def test_a_moved_key_is_noticed(random: np.random.Generator) -> None:
    keys, values = draw(random, 9)
    before, after = whole(keys, values), whole(keys + np.eye(9, 5), values)
    for name in ("key_sum", "square_sum", "radius"):
        assert_far(getattr(after, name), getattr(before, name))
    assert np.array_equal(after.value_sum, before.value_sum)


@pytest.mark.parametrize("rows", LENGTHS)
def test_executor_is_interpret_mode(rows: int, random: np.random.Generator) -> None:
    (keys, exists), (values, _) = (split(jnp.asarray(array, jnp.float32), 8) for array in draw(random, rows))
    kernel = summary_kernel(keys, values, exists, keys.dtype)
    executed = jax.jit(lambda *arrays: execute(kernel, *arrays))(keys, values, exists)
    interpreted = jax.jit(lambda *arrays: call_pallas(kernel, *arrays, interpret=True))(keys, values, exists)
    for one, other in zip(executed, interpreted, strict=True):
        assert_close(one, other, depth=8, scale=10.0)


@pytest.mark.parametrize("rows", [1, 9, 37])
def test_vulkan_computes_what_the_cpu_computes(rows: int, vulkan: jax.Device, random: np.random.Generator) -> None:
    (keys, exists), (values, _) = (split(jnp.asarray(array, jnp.float32), 8) for array in draw(random, rows))
    got = summarize(*jax.device_put((keys, values, exists), vulkan))
    for one, other in zip(got, summarize(keys, values, exists), strict=True):
        assert one.devices() == {vulkan}
        assert_close(one, other, depth=8, scale=float(jnp.max(jnp.abs(other))), roundings=VULKAN_ROUNDINGS)


def test_blocks_of_tiles_have_the_sums_of_their_rows(vulkan: jax.Device, random: np.random.Generator) -> None:
    rows = random.normal(size=(2, 149, 3, 8)).astype(np.float16)
    padded = np.pad(rows.astype(np.float64), ((0, 0), (0, 43), (0, 0), (0, 0)))
    want = padded.reshape(2, 12, 16, 3, 8).sum(axis=2).swapaxes(1, 2)
    for device in (None, vulkan):
        given = jax.device_put(rows, device)
        (found, sums), alone = surround_blocks(given, 64, 4), surround_heads(given, 64)
        assert_close(sums, want, depth=16, scale=16.0, roundings=VULKAN_ROUNDINGS)
        assert_far(sums, np.roll(want, 1, axis=2), depth=16, scale=16.0)
        for one, other in zip(found, alone, strict=True):
            assert_close(one, other, depth=64, scale=64.0, roundings=VULKAN_ROUNDINGS)


@settings(deadline=None, max_examples=25)
@given(cut=st.integers(1, 12), seed=st.integers(0, 99), shift=st.sampled_from([0.0, 3.0, -40.0]))
def test_a_merge_sums_exactly_and_bounds_from_above(cut: int, seed: int, shift: float) -> None:
    keys, values = draw(np.random.default_rng(seed), 13, shift)
    merged = summary_merge(whole(keys[:cut], values[:cut]), whole(keys[cut:], values[cut:]))
    union, size = whole(keys, values), float(np.abs(keys).max()) * 13
    for name in Summary._fields:
        if name in RADII:
            slack = bound(np.float32, 13, size)
            assert getattr(merged, name) >= getattr(union, name) - slack
        else:
            assert_close(getattr(merged, name), getattr(union, name), depth=13, scale=size**2)


def test_a_merged_radius_is_not_vacuous(random: np.random.Generator) -> None:
    keys, values = draw(random, 12)
    merged, union = summary_merge(whole(keys[:6], values[:6]), whole(keys[6:], values[6:])), whole(keys, values)
    assert union.radius < merged.radius < 2 * union.radius


@settings(deadline=None, max_examples=25)
@given(cut=st.integers(1, 12), seed=st.integers(0, 99))
def test_scatter_obeys_ward(cut: int, seed: int) -> None:
    keys, values = draw(np.random.default_rng(seed), 13)
    first, second = whole(keys[:cut], values[:cut]), whole(keys[cut:], values[cut:])
    apart = jnp.sum(jnp.square(summary_center(first) - summary_center(second)))
    between = first.members * second.members / (first.members + second.members) * apart
    merged = summary_scatter(summary_merge(first, second))
    assert_close(summary_scatter(first) + summary_scatter(second) + between, merged, depth=13, scale=float(merged) + 65)
    assert_close(merged, ((keys - keys.mean(0)) ** 2).sum(), depth=13, scale=float(merged) + 65)
    assert_far(merged, summary_scatter(first) + summary_scatter(second) + between + 1)


def test_merge_is_commutative_to_the_bit(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = (whole(*draw(random, rows), dtype) for rows in (4, 7))
    for one, other in zip(summary_merge(first, second), summary_merge(second, first), strict=True):
        assert np.array_equal(one, other)


def test_merge_is_associative_in_all_but_the_radii(random: np.random.Generator, dtype: np.dtype) -> None:
    a, b, c = (whole(*draw(random, rows), dtype) for rows in (4, 1, 7))
    left, right = summary_merge(summary_merge(a, b), c), summary_merge(a, summary_merge(b, c))
    for name in set(Summary._fields) - set(RADII):
        assert_close(getattr(left, name), getattr(right, name), depth=12, scale=60.0)


def test_merge_with_the_unit_changes_nothing(random: np.random.Generator, dtype: np.dtype) -> None:
    summary = whole(*draw(random, 7), dtype)
    for merged in (
        summary_merge(summary, summary_unit(5, 3, dtype)),
        summary_merge(summary_unit(5, 3, dtype), summary),
    ):
        assert all(np.array_equal(got, want) for got, want in zip(merged, summary, strict=True))


def test_a_tile_without_keys_is_the_unit(dtype: np.dtype) -> None:
    made = summarize(jnp.full((1, 4, 5), jnp.nan, dtype), jnp.ones((1, 4, 3), dtype), jnp.zeros((1, 4), bool))
    for got, want in zip(made, summary_unit(5, 3, dtype), strict=True):
        assert np.array_equal(got[0], want)


def test_means_are_those_of_the_members(random: np.random.Generator, dtype: np.dtype) -> None:
    keys, values = draw(random, 9)
    summary = whole(keys, values, dtype)
    assert_close(summary_center(summary), keys.mean(0), depth=9)
    assert_close(summary_mean(summary), values.mean(0), depth=9)


def test_vmap_is_a_loop(random: np.random.Generator) -> None:
    heads = [[split(jnp.asarray(array, jnp.float32), 8)[0] for array in draw(random, 16)] for _ in range(2)]
    exists = jnp.ones((2, 8), bool)
    keys, values = (jnp.stack(arrays) for arrays in zip(*heads, strict=True))
    mapped = jax.vmap(summarize, in_axes=(0, 0, None))(keys, values, exists)
    for head, arrays in enumerate(heads):
        for got, want in zip(mapped, summarize(*arrays, exists), strict=True):
            assert_close(got[head], want, depth=8, scale=20.0)


@pytest.mark.usefixtures("x64")
def test_sums_have_derivatives_and_bounds_have_none(random: np.random.Generator) -> None:
    (keys, exists), (values, _) = (split(jnp.asarray(array), 4) for array in draw(random, 7))

    def sums(keys: jax.Array, values: jax.Array) -> tuple[jax.Array, ...]:
        made = summarize(keys, values, exists)
        return summary_center(made), summary_scatter(made), summary_mean(made)

    check_grads(sums, (keys, values), order=2, modes=["fwd", "rev"])
    for name in ("radius", "low", "high", "longest", "value_radius"):
        pulled = jax.grad(lambda keys, name=name: jnp.sum(getattr(summarize(keys, values, exists), name)))(keys)
        assert np.array_equal(pulled, np.zeros_like(keys))


def test_small_floats_are_summed_in_float32() -> None:
    ones = jnp.ones((1, 300, 1), jnp.bfloat16)
    made = summarize(ones, ones, jnp.ones((1, 300), bool))
    assert made.key_sum.dtype == jnp.float32
    assert made.key_sum[0, 0] == 300


def test_tiles_that_do_not_match_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        summarize(jnp.zeros((2, 4, 5)), jnp.zeros((2, 3, 5)), jnp.ones((2, 4), bool))
    assert str(error.value) == (
        "summarize: keys, values and exists must have the same tiles.\n"
        "  got:  keys float32[2, 4, 5], values float32[2, 3, 5], exists bool[2, 4]\n"
        "  want: keys [tiles, tile, width], values [tiles, tile, channels], exists [tiles, tile]\n"
        "  fix:  cut keys and values with qga.tiling.split; map further axes with jax.vmap."
    )
