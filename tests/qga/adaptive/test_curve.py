"""Sorting by digits: the order is the stable one of NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga.adaptive.curve import sort_lines


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1009])
def test_lines_are_sorted_and_equal_numbers_keep_their_order(rows: int) -> None:
    numbers = np.random.default_rng(2).integers(0, 2**7, size=(3, rows)).astype(np.int32)
    found = jax.jit(lambda lines: sort_lines(lines, 7))(numbers)
    np.testing.assert_array_equal(found, np.argsort(numbers, axis=1, kind="stable"))


def test_bits_that_are_not_looked_at_are_not_sorted() -> None:
    numbers = jnp.asarray([[16, 0, 1]], jnp.int32)
    np.testing.assert_array_equal(sort_lines(numbers, 4), [[0, 1, 2]])
