"""The remainder is exact, whatever the quotient."""

from __future__ import annotations

import numpy as np
import pytest

from lowering.runtime import Device
from shaders.functions.remainder import remainder

from .elementwise import NUMPY, run_elementwise


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_remainder_is_fmod(device: Device, dtype: str) -> None:
    if dtype == "f64" and not device.capabilities.has_f64:
        pytest.skip("the device has no f64")
    random = np.random.default_rng(0)
    exponents = random.integers(-100, 100, (2, 4000)) * (1 if dtype == "f32" else 8)
    x, y = np.ldexp(random.uniform(0.5, 1, (2, 4000)), exponents) * random.choice([-1, 1], (2, 4000))
    special = np.array([0, 1, 5.5, 2, 3, np.inf, np.nan, np.finfo(NUMPY[dtype]).max, np.finfo(NUMPY[dtype]).tiny])
    grid = np.meshgrid(np.concatenate([special, -special]), np.concatenate([special, -special]))
    x = np.concatenate([x, grid[0].ravel()]).astype(NUMPY[dtype])
    y = np.concatenate([y, grid[1].ravel()]).astype(NUMPY[dtype])
    (got,) = run_elementwise(device, remainder, [x, y], [dtype])
    with np.errstate(invalid="ignore"):
        want = np.fmod(x, y)
    # A subnormal result may be flushed.
    is_normal = (np.abs(want) >= np.finfo(NUMPY[dtype]).tiny) | (want == 0) | np.isnan(want)
    np.testing.assert_array_equal(got[is_normal], want[is_normal])
    is_zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[is_zero]), np.signbit(want[is_zero]))
