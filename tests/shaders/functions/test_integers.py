"""Integer operations have one result everywhere, where SPIR-V leaves it undefined too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lowering.runtime import Device
from shaders.functions import integers
from shaders.spirv import Builder, Value

from .elementwise import NUMPY, run_elementwise

# Registers and the widths of the elements that they hold.
ELEMENTS = [("i32", 8), ("i32", 16), ("i32", 32), ("u32", 8), ("u32", 16), ("u32", 32), ("i64", 64), ("u64", 64)]

Binary = Callable[[Builder, Value, Value], Value]


def _numbers(dtype: str) -> np.ndarray:
    limits = np.iinfo(NUMPY[dtype])
    chosen = [limits.min, limits.max, 0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 100]
    if limits.min < 0:
        chosen += [-1, -2, -7, -32, limits.min + 1]
    return np.array(chosen, NUMPY[dtype])


def _pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(_numbers(dtype), _numbers(dtype))
    return x.ravel(), y.ravel()


def _run(device: Device, function: Binary, dtype: str) -> list[tuple[int, int, int]]:
    if dtype.endswith("64") and not device.capabilities.has_i64:
        pytest.skip("the device has no 64-bit integers")
    x, y = _pairs(dtype)
    (got,) = run_elementwise(device, function, [x, y], [dtype])
    return list(zip(x.tolist(), y.tolist(), got.tolist(), strict=True))


def _wrap(number: int, dtype: str) -> int:
    bits = 8 * NUMPY[dtype].itemsize
    number &= (1 << bits) - 1
    return number - (1 << bits) if dtype[0] == "i" and number >> (bits - 1) else number


def _truncated(x: int, y: int) -> int:
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64"])
def test_divide_truncates_and_wraps(device: Device, dtype: str) -> None:
    for x, y, got in _run(device, integers.divide, dtype):
        assert got == (_wrap(-1, dtype) if y == 0 else _wrap(_truncated(x, y), dtype)), (x, y)


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64"])
def test_remainder_has_the_sign_of_the_dividend(device: Device, dtype: str) -> None:
    for x, y, got in _run(device, integers.remainder, dtype):
        assert got == (x if y == 0 else x - y * _truncated(x, y)), (x, y)


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64"])
def test_power_wraps_and_truncates_reciprocals(device: Device, dtype: str) -> None:
    for x, y, got in _run(device, integers.power, dtype):
        bits = 8 * NUMPY[dtype].itemsize
        reciprocal = {1: 1, -1: -1 if y % 2 else 1}.get(x, 0)
        assert got == (reciprocal if y < 0 else _wrap(pow(x, y, 1 << bits), dtype)), (x, y)


@pytest.mark.parametrize(("dtype", "width"), ELEMENTS)
def test_shifts_beyond_the_width_leave_zeros_or_signs(device: Device, dtype: str, width: int) -> None:
    register = 8 * NUMPY[dtype].itemsize
    mask = (1 << width) - 1
    for x, y, got in _run(device, lambda b, x, y: integers.shift_right_logical(b, x, y, width), dtype):
        amount = y & ((1 << register) - 1)
        assert got & mask == ((x & mask) >> amount if amount < width else 0), (x, y)
    for x, y, got in _run(device, lambda b, x, y: integers.shift_left(b, x, y, width), dtype):
        amount = y & ((1 << register) - 1)
        assert got & mask == ((x << amount) & mask if amount < width else 0), (x, y)


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64"])
def test_bits_are_counted(device: Device, dtype: str) -> None:
    width = 8 * NUMPY[dtype].itemsize
    for x, _, got in _run(device, lambda b, x, y: integers.popcount(b, x, width), dtype):
        assert got == (x & ((1 << width) - 1)).bit_count(), x
    for x, _, got in _run(device, lambda b, x, y: integers.count_leading_zeros(b, x, width), dtype):
        assert got == width - (x & ((1 << width) - 1)).bit_length(), x
