"""How complex an exact number is: Weil heights of projective points, place by place. Runs on the host."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from operator import index
from typing import NamedTuple

from ..errors import DomainError, OptionError, refuse
from .integers import is_prime, log_integer, moebius, prime_factors, valuation_of, without

Exact = int | float | Fraction


class LocalHeights(NamedTuple):
    """The height of a point, place by place.

    Attributes:
        archimedean: log max_i |x_i|, from the size of the coordinates.
        primes: prime -> log max_i |x_i|_p, from their divisibility; primes that add nothing are left out.
        rest: what all primes add that were not asked for; zero where none were named.
    """

    archimedean: float
    primes: dict[int, float]
    rest: float = 0.0

    @property
    def total(self) -> float:
        """Sum over all places: the height."""
        return math.fsum([self.archimedean, self.rest, *self.primes.values()])


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

    Args:
        rows: of integers, fractions or floats, taken exactly; n is the length of the sums of the product.

    Raises:
        DomainError: all entries are zero, or one is not finite.

    Source: Silverman 2007, section 3.1.

    Example:
        >>> matrix_height([[1, 0.5], [0, 1]]) == math.log(2)
        True
    """
    return height([entry for row in rows for entry in row])


def northcott_count(largest: int, *, dimension: int = 1) -> int:
    """Count the rational points of projective space of height at most log(largest), exactly.

    N(B) = 1/2 sum_{d <= B} mu(d) ((2 floor(B / d) + 1)^(n + 1) - 1)  ~  2^n B^(n + 1) / zeta(n + 1)

    Northcott: there are finitely many below any bound. On the line it is 4 sum_{b <= B} phi(b), about 12 B^2 / pi^2:
    how many different attention rows of two keys fit into log2(B) bits.

    Runs on the host; not traceable.

    Args:
        largest: B, at least 0.
        dimension: n of the space, at least 1; rows of n + 1 keys.

    Raises:
        OptionError: ``largest`` is negative or ``dimension`` below 1.

    Cost: B log log B steps.
    Source: Northcott 1950; Schanuel 1979.

    Example:
        >>> northcott_count(1), northcott_count(200)
        (4, 48928)
    """
    if largest < 0 or dimension < 1:
        refuse(
            OptionError,
            "northcott_count: points of a projective space are counted up to a bound.",
            got=f"largest={largest}, dimension={dimension}",
            want="largest >= 0, dimension >= 1",
            fix="use dimension 1 for rows of two keys; largest is e^height, not the height.",
        )
    # Points of integers without a common factor, each twice: x and -x.
    boxes = (
        sign * ((2 * (largest // d) + 1) ** (dimension + 1) - 1) for d, sign in enumerate(moebius(largest)) if sign
    )
    return sum(boxes) // 2


def local_heights(coordinates: Iterable[Exact], *, primes: Iterable[int] | None = None) -> LocalHeights:
    """Split the height of a point into what each place of the rationals gives.

    h(x) = sum_v log max_i |x_i|_v,   |x|_p = p^(-v_p(x))

    Runs on the host; not traceable. A common factor moves height between places and leaves the total alone, by the
    product formula.

    Args:
        coordinates: integers, fractions or floats, taken exactly.
        primes: the places to tell apart; what all others add is one number, ``rest``. All of them by default.

    Raises:
        DomainError: all coordinates are zero, or one is not finite, or one of ``primes`` is no prime.

    Cost: factoring of what all coordinates share (``product_formula``); none where ``primes`` are named.
    Error: of one logarithm a place.
    Source: Silverman 2007, section 3.1.

    Example:
        >>> local_heights([0.75, 0.25]).primes.keys()
        dict_keys([2])
        >>> local_heights([Fraction(1, 6), 1], primes=[2])._replace(archimedean=0.0).rest == math.log(3)
        True
    """
    given = [plain(each) for each in coordinates]
    # Refuses what is no point.
    primitive_coordinates(given)
    nonzero = [Fraction(each) for each in given if each]
    below, above = math.lcm(*(each.denominator for each in nonzero)), math.gcd(*(each.numerator for each in nonzero))
    named = prime_factors(below * above) if primes is None else _check_primes("local_heights", primes)
    powers = {prime: -min(valuation_of(each, prime) for each in nonzero) for prime in named}
    largest = max(abs(each) for each in nonzero)
    return LocalHeights(
        _log_fraction(largest),
        {prime: power * math.log(prime) for prime, power in powers.items() if power},
        _log_fraction(Fraction(without(below, named), without(above, named))),
    )


def product_formula(number: Exact, *, primes: Iterable[int] | None = None) -> Fraction:
    """Multiply the absolute values of a number at the places of the rationals, exactly.

    |x|_infinity prod_p |x|_p = 1  for every x other than zero,   |x|_p = p^(-v_p(x))

    The one relation between the places: what a number has in size it lacks in divisibility. It is why a height does
    not see a common factor.

    Runs on the host; not traceable.

    Args:
        number: an integer, fraction or float, taken exactly.
        primes: the finite places to multiply over; by default those that divide the number.

    Returns:
        One, over all primes. Over some it is the part of |x| that is prime to them, and one exactly where x is a unit
        away from them: over 2 alone, plus or minus a power of two.

    Raises:
        DomainError: the number is zero or not finite, or one of ``primes`` is no prime.

    Cost: factoring: a moment for floats and for primes of twenty digits, ten seconds for two of thirty. None where
        ``primes`` are named.
    Source: Artin and Whaples 1945.

    Example:
        >>> product_formula(0.1), product_formula(12, primes=[2])
        (Fraction(1, 1), Fraction(3, 1))
    """
    given = plain(number)
    if (isinstance(given, float) and not math.isfinite(given)) or not given:
        refuse(
            DomainError,
            "product_formula: zero and what is not finite have no absolute values to multiply.",
            got=repr(given),
            want="a finite number that is not zero",
            fix="leave out the zeros of a row.",
        )
    exact = abs(Fraction(given))
    named = (
        prime_factors(exact.numerator * exact.denominator)
        if primes is None
        else _check_primes("product_formula", primes)
    )
    return exact * math.prod((Fraction(prime) ** -valuation_of(exact, prime) for prime in named), start=Fraction(1))


def plain(number: Exact) -> Exact:
    """Return the Python number that a number out of an array stands for; integers of NumPy would overflow."""
    take = getattr(number, "item", None)
    return number if take is None else take()


def _log_fraction(number: Fraction) -> float:
    return log_integer(number.numerator) - log_integer(number.denominator)


def _check_primes(name: str, primes: Iterable[int]) -> list[int]:
    """Refuse a finite place that is none; return each once, as an integer of Python, which does not overflow."""
    given = sorted(set(map(index, primes)))
    if not all(map(is_prime, given)):
        refuse(
            DomainError,
            f"{name}: the finite places of the rationals are the primes.",
            got=f"primes={given}",
            want="2, 3, 5, 7, ...",
            fix="name the prime factors; 2 is that of floating-point numbers.",
        )
    return given
