"""A polynomial stands for a soft cap in rows whose peaks allow it, and the other rows are computed again."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from qga.exact import grouped, pairs
from qga.exact.scores import dot_score
from qga.exact.tiled import attend
from qga.kernels.attention import led_kernel
from qga.kernels.call import execute
from qga.kernels.modify import Extents, cut_function
from qga.kernels.near import ERROR, Near, Odd, odd_cap
from qga.kernels.problem import Problem, TilePlan, operands
from qga.tiling import Certified

ROWS, KEYS, WIDTH, SCALE, CAP = 150, 300, 16, 0.25, 50.0
EXTENTS = Extents(1, 1, ROWS, KEYS)
OVERFLOW = 16.1


def odd(cap: float = CAP, scale: float = 1.0, keys: int = KEYS) -> Odd:
    found = odd_cap(cap, scale, keys)
    assert found is not None
    return found


def value(polynomial: Odd, scores: np.ndarray) -> np.ndarray:
    """Return what stands for capped scores, in nats."""
    powers = [each * scores ** (2 * power + 1) for power, each in enumerate(polynomial.factors)]
    return math.log(2) * np.sum(powers, axis=0)


@pytest.mark.parametrize("cap", [30.0, 50.0, 1000.0])
@pytest.mark.parametrize("scale", [1.0, -0.125])
def test_polynomial_is_the_cap_within_reach_and_grows_beyond(cap: float, scale: float) -> None:
    found = odd(cap, scale)
    most = (found.high + OVERFLOW) * math.log(2) + ERROR
    reach = cap * math.atanh(most / cap)
    near = np.linspace(-reach, reach, 4001)
    error = np.abs(value(found, near / scale) - cap * np.tanh(near / cap))
    assert ERROR / 2 < np.max(error) <= 1.001 * ERROR
    far = np.geomspace(reach, 1e4 * reach, 4001)
    assert np.min(value(found, far / scale)) >= most - 2 * ERROR
    assert np.max(np.abs(value(found, far / scale) - cap * np.tanh(far / cap))) > 100 * ERROR


def test_low_caps_and_factors_that_nobody_holds_have_no_polynomial() -> None:
    assert odd_cap(20.0, 1.0, KEYS) is None
    assert odd_cap(CAP, 0.0, KEYS) is None
    assert odd_cap(1e14, 1.0, KEYS) is None
    assert odd_cap(CAP, 1e12, KEYS) is None


def rows_of(*peaks: float) -> list[np.ndarray]:
    """Return queries, keys and values; each of the last queries scores the first key so, and others 3/4 of it."""
    random = np.random.default_rng(8)
    queries, keys, values = (random.normal(size=(rows, WIDTH)) for rows in (ROWS, KEYS, KEYS))
    queries[:, 0], keys[:, 0], keys[0, 0] = 0, 0.75, 1
    queries[ROWS - len(peaks) :] = np.outer(peaks, np.eye(WIDTH)[0] / SCALE)
    return [each.astype(np.float16) for each in (queries, keys, values)]


def truth(rows: list[np.ndarray], cap: float = CAP, *, is_causal: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return averages and log sums in float64."""
    queries, keys, values = (each.astype(np.float64) for each in rows)
    scores = cap * np.tanh(SCALE * queries @ keys.T / cap)
    scores = np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf) if is_causal else scores
    peak = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - peak)
    mass = weights.sum(axis=1, keepdims=True)
    return weights / mass @ values, (peak + np.log(mass))[:, 0]


def led(rows: list[np.ndarray], polynomial: Odd) -> tuple[np.ndarray, np.ndarray]:
    """Run the kernel that has a polynomial in place of the cap."""

    def cut(mod: Any) -> Any:
        return cut_function(lambda *pair: (mod(*pair),), EXTENTS, (), (), jnp.float32).modifier

    near = Near(cut(pairs.odd_mod(polynomial.factors)), polynomial.low, polynomial.high)
    plan = TilePlan(
        dot_score(jnp.dtype(jnp.float16)), 64, is_causal=False, modifier=cut(pairs.softcap_mod(CAP)), near=near
    )
    queries, keys, values = map(jnp.asarray, rows)
    problem = Problem((queries,), keys, values, jnp.float32(SCALE), None)
    out, log_sums = execute(led_kernel(plan, problem), *operands(problem))
    return np.asarray(out, np.float64), np.asarray(log_sums)


def test_rows_whose_peaks_are_out_of_range_say_so() -> None:
    peaks = [2, 10, 14, -14, 40, -10]
    rows, found = rows_of(*peaks), odd(scale=SCALE)
    out, log_sums = led(rows, found)
    want, want_sums = truth(rows)
    is_lost = np.isin(np.arange(ROWS) - ROWS + len(peaks), [2, 3, 4])
    assert np.array_equal(np.isnan(log_sums), is_lost)
    np.testing.assert_allclose(log_sums[~is_lost], want_sums[~is_lost], atol=2 * ERROR)
    np.testing.assert_allclose(out[~is_lost], want[~is_lost], atol=3e-3)
    # Without limits the row would be wrong, and say nothing.
    _, log_sums = led(rows, found._replace(low=-np.inf, high=np.inf))
    assert abs(log_sums[-2] - want_sums[-2]) > 100 * ERROR


def test_late_score_beyond_reach_is_infinite() -> None:
    rows = rows_of(2, 2)
    rows[0][-1], rows[1][200, 0] = 0, 20
    _, log_sums = led(rows, odd(scale=SCALE))
    assert np.array_equal(np.isnan(log_sums), np.arange(ROWS) == ROWS - 2)


@pytest.mark.parametrize("is_causal", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["all", "causal"])
def test_both_platforms_give_what_float64_does(is_causal: bool, vulkan: jax.Device) -> None:
    rows = rows_of(2, 14)
    rows[1][140 if is_causal else 200, 0] = 20
    rows = [each[:ROWS] for each in rows] if is_causal else rows
    want, want_sums = truth(rows, is_causal=is_causal)
    given = [jax.device_put(each[None, :, None], vulkan) for each in rows]
    out, log_sums = jax.jit(
        lambda *given: qga.attention(*given, scale=SCALE, softcap=CAP, is_causal=is_causal, return_lse=True)
    )(*given)
    np.testing.assert_allclose(np.asarray(out, np.float64)[0, :, 0], want, atol=3e-3)
    np.testing.assert_allclose(np.asarray(log_sums)[0, :, 0], want_sums, atol=2 * ERROR)


F16, BF16, F32 = jnp.float16, jnp.bfloat16, jnp.float32


@pytest.mark.parametrize(
    ("dtype", "options", "is_short", "is_near"),
    [
        (F16, {"softcap": 5.0}, True, False),
        (F16, {"softcap": 8.0}, False, False),
        (F16, {"softcap": 50.0}, False, True),
        (F16, {"softcap": 5.0, "score_mod": lambda s, *places: s}, False, False),
        (F16, {"softcap": 50.0, "alibi": np.ones(1, np.float32)}, False, False),
        (BF16, {"softcap": 50.0}, True, False),
        (F32, {"softcap": 5.0}, False, False),
    ],
)
def test_caps_are_rounded_only_where_weights_are_rounded_as_much(
    dtype: Any, options: dict[str, Any], is_short: bool, is_near: bool
) -> None:
    rows = [jax.ShapeDtypeStruct((1, 256, 1, WIDTH), dtype)] * 3
    plans = []
    with mock.patch.object(grouped, "attend", lambda plan, problem: plans.append(plan) or attend(plan, problem)):
        jax.eval_shape(lambda *given: qga.attention(*given, **options), *rows)
        # Certificates count on caps as they are.
        if "score_mod" not in options:
            jax.eval_shape(lambda *given: qga.adaptive_attention(*given, resolution=Certified(1e-2), **options), *rows)
    (exact, *certified) = plans
    assert (exact.modifier.driver_tanh, exact.near is not None) == (is_short, is_near)
    assert certified or "score_mod" in options
    assert not any(each.near or (each.modifier and each.modifier.driver_tanh) for each in certified)
