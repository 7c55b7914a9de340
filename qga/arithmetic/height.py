"""How complex an exact number is: Weil heights of projective points, place by place. Runs on the host."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from ..errors import DomainError, refuse

Exact = int | float | Fraction


class LocalHeights(NamedTuple):
    """The height of a point, place by place.

    Attributes:
        archimedean: log max_i |x_i|, from the size of the coordinates.
        primes: prime -> log max_i |x_i|_p, from their divisibility; primes that add nothing are left out.
    """

    archimedean: float
    primes: dict[int, float]

    @property
    def total(self) -> float:
        """Sum over all places: the height."""
        return self.archimedean + math.fsum(self.primes.values())


def primitive_coordinates(coordinates: Iterable[Exact]) -> tuple[int, ...]:
    """Scale a point of projective space to integers without a common factor, exactly.

    Runs on the host; not traceable. A float is the dyadic rational that it stands for, numbers of arrays included.

    Raises:
        DomainError: all coordinates are zero, or one is not finite.

    Example:
        >>> primitive_coordinates([0.75, 0.25, 0.5])
        (3, 1, 2)
    """
    given = [plain(each) for each in coordinates]
    if not all(not isinstance(each, float) or math.isfinite(each) for each in given) or not any(given):
        refuse(
            DomainError,
            "height: a point of projective space has finite coordinates, not all zero.",
            got=repr(given),
            want="at least one coordinate that is not zero",
            fix="leave out rows that see nothing.",
        )
    exact = [Fraction(each) for each in given]
    denominator = math.lcm(*(each.denominator for each in exact))
    whole = [int(each * denominator) for each in exact]
    divisor = math.gcd(*whole)
    return tuple(each // divisor for each in whole)


def height(coordinates: Iterable[Exact]) -> float:
    """Compute the Weil height of a point of projective space over the rationals.

    h(x) = log max_i |x_i|  for coprime integer coordinates x

    Runs on the host; not traceable. h / log 2 is the number of bits of the largest coordinate of the exact point:
    how much there is to write down. An attention row of floats is a point with dyadic coordinates.

    Args:
        coordinates: integers, fractions or floats, taken exactly; a common factor does not matter.

    Returns:
        Nats, at least 0; 0 exactly for coordinates in {-1, 0, 1}.

    Raises:
        DomainError: all coordinates are zero, or one is not finite.

    Error: of one logarithm.
    Source: Weil 1929; Silverman 2007, section 3.1.

    Example:
        >>> round(height([0.75, 0.25, 0.5]) / math.log(3), 12)
        1.0
    """
    return log_integer(max(abs(each) for each in primitive_coordinates(coordinates)))


def matrix_height(rows: Sequence[Sequence[Exact]]) -> float:
    """Compute the height of a matrix as the point of all its entries: h(AB) <= h(A) + h(B) + log n.

    Runs on the host; not traceable.
    """
    return height([entry for row in rows for entry in row])


def local_heights(coordinates: Iterable[Exact]) -> LocalHeights:
    """Split the height of a point into what each place of the rationals gives.

    h(x) = sum_v log max_i |x_i|_v,   |x|_p = p^(-v_p(x))

    Runs on the host; not traceable. A common factor moves height between places and leaves the total alone, by the
    product formula.

    Args:
        coordinates: integers, fractions or floats, taken exactly.

    Raises:
        DomainError: all coordinates are zero, or one is not finite.

    Cost: trial division of the numbers that all coordinates share; denominators of floats are powers of two.
    Source: Silverman 2007, section 3.1.

    Example:
        >>> local_heights([0.75, 0.25]).primes.keys()
        dict_keys([2])
    """
    given = [plain(each) for each in coordinates]
    # Refuses what is no point.
    primitive_coordinates(given)
    nonzero = [Fraction(each) for each in given if each]
    shared = math.lcm(*(each.denominator for each in nonzero)) * math.gcd(*(each.numerator for each in nonzero))
    primes = {prime: -min(valuation_of(each, prime) for each in nonzero) for prime in prime_factors(shared)}
    largest = max(abs(each) for each in nonzero)
    archimedean = log_integer(largest.numerator) - log_integer(largest.denominator)
    return LocalHeights(archimedean, {prime: power * math.log(prime) for prime, power in primes.items() if power})


def plain(number: Exact) -> Exact:
    """Return the Python number that a number out of an array stands for; integers of NumPy would overflow."""
    take = getattr(number, "item", None)
    return number if take is None else take()


def valuation_of(number: int | Fraction, prime: int) -> int:
    """Count how often a prime divides a number that is not zero; negative where it divides the denominator."""
    exact, count = Fraction(number), 0
    top, bottom = exact.numerator, exact.denominator
    while top % prime == 0:
        top, count = top // prime, count + 1
    while bottom % prime == 0:
        bottom, count = bottom // prime, count - 1
    return count


def prime_factors(number: int) -> list[int]:
    """List the primes that divide a positive integer, by trial division."""
    found, rest, divisor = [], number, 2
    while divisor * divisor <= rest:
        if rest % divisor == 0:
            found.append(divisor)
            while rest % divisor == 0:
                rest //= divisor
        divisor += 1
    return [*found, rest] if rest > 1 else found


def log_integer(number: int) -> float:
    """Take the logarithm of a positive integer of any length."""
    excess = max(number.bit_length() - 1000, 0)
    return math.log(number >> excess) + excess * math.log(2)
