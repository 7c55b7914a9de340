"""The second judge speaks only where JAX's CPU is known to be off, and is not fooled itself."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest

from tests.conformance import outcomes, truth
from tests.conformance.worker import compare

# Near -0.4, where XLA's f64 log1p loses most.
POINTS = np.linspace(-0.42, -0.37, 7)


def in_decimals(primitive: str, x: complex) -> float:
    """Return the value (of a complex logarithm its real part) from fifty decimal digits."""
    with decimal.localcontext(prec=50):
        real, imaginary = Decimal(x.real), Decimal(x.imag)
        functions = {
            "atanh": lambda: ((1 + real) / (1 - real)).ln() / 2,
            "log": lambda: (real * real + imaginary * imaginary).ln() / 2,
            "log1p": lambda: (1 + real).ln(),
        }
        return float(functions[primitive]())


TRUE = np.array([in_decimals("log1p", x) for x in POINTS])


def off_by(units: float) -> np.ndarray:
    return TRUE * (1 + units * np.finfo(np.float64).eps)


def test_result_is_the_true_value_rounded_once() -> None:
    found = truth.result("log1p", [POINTS], [TRUE])
    assert found is not None
    np.testing.assert_array_equal(found, TRUE)


@pytest.mark.parametrize("primitive", truth.ROWS)
def test_result_agrees_with_fifty_digits(primitive: str) -> None:
    dtype = np.dtype(truth.ROWS[primitive].dtypes[0])
    # Complex numbers of a modulus near one, where the logarithm's real part is small.
    points = 0.999 * np.exp(1j * POINTS) if dtype.kind == "c" else POINTS
    found = truth.result(primitive, [points], [points])
    assert found is not None
    np.testing.assert_array_equal(np.real(found), [in_decimals(primitive, x) for x in points])


def test_compare_sides_with_the_truth() -> None:
    verdict = compare("log1p", 1, [POINTS], [off_by(1)], [off_by(100)])
    assert verdict.outcome == outcomes.PASS
    assert "XLA's f64 log1p" in verdict.detail


def test_compare_refuses_what_is_wrong_although_the_reference_is_too() -> None:
    assert compare("log1p", 1, [POINTS], [off_by(30)], [off_by(100)]).outcome == outcomes.WRONG


def test_compare_refuses_a_moved_nan() -> None:
    got = off_by(0)
    got[2] = math.nan
    assert compare("log1p", 1, [POINTS], [got], [off_by(100)]).outcome == outcomes.WRONG


def test_compare_asks_nobody_where_both_agree() -> None:
    assert compare("log1p", 1, [POINTS], [off_by(1)], [off_by(0)]).detail == ""


@pytest.mark.parametrize(
    ("primitive", "inputs", "want"),
    [
        ("exp", [POINTS], TRUE),
        ("log1p", [POINTS.astype(np.float32)], TRUE.astype(np.float32)),
        ("log1p", [POINTS[:3]], TRUE),
    ],
    ids=["no row", "another dtype", "another shape"],
)
def test_result_says_nothing_elsewhere(primitive: str, inputs: list[np.ndarray], want: np.ndarray) -> None:
    assert truth.result(primitive, inputs, [want]) is None
