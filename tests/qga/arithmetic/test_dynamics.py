"""Canonical heights, finite orbits and exact growth rates (theory A-2, A-4, A-8)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import DomainError, OptionError, ShapeError, arithmetic
from qga.arithmetic.dynamics import characteristic_polynomial, determinant, step, sylvester

SQUARE_MINUS_ONE = ((1, 0, -1), (0, 0, 1))
# Doubling on y^2 + y = x^3 - x, of conductor 37, in the x-coordinate: b2 = 0, b4 = -2, b6 = 1, b8 = -1.
DOUBLING = ((1, 0, 2, -2, 1), (0, 4, 0, -4, 1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    f=st.lists(st.integers(-5, 5), min_size=3, max_size=4),
    g=st.lists(st.integers(-5, 5), min_size=4, max_size=4),
    x=st.integers(-30, 30),
    y=st.integers(1, 30),
)
def test_one_step_changes_the_height_within_the_constant(f: list[int], g: list[int], x: int, y: int) -> None:
    function = (tuple(f), tuple(g[: len(f)]))
    if determinant(sylvester(function)) == 0:
        return
    degree = len(f) - 1
    constant = arithmetic.canonical_height(function, (1, 1), iterations=0).error * (degree - 1)
    point = arithmetic.primitive_coordinates((x, y))
    change = arithmetic.height(step(function, point)) - degree * arithmetic.height(point)
    assert abs(change) <= constant + 1e-12


def test_error_bounds_what_more_iterations_change() -> None:
    values = [arithmetic.canonical_height(SQUARE_MINUS_ONE, (3, 2), iterations=count) for count in range(1, 12)]
    for rough in values:
        assert abs(rough.value - values[-1].value) <= rough.error + values[-1].error
    assert values[-1].error < 1e-2
    assert abs(values[0].value - values[-1].value) > 1e-3


def test_canonical_height_grows_by_the_degree() -> None:
    point = (Fraction(3), Fraction(2))
    before = arithmetic.canonical_height(SQUARE_MINUS_ONE, point, iterations=11)
    after = arithmetic.canonical_height(SQUARE_MINUS_ONE, step(SQUARE_MINUS_ONE, (3, 2)), iterations=10)
    assert after.value == pytest.approx(2 * before.value, rel=1e-14)
    other = arithmetic.canonical_height(SQUARE_MINUS_ONE, (5, 2), iterations=10)
    assert other.value != pytest.approx(2 * before.value, rel=1e-2)


def test_canonical_height_of_a_power_map_is_the_height() -> None:
    got = arithmetic.canonical_height(((1, 0, 0, 0), (0, 0, 0, 1)), (Fraction(7, 5), 1), iterations=3)
    assert got.value == pytest.approx(math.log(7), rel=1e-15)


def test_canonical_height_of_an_elliptic_curve() -> None:
    # The point (0, 0) of 37a1: its canonical height is 0.0511114082399688 in PARI's normalisation (LMFDB 37.a1), and
    # doubling has degree 4 in the x-coordinate.
    got = arithmetic.canonical_height(DOUBLING, (0, 1), iterations=8)
    assert abs(got.value - 0.0511114082399688) < 2e-5
    assert abs(got.value - 0.0511114082399688) <= got.error


def test_finite_orbits_are_found() -> None:
    assert [arithmetic.is_preperiodic(SQUARE_MINUS_ONE, (x, 1)) for x in (0, 1, -1, 2, 3)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    # x^2 - 29/16 has a cycle of three rational points through -1/4.
    assert arithmetic.is_preperiodic(((16, 0, -29), (0, 0, 16)), (Fraction(-1, 4), 1))
    assert not arithmetic.is_preperiodic(((16, 0, -29), (0, 0, 16)), (Fraction(1, 3), 1))


def test_canonical_height_of_a_finite_orbit_is_zero_within_its_error() -> None:
    got = arithmetic.canonical_height(((16, 0, -29), (0, 0, 16)), (Fraction(-1, 4), 1), iterations=8)
    assert got.value <= got.error


def test_growth_ratio_is_the_degree_or_one() -> None:
    wild, tame = (arithmetic.growth(SQUARE_MINUS_ONE, point, iterations=9) for point in ((2, 1), (1, 1)))
    assert wild[9] / wild[8] == pytest.approx(2, rel=1e-3)
    assert max(tame) == 0.0


def test_linear_growth_is_place_by_place() -> None:
    matrix = [[Fraction(1, 2), Fraction(1, 3)], [Fraction(1, 4), Fraction(3, 5)]]
    # Computed with p-adic radii 2, 3, 5 by PARI.
    assert arithmetic.linear_growth(matrix) == pytest.approx(2.6810712, abs=1e-7)
    point = [Fraction(1), Fraction(1)]
    for _ in range(400):
        point = [sum(a * x for a, x in zip(row, point, strict=True)) for row in matrix]
    assert arithmetic.height(point) / 400 == pytest.approx(2.6810712, rel=5e-3)


def test_linear_growth_of_integer_multiples_is_that_of_the_matrix() -> None:
    # Homogeneous coordinates: a common factor is no growth.
    assert arithmetic.linear_growth([[6, 3], [3, 6]]) == pytest.approx(arithmetic.linear_growth([[2, 1], [1, 2]]))
    assert arithmetic.linear_growth([[2, 1], [1, 2]]) == pytest.approx(math.log(3))


def test_characteristic_polynomial_is_that_of_sympy(random: np.random.Generator) -> None:
    entries = random.integers(-4, 5, (4, 4)).tolist()
    got = characteristic_polynomial([[Fraction(each) for each in row] for row in entries])
    assert got == [int(each) for each in sympy.Matrix(entries).charpoly().all_coeffs()]
    assert determinant(entries) == int(sympy.Matrix(entries).det())


def test_dynamics_refuses_what_is_no_map() -> None:
    with pytest.raises(OptionError, match="two integer forms of one degree, at least 2"):
        arithmetic.canonical_height(((1, 0), (0, 1)), (1, 1), iterations=1)
    with pytest.raises(DomainError, match="two forms with a common root are no map"):
        arithmetic.canonical_height(((1, 0, -1), (0, 1, 1)), (1, 1), iterations=1)
    # The certificate needs integers: with 1/97 it would be too small.
    with pytest.raises(OptionError, match="two lists of integer coefficients"):
        arithmetic.canonical_height(((1, 0, Fraction(1, 97)), (0, 0, 1)), (-3, 1), iterations=0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match=r"only a square matrix can be iterated.\n  got:  1 rows of \[2\] entries"):
        arithmetic.linear_growth([[1, 2]])
    with pytest.raises(DomainError, match="nilpotent"):
        arithmetic.linear_growth([[0, 1], [0, 0]])
