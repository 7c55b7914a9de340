"""Derivatives of tiled attention: those of the dense formula, in every mode, in linear memory (theory T-18)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qga import attention_weights, dot_attention, fidelity_attention
from tests.qga.tolerances import assert_close, assert_far

ROWS = 19


def draw(random: np.random.Generator, dtype: np.dtype, rows: int = ROWS) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(random.normal(size=(rows, width)), dtype) for width in (6, 6, 3))


def tiled(metric: str, *arrays: jax.Array, scale: jax.Array, tile: int, **options: Any) -> jax.Array:
    if metric == "dot":
        return dot_attention(*arrays, scale=scale, tile=tile, **options)
    return fidelity_attention(*arrays, beta=scale, tile=tile, **options)


def dense(metric: str, queries: jax.Array, keys: jax.Array, values: jax.Array, scale: jax.Array) -> jax.Array:
    return attention_weights(queries, keys, metric=metric, scale=scale, is_causal=True) @ values


def gradients(function: Callable, arrays: tuple[jax.Array, ...], scale: jax.Array) -> tuple[jax.Array, ...]:
    weigh = jnp.cos(jnp.arange(arrays[2].size, dtype=arrays[2].dtype)).reshape(arrays[2].shape)
    return jax.grad(lambda *inputs: jnp.sum(weigh * function(*inputs)), argnums=(0, 1, 2, 3))(*arrays, scale)


@pytest.mark.parametrize("metric", ["dot", "fidelity"])
@pytest.mark.parametrize("derivatives", ["all", "reverse"])
@pytest.mark.parametrize("tile", [2, 6, 19])
def test_gradients_are_those_of_the_dense_formula(
    metric: str, derivatives: str, tile: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    arrays, scale, options = draw(random, dtype), jnp.asarray(1.3, dtype), {"derivatives": derivatives, "tile": tile}
    got = gradients(lambda *a: tiled(metric, *a[:3], scale=a[3], is_causal=True, **options), arrays, scale)
    want = gradients(partial(dense, metric), arrays, scale)
    for one, other in zip(got, want, strict=True):
        assert_close(one, other, depth=ROWS, scale=10 * float(jnp.max(jnp.abs(other), initial=1.0)))
        assert_far(one, other + 0.1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("metric", ["dot", pytest.param("fidelity", marks=pytest.mark.exhaustive)])
def test_forward_reverse_and_second_derivatives_are_differences(metric: str, random: np.random.Generator) -> None:
    arrays, scale = draw(random, np.dtype("float64"), rows=5), jnp.asarray(0.7)

    def function(queries: jax.Array, keys: jax.Array, values: jax.Array, scale: jax.Array) -> tuple:
        return tiled(metric, queries, keys, values, scale=scale, tile=2, return_lse=True)

    check_grads(function, (*arrays, scale), order=2, modes=["fwd", "rev"])


def test_forward_and_reverse_mode_agree(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays, tangents = draw(random, dtype), draw(random, dtype)
    function = partial(dot_attention, tile=5, is_causal=True)
    out, moved = jax.jvp(function, arrays, tangents)
    pulled = jax.vjp(function, *arrays)[1](out)
    inner = sum(jnp.vdot(tangent, pull) for tangent, pull in zip(tangents, pulled, strict=True))
    assert_close(jnp.vdot(out, moved), inner, depth=ROWS, scale=float(jnp.vdot(out, out)) * 10)


def test_gradient_maps_over_a_batch_like_a_loop(random: np.random.Generator, dtype: np.dtype) -> None:
    batch = tuple(jnp.stack(arrays) for arrays in zip(*(draw(random, dtype) for _ in range(3)), strict=True))
    gradient = jax.grad(lambda *arrays: jnp.sum(jnp.square(dot_attention(*arrays, tile=8))), argnums=(0, 1, 2))
    mapped = jax.jit(jax.vmap(gradient))(*batch)
    for entry in range(3):
        for one, other in zip(mapped, gradient(*(array[entry] for array in batch)), strict=True):
            assert_close(one[entry], other, depth=ROWS, scale=10.0)


def test_rows_that_see_nothing_have_no_gradient(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = draw(random, dtype)
    mask = jnp.ones((ROWS, ROWS), bool).at[4].set(False)
    gradient = jax.grad(lambda *a: jnp.sum(dot_attention(*a, mask=mask, tile=6)), argnums=(0, 1, 2))(*arrays)
    assert all(jnp.isfinite(part).all() for part in gradient)
    assert np.array_equal(gradient[0][4], np.zeros(6))


def test_hidden_keys_have_no_gradient(random: np.random.Generator, dtype: np.dtype) -> None:
    arrays = draw(random, dtype)
    mask = jnp.ones((ROWS, ROWS), bool).at[:, 7].set(False)
    gradient = jax.grad(lambda *a: jnp.sum(dot_attention(*a, mask=mask, tile=6)), argnums=(1, 2))(*arrays)
    assert np.array_equal(gradient[0][7], np.zeros(6))
    assert np.array_equal(gradient[1][7], np.zeros(3))


@pytest.mark.parametrize("mode", ["value", "gradient"])
def test_memory_is_linear_in_the_rows(mode: str) -> None:
    def total(*arrays: jax.Array) -> jax.Array:
        return jnp.sum(dot_attention(*arrays, tile=64))

    function = total if mode == "value" else jax.grad(total, argnums=(0, 1, 2))
    needed = []
    for rows in (1024, 2048, 4096):
        shape = jax.ShapeDtypeStruct((rows, 32), jnp.float32)
        memory = jax.jit(function).lower(shape, shape, shape).compile().memory_analysis()
        needed.append(memory.temp_size_in_bytes)
    # Four score tiles and a few copies of the arguments, all of them rows long; a dense matrix would be 64 MiB.
    assert needed[2] <= 2.1 * needed[1] <= 4.5 * needed[0]
    assert needed[2] < 4096 * 4096


@pytest.mark.parametrize("is_causal", [False, True])
def test_second_derivatives_through_a_loop_agree_between_modes(
    is_causal: bool, random: np.random.Generator, dtype: np.dtype
) -> None:
    rows, direction = (jnp.asarray(random.normal(size=(7, 4)), dtype) for _ in range(2))

    def total(rows: jax.Array) -> jax.Array:
        def layer(rows: jax.Array, _: None) -> tuple[jax.Array, None]:
            return rows + dot_attention(rows, rows, rows, tile=4, is_causal=is_causal), None

        return jnp.sum(jnp.square(jax.lax.scan(layer, rows, length=2)[0]))

    forward = jax.jvp(jax.grad(total), (rows,), (direction,))[1]
    reverse = jax.grad(lambda rows: jnp.vdot(jax.grad(total)(rows), direction))(rows)
    scale = 10 * float(jnp.max(jnp.abs(forward)))
    assert_close(reverse, forward, depth=14, scale=scale)
    assert_far(reverse, 2 * forward, depth=14)
