"""Functions for results of 16 bits: every f16, and every bf16, is right to a small part of its unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lowering.runtime import Device
from shaders.functions import halves

from .elementwise import NUMPY, run_elementwise

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp, "logistic": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh,
}  # fmt: skip
# llvmpipe's power of two is off by up to 45 units of f32 between 0 and 1 already.
PART = 0.05


def all_of(dtype: str) -> np.ndarray:
    """Return every number of a dtype but subnormal ones, as f32."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(NUMPY[dtype]).astype(np.float32)
    return numbers[~(np.abs(numbers) < np.finfo(np.float32).tiny) | (numbers == 0)]


def parts_of_units(got: np.ndarray, want: np.ndarray, bits: int) -> np.ndarray:
    """Return |got - want| in units of a format of that many bits; 0 where both overflow, vanish or are no number."""
    largest = 65504.0 if bits == 11 else 3.3895e38
    least = 2.0**-14 if bits == 11 else 2.0**-126
    with np.errstate(all="ignore"):
        unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(want), least)))) * 2.0 ** (1 - bits)
        error = np.abs(got.astype(np.float64) - want) / unit
        is_same = (np.isnan(got) & np.isnan(want)) | ((got == want) & np.isinf(want))
        is_over = (np.abs(got) > largest) & (np.abs(want) > largest) & (np.sign(got) == np.sign(want))
        has_vanished = (np.abs(want) < np.finfo(np.float32).tiny) & (np.abs(got) < np.finfo(np.float32).tiny)
    return np.where(is_same | is_over | has_vanished, 0, error)


def found(device: Device, name: str, dtype: str, function: Callable[..., Any]) -> np.ndarray:
    x = all_of(dtype)
    (got,) = run_elementwise(device, function, [x], ["f32"])
    with np.errstate(all="ignore"):
        want = FUNCTIONS[name](x.astype(np.float64))
    return parts_of_units(got, want, 11 if dtype == "f16" else 8)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_within_a_part_of_a_unit(device: Device, name: str, dtype: str) -> None:
    error = found(device, name, dtype, getattr(halves, name))
    assert error.max() <= PART, all_of(dtype)[error.argmax()]


def test_a_function_that_is_off_is_seen(device: Device) -> None:
    assert found(device, "exp", "f16", lambda b, x: halves.exp(b, x) * 1.0002).max() > PART


def test_zeros_keep_their_sign(device: Device) -> None:
    (got,) = run_elementwise(device, halves.tanh, [np.array([0.0, -0.0], np.float32)], ["f32"])
    np.testing.assert_array_equal(np.signbit(got), [False, True])
