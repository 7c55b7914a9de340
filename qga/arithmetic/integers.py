"""Divisibility of whole numbers of any length: primes, factors, and bases of coprime factors. Runs on the host."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import count

# Miller and Rabin's test with these bases is a proof below 3.3e24 (Sorenson and Webster 2017).
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
# Divisors up to here are found one by one; beyond, a cycle of Pollard's is shorter.
_TRIED = 1000


def is_prime(number: int) -> bool:
    """Decide whether a whole number is prime, by Miller and Rabin's test to thirteen bases.

    A proof below 3.3e24. Above, composite numbers that pass are rare and can be constructed.

    Source: Miller 1976; Rabin 1980; Sorenson and Webster 2017.
    """
    if number < 2 or any(number % witness == 0 for witness in _WITNESSES):
        return number in _WITNESSES
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    return all(_passes(number, pow(witness, odd, number), twos) for witness in _WITNESSES)


def prime_factors(number: int) -> list[int]:
    """List the primes that divide a positive integer, smallest first.

    Small ones by trial, others by Pollard's cycles: about the fourth root of the number, or the square root of its
    second largest prime, in steps: two of ten digits take a moment, of fifteen ten seconds, of twenty an hour.

    Source: Pollard 1975.
    """
    found, rest = set(), number
    for divisor in range(2, _TRIED):
        while rest % divisor == 0:
            found.add(divisor)
            rest //= divisor
    parts = [rest]
    while parts:
        part = parts.pop()
        if part == 1:
            continue
        if is_prime(part):
            found.add(part)
        else:
            factor = _proper_factor(part)
            parts += [factor, part // factor]
    return sorted(found)


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
    values, is_composite = [0] + [1] * largest, bytearray(largest + 1)
    for prime in range(2, largest + 1):
        if is_composite[prime]:
            continue
        for multiple in range(prime, largest + 1, prime):
            is_composite[multiple] = multiple > prime
            values[multiple] = 0 if multiple % (prime * prime) == 0 else -values[multiple]
    return values


def _passes(number: int, power: int, twos: int) -> bool:
    """Square a power up to number - 1 steps of two: a prime meets -1, or begins at 1."""
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def _proper_factor(number: int) -> int:
    """Find a factor of a composite number by Pollard's cycles of x^2 + c, products of differences at a time."""
    root = math.isqrt(number)
    if root * root == number:
        return root
    return next(factor for factor in (_cycle(number, shift) for shift in count(1)) if factor < number)


def _cycle(number: int, shift: int, batch: int = 128) -> int:
    """Follow one cycle; the number itself where all of its primes close at once."""
    slow = fast = 2
    while True:
        start, product = (slow, fast), 1
        for _ in range(batch):
            slow = (slow * slow + shift) % number
            fast = (fast * fast + shift) % number
            fast = (fast * fast + shift) % number
            product = product * (slow - fast) % number
        if math.gcd(product, number) > 1:
            return _retrace(number, shift, *start)


def _retrace(number: int, shift: int, slow: int, fast: int) -> int:
    while True:
        slow = (slow * slow + shift) % number
        fast = (fast * fast + shift) % number
        fast = (fast * fast + shift) % number
        factor = math.gcd(slow - fast, number)
        if factor > 1:
            return factor
