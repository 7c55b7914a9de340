"""Sums relative to the largest score of the first tile of keys, and what is computed again where that is too little."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from qga.exact.scores import dot_score
from qga.kernels.attention import average_kernel, is_led, led_kernel, mend_kernel
from qga.kernels.call import execute
from qga.kernels.problem import Problem, TilePlan, operands, sizes_of

ROWS, KEYS, WIDTH = 150, 300, 16
SCALE = 0.25
# A key behind the first tile that the queries after it score by far the highest.
SPIKE = 140


def rows_of(dtype: Any, *, is_spiked: bool) -> list[np.ndarray]:
    """Return queries, keys and values; the last queries look at the spike, where there is one."""
    random = np.random.default_rng(8)
    queries, keys, values = (random.normal(size=(rows, WIDTH)) for rows in (ROWS, KEYS, KEYS))
    if is_spiked:
        queries[:, 0] = np.where(np.arange(ROWS) > SPIKE, 8, 0)
        keys[:, 0], keys[SPIKE] = 0, 40 * np.eye(WIDTH)[0]
    return [np.array(jnp.asarray(each, dtype)) for each in (queries, keys, values)]


def problem_of(rows: list[np.ndarray]) -> tuple[TilePlan, Problem]:
    plan = TilePlan(dot_score(jnp.dtype(rows[0].dtype)), 64, is_causal=False)
    scale = jnp.float32(SCALE)
    queries, keys, values = map(jnp.asarray, rows)
    return plan, Problem(plan.score.lift(queries, scale), keys, values, scale, None)


def truth(rows: list[np.ndarray], *, is_causal: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return averages and log sums in float64."""
    queries, keys, values = (each.astype(np.float64) for each in rows)
    scores = SCALE * queries @ keys.T
    if is_causal:
        scores = np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf)
    peak = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - peak)
    mass = weights.sum(axis=1, keepdims=True)
    return weights / mass @ values, (peak + np.log(mass))[:, 0]


@pytest.mark.parametrize("is_spiked", [False, True])
def test_rows_that_need_more_room_say_so(is_spiked: bool) -> None:
    rows = rows_of(jnp.float16, is_spiked=is_spiked)
    plan, problem = problem_of(rows)
    assert is_led(plan, problem)
    out, log_sums = execute(led_kernel(plan, problem), *operands(problem))
    want, want_sums = truth(rows)
    is_lost = np.isnan(np.asarray(log_sums))
    assert np.array_equal(is_lost, np.arange(ROWS) > (SPIKE if is_spiked else ROWS))
    np.testing.assert_allclose(np.asarray(log_sums)[~is_lost], want_sums[~is_lost], atol=1e-5)
    np.testing.assert_allclose(np.asarray(out, np.float64)[~is_lost], want[~is_lost], atol=2e-3)
    if is_spiked:
        assert not np.any(np.isfinite(np.asarray(out)[is_lost]).all(axis=1))


def test_only_tiles_that_are_asked_for_are_mended() -> None:
    plan, problem = problem_of(rows_of(jnp.float16, is_spiked=True))
    tiles, tile = sizes_of(plan, problem).query_tiles, sizes_of(plan, problem).query_tile
    assert tiles > 1
    kernel = mend_kernel(plan, problem)
    held = jnp.full((ROWS, WIDTH), 7, jnp.float16), jnp.full((ROWS,), 7, jnp.float32)
    wanted = jnp.arange(tiles, dtype=jnp.int32) % 2
    out, log_sums = execute(kernel, *operands(problem), wanted, *held)
    whole = execute(average_kernel(plan, problem), *operands(problem))
    kept = (np.arange(ROWS) // tile % 2 == 0)[:, None]
    np.testing.assert_array_equal(np.asarray(out), np.where(kept, 7, whole[0]))
    np.testing.assert_array_equal(np.asarray(log_sums), np.where(kept[:, 0], 7, whole[1]))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("is_causal", [False, True], ids=["all", "causal"])
def test_both_platforms_give_what_float64_does(is_causal: bool, dtype: Any, vulkan: jax.Device) -> None:
    rows = rows_of(dtype, is_spiked=True)
    rows = [each[:ROWS] for each in rows] if is_causal else rows
    want, want_sums = truth(rows, is_causal=is_causal)
    for device in (jax.devices("cpu")[0], vulkan):
        given = [jax.device_put(each[None, :, None], device) for each in rows]
        out, log_sums = jax.jit(
            lambda *given: qga.attention(*given, scale=SCALE, is_causal=is_causal, return_lse=True)
        )(*given)
        error = 2e-3 if dtype == jnp.float16 else 2e-2
        np.testing.assert_allclose(np.asarray(out, np.float64)[0, :, 0], want, atol=error)
        np.testing.assert_allclose(np.asarray(log_sums)[0, :, 0], want_sums, rtol=1e-5, atol=1e-4)


def test_sums_of_weights_that_overflow_alone_are_found(vulkan: jax.Device) -> None:
    # Two weights of e^88.5 have no sum in float32; their products with small values have.
    rows = [np.array(jnp.asarray(each, jnp.bfloat16)) for each in (np.zeros((ROWS, WIDTH)), np.zeros((KEYS, WIDTH)))]
    values = np.full((KEYS, WIDTH), 2.0**-10, rows[0].dtype)
    rows[0][:, 0], rows[1][[SPIKE, SPIKE + 1], 0] = 1, 354
    plan, problem = problem_of([*rows, values])
    out, log_sums = execute(led_kernel(plan, problem), *operands(problem))
    assert np.all(np.isfinite(np.asarray(out, np.float32)))
    assert not np.any(np.isfinite(np.asarray(log_sums)))
    given = [jax.device_put(each[None, :, None], vulkan) for each in (*rows, values)]
    mended = jax.jit(lambda *given: qga.attention(*given, scale=SCALE))(*given)
    np.testing.assert_array_equal(np.asarray(mended, np.float32), 2.0**-10)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_stays_with_its_rows(number: float, vulkan: jax.Device) -> None:
    rows = rows_of(jnp.float16, is_spiked=False)
    rows[0][3, 0] = number
    given = [jax.device_put(each[None, :, None], vulkan) for each in rows]
    out = np.asarray(jax.jit(lambda *given: qga.attention(*given, scale=SCALE))(*given))[0, :, 0]
    assert np.array_equal(np.isfinite(out).all(axis=1), np.arange(ROWS) != 3)


def test_a_bias_is_not_led() -> None:
    plan, problem = problem_of(rows_of(jnp.float32, is_spiked=False))
    assert not is_led(plan, problem)
