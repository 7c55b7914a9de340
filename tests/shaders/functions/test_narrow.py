"""Rounding to narrower formats is what NumPy and ml_dtypes do."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from lowering.runtime import Device
from shaders.functions.narrow import reduce_precision, round_to_bf16, round_to_f16

from .elementwise import run_elementwise


def _patterns() -> np.ndarray:
    """Return random f32 bit patterns, each also with an exact tie below it, and every f16 with its neighbours' ties."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 20000, np.uint64).astype(np.uint32)
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = ((bits & 0xFFFF0000) | 0x8000).view(np.float32)
    between = halves.view(np.uint32) + 0x1000
    x = np.concatenate([bits.view(np.float32), ties, halves, between.view(np.float32)])
    x = np.concatenate([x, np.array([65519.996, 65520, -65520, 2.0**-25, 3 * 2.0**-26, np.inf, -0.0], np.float32)])
    x = np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), x)
    # One quiet NaN stands for all: NumPy warns of the others.
    return np.where(np.isnan(x), np.float32(np.nan), x)


def _assert_same(got: np.ndarray, want: np.ndarray) -> None:
    is_same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
    assert is_same.all(), f"{got[~is_same][:4]}, not {want[~is_same][:4]}"


def test_round_to_f16_is_numpy_s(device: Device) -> None:
    x = _patterns()
    (got,) = run_elementwise(device, round_to_f16, [x], ["f32"])
    with np.errstate(over="ignore"):
        _assert_same(got, x.astype(np.float16).astype(np.float32))


def test_what_rounding_takes_away_is_not_lost(device: Device) -> None:
    """A driver may leave out conversions there and back, and then nothing is taken away."""
    x = (1000 * np.random.default_rng(0).normal(size=64)).astype(np.float32)
    (got,) = run_elementwise(device, lambda b, value: value - round_to_f16(b, value), [x], ["f32"])
    _assert_same(got, x - x.astype(np.float16).astype(np.float32))
    assert np.max(np.abs(got)) > 0.1


def test_round_to_bf16_is_that_of_ml_dtypes(device: Device) -> None:
    x = _patterns()
    (got,) = run_elementwise(device, round_to_bf16, [x], ["f32"])
    want = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    _assert_same(got, want)


@pytest.mark.parametrize(("exponent_bits", "mantissa_bits"), [(5, 10), (5, 2), (4, 3), (8, 7), (3, 1), (8, 23)])
def test_reduce_precision_keeps_the_bits_it_says(device: Device, exponent_bits: int, mantissa_bits: int) -> None:
    x = _patterns()
    (got,) = run_elementwise(
        device, lambda b, value: reduce_precision(b, value, exponent_bits, mantissa_bits), [x], ["f32"]
    )
    _assert_same(got, _reduced(x, exponent_bits, mantissa_bits))


def _reduced(x: np.ndarray, exponent_bits: int, mantissa_bits: int) -> np.ndarray:
    """Round by f64 arithmetic: to a multiple of the spacing at x, then into the range."""
    bias = 2 ** (exponent_bits - 1) - 1
    wide = x.astype(np.float64)
    finite = np.where(np.isfinite(wide), wide, 0)
    spacing = np.ldexp(1.0, np.frexp(finite)[1] - 1 - mantissa_bits)
    rounded = np.round(finite / spacing) * spacing
    size = np.abs(rounded)
    rounded = np.where(size < 2.0 ** (1 - bias), 0, rounded)
    rounded = np.where(size >= 2.0 ** (bias + 1), np.inf, rounded)
    return np.where(np.isfinite(wide), np.copysign(np.abs(rounded), wide), wide).astype(np.float32)
