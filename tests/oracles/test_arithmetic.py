"""Heights and growth against PARI (theory A-1, A-4, A-8)."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from cypari import pari

from qga import arithmetic


@pytest.mark.parametrize(
    ("curve", "point", "doubling"),
    [
        # y^2 + y = x^3 - x and y^2 = x^3 - 2, doubling in the x-coordinate.
        ("[0, 0, 1, -1, 0]", (0, 0), ((1, 0, 2, -2, 1), (0, 4, 0, -4, 1))),
        ("[0, 0, 0, 0, -2]", (3, 5), ((1, 0, 0, 16, 0), (0, 4, 0, 0, -8))),
    ],
)
def test_canonical_height_is_that_of_the_curve(curve: str, point: tuple[int, int], doubling: tuple) -> None:
    want = float(pari(f"ellheight(ellinit({curve}), {list(point)})"))
    got = arithmetic.canonical_height(doubling, (point[0], 1), iterations=7)
    assert abs(got.value - want) <= got.error
    assert got.value == pytest.approx(want, abs=1e-3)


def test_valuations_are_those_of_pari() -> None:
    point = [Fraction(360, 49), Fraction(-72, 7)]
    heights = arithmetic.local_heights(point).primes
    for prime in (2, 3, 7):
        want = -min(int(pari(f"valuation({each.numerator}/{each.denominator}, {prime})")) for each in point)
        assert heights.get(prime, 0.0) == pytest.approx(want * math.log(prime))


def test_mahler_measure_is_that_of_the_roots() -> None:
    import jax.numpy as jnp

    coefficients = [3.0, -1.0, 5.0, 0.5, 2.0]
    roots = [abs(complex(each)) for each in pari("polroots(3*x^4 - x^3 + 5*x^2 + 0.5*x + 2)")]
    want = math.log(3) + sum(math.log(max(1, each)) for each in roots)
    assert float(arithmetic.log_mahler_measure(jnp.array(coefficients))) == pytest.approx(want, rel=1e-5)
