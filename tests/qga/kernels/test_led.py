"""Sums relative to the largest score of the first tile of keys, and what is computed again where that is too little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from qga.exact import forward
from qga.exact.scores import dot_score
from qga.kernels.attention import average_kernel, is_led, led_kernel, mend_kernel
from qga.kernels.call import call_pallas, execute
from qga.kernels.modify import Extents, cut_function
from qga.kernels.problem import Problem, TilePlan, operands, sizes_of
from qga.kernels.steps import key_steps, lead_steps

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


def led_alone(plan: TilePlan, problem: Problem) -> tuple[jax.Array, ...]:
    """Average without mending: the log sum of a row that is lost is NaN."""
    return tuple(call_pallas(led_kernel(plan, problem), *operands(problem)))


@pytest.mark.parametrize("is_causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("slope", [pytest.param(0.02, marks=pytest.mark.exhaustive), 0.9])
def test_biases_that_fall_with_the_distance_or_rise_along_the_keys_lose_no_row(
    slope: float, is_causal: bool, vulkan: jax.Device
) -> None:
    rows = [each[:ROWS] for each in rows_of(jnp.float16, is_spiked=False)]
    given = [jax.device_put(np.concatenate([each] * 2)[None, :, None], vulkan) for each in rows]
    alibi = jnp.array([slope], jnp.float32)
    with mock.patch.object(forward, "_average_led", led_alone):
        got, log_sums = jax.jit(
            lambda *given: qga.attention(*given, scale=SCALE, is_causal=is_causal, alibi=alibi, return_lse=True)
        )(*given)
    queries, keys, values = (np.concatenate([each.astype(float)] * 2) for each in rows)
    distance = np.arange(2 * ROWS)[None, :] - np.arange(2 * ROWS)[:, None]
    scores = SCALE * queries @ keys.T + np.where((distance > 0) & is_causal, -np.inf, slope * distance)
    peak = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - peak)
    mass = weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(got, np.float64)[0, :, 0], weights / mass @ values, atol=2e-3)
    np.testing.assert_allclose(np.asarray(log_sums)[0, :, 0], (peak + np.log(mass))[:, 0], rtol=1e-5, atol=1e-3)


def test_a_bias_that_nobody_expects_loses_its_rows(vulkan: jax.Device) -> None:
    # The same way of looking, where the largest score is neither near the queries nor at the end.
    given = [jax.device_put(each[None, :, None], vulkan) for each in rows_of(jnp.float16, is_spiked=False)]
    bias = jnp.where(jnp.arange(KEYS) == SPIKE, 30, 0).astype(jnp.float16)[None, None, None]
    with mock.patch.object(forward, "_average_led", led_alone):
        _, log_sums = jax.jit(lambda *given: qga.attention(*given, scale=SCALE, bias=bias, return_lse=True))(*given)
    tile = np.arange(ROWS) // 128
    assert np.array_equal(np.isnan(np.asarray(log_sums)[0, :, 0]), tile != SPIKE // 128)


@pytest.mark.parametrize(
    "options",
    ["bias", "softcap", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("score_mod", "dropout"))],
)
def test_modified_scores_are_those_of_float64(options: str, vulkan: jax.Device) -> None:
    # What the bias adds to the spike's column is more than the tiles that lead have room for.
    bias = np.where(np.arange(KEYS) == SPIKE, 30, 0) * np.ones((ROWS, 1))
    keywords, change = {
        "bias": ({"bias": jnp.asarray(bias, jnp.float16)[None, None]}, lambda s: s + bias),
        "softcap": ({"softcap": 2.0}, lambda s: 2 * np.tanh(s / 2)),
        "score_mod": (
            {"score_mod": lambda s, b, h, q, k: jnp.where(k == SPIKE, 2 * s + 20, s)},
            lambda s: np.where(np.arange(KEYS) == SPIKE, 2 * s + 20, s),
        ),
        "dropout": ({"dropout_rate": 0.0, "dropout_key": jax.random.key(0)}, lambda s: s),
    }[options]
    rows = rows_of(jnp.float16, is_spiked=False)
    queries, keys, values = (each.astype(float) for each in rows)
    scores = change(SCALE * queries @ keys.T)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    want = weights / weights.sum(axis=1, keepdims=True) @ values
    for device in (jax.devices("cpu")[0], vulkan):
        given = [jax.device_put(each[None, :, None], device) for each in rows]
        out = jax.jit(lambda *given: qga.attention(*given, scale=SCALE, **keywords))(*given)
        np.testing.assert_allclose(np.asarray(out, np.float64)[0, :, 0], want, atol=3e-3)


@pytest.mark.parametrize(
    "options",
    ["window", "lengths", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("segments", "near"))],
)
def test_what_hides_keys_loses_no_row_that_sees_any(options: str, vulkan: jax.Device) -> None:
    rows = [each[:ROWS] for each in rows_of(jnp.float16, is_spiked=False)]
    place, length = np.arange(ROWS), 70
    keywords, hidden = {
        "window": ({"window": (20, None), "is_causal": True}, (place > place[:, None]) | (place < place[:, None] - 20)),
        "near": ({"window": (10, 5)}, (place > place[:, None] + 5) | (place < place[:, None] - 10)),
        "segments": ({"segment_ids": jnp.asarray(place // 37)[None]}, place // 37 != place[:, None] // 37),
        "lengths": ({"key_lengths": jnp.array([length])}, np.broadcast_to(place >= length, (ROWS, ROWS))),
    }[options]
    given = [jax.device_put(each[None, :, None], vulkan) for each in rows]
    with mock.patch.object(forward, "_average_led", led_alone):
        got, log_sums = jax.jit(lambda *given: qga.attention(*given, scale=SCALE, return_lse=True, **keywords))(*given)
    queries, keys, values = (each.astype(float) for each in rows)
    scores = np.where(hidden, -np.inf, SCALE * queries @ keys.T)
    peak = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - peak)
    mass = weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(got, np.float64)[0, :, 0], weights / mass @ values, atol=2e-3)
    np.testing.assert_allclose(np.asarray(log_sums)[0, :, 0], (peak + np.log(mass))[:, 0], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("is_placed", [False, True])
def test_scores_modified_without_places_are_led_by_the_first_tile(is_placed: bool) -> None:
    plan, problem = problem_of(rows_of(jnp.float16, is_spiked=False))
    mod: Any = (
        (lambda s, *_: (5 * jnp.tanh(s),))
        if not is_placed
        else (lambda s, b, h, q, k: (s - jnp.abs(q - k).astype(s.dtype),))
    )
    cut = cut_function(mod, Extents(1, 1, ROWS, KEYS), (), (), jnp.float32)
    plan = replace(plan, modifier=cut.modifier)
    sizes = sizes_of(plan, problem)
    steps = lead_steps(plan, sizes, 1, key_steps(plan, sizes, sizes.query_tile, problem))
    tiles = [int(steps.at(jnp.int32(round_))) if steps.at else round_ for round_ in range(steps.start, steps.stop)]
    own = range(sizes.query_tile // sizes.key_tile, 2 * sizes.query_tile // sizes.key_tile)
    assert tiles == ([*(min(each, sizes.key_tiles - 1) for each in own), sizes.key_tiles - 1] if is_placed else [0])


def test_wide_rows_are_not_led() -> None:
    plan, problem = problem_of(rows_of(jnp.float32, is_spiked=False))
    assert not is_led(plan, problem)
    plan, problem = problem_of(rows_of(jnp.float16, is_spiked=False))
    assert is_led(plan, problem)
    assert not is_led(plan, problem._replace(mask=jnp.ones((ROWS, KEYS), bool)))
