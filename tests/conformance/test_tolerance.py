from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tests.conformance.tolerance import Bound, bound_for, difference, roundings_used

ONE = Bound(roundings=1)


def one_ulp_above(value: float, dtype: type) -> np.ndarray:
    return np.array([value * (1 + float(ml_dtypes.finfo(dtype).eps))], dtype)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_difference_of_one_rounding_is_allowed(dtype: type) -> None:
    assert difference(one_ulp_above(1.0, dtype), np.ones(1, dtype), ONE) is None


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_difference_beyond_the_bound_names_the_element(dtype: type) -> None:
    got = one_ulp_above(1.0, dtype) + one_ulp_above(1.0, dtype) - 1
    text = difference(np.concatenate([np.ones(2, dtype), got]), np.ones(3, dtype), ONE)
    assert text is not None
    assert text.startswith("element (2,)")


def test_difference_is_relative_to_each_element_without_accumulation() -> None:
    want = np.array([1e6, 1.0], np.float32)
    assert difference(want + np.array([0, 1e-3], np.float32), want, Bound(8)) is not None


def test_difference_scales_with_the_inputs_where_terms_cancel() -> None:
    bound = bound_for("reduce_sum", 100, [np.array([1e6, -1e6], np.float32)])
    assert difference(np.array(0.1, np.float32), np.array(0.0, np.float32), bound) is None


def test_difference_refuses_a_nan_that_moved() -> None:
    got, want = np.array([math.nan, 1], np.float32), np.array([1, math.nan], np.float32)
    assert difference(got, want, Bound(1e9)) is not None


def test_difference_refuses_the_other_infinity() -> None:
    assert difference(np.array([-math.inf]), np.array([math.inf]), Bound(1e9)) is not None


def test_difference_accepts_equal_specials() -> None:
    special = np.array([math.nan, math.inf, -math.inf], np.float32)
    assert difference(special, special, Bound(0)) is None


def test_difference_refuses_integers_off_by_one() -> None:
    assert difference(np.array([2]), np.array([1]), Bound(1e9)) is not None


def test_difference_refuses_another_dtype() -> None:
    assert difference(np.ones(1, np.float32), np.ones(1, np.float64), ONE) == "got float32[1], want float64[1]"


def test_difference_allows_a_flushed_subnormal() -> None:
    assert difference(np.zeros(1, np.float32), np.full(1, 1e-39, np.float32), Bound(0)) is None


def test_difference_of_complex_numbers_is_of_their_modulus() -> None:
    want = np.array([1 + 0j], np.complex64)
    assert difference(want + np.complex64(1e-7j), want, ONE) is None
    assert difference(want + np.complex64(1e-6j), want, ONE) is not None


def test_bound_of_data_movement_is_exact() -> None:
    assert bound_for("transpose", 1, []).roundings == 0


@pytest.mark.parametrize("primitive", ["mul", "div", "integer_pow"])
def test_bound_of_complex_arithmetic_counts_its_real_operations(primitive: str) -> None:
    real, imaginary = (bound_for(primitive, 1, [np.ones(1, dtype)]) for dtype in (np.float32, np.complex64))
    assert imaginary.roundings > real.roundings


@pytest.mark.parametrize("primitive", ["add", "sub", "neg", "reduce_sum", "exp", "sin"])
def test_bound_of_complex_sums_and_functions_is_that_of_real_ones(primitive: str) -> None:
    real, imaginary = (bound_for(primitive, 1, [np.ones(1, dtype)]) for dtype in (np.float32, np.complex64))
    assert imaginary.roundings == real.roundings


def test_bound_of_complex_powers_grows_with_the_angle() -> None:
    base = np.array([2 + 1j], np.complex64)
    small, large = (bound_for("pow", 1, [base, np.array([power], np.complex64)]).roundings for power in (1, 10))
    assert large > 5 * (small - bound_for("pow", 1, [np.ones(1, np.float32)]).roundings)


def test_roundings_used_counts_in_units_of_the_bound() -> None:
    assert roundings_used(one_ulp_above(1.0, np.float32), np.ones(1, np.float32), ONE) == pytest.approx(1, rel=1e-5)


def test_roundings_used_of_a_nan_that_moved_is_infinite() -> None:
    assert roundings_used(np.array([math.nan], np.float32), np.ones(1, np.float32), ONE) == math.inf
