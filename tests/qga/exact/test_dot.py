"""Tiled dot attention is dense softmax attention (theory T-1, T-2, T-17)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import attention_weights, dot_attention
from qga.exact import attention_pass
from tests.qga.dense import dot_weights
from tests.qga.tolerances import assert_close, assert_far

KEYS = 37


def draw(random: np.random.Generator, *batch: int, queries: int = 23, keys: int = KEYS) -> tuple[np.ndarray, ...]:
    shapes = (*batch, queries, 8), (*batch, keys, 8), (*batch, keys, 5)
    return tuple(random.normal(size=shape) for shape in shapes)


def cast(arrays: tuple[np.ndarray, ...], dtype: np.dtype) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(array, dtype) for array in arrays)


@pytest.mark.parametrize("tile", [1, 36, 37, 38, 7, 8])
def test_every_tile_gives_the_dense_result(tile: int, random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = cast(draw(random), dtype)
    queries, keys, values = (np.asarray(array, float) for array in arrays)
    weights = dot_weights(queries, keys, 8**-0.5)
    out, log_sum = dot_attention(*arrays, tile=tile, return_lse=True)
    assert out.dtype == dtype
    assert_close(out, weights @ values, depth=KEYS, scale=float(np.abs(values).max()))
    want = np.log(np.exp(8**-0.5 * queries @ keys.T).sum(axis=1))
    assert_close(log_sum, want, depth=KEYS, scale=float(np.abs(want).max()))


def test_a_moved_key_is_noticed(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = cast(draw(random), dtype)
    moved = dot_attention(queries, keys.at[3, 0].add(0.1), values, tile=8)
    assert_far(moved, dot_attention(queries, keys, values, tile=8), depth=KEYS)


def test_result_is_that_of_jax(random: np.random.Generator) -> None:
    queries, keys, _ = cast(draw(random, 2, 3), np.dtype("float32"))
    # JAX wants values as wide as keys.
    values = keys[..., ::-1]
    heads_last = (jnp.swapaxes(array, 1, 2) for array in (queries, keys, values))
    want = jnp.swapaxes(jax.nn.dot_product_attention(*heads_last, is_causal=True), 1, 2)
    assert_close(dot_attention(queries, keys, values, is_causal=True, tile=8), want, depth=KEYS, scale=3.0)


@pytest.mark.parametrize(("queries", "keys"), [(37, 37), (64, 64), (9, 37), (37, 9)])
@pytest.mark.parametrize("tile", [4, 16, 64])
def test_causal_queries_see_no_later_key(
    queries: int, keys: int, tile: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    arrays = draw(random, queries=queries, keys=keys)
    visible = np.tri(queries, keys, dtype=bool)
    want = dot_weights(arrays[0], arrays[1], 0.5, visible) @ arrays[2]
    got = dot_attention(*cast(arrays, dtype), scale=0.5, is_causal=True, tile=tile)
    assert_close(got, want, depth=keys, scale=float(np.abs(arrays[2]).max()))


def test_causal_first_row_is_the_first_value(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = cast(draw(random, queries=KEYS), dtype)
    assert_close(dot_attention(queries, keys, values, is_causal=True, tile=5)[0], values[0])


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), tile=st.integers(1, 20))
def test_permuted_keys_change_nothing(seed: int, tile: int) -> None:
    random = np.random.default_rng(seed)
    queries, keys, values = cast(draw(random, queries=4, keys=19), np.dtype("float32"))
    order = random.permutation(19)
    want = dot_attention(queries, keys, values, tile=tile)
    assert_close(dot_attention(queries, keys[order], values[order], tile=tile), want, depth=19, scale=3.0)


def test_mask_removes_keys(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = draw(random, 2)
    visible = random.random((2, 23, KEYS)) < 0.4
    visible[0, 4] = False
    want = dot_weights(arrays[0], arrays[1], 8**-0.5, visible) @ arrays[2]
    got, log_sum = dot_attention(*cast(arrays, dtype), mask=jnp.asarray(visible), tile=8, return_lse=True)
    assert_close(got, want, depth=KEYS, scale=4.0)
    assert np.array_equal(got[0, 4], np.zeros(5))
    assert log_sum[0, 4] == -np.inf
    assert np.isfinite(np.delete(np.asarray(log_sum).ravel(), 4)).all()


def test_mask_broadcasts_and_combines_with_causal(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = draw(random, 2, queries=KEYS)
    lengths = np.arange(KEYS)[None, None] < 20
    want = dot_weights(arrays[0], arrays[1], 8**-0.5, lengths & np.tri(KEYS, dtype=bool)) @ arrays[2]
    got = dot_attention(*cast(arrays, dtype), mask=jnp.asarray(lengths), is_causal=True, tile=6)
    assert_close(got, want, depth=KEYS, scale=4.0)


def test_no_keys_give_zeros(dtype: np.dtype) -> None:
    out, log_sum = dot_attention(
        jnp.ones((3, 2), dtype), jnp.ones((0, 2), dtype), jnp.ones((0, 4), dtype), return_lse=True
    )
    assert np.array_equal(out, np.zeros((3, 4)))
    assert (log_sum == -np.inf).all()


def test_scale_may_differ_between_heads(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = draw(random, 2, 3)
    scales = np.array([0.1, 0.5, 2.0])
    got = dot_attention(*cast(arrays, dtype), scale=jnp.asarray(scales, dtype), tile=8)
    for head, scale in enumerate(scales):
        want = dot_weights(arrays[0][:, head], arrays[1][:, head], scale) @ arrays[2][:, head]
        assert_close(got[:, head], want, depth=KEYS, scale=16.0)


def test_batch_axes_are_a_loop(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = cast(draw(random, 2, 3), dtype)
    got = dot_attention(queries, keys, values, tile=10)
    for i, j in np.ndindex(2, 3):
        assert_close(got[i, j], dot_attention(queries[i, j], keys[i, j], values[i, j], tile=10), depth=KEYS, scale=4.0)


def test_vmap_is_the_batch_axis(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = cast(draw(random, 3), dtype)
    mapped = jax.jit(jax.vmap(lambda *one: dot_attention(*one, tile=10)))(*arrays)
    assert_close(mapped, dot_attention(*arrays, tile=10), depth=KEYS, scale=4.0)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_small_floats_are_accumulated_in_float32(name: str, random: np.random.Generator) -> None:
    arrays = cast(draw(random, queries=5, keys=300), jnp.dtype(name))
    queries, keys, values = (np.asarray(array, float) for array in arrays)
    out, log_sum = dot_attention(*arrays, tile=64, return_lse=True)
    assert out.dtype == name
    assert log_sum.dtype == jnp.float32
    # The weights and the result are rounded once each to the small dtype; no error grows with the keys.
    error = np.abs(np.asarray(out, float) - dot_weights(queries, keys, 8**-0.5) @ values).max()
    assert error <= 2 * float(jnp.finfo(name).eps) * np.abs(values).max()


def test_not_a_number_reaches_the_rows_that_see_it(random: np.random.Generator) -> None:
    queries, keys, values = cast(draw(random, queries=KEYS), np.dtype("float32"))
    out = dot_attention(queries, keys.at[20, 0].set(jnp.nan), values, is_causal=True, tile=8)
    assert np.isnan(out[20:]).all()
    assert np.isfinite(out[:16]).all()


def test_weights_are_the_attention_of_the_identity(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, _ = cast(draw(random, 2), dtype)
    identity = jnp.broadcast_to(jnp.eye(KEYS, dtype=dtype), (2, KEYS, KEYS))
    weights = attention_weights(queries, keys)
    assert_close(dot_attention(queries, keys, identity, tile=8), weights, depth=KEYS)
    assert_close(weights.sum(axis=-1), np.ones((2, 23)), depth=KEYS)


@pytest.mark.parametrize("largest", [1e10, 1e30])
@pytest.mark.parametrize("tile", [1, 8, KEYS])
def test_huge_scores_choose_the_best_key_under_jit(largest: float, tile: int, random: np.random.Generator) -> None:
    queries, keys, values = draw(random)
    big = [jnp.asarray(array * largest**0.5, jnp.float32) for array in (queries, keys)]
    out = jax.jit(lambda *arrays: dot_attention(*arrays, tile=tile))(*big, jnp.asarray(values, jnp.float32))
    best = (queries @ keys.T).argmax(axis=1)
    assert_close(out, values[best], depth=KEYS, scale=float(np.abs(values).max()))


def test_a_pass_is_the_attention_whatever_its_log_sums_round_to(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, values = cast(draw(random, 2), dtype)
    mask = jnp.asarray(random.random((2, 23, KEYS)) < 0.4).at[0, 4].set(False)
    want, log_sums = dot_attention(queries, keys, values, mask=mask, tile=8, return_lse=True)
    for error in (0.0, 0.3):
        got = attention_pass(queries, keys, values, log_sums + error, mask=mask, tile=8)
        assert_close(got, want, depth=KEYS, scale=4.0)
    assert_far(attention_pass(queries, keys, values[:, ::-1], log_sums, mask=mask, tile=8), want, depth=KEYS)


def test_gradient_of_a_pass_is_that_of_the_attention(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = cast(draw(random), dtype)
    _, log_sums = dot_attention(*arrays, return_lse=True)
    got = jax.grad(lambda *a: jnp.sum(jnp.square(attention_pass(*a))), argnums=(0, 1, 2, 3))(*arrays, log_sums)
    want = jax.grad(lambda *a: jnp.sum(jnp.square(dot_attention(*a))), argnums=(0, 1, 2))(*arrays)
    for one, other in zip(got, want, strict=False):
        assert_close(one, other, depth=KEYS, scale=10.0)
    assert np.array_equal(got[3], np.zeros(23))
