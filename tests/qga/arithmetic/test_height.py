"""Heights of exact points and their places (theory A-1, A-2, A-3)."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import totient

from qga import DomainError, arithmetic

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
    # A point with one coordinate is the point 1: all its places cancel.
    assert arithmetic.local_heights([number]).total == pytest.approx(0.0, abs=1e-12)


def test_places_are_those_of_flint() -> None:
    point = [Fraction(360, 49), Fraction(-72, 7), Fraction(0)]
    got = arithmetic.local_heights(point).primes
    for prime in (2, 3, 5, 7):
        powers = [divides(prime, each.numerator) - divides(prime, each.denominator) for each in point[:2]]
        assert got.get(prime, 0.0) == pytest.approx(-min(powers) * math.log(prime))


def divides(prime: int, number: int) -> int:
    return int(dict(flint.fmpz(abs(number)).factor()).get(prime, 0))


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


def test_northcott_count_on_the_line() -> None:
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
