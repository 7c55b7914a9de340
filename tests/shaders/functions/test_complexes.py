"""Complex functions are within a few units of the wanted number's size, and their special values are C's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lowering.runtime import Device
from shaders.functions import complexes
from shaders.library.complex import Complex
from shaders.spirv import Value

from .elementwise import run_body

Function = Callable[..., Any]


def _power(z: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.exp(w * np.log(z))


def _log1p(z: np.ndarray) -> np.ndarray:
    """Return log(1 + z) with the size from log1p, so that nothing is lost near 0."""
    return np.log1p(np.real(z) * (2 + np.real(z)) + np.imag(z) ** 2) / 2 + 1j * np.arctan2(np.imag(z), 1 + np.real(z))


def _expm1(z: np.ndarray) -> np.ndarray:
    re = np.expm1(np.real(z)) * np.cos(np.imag(z)) - 2 * np.sin(np.imag(z) / 2) ** 2
    return re + 1j * np.exp(np.real(z)) * np.sin(np.imag(z))


def _log(z: np.ndarray) -> np.ndarray:
    return np.log1p((np.real(z) - 1) * (np.real(z) + 1) + np.imag(z) ** 2) / 2 + 1j * np.arctan2(np.imag(z), np.real(z))


def _logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _sign(z: np.ndarray) -> np.ndarray:
    return z / np.abs(z)


def _rsqrt(z: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(z)


# (function, reference, bound in units of the size of the wanted number)
UNARY: list[tuple[str, Function, float]] = [
    ("absolute", np.abs, 2),
    ("sign", _sign, 2),
    ("exp", np.exp, 3),
    ("expm1", _expm1, 3),
    ("log", _log, 2),
    ("log1p", _log1p, 2),
    ("sqrt", np.sqrt, 2),
    ("rsqrt", _rsqrt, 2),
    ("sin", np.sin, 3),
    ("cos", np.cos, 3),
    ("tan", np.tan, 4),
    ("tanh", np.tanh, 4),
    ("logistic", _logistic, 4),
]
BINARY: list[tuple[str, Function, float]] = [
    ("multiply", np.multiply, 2),
    ("divide", np.divide, 3),
    ("power", _power, 60),
]


def _numbers(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    parts = [(random.standard_normal(count) + 1j * random.standard_normal(count)) * scale for scale in (1, 1e-3, 10)]
    parts.append(np.exp(1j * random.uniform(-3, 3, count)))
    return np.concatenate(parts).astype(np.complex64)


def _apply(device: Device, function: Function, inputs: list[np.ndarray], *, is_real: bool = False) -> np.ndarray:
    """Apply a function of c64 values; buffers hold the parts alternately."""
    count = inputs[0].size

    def body(b: Any, index: Value) -> None:
        first = index * 2
        values = [Complex(b.buffer(f"x{k}")[first], b.buffer(f"x{k}")[first + 1]) for k in range(len(inputs))]
        result = function(b, *values)
        if is_real:
            b.buffer("y0")[index] = result
        else:
            b.buffer("y0")[first], b.buffer("y0")[first + 1] = result

    parts = [np.ascontiguousarray(array).view(np.float32) for array in inputs]
    (got,) = run_body(device, body, parts, [("f32", count if is_real else 2 * count)], count)
    return got if is_real else got.view(np.complex64)


def _error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.max(np.abs(got - want) / np.abs(want)) / np.finfo(np.float32).eps)


@pytest.mark.parametrize(("name", "reference", "bound"), UNARY, ids=[row[0] for row in UNARY])
def test_function_is_within_its_bound(device: Device, name: str, reference: Function, bound: float) -> None:
    z = _numbers(500, 0)
    got = _apply(device, getattr(complexes, name), [z], is_real=name == "absolute")
    assert _error(got, reference(z.astype(np.complex128))) <= bound


@pytest.mark.parametrize(("name", "reference", "bound"), BINARY, ids=[row[0] for row in BINARY])
def test_function_of_two_is_within_its_bound(device: Device, name: str, reference: Function, bound: float) -> None:
    z, w = _numbers(500, 0), _numbers(500, 1)
    keep = np.abs(w * np.log(z)) < 40
    got = _apply(device, getattr(complexes, name), [z, w])
    want = reference(z.astype(np.complex128), w.astype(np.complex128))
    assert _error(got[keep], want[keep]) <= bound


INFINITY, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("name", "z", "want"),
    [
        ("exp", complex(-INFINITY, NAN), 0j),
        ("exp", complex(INFINITY, 0), complex(INFINITY, 0)),
        ("log", 0j, complex(-INFINITY, 0)),
        ("log", complex(NAN, -INFINITY), complex(INFINITY, NAN)),
        ("sqrt", complex(-4, -0.0), complex(0, -2)),
        ("sqrt", complex(NAN, INFINITY), complex(INFINITY, INFINITY)),
        ("sqrt", complex(3e38, 3e38), complex(1.902976708e19, 7.882387612e18)),
        ("tanh", complex(INFINITY, 1), 1 + 0j),
        ("tanh", complex(3, INFINITY), complex(NAN, NAN)),
        ("sin", complex(0, 200), complex(0, INFINITY)),
        ("absolute", complex(NAN, INFINITY), INFINITY),
        ("sign", 0j, 0j),
    ],
)
def test_function_has_special_value(device: Device, name: str, z: complex, want: complex) -> None:
    is_real = name == "absolute"
    got = _apply(device, getattr(complexes, name), [np.array([z], np.complex64)], is_real=is_real)
    wanted = np.array([want], np.float32 if is_real else np.complex64)
    np.testing.assert_allclose(got.view(np.float32), wanted.view(np.float32), rtol=3e-7)


def test_divide_by_infinity_and_by_zero(device: Device) -> None:
    z = np.array([1 + 1j, 1 + 1j, 0], np.complex64)
    w = np.array([complex(NAN, INFINITY), 0, 0], np.complex64)
    got = _apply(device, complexes.divide, [z, w])
    assert got[0] == 0
    assert np.isinf(got[1])
    assert np.isnan(got[2])


def test_divide_survives_large_and_small_divisors(device: Device) -> None:
    w = np.array([3e38 + 3e38j, 2e-38 + 2e-38j], np.complex64)
    got = _apply(device, complexes.divide, [w, w])
    np.testing.assert_allclose(got, np.ones(2), rtol=1e-6)
