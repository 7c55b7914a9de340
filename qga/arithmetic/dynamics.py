"""How complexity grows under iteration: canonical heights and exact growth rates. Runs on the host."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ..errors import DomainError, OptionError, ShapeError, refuse
from .height import Exact, height, plain, primitive_coordinates
from .integers import coprime_base, log_integer, valuation_of

# A map of the projective line: coefficients of F and G in x^d, x^(d-1) y, ..., y^d.
Map = tuple[Sequence[int], Sequence[int]]


class CanonicalHeight(NamedTuple):
    """A canonical height with the largest error that the iteration can have made.

    Attributes:
        value: in nats.
        error: the exact canonical height is within this of ``value``.
    """

    value: float
    error: float


def canonical_height(function: Map, point: tuple[Exact, Exact], *, iterations: int) -> CanonicalHeight:
    """Compute Tate's canonical height of a rational point under a map of the projective line.

    h^(x) = lim d^-n h(f^n x),   h^(f x) = d h^(x),   h^(x) = 0 exactly for the points whose orbit is finite

    Runs on the host; not traceable: coordinates of f^n x have about d^n times the digits of x.

    Args:
        function: f = [F : G], integer coefficients of two forms of one degree d >= 2, highest power of x first:
            x^2 - 1 is ((1, 0, -1), (0, 0, 1)).
        point: [x : y].
        iterations: n; each multiplies the digits by d.

    Returns:
        d^-n h(f^n x). Its error is C / (d^n (d - 1)) with C >= |h(f x) - d h(x)| for every x:
        log((d + 1) max |coefficient|) from above, and from below by Cramer's rule on the Sylvester matrix S:
        Res x^(2d-1) and Res y^(2d-1) are combinations of F and G, so C = log(sum of |minors|) of a row of adj S.

    Raises:
        OptionError: the forms have different lengths, degree below 2 or coefficients that are no integers (the
            error would not hold; multiply by their denominator), or ``iterations`` is negative.
        DomainError: the forms have a common root: no map.

    Source: Call and Silverman 1993; Silverman 2007, theorems 3.11 and 3.20.

    Example:
        >>> canonical_height(((1, 0, 0), (0, 0, 1)), (3, 1), iterations=4).value == math.log(3)
        True
    """
    function, current = _check_map(function, iterations), primitive_coordinates(point)
    degree = len(function[0]) - 1
    for _ in range(iterations):
        current = step(function, current)
    size = degree**iterations
    constant = max(_upper_constant(function), _lower_constant(function))
    return CanonicalHeight(height(current) / size, constant / (size * (degree - 1)))


def step(function: Map, point: tuple[int, ...]) -> tuple[int, ...]:
    """Apply a map of the projective line to primitive coordinates, exactly."""
    x, y = point
    degree = len(function[0]) - 1
    return primitive_coordinates(
        sum(coefficient * x ** (degree - power) * y**power for power, coefficient in enumerate(form))
        for form in function
    )


def is_preperiodic(function: Map, point: tuple[Exact, Exact]) -> bool:
    """Decide whether the orbit of a rational point is finite, exactly.

    Runs on the host; not traceable. A point of a finite orbit has canonical height zero, so no height in its orbit
    exceeds C / (d - 1) (``canonical_height``). The orbit is followed until it repeats or exceeds that.

    Source: Northcott 1950.

    Example:
        >>> is_preperiodic(((1, 0, -1), (0, 0, 1)), (0, 1)), is_preperiodic(((1, 0, -1), (0, 0, 1)), (2, 1))
        (True, False)
    """
    function = _check_map(function, 0)
    limit = max(_upper_constant(function), _lower_constant(function)) / (len(function[0]) - 2)
    current, seen = primitive_coordinates(point), set()
    while height(current) <= limit + 1e-9:
        unsigned = max(current, tuple(-each for each in current))
        if unsigned in seen:
            return True
        seen.add(unsigned)
        current = step(function, current)
    return False


def arithmetic_degree(function: Map, point: tuple[Exact, Exact]) -> int:
    """Decide how fast the height of an orbit grows: lim h(f^n x)^(1/n), exactly.

    The degree d of the map where the orbit is infinite, 1 where it is finite: on the line h^(f^n x) = d^n h^(x), and
    h^(x) = 0 for finite orbits alone.

    Runs on the host; not traceable.

    Args:
        function: f, as in ``canonical_height``.
        point: [x : y].

    Raises:
        OptionError: as ``canonical_height`` does.
        DomainError: as ``canonical_height`` does.

    Source: Kawaguchi and Silverman 2016, theorem 3; Northcott 1950.

    Example:
        >>> [arithmetic_degree(((1, 0, -1), (0, 0, 1)), (x, 1)) for x in (0, 2)]
        [1, 2]
    """
    return 1 if is_preperiodic(function, point) else len(function[0]) - 1


def growth(function: Map, point: tuple[Exact, Exact], *, iterations: int) -> list[float]:
    """List the heights h(f^n x) for n = 0 to ``iterations``: how many nats an exact orbit needs.

    Runs on the host; not traceable. The ratio of neighbours tends to the arithmetic degree: d where the canonical
    height is positive, 1 where the orbit is finite (``arithmetic_degree``).

    Args:
        function: f, as in ``canonical_height``.
        point: [x : y].
        iterations: n, at least 0; each multiplies the digits by d.

    Raises:
        OptionError: as ``canonical_height`` does.
        DomainError: as ``canonical_height`` does.

    Example:
        >>> [round(each / math.log(2)) for each in growth(((1, 0, 0), (0, 0, 1)), (2, 1), iterations=3)]
        [1, 2, 4, 8]

    Source: Kawaguchi and Silverman 2016.
    """
    function = _check_map(function, iterations)
    current = primitive_coordinates(point)
    heights = [height(current)]
    for _ in range(iterations):
        current = step(function, current)
        heights.append(height(current))
    return heights


def linear_growth(matrix: Sequence[Sequence[Exact]]) -> float:
    """Compute how many nats a step the exact iteration x <- A x of a generic rational point gains.

    lim h(A^n x) / n = sum over all places v of log of the spectral radius of A in |.|_v

    The archimedean radius is that of the eigenvalues, a p-adic one the steepest slope of the Newton polygon of the
    characteristic polynomial. Homogeneous coordinates: the sum of the logarithms over all places, without cut-off.

    Runs on the host; not traceable.

    Args:
        matrix: square, of rationals or floats taken exactly, not nilpotent.

    Raises:
        DomainError: the matrix is nilpotent: every point ends at zero.
        ShapeError: the matrix is not square.

    Cost: rows^4 products of exact fractions, and greatest common divisors. Nothing is factored: primes that divide
        all coefficients alike have one slope and are taken together.
    Error: of the eigenvalues in double precision; the p-adic part is exact.
    Source: Silverman 2014 (heights and linear maps); Newton polygons: Koblitz 1984.

    Example:
        >>> round(linear_growth([[2, 0], [0, 1]]) / math.log(2), 12)
        1.0
    """
    if not len(matrix) or any(len(row) != len(matrix) for row in matrix):
        refuse(
            ShapeError,
            "linear_growth: only a square matrix can be iterated.",
            got=f"{len(matrix)} rows of {sorted({len(row) for row in matrix})} entries",
            want="as many entries in each row as there are rows",
            fix="pass the matrix of a map from a space to itself.",
        )
    exact = [[Fraction(plain(entry)) for entry in row] for row in matrix]
    polynomial = characteristic_polynomial(exact)
    radius = max(abs(np.linalg.eigvals(np.array(exact, float))))
    if not any(polynomial[1:]):
        refuse(
            DomainError,
            "linear_growth: a nilpotent matrix sends every point to zero.",
            got=repr([list(map(str, row)) for row in exact]),
            want="an eigenvalue that is not zero",
            fix="there is no orbit to measure.",
        )
    parts = (part for each in polynomial if each for part in (abs(each.numerator), each.denominator))
    places = (_newton_slope(polynomial, base) * log_integer(base) for base in coprime_base(parts))
    return math.log(radius) + math.fsum(places)


def characteristic_polynomial(matrix: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """Compute det(x I - A) exactly, highest power first, by Faddeev and Le Verrier."""
    size = len(matrix)
    coefficients, carried = [Fraction(1)], [[Fraction(row == column) for column in range(size)] for row in range(size)]
    for order in range(1, size + 1):
        product = _multiply(matrix, carried)
        coefficients.append(-sum((product[place][place] for place in range(size)), Fraction(0)) / order)
        carried = [
            [product[row][column] + (coefficients[-1] if row == column else 0) for column in range(size)]
            for row in range(size)
        ]
    return coefficients


def _newton_slope(polynomial: list[Fraction], base: int) -> float:
    """Return log_b of the largest absolute value of a root, multiplied over the primes of a coprime base b.

    Each prime divides every coefficient by the same multiple of what b does, so all have their steepest slope at the
    same power.
    """
    return max(
        float(-Fraction(valuation_of(coefficient, base), power))
        for power, coefficient in enumerate(polynomial)
        if power and coefficient
    )


def _multiply(first: Sequence[Sequence[Fraction]], second: Sequence[Sequence[Fraction]]) -> list[list[Fraction]]:
    columns = list(zip(*second, strict=True))
    return [
        [sum((a * b for a, b in zip(row, column, strict=True)), Fraction(0)) for column in columns] for row in first
    ]


def _upper_constant(function: Map) -> float:
    degree = len(function[0]) - 1
    return math.log((degree + 1) * max(abs(each) for form in function for each in form))


def _lower_constant(function: Map) -> float:
    """Bound d h(x) - h(f x): the largest sum of cofactors that make Res x^(2d-1) or Res y^(2d-1) of F and G."""
    matrix = sylvester(function)
    size = len(matrix)
    # sum_r cofactor(r, c) * (row r) = Res * e_c: rows are x^i y^j F or G, columns are monomials.
    sums = [
        sum(abs(determinant([row[:column] + row[column + 1 :] for r, row in enumerate(matrix) if r != at]))
            for at in range(size))
        for column in (0, size - 1)
    ]  # fmt: skip
    return log_integer(max(sums))


def sylvester(function: Map) -> list[list[int]]:
    """Write x^i y^(d-1-i) F and the same of G as rows over the monomials of degree 2 d - 1."""
    degree = len(function[0]) - 1
    return [[0] * shift + list(form) + [0] * (degree - 1 - shift) for form in function for shift in range(degree)]


def determinant(matrix: list[list[int]]) -> int:
    """Compute the determinant of an integer matrix exactly, without fractions (Bareiss 1968)."""
    rows, sign, before = [list(row) for row in matrix], 1, 1
    for at in range(len(rows) - 1):
        pivot = next((row for row in range(at, len(rows)) if rows[row][at]), None)
        if pivot is None:
            return 0
        if pivot != at:
            rows[at], rows[pivot], sign = rows[pivot], rows[at], -sign
        for row in range(at + 1, len(rows)):
            for column in range(at + 1, len(rows)):
                crossed = rows[row][column] * rows[at][at] - rows[row][at] * rows[at][column]
                rows[row][column] = crossed // before
        before = rows[at][at]
    return sign * rows[-1][-1] if rows else 1


def _check_map(function: Map, iterations: int) -> Map:
    """Refuse what is no map; return its coefficients as Python integers, which do not overflow."""
    is_integral = all(hasattr(coefficient, "__index__") for form in function for coefficient in form)
    if not is_integral or len(function[0]) != len(function[1]) or len(function[0]) < 3 or iterations < 0:
        refuse(
            OptionError,
            "dynamics: a map is two integer forms of one degree, at least 2, and iterations are counted from zero.",
            got=f"function={function}, iterations={iterations}",
            want="two lists of integer coefficients of equal length, at least 3",
            fix="write x^2 - 1 as ((1, 0, -1), (0, 0, 1)).",
        )
    first, second = ([operator.index(coefficient) for coefficient in form] for form in function)
    if determinant(sylvester((first, second))) == 0:
        refuse(
            DomainError,
            "dynamics: two forms with a common root are no map.",
            got=f"function={function}",
            want="forms whose resultant is not zero",
            fix="divide both by their common factor.",
        )
    return first, second
