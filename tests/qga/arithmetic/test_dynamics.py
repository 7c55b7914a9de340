"""Canonical heights, finite orbits and exact growth rates (theory A-2, A-4, A-8)."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import DomainError, OptionError, ShapeError, arithmetic
from qga.arithmetic.dynamics import characteristic_polynomial, determinant, step, sylvester
from qga.arithmetic.integers import valuation_of

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


def test_linear_growth_needs_no_factoring() -> None:
    # Two primes of thirty digits in one denominator, and one of them alone in another.
    first, second = 10**30 + 57, 10**29 + 319
    matrix = [[Fraction(1, first * second), 0], [0, Fraction(1, second)]]
    # Radii: 1/second at infinity, first and second at their places.
    assert arithmetic.linear_growth(matrix) == pytest.approx(math.log(first), rel=1e-12)


def test_linear_growth_of_a_composite_denominator_is_that_of_its_primes() -> None:
    # 2 and 3 have their steepest slopes at different powers: x^2 + x/4 + 1/12. By primes, from the definition.
    matrix = [[Fraction(-1, 4), Fraction(-1, 12)], [1, 0]]
    polynomial = [Fraction(1), Fraction(1, 4), Fraction(1, 12)]
    radius = max(abs(np.roots([float(each) for each in polynomial])))
    want = math.log(radius) + max(2, 2 / 2) * math.log(2) + max(0, 1 / 2) * math.log(3)
    assert arithmetic.linear_growth(matrix) == pytest.approx(want, rel=1e-12)
    assert arithmetic.linear_growth(matrix) != pytest.approx(math.log(radius) + math.log(12) / 2, rel=1e-3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.fractions(-4, 4, max_denominator=60), min_size=9, max_size=9))
def test_linear_growth_is_the_sum_over_the_primes_of_flint(entries: list[Fraction]) -> None:
    matrix = [entries[:3], entries[3:6], entries[6:]]
    polynomial = characteristic_polynomial(matrix)
    if not any(polynomial[1:]):
        return
    primes = {
        int(prime) for each in polynomial if each for part in (abs(each.numerator), each.denominator)
        for prime, _ in flint.fmpz(part).factor()
    }  # fmt: skip
    slopes = [
        max(-valuation_of(each, prime) / power for power, each in enumerate(polynomial) if power and each)
        * math.log(prime)
        for prime in primes
    ]
    want = math.log(max(abs(np.linalg.eigvals(np.array(matrix, float))))) + math.fsum(slopes)
    assert arithmetic.linear_growth(matrix) == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_arithmetic_degree_is_what_the_growth_tends_to() -> None:
    for function, point in [(SQUARE_MINUS_ONE, (2, 1)), (SQUARE_MINUS_ONE, (1, 1)), (DOUBLING, (0, 1))]:
        heights = arithmetic.growth(function, point, iterations=7)
        degree = arithmetic.arithmetic_degree(function, point)
        assert max(heights[-1], 1.0) ** (1 / 7) == pytest.approx(degree, rel=0.35)
        if degree > 1:
            assert heights[-1] / heights[-2] == pytest.approx(degree, rel=5e-3)
    assert arithmetic.arithmetic_degree(DOUBLING, (0, 1)) == 4


def test_height_of_one_point_is_not_canonical() -> None:
    # The negative twin of h^(f x) = d h^(x): the plain height does not obey it.
    before, after = arithmetic.height((3, 2)), arithmetic.height(step(SQUARE_MINUS_ONE, (3, 2)))
    assert after != pytest.approx(2 * before, rel=1e-2)


def test_canonical_height_of_a_lattes_map_is_quadratic_on_the_curve() -> None:
    # Doubling a point multiplies the height by four. The points n (0, 0) of 37a1 for n = 1, 2, 4: x = 0, 1, 2.
    one, two, four = (arithmetic.canonical_height(DOUBLING, (x, 1), iterations=7) for x in (0, 1, 2))
    assert two.value == pytest.approx(4 * one.value, abs=two.error + 4 * one.error)
    assert four.value == pytest.approx(16 * one.value, abs=four.error + 16 * one.error)
    assert abs(two.value - 4 * 0.0511114082399688) < 1e-4
    assert abs(four.value - 16 * 0.0511114082399688) < 4e-4
    # 3 (0, 0) = (-1, -1), nine times the height and not four.
    three = arithmetic.canonical_height(DOUBLING, (-1, 1), iterations=7)
    assert abs(three.value - 9 * 0.0511114082399688) < 3e-4


def test_canonical_height_of_chebyshev_is_that_of_its_square_root() -> None:
    # x^2 - 2 is squaring in x = z + 1/z, and h^ is the height of z on the unit of the field: for x = 3, z is the
    # square of the golden mean, so h^(3) = 2 log((1 + sqrt 5) / 2) / 1 (Silverman 2007, section 6.2).
    got = arithmetic.canonical_height(((1, 0, -2), (0, 0, 1)), (3, 1), iterations=10)
    want = 2 * math.log((1 + math.sqrt(5)) / 2)
    assert got.value == pytest.approx(want, rel=1e-12)
    assert arithmetic.canonical_height(((1, 0, -1), (0, 0, 1)), (3, 1), iterations=10).value != pytest.approx(want)
    assert [arithmetic.is_preperiodic(((1, 0, -2), (0, 0, 1)), (x, 1)) for x in (-2, -1, 0, 1, 2, 3)] == [
        True, True, True, True, True, False,
    ]  # fmt: skip


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
