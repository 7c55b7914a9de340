"""Digits of codes: valuations and their reversal (theory A-9)."""

from __future__ import annotations

import flint
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import arithmetic


@pytest.mark.parametrize("prime", [2, 3, 5])
def test_valuation_is_that_of_flint_and_ultrametric(prime: int, random: np.random.Generator) -> None:
    codes = random.integers(-5000, 5000, (2, 200))
    codes[codes == 0] = 1
    got = np.asarray(arithmetic.valuation(jnp.asarray(codes), prime))
    factors = [[dict(flint.fmpz(abs(int(code))).factor()) for code in row] for row in codes]
    assert got.tolist() == [[int(each.get(prime, 0)) for each in row] for row in factors]
    product, total = codes[0] * codes[1], codes[0] + codes[1]
    assert np.array_equal(arithmetic.valuation(jnp.asarray(product), prime), got.sum(0))
    assert (np.asarray(arithmetic.valuation(jnp.asarray(total), prime)) >= got.min(0))[total != 0].all()
    assert not np.array_equal(arithmetic.valuation(jnp.asarray(product + 1), prime), got.sum(0))


def test_valuation_of_the_smallest_code_and_of_zero() -> None:
    codes = jnp.array([-(2**31), 2**30, 0], jnp.int32)
    assert arithmetic.valuation(codes, 2).tolist() == [31, 30, 31]
    assert arithmetic.valuation(jnp.array([0, 81], jnp.int8), 3).tolist() == [4, 4]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from([(2, 6), (3, 4), (10, 3)]), st.lists(st.integers(0, 60), min_size=8, max_size=8))
def test_reversing_digits_twice_changes_nothing(shape: tuple[int, int], codes: list[int]) -> None:
    base, digits = shape
    given_codes = jnp.asarray(codes)
    backwards = arithmetic.reverse_digits(given_codes, base, digits=digits)
    assert arithmetic.reverse_digits(backwards, base, digits=digits).tolist() == codes
    spelled = [np.base_repr(code, base).zfill(digits)[::-1] for code in codes]
    assert backwards.tolist() == [int(each, base) for each in spelled]


def test_bit_reversal_order_is_that_of_the_fast_fourier_transform() -> None:
    order = np.asarray(arithmetic.reverse_digits(jnp.arange(16), 2, digits=4))
    assert sorted(order.tolist()) == list(range(16))
    want = np.zeros(1, int)
    while len(want) < 16:
        want = np.concatenate([2 * want, 2 * want + 1])
    assert np.array_equal(order, want)


@pytest.mark.parametrize(("base", "digits"), [(2, 6), (3, 4)])
def test_reversal_carries_balls_to_intervals(base: int, digits: int) -> None:
    # Codes that share k low digits are a ball; backwards they are neighbours. Without reversal they are not.
    codes = np.arange(base**digits)
    backwards = np.asarray(arithmetic.reverse_digits(jnp.asarray(codes), base, digits=digits))
    for shared in range(1, digits):
        for ball in range(base**shared):
            members = codes[codes % base**shared == ball]
            differences = jnp.asarray(members[1:] - members[:-1])
            assert (np.asarray(arithmetic.valuation(differences, base)) >= shared).all()
            assert np.ptp(backwards[members]) == len(members) - 1
            assert np.ptp(members) > len(members) - 1


def test_reversal_looks_at_the_lowest_digits_alone() -> None:
    codes = jnp.array([-1, 12, 8, 0], jnp.int32)
    assert arithmetic.reverse_digits(codes, 2, digits=3).tolist() == [7, 1, 0, 0]
    assert arithmetic.reverse_digits(codes, 2, digits=0).tolist() == [0, 0, 0, 0]
    assert arithmetic.reverse_digits(jnp.array([200], jnp.uint8), 2, digits=8).tolist() == [19]


def test_valuation_of_a_sum_is_the_smaller_one_where_they_differ() -> None:
    # The sharp half of the ultrametric inequality, and where it fails: 1 + 1 has more twos than either.
    codes = jnp.array([12, 8, 5, 40])
    got = arithmetic.valuation(codes[:, None] + codes[None], 2)
    each = arithmetic.valuation(codes, 2)
    smaller, differ = jnp.minimum(each[:, None], each[None]), each[:, None] != each[None]
    assert bool((got == smaller)[differ].all())
    assert not bool((got == smaller)[~differ].any())
