"""Divisibility of whole numbers of any length: primes, factors, and bases of coprime factors. Runs on the host."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import flint


def is_prime(number: int) -> bool:
    """Decide whether a whole number is prime: a proof, of any length."""
    # It answers -1 where it proved neither, which has not been seen.
    return flint.fmpz(number).is_prime() == 1


def prime_factors(number: int) -> list[int]:
    """List the primes that divide a positive integer, smallest first.

    A product of two primes of twenty digits takes a moment, of twenty-five a second, of thirty ten.
    """
    return sorted(int(prime) for prime, _ in flint.fmpz(number).factor())


def coprime_base(numbers: Iterable[int]) -> list[int]:
    """Find pairwise coprime integers above one of which every given positive integer is a product of powers.

    As good as primes wherever all primes of one base element behave alike, and found with greatest common divisors
    alone: nothing is factored.

    Source: Bach, Driscoll and Shallit 1993 (factor refinement).
    """
    base: list[int] = []
    waiting = [number for number in numbers if number > 1]
    while waiting:
        new = waiting.pop()
        old = next((each for each in base if math.gcd(each, new) > 1), None)
        if old is None:
            base.append(new)
            continue
        common = math.gcd(old, new)
        base.remove(old)
        # The product of all that is kept gets smaller by the common factor, so this ends.
        waiting += [part for part in (common, new // common, old // common) if part > 1]
    return sorted(base)


def valuation_of(number: int | Fraction, divisor: int) -> int:
    """Count how often a divisor above one divides a number that is not zero; negative where its denominator."""
    exact, times = Fraction(number), 0
    top, bottom = exact.numerator, exact.denominator
    while top % divisor == 0:
        top, times = top // divisor, times + 1
    while bottom % divisor == 0:
        bottom, times = bottom // divisor, times - 1
    return times


def without(number: int, primes: Iterable[int]) -> int:
    """Divide an integer that is not zero by every power of the given primes that it holds."""
    for prime in primes:
        while number % prime == 0:
            number //= prime
    return number


def log_integer(number: int) -> float:
    """Take the logarithm of a positive integer of any length."""
    excess = max(number.bit_length() - 1000, 0)
    return math.log(number >> excess) + excess * math.log(2)


def moebius(largest: int) -> list[int]:
    """List the function of Moebius at 0, 1, ..., largest; zero at 0 and wherever a square divides."""
    return [int(flint.fmpz(number).moebius_mu()) for number in range(largest + 1)]
