"""Integrals over digits: the tree is exact, and the closed form lies in the interval (theory M-5)."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import DomainError, OptionError, motivic
from tests.qga.tolerances import assert_close, assert_far, bound

POLYNOMIALS = st.lists(st.integers(-20, 20), min_size=1, max_size=4)


def power(order: int) -> list[int]:
    return [0] * order + [1]


def closed_form(prime: int, order: int, exponent: float) -> float:
    with mpmath.workdps(30):
        p = mpmath.mpf(prime)
        return float((1 - 1 / p) / (1 - p ** (-1 - order * mpmath.mpf(exponent))))


def exact(tree: motivic.DigitTree, exponent: int) -> tuple[Fraction, Fraction]:
    """Sum a tree in rationals: the value and the tail."""
    p, depth = tree.prime, len(tree.closed)
    value = sum((Fraction(count, p ** (d + 1 + d * exponent)) for d, count in enumerate(tree.closed)), Fraction(0))
    return value, Fraction(tree.open, p ** (depth * (1 + exponent)))


def valuation(value: int, prime: int, most: int) -> int:
    digits = 0
    while digits < most and value % prime == 0:
        value, digits = value // prime, digits + 1
    return digits


def test_square_at_two_is_four_sevenths() -> None:
    # (1 - 1/2) / (1 - 2^-3): Igusa 2000, An introduction to the theory of local zeta functions, chapter 8.
    value, tail = exact(motivic.digit_tree(power(2), 2, depth=16), 1)
    assert value <= Fraction(4, 7) <= value + tail
    assert tail == Fraction(1, 2**24)
    assert_close(motivic.igusa(power(2), 2, 1.0, depth=16).value, 4 / 7)


@pytest.mark.parametrize(
    ("polynomial", "prime", "want"),
    [
        # Igusa 2000, chapter 8, by residues: x^2 and x^3; x (x - 1), two simple roots; x^2 + 1 has no root modulo 3
        # and two modulo 5; 9 x^2 + 3 is three times a unit.
        ([0, 0, 1], 3, Fraction(9, 13)),
        ([0, 0, 0, 1], 2, Fraction(8, 15)),
        ([0, -1, 1], 3, Fraction(1, 3) + Fraction(2, 9) * Fraction(3, 4)),
        ([1, 0, 1], 3, Fraction(1)),
        ([1, 0, 1], 5, Fraction(3, 5) + Fraction(2, 25) * Fraction(5, 6)),
        ([3, 0, 9], 3, Fraction(1, 3)),
    ],
)
def test_known_integrals(polynomial: list[int], prime: int, want: Fraction) -> None:
    value, tail = exact(motivic.digit_tree(polynomial, prime, depth=9), 1)
    assert value <= want <= value + tail
    assert tail < Fraction(1, 4000)
    # The negative twin: twice the exponent is another integral, unless |f| is one everywhere.
    other = exact(motivic.digit_tree(polynomial, prime, depth=9), 2)
    assert want == 1 or not other[0] <= want <= sum(other)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("prime", "depth"), [(2, 18), (3, 12), (5, 8), (7, 6)])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 3.0])
def test_closed_form_lies_in_the_interval(prime: int, depth: int, order: int, exponent: float) -> None:
    got = motivic.igusa(power(order), prime, exponent, depth=depth)
    want, slack = closed_form(prime, order, exponent), bound(np.float64, depth)
    assert got.value - slack <= want <= got.value + got.tail + slack
    assert got.tail < 0.1


@pytest.mark.usefixtures("x64")
def test_interval_does_not_hold_another_exponent() -> None:
    got = motivic.igusa(power(2), 2, 1.0, depth=18)
    assert not got.value <= closed_form(2, 2, 1.01) <= got.value + got.tail


@pytest.mark.usefixtures("x64")
def test_interval_closes_with_depth() -> None:
    found = [motivic.igusa([-2, 0, 1], 7, 1.0, depth=depth) for depth in (1, 2, 4, 8)]
    values, tails = [float(each.value) for each in found], [float(each.tail) for each in found]
    assert values == sorted(values)
    for value, tail in zip(values, tails, strict=True):
        assert value <= values[-1] <= value + tail + bound(np.float64)
    # Two simple roots of x^2 - 2 modulo 7 (3 and 4): Hensel gives two balls at every depth.
    assert [motivic.digit_tree([-2, 0, 1], 7, depth=depth).open for depth in (1, 2, 4, 8)] == [2, 2, 2, 2]
    # Each simple root gives 1/49 of the integral of |x|; the other five residues have |f| = 1.
    want = 5 / 7 + 2 / 49 * closed_form(7, 1, 1.0)
    assert -bound(np.float64, 8) <= want - values[-1] <= tails[-1] + bound(np.float64, 8)
    assert want - values[-2] > tails[-1]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(POLYNOMIALS, st.sampled_from([2, 3, 5]), st.integers(0, 2))
def test_tree_is_brute_force_over_all_residues(polynomial: list[int], prime: int, exponent: int) -> None:
    depth = 4
    residues = [sum(c * x**k for k, c in enumerate(polynomial)) for x in range(prime**depth)]
    depths = [valuation(value, prime, depth) for value in residues]
    tree = motivic.digit_tree(polynomial, prime, depth=depth)
    assert tree.open == depths.count(depth)
    mean = sum(Fraction(1, prime ** (each * exponent)) for each in depths if each < depth) / prime**depth
    assert exact(tree, exponent)[0] == mean


@settings(max_examples=30, deadline=None, derandomize=True)
@given(POLYNOMIALS, st.sampled_from([2, 3]))
def test_balls_fill_the_integers(polynomial: list[int], prime: int) -> None:
    value, tail = exact(motivic.digit_tree(polynomial, prime, depth=5), 0)
    assert value + tail == 1


@pytest.mark.usefixtures("x64")
def test_device_sum_is_the_rational_sum(dtype: np.dtype) -> None:
    tree = motivic.digit_tree([0, 0, 3, 1], 3, depth=7)
    got = motivic.igusa([0, 0, 3, 1], 3, jnp.asarray(2.0, dtype), depth=7)
    want = exact(tree, 2)
    assert got.value.dtype == dtype
    assert_close(got.value, float(want[0]), depth=7, scale=8.0)
    # The exponent of the tail is depth * 3 * log 3, and its rounding is what is left.
    assert_close(got.tail / jnp.asarray(float(want[1]), dtype), 1.0, scale=7 * 3 * 1.1)
    assert_far(motivic.igusa([0, 0, 3, 1], 3, jnp.asarray(1.5, dtype), depth=7).value, float(want[0]), depth=7)


@pytest.mark.usefixtures("x64")
def test_leaves_have_the_measure_of_a_tree_of_tiles() -> None:
    # Every leaf as a score of its own, in two tiles: the additive law of tile masses gives the same integral.
    tree = motivic.digit_tree(power(2), 2, depth=8)
    leaves = [-(d + 1) * np.log(2) - d * np.log(2) for d, count in enumerate(tree.closed) for _ in range(count)]
    halves = [motivic.measure(jnp.asarray(half)) for half in (leaves[:5], leaves[5:])]
    assert_close(jnp.exp(motivic.measure_merge(*halves)), motivic.igusa(power(2), 2, 1.0, depth=8).value, depth=20)


@pytest.mark.usefixtures("x64")
def test_slope_in_the_exponent_is_that_of_the_closed_form() -> None:
    slope = jax.grad(lambda s: motivic.igusa(power(1), 5, s, depth=14).value)(1.0)
    with mpmath.workdps(30):
        want = mpmath.diff(lambda s: (1 - mpmath.mpf(1) / 5) / (1 - mpmath.mpf(5) ** (-1 - s)), 1)
    assert_close(slope, float(want), depth=14)


def test_no_digits_say_nothing() -> None:
    assert motivic.igusa([1, 1], 3, 1.0, depth=0) == (0, 1)


def test_zero_polynomial_stays_open() -> None:
    assert motivic.digit_tree([0], 3, depth=3) == motivic.DigitTree(3, (0, 0, 0), 27)
    assert motivic.igusa([0], 3, 1.0, depth=3).value == 0


def test_a_composite_number_has_no_digits() -> None:
    with pytest.raises(DomainError) as error:
        motivic.digit_tree([0, 1], 9, depth=2)
    assert str(error.value) == (
        "digit_tree: digits are those of a prime.\n"
        "  got:  prime=9\n"
        "  want: 2, 3, 5, 7, ...\n"
        "  fix:  use 2, the prime of floating-point numbers."
    )


def test_a_negative_depth_is_refused() -> None:
    with pytest.raises(OptionError, match="got:  depth=-1"):
        motivic.digit_tree([0, 1], 2, depth=-1)


def test_a_negative_exponent_is_refused() -> None:
    with pytest.raises(DomainError, match=r"exponents of zero or more.\n  got:  exponent=-0.5"):
        motivic.igusa([0, 1], 2, -0.5, depth=2)
    assert jnp.isnan(motivic.igusa([0, 1], 2, jnp.float32(-0.5), depth=2).tail)
