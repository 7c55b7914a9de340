"""Cutting into tiles loses nothing (theory T-3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga.errors import OptionError, ShapeError
from qga.tiling import join, split


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(0, 40), tile=st.integers(1, 12), width=st.integers(0, 3))
def test_join_undoes_split(rows: int, tile: int, width: int) -> None:
    array = jnp.arange(rows * width, dtype=jnp.int32).reshape(rows, width)
    tiles, exists = split(array, tile)
    assert tiles.shape == (-(-rows // tile), tile, width)
    assert int(exists.sum()) == rows
    assert np.array_equal(join(tiles, rows), array)


def test_split_fills_with_the_pad_value() -> None:
    tiles, exists = split(jnp.array([1.0, 2.0, 3.0]), 2, -jnp.inf)
    assert np.array_equal(tiles, [[1, 2], [3, -np.inf]])
    assert np.array_equal(exists, [[True, True], [True, False]])


def test_split_is_linear_under_grad() -> None:
    gradient = jax.grad(lambda rows: (split(rows, 2)[0] * jnp.array([[1.0, 2.0], [3.0, 4.0]])).sum())(jnp.zeros(3))
    assert np.array_equal(gradient, [1, 2, 3])


def test_split_works_under_vmap_and_jit() -> None:
    tiles = jax.jit(jax.vmap(lambda rows: split(rows, 2)[0]))(jnp.arange(6.0).reshape(2, 3))
    assert np.array_equal(tiles[1], [[3, 4], [5, 0]])


def test_split_refuses_empty_tiles() -> None:
    with pytest.raises(OptionError, match=r"^split: a tile has at least one row.\n  got:  tile=0\n  want: tile >= 1"):
        split(jnp.zeros(3), 0)


def test_split_refuses_a_number() -> None:
    with pytest.raises(ShapeError, match="there is no axis to cut"):
        split(jnp.zeros(()), 2)


def test_join_refuses_more_rows_than_there_are() -> None:
    with pytest.raises(ShapeError, match=r"the tiles must hold all the rows.\n  got:  tiles float32\[2, 3\], rows=7"):
        join(jnp.zeros((2, 3)), 7)
