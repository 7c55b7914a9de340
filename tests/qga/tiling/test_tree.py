"""Trees of tiles: complete, composable, and all of them give the same softmax (theory T-1, T-4)."""

from __future__ import annotations

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga.errors import OptionError, ShapeError
from qga.tiling import compose, kraft_sum, state_leaf, state_of_tree, state_read, tree
from tests.qga.tolerances import assert_close, assert_far

lengths = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(keys=st.integers(1, 100), tile=st.integers(1, 20))
def test_leaves_cover_the_keys_once(keys: int, tile: int) -> None:
    tiles = tree(keys, tile)
    leaves = tiles.left < 0
    covered = [
        key
        for start, count in zip(tiles.start[leaves], tiles.count[leaves], strict=True)
        for key in range(start, start + count)
    ]
    assert sorted(covered) == list(range(keys))
    assert tiles.count[leaves].max() <= tile


@settings(deadline=None, max_examples=30)
@given(keys=st.integers(1, 100), tile=st.integers(1, 20))
def test_kraft_sum_is_one(keys: int, tile: int) -> None:
    assert kraft_sum(tree(keys, tile)) == 1


def test_kraft_sum_sees_a_missing_leaf() -> None:
    tiles = tree(8, 2)
    object.__setattr__(tiles, "left", np.where(np.arange(len(tiles.left)) == len(tiles.left) - 1, 0, tiles.left))
    assert kraft_sum(tiles) == Fraction(3, 4)


@pytest.mark.parametrize("tile", [1, 2, 5, 29, 30])
def test_every_tree_gives_the_state_of_the_whole(tile: int, random: np.random.Generator, dtype: np.dtype) -> None:
    scores = jnp.asarray(3 * random.normal(size=29), dtype)
    values = jnp.asarray(random.normal(size=(29, 2)), dtype)
    got, want = state_read(state_of_tree(tree(29, tile), scores, values)), state_read(state_leaf(scores, values))
    assert_close(got[0], want[0], depth=29, scale=3.0)
    assert_close(got[1], want[1], depth=29, scale=float(jnp.abs(want[1])))
    assert_far(got[1], want[1] + 1e-2)


@settings(deadline=None)
@given(outer=lengths, inner=lengths, data=st.data())
def test_compose_is_associative(outer: list[int], inner: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(outer) - 1))
    outer[place] = sum(inner)
    inside = data.draw(st.integers(0, len(inner) - 1))
    pieces = (1,) * inner[inside]
    nested = compose(outer, place, compose(inner, inside, pieces))
    assert compose(compose(outer, place, inner), place + inside, pieces) == nested


def test_compose_with_one_piece_is_the_identity() -> None:
    assert compose((3, 4), 1, (4,)) == (3, 4)


def test_compose_refuses_pieces_that_do_not_fill_the_tile() -> None:
    with pytest.raises(OptionError, match="the pieces must fill the tile they replace"):
        compose((3, 4), 1, (2, 1))


def test_tree_refuses_no_keys() -> None:
    with pytest.raises(OptionError, match="got:  keys=0, tile=4"):
        tree(0, 4)


def test_state_of_tree_refuses_another_number_of_keys() -> None:
    with pytest.raises(ShapeError, match=r"a tree over 4 keys, scores float32\[5\]"):
        state_of_tree(tree(4, 2), jnp.zeros(5), jnp.zeros((5, 1)))
