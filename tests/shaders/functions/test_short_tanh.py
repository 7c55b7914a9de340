"""A driver's tangent for 16 bits is right to what those who take it count on, for any f32."""

from __future__ import annotations

import numpy as np

from lowering.runtime import Device
from shaders.functions import halves

from .elementwise import run_elementwise

ABSOLUTE, RELATIVE = 2.0**-10.5, 2.0**-9.5


def test_short_tangent_is_within_its_bound(device: Device) -> None:
    random = np.random.default_rng(11)
    x = np.concatenate([random.uniform(-9, 9, 20_000), random.normal(size=20_000) * 0.3, np.geomspace(1e-4, 1e38, 500)])
    x = np.concatenate([x, -x, [np.inf, -np.inf, np.nan, 0]]).astype(np.float32)
    (got,) = run_elementwise(device, halves.short_tanh, [x], ["f32"])
    want = np.tanh(x.astype(np.float64))
    assert np.array_equal(np.isnan(got), np.isnan(want))
    error = np.abs(got - want)[~np.isnan(want)]
    assert np.max(error) <= ABSOLUTE
    # Halves below the smallest normal one are multiples of 2^-24.
    assert np.all(error <= RELATIVE * np.abs(want[~np.isnan(want)]) + 2.0**-24)
    # The bound is of tangents: what is a few of its units away is told apart.
    assert np.max(np.abs(got * (1 + 4 * ABSOLUTE) - want)[~np.isnan(want)]) > ABSOLUTE
