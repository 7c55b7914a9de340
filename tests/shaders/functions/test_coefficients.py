"""Each polynomial is as close to its function as the comment beside it says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shaders.functions import coefficients
from shaders.functions.coefficients import Table

from .accuracy import EXTENDED, HAS_EXTENDED
from .elementwise import NUMPY

HALF_LN2 = float(np.log(2)) / 2
QUARTER_PI = float(np.pi) / 4
ATANH_END = 0.1716
# The reference and the quotient with it are rounded too, on some machines one unit further than on others.
MEASURED_TO = 2 * float(np.finfo(EXTENDED).eps)
TAN_EIGHTH_PI = float(np.tan(np.pi / 8))

Whole = Callable[[np.ndarray, np.ndarray], np.ndarray]

Row = tuple[str, Table, Whole, Whole, float, tuple[float, float]]

# (NumPy's function, table, argument of the polynomial, whole function of both, end of the range, log2 of the bounds)
ROWS: list[Row] = [
    ("expm1", coefficients.EXPM1, lambda x, p: x, lambda x, p: x + x * x * p, HALF_LN2, (-26.1, -60.6)),
    ("arctanh", coefficients.ATANH, lambda x, p: x * x, lambda x, p: x + x**3 * p / 2, ATANH_END, (-30.1, -59.2)),
    (
        "arctanh",
        coefficients.ATANH_TAIL,
        lambda x, p: x * x,
        lambda x, p: x + x**3 / 3 + x**5 * p / 2,
        ATANH_END,
        (-36.7, -61.6),
    ),
    ("sin", coefficients.SINE, lambda x, p: x * x, lambda x, p: x + x**3 * p, QUARTER_PI, (-27.8, -57.8)),
    ("cos", coefficients.COSINE, lambda x, p: x * x, lambda x, p: 1 - x * x / 2 + x**4 * p, QUARTER_PI, (-32.6, -62.3)),
    ("arctan", coefficients.ARCTANGENT, lambda x, p: x * x, lambda x, p: x + x**3 * p, TAN_EIGHTH_PI, (-30.3, -58.5)),
]


def _largest_error(table: tuple[float, ...], row: Row, dtype: str) -> float:
    name, _, argument, whole, end, _ = row
    x = np.linspace(1e-3, end, 4001, dtype=EXTENDED)
    u = argument(x, x)
    polynomial = np.zeros_like(x)
    for coefficient in reversed(table):
        polynomial = polynomial * u + EXTENDED(NUMPY[dtype].type(coefficient))
    truth = getattr(np, name)(x)
    return float(np.max(np.abs(whole(x, polynomial) / truth - 1)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}{len(row[1]['f64'])}")
@pytest.mark.parametrize("place", [0, 1], ids=["f32", "f64"])
def test_polynomial_is_as_close_as_it_says(row: Row, place: int) -> None:
    if place and not HAS_EXTENDED:
        pytest.skip("no float of this machine is finer than f64")
    dtype = ("f32", "f64")[place]
    assert _largest_error(row[1][dtype], row, dtype) <= 2.0 ** row[5][place] + MEASURED_TO


def test_polynomial_with_one_wrong_digit_is_seen() -> None:
    row = ROWS[3]
    wrong = (row[1]["f32"][0], row[1]["f32"][1] * 1.0001, row[1]["f32"][2])
    assert _largest_error(wrong, row, "f32") > 2.0 ** row[5][0]


@pytest.mark.parametrize(
    ("table", "value"),
    [
        (coefficients.LN2, np.log(EXTENDED(2))),
        (coefficients.HALF_PI, np.arctan2(EXTENDED(1), EXTENDED(0))),
        (coefficients.QUARTER_PI, np.arctan2(EXTENDED(1), EXTENDED(1))),
        (coefficients.TWO_THIRDS, EXTENDED(2) / EXTENDED(3)),
    ],
    ids=["ln2", "half_pi", "quarter_pi", "two_thirds"],
)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_split_constant_sums_to_its_value(table: Table, value: np.longdouble, dtype: str) -> None:
    total = sum(EXTENDED(part) for part in table[dtype])
    assert abs(float(total - value)) <= abs(float(value)) * 2.0 ** (-43 if dtype == "f32" else -62)


@pytest.mark.parametrize(("dtype", "bits"), [("f32", 12), ("f64", 31)])
def test_parts_of_half_pi_leave_room_for_the_quotient(dtype: str, bits: int) -> None:
    for part in coefficients.HALF_PI[dtype][:-1]:
        mantissa = int(np.frexp(part)[0] * 2.0**53)
        assert mantissa % (1 << (53 - bits)) == 0


def test_bits_of_two_over_pi_are_its_digits() -> None:
    leading = sum(word << (32 * (3 - place)) for place, word in enumerate(coefficients.TWO_OVER_PI_BITS[:4]))
    assert abs(float(EXTENDED(leading) / EXTENDED(2) ** 128 * np.arctan2(EXTENDED(1), EXTENDED(0)) - 1)) < 1e-18
