"""How kernels compute members of the family: known scales that rows of 16 bits hold."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from qga.exact.family import member_of
from qga.exact.metrics import Metric, scores
from qga.kernels.score import score_tile

METRICS: tuple[Metric, ...] = ("cosine", "fidelity")
LOG_2 = math.log(2)


def scores_of(metric: Metric, dtype: type, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Return scores as a kernel computes them, as the metric says, and the scale that is left for the kernel."""
    random = np.random.default_rng(3)
    asking, looked_at = (jnp.asarray(random.normal(size=(1, 30, 1, 8)), dtype) for _ in range(2))
    member = member_of(metric, asking, looked_at, scale, -1.0)
    assert isinstance(member.scale, float)
    queries, keys = member.queries[0, :, 0], member.keys[0, :, 0]
    planes, left = member.score.lift(queries, jnp.float32(member.scale)), jnp.float32(member.scale)
    got = score_tile(member.score, planes, keys, left)
    want = scores(*(each[0, :, 0].astype(jnp.float32) for each in (asking, looked_at)), metric=metric, scale=scale)
    return np.asarray(got), np.asarray(want), member.scale


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [0.1, 8.0, 300.0])
def test_queries_of_16_bits_hold_a_known_scale(metric: Metric, scale: float) -> None:
    got, want, left = scores_of(metric, jnp.float16, scale)
    assert left == LOG_2
    # Both rows are rounded once, and what is squared counts twice.
    np.testing.assert_allclose(got, want, rtol=0, atol=4 * 2.0**-11 * scale)


@pytest.mark.parametrize("metric", METRICS)
def test_other_rows_and_scales_that_would_leave_16_bits_do_not(metric: Metric) -> None:
    assert scores_of(metric, jnp.float32, 8.0)[2] == 8.0
    got, want, left = scores_of(metric, jnp.float16, 1e5)
    assert left == 1e5
    np.testing.assert_allclose(got, want, rtol=0, atol=4 * 2.0**-11 * 1e5)


def test_a_negative_scale_has_no_root() -> None:
    got, want, left = scores_of("fidelity", jnp.float16, -8.0)
    assert left == -8.0
    np.testing.assert_allclose(got, want, rtol=0, atol=4 * 2.0**-11 * 8)
