"""Primes, factors and coprime bases against SymPy."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import isprime, mobius, primefactors

from qga.arithmetic import integers

# Strong pseudoprimes: to base 2; to 2, 3, 5 and 7; to the first nine primes. Jaeschke 1993; Jiang and Deng 2014.
LIARS = (2047, 3215031751, 3825123056546413051)
CARMICHAEL = (561, 1105, 1729, 825265)


def test_small_primes_are_those_of_sympy() -> None:
    assert [n for n in range(-3, 3000) if integers.is_prime(n)] == [n for n in range(-3, 3000) if isprime(n)]


@pytest.mark.parametrize("number", [*LIARS, *CARMICHAEL])
def test_numbers_that_fool_simpler_tests_are_not_prime(number: int) -> None:
    assert not integers.is_prime(number)
    assert pow(2, number - 1, number) == 1


def test_primes_of_any_length_are_proved() -> None:
    # The last is a product of two primes, and passes the test of Miller and Rabin to the thirteen smallest bases.
    assert integers.is_prime(2**521 - 1)
    assert not integers.is_prime(2**523 - 1)
    assert not integers.is_prime(3317044064679887385961981)


@pytest.mark.parametrize("number", [2**61 - 1, 10**9 + 7, 10**18 + 9, 2**89 - 1])
def test_large_primes_are_prime(number: int) -> None:
    assert integers.is_prime(number)
    assert not integers.is_prime(number * 1000003)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 10**18))
def test_factors_are_those_of_sympy(number: int) -> None:
    assert integers.prime_factors(number) == primefactors(number)


@pytest.mark.parametrize("number", [1, 1009**2, 1009**3, 1000003**2 * 1000033, (10**9 + 7) * (10**9 + 9), 2**200])
def test_factors_of_powers_and_large_primes(number: int) -> None:
    assert integers.prime_factors(number) == primefactors(number)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 10**6), max_size=6))
def test_coprime_base_generates_its_numbers(numbers: list[int]) -> None:
    base = integers.coprime_base(numbers)
    assert all(math.gcd(a, b) == 1 for place, a in enumerate(base) for b in base[:place])
    for number in numbers:
        assert math.prod(each ** integers.valuation_of(number, each) for each in base) == number
    assert integers.without(math.prod(numbers), integers.prime_factors(math.prod(base))) == 1


def test_coprime_base_is_coarser_than_primes() -> None:
    # 6 and 35 share nothing with each other, so that nothing tells 2 from 3.
    assert integers.coprime_base([36, 6, 35]) == [6, 35]
    assert integers.coprime_base([36, 4]) == [4, 9]
    assert integers.coprime_base([12, 18]) == [2, 3]


def test_valuation_of_a_fraction_counts_both_ways() -> None:
    assert [integers.valuation_of(Fraction(18, 25), prime) for prime in (2, 3, 5, 7)] == [1, 2, -2, 0]


def test_moebius_is_that_of_sympy() -> None:
    assert integers.moebius(300)[1:] == [int(mobius(n)) for n in range(1, 301)]
    assert integers.moebius(0) == [0]


def test_logarithm_of_a_long_integer_is_the_sum_of_its_parts() -> None:
    assert integers.log_integer(7**4000) == pytest.approx(4000 * math.log(7), rel=1e-15)
