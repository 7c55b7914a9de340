"""Heights of exact points and their places (theory A-1, A-2, A-3)."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import multiplicity, totient

from qga import DomainError, OptionError, arithmetic

POINTS = st.lists(st.fractions(max_denominator=10**6), min_size=1, max_size=5).filter(any)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(point=POINTS, factor=st.fractions(max_denominator=1000).filter(bool))
def test_height_is_that_of_coprime_integers_and_ignores_scale(point: list[Fraction], factor: Fraction) -> None:
    whole = arithmetic.primitive_coordinates(point)
    assert math.gcd(*whole) == 1
    assert all(a * y == b * x for a, x in zip(whole, point, strict=True) for b, y in zip(whole, point, strict=True))
    assert arithmetic.height([factor * each for each in point]) == arithmetic.height(point)
    assert arithmetic.height(point) == math.log(max(map(abs, whole)))


def test_height_notices_a_changed_coordinate() -> None:
    assert arithmetic.height([Fraction(1, 3), 1]) != arithmetic.height([Fraction(1, 5), 1])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(point=POINTS)
def test_places_add_up_to_the_height(point: list[Fraction]) -> None:
    assert arithmetic.local_heights(point).total == pytest.approx(arithmetic.height(point), abs=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(number=st.fractions(max_denominator=10**5).filter(bool))
def test_product_formula(number: Fraction) -> None:
    assert arithmetic.product_formula(number) == 1
    # A point with one coordinate is the point 1: all its places cancel.
    assert arithmetic.local_heights([number]).total == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(number=st.floats(allow_nan=False, allow_infinity=False).filter(bool))
def test_product_formula_of_floats(number: float) -> None:
    # 2 is the one prime in the denominator of a float.
    assert arithmetic.product_formula(number, primes=[2]).denominator == 1


def test_product_over_some_places_is_not_one() -> None:
    # The negative twin: without one of its primes the places do not cancel.
    number = Fraction(-360, 49)
    assert arithmetic.product_formula(number) == 1
    assert arithmetic.product_formula(number, primes=[2, 3, 5]) == Fraction(1, 49)
    assert arithmetic.product_formula(number, primes=[2, 3, 7]) == 5
    assert arithmetic.product_formula(number, primes=[]) == abs(number)
    assert arithmetic.product_formula(number, primes=[2, 3, 5, 7, 11]) == 1


def test_product_over_two_finds_the_powers_of_two() -> None:
    units = [each for each in range(1, 200) if arithmetic.product_formula(each, primes=[2]) == 1]
    assert units == [1, 2, 4, 8, 16, 32, 64, 128]


def test_product_formula_of_large_primes() -> None:
    # Trial division would take a minute: 10^9 + 7 and 10^9 + 9 are twins of ten digits.
    assert arithmetic.product_formula(Fraction(1000000007, 1000000009)) == 1
    assert arithmetic.product_formula(Fraction(1000000007 * 1000000009, 998244353)) == 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(point=POINTS, primes=st.sets(st.sampled_from([2, 3, 5, 7, 101])))
def test_named_places_are_those_of_all(point: list[Fraction], primes: set[int]) -> None:
    every, some = arithmetic.local_heights(point), arithmetic.local_heights(point, primes=primes)
    assert some.archimedean == every.archimedean
    assert some.primes == {prime: part for prime, part in every.primes.items() if prime in primes}
    others = math.fsum(part for prime, part in every.primes.items() if prime not in primes)
    assert some.rest == pytest.approx(others, abs=1e-11)
    assert every.rest == 0
    assert some.total == pytest.approx(arithmetic.height(point), abs=1e-11)


def test_height_without_one_place_is_not_the_height() -> None:
    got = arithmetic.local_heights([Fraction(1, 6), 1], primes=[2])
    assert got.total == pytest.approx(math.log(6))
    assert got._replace(rest=0.0).total == pytest.approx(math.log(2))


def test_named_places_need_no_factoring() -> None:
    # The product of two primes of 50 digits, which nobody here could factor.
    hard = (10**50 + 151) * (10**49 + 9)
    got = arithmetic.local_heights([Fraction(1, 8 * hard), 1], primes=[2])
    assert got.primes == {2: pytest.approx(3 * math.log(2))}
    assert got.rest == pytest.approx(math.log(hard), rel=1e-14)


def test_places_may_be_integers_of_numpy() -> None:
    # These would overflow beside numbers of more than 64 bits.
    named = np.array([2, 3])
    assert arithmetic.local_heights([2**70, 3], primes=named) == arithmetic.local_heights([2**70, 3], primes=[2, 3])
    assert arithmetic.product_formula(2**70 * 15, primes=named) == 5
    with pytest.raises(TypeError):
        arithmetic.product_formula(6, primes=[2.0])  # type: ignore[list-item]


def test_places_are_those_of_sympy() -> None:
    point = [Fraction(360, 49), Fraction(-72, 7), Fraction(0)]
    got = arithmetic.local_heights(point).primes
    for prime in (2, 3, 5, 7):
        powers = [divides(prime, each.numerator) - divides(prime, each.denominator) for each in point[:2]]
        assert got.get(prime, 0.0) == pytest.approx(-min(powers) * math.log(prime))


def divides(prime: int, number: int) -> int:
    return multiplicity(prime, abs(number)) if number else 0


def test_height_of_a_row_of_floats_counts_its_bits(random: np.random.Generator) -> None:
    row = random.dirichlet(np.ones(9)).astype(np.float32)
    bits = arithmetic.height(map(float, row)) / math.log(2)
    # 24 bits of the largest weight on the grid of the smallest.
    assert 24 <= bits < 24 + math.log2(row.max() / row.min()) + 1


def test_height_of_a_product_of_matrices_is_bounded(random: np.random.Generator) -> None:
    first, second = (random.integers(-50, 50, (4, 4)).tolist() for _ in range(2))
    product = (np.array(first) @ np.array(second)).tolist()
    limit = arithmetic.matrix_height(first) + arithmetic.matrix_height(second) + math.log(4)
    assert arithmetic.matrix_height(product) <= limit


@settings(max_examples=40, deadline=None, derandomize=True)
@given(first=POINTS, second=POINTS)
def test_height_adds_on_segre_products(first: list[Fraction], second: list[Fraction]) -> None:
    product = [x * y for x in first for y in second]
    assert arithmetic.height(product) == pytest.approx(arithmetic.height(first) + arithmetic.height(second), abs=1e-12)


def test_height_does_not_add_on_sums() -> None:
    # The negative twin: 1/2 + 1/2 = 1 has less height than its terms, so that no law of products holds for sums.
    assert arithmetic.height([Fraction(1, 2) + Fraction(1, 2), 1]) < 2 * arithmetic.height([Fraction(1, 2), 1])


def test_height_of_a_product_needs_the_logarithm_of_the_size() -> None:
    # h(AB) <= h(A) + h(B) is false: the bound without log n does not hold for matrices of ones.
    ones = [[1] * 4] * 4
    product = (np.array(ones) @ np.array([[1, 1, 1, 1]] * 3 + [[1, 1, 1, 0]])).tolist()
    assert arithmetic.matrix_height(product) == pytest.approx(math.log(4))
    assert arithmetic.matrix_height(product) > 2 * arithmetic.matrix_height(ones)


def test_height_of_zero_one_points_is_zero_and_of_others_not() -> None:
    # Kronecker over the rationals: height zero exactly for coordinates in {-1, 0, 1}, up to a factor.
    assert arithmetic.height([Fraction(-3, 7), 0, Fraction(3, 7)]) == 0
    assert arithmetic.height([1, 2]) == math.log(2)


def primitive_points(largest: int, dimension: int) -> int:
    """Count primitive vectors one by one, each with its negative."""
    box = itertools.product(range(-largest, largest + 1), repeat=dimension + 1)
    return sum(math.gcd(*each) == 1 for each in box) // 2


@pytest.mark.parametrize(("dimension", "largest"), [(1, 1), (1, 2), (1, 17), (2, 1), (2, 6), (3, 3)])
def test_northcott_count_is_that_of_points_one_by_one(dimension: int, largest: int) -> None:
    got = arithmetic.northcott_count(largest, dimension=dimension)
    assert got == primitive_points(largest, dimension)
    # The negative twin: with common factors, points are counted more than once.
    assert largest == 1 or got != ((2 * largest + 1) ** (dimension + 1) - 1) // 2


def test_northcott_count_is_four_sums_of_totients() -> None:
    for largest in (1, 5, 30, 200):
        want = 4 * sum(int(totient(b)) for b in range(1, largest + 1))
        assert arithmetic.northcott_count(largest) == want
    assert arithmetic.northcott_count(200) == 48928
    assert arithmetic.northcott_count(0) == 0


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_northcott_count_tends_to_that_of_schanuel(dimension: int) -> None:
    # 2^n B^(n+1) / zeta(n+1), with an error of order log B / B on the line and 1 / B above: Schanuel 1979.
    def ratio(largest: int) -> float:
        leading = 2**dimension * largest ** (dimension + 1) / float(mpmath.zeta(dimension + 1))
        return arithmetic.northcott_count(largest, dimension=dimension) / leading

    assert abs(ratio(2000) - 1) < 2e-3
    assert abs(ratio(2000) - 1) < abs(ratio(50) - 1)
    assert abs(ratio(2000) * float(mpmath.zeta(dimension + 1)) - 1) > 0.05


def test_northcott_count_refuses_no_space() -> None:
    with pytest.raises(OptionError, match=r"northcott_count: .*\n  got:  largest=-1, dimension=1"):
        arithmetic.northcott_count(-1)
    with pytest.raises(OptionError, match="largest=3, dimension=0"):
        arithmetic.northcott_count(3, dimension=0)


def test_northcott_points_of_the_line() -> None:
    # Points of height at most log B, one by one, against 4 sum phi(b) and 12 B^2 / pi^2.
    def count(largest: int) -> int:
        points = {
            arithmetic.primitive_coordinates(sorted([(x, y), (-x, -y)])[1])
            for x in range(-largest, largest + 1) for y in range(largest + 1) if math.gcd(x, y) == 1
        }  # fmt: skip
        return len({max(each, tuple(-c for c in each)) for each in points})

    for largest in (1, 5, 30):
        assert count(largest) == 4 * sum(int(totient(b)) for b in range(1, largest + 1))
    assert count(200) == 48928
    assert abs(48928 / (12 * 200**2 / math.pi**2) - 1) < 0.007


def test_numbers_of_arrays_are_taken_exactly() -> None:
    row = np.array([0.75, 0.25], np.float32)
    assert arithmetic.height(row) == arithmetic.height([0.75, 0.25])
    # A product beyond 64 bits, which integers of NumPy would wrap.
    assert arithmetic.height([np.int64(2**40), Fraction(1, 2**40 + 1)]) == pytest.approx(80 * math.log(2), rel=1e-12)


def test_height_of_very_long_integers_does_not_overflow() -> None:
    assert arithmetic.height([3**5000, 1]) == pytest.approx(5000 * math.log(3), rel=1e-15)


def test_height_of_no_point_is_refused() -> None:
    for coordinates in ([0, 0], [float("nan"), 1.0], [math.inf], []):
        with pytest.raises(DomainError, match="finite coordinates, not all zero"):
            arithmetic.height(coordinates)
    with pytest.raises(DomainError, match="not all zero"):
        arithmetic.local_heights([0.0])


def test_places_that_are_none_are_refused() -> None:
    with pytest.raises(DomainError) as error:
        arithmetic.local_heights([1, 2], primes=[2, 9])
    assert str(error.value) == (
        "local_heights: the finite places of the rationals are the primes.\n"
        "  got:  primes=[2, 9]\n"
        "  want: 2, 3, 5, 7, ...\n"
        "  fix:  name the prime factors; 2 is that of floating-point numbers."
    )
    for number in (0, 0.0, math.inf, math.nan):
        with pytest.raises(DomainError, match="product_formula: zero and what is not finite"):
            arithmetic.product_formula(number)
    with pytest.raises(DomainError, match=r"product_formula: the finite places .*\n  got:  primes=\[1\]"):
        arithmetic.product_formula(2, primes=[1])
