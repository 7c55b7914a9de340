"""Euler characteristics of masks: known shapes, additivity, products, duality (theory M-2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from qga import OptionError, ShapeError, motivic

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
ROUND = np.ones((3, 3), int)
MASKS = st.integers(0, 2**20 - 1).map(lambda bits: np.array([bits >> k & 1 for k in range(20)], bool).reshape(4, 5))


def euler(mask: np.ndarray, connectivity: int = 4) -> int:
    return int(motivic.euler(jnp.asarray(mask), connectivity=connectivity))


def islands_and_holes(mask: np.ndarray, connectivity: int) -> tuple[int, int]:
    """Count components of the mask, and those of the rest that do not reach the outside, with SciPy's labels."""
    ours, theirs = (CROSS, ROUND) if connectivity == 4 else (ROUND, CROSS)
    return label(mask, ours)[1], label(~np.pad(mask, 1), theirs)[1] - 1


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (5, 3), (8, 8)])
def test_euler_of_a_disc_is_one(rows: int, columns: int, connectivity: int) -> None:
    assert euler(np.ones((rows, columns), bool), connectivity) == 1


@pytest.mark.parametrize("connectivity", [4, 8])
def test_euler_of_an_annulus_is_zero(connectivity: int) -> None:
    distance = np.hypot(*np.mgrid[-8:9, -8:9])
    assert euler((distance > 3) & (distance < 7), connectivity) == 0
    assert euler(distance < 7, connectivity) == 1


def test_euler_tells_the_two_connectivities_apart() -> None:
    diagonal = np.eye(2, dtype=bool)
    assert euler(diagonal, 4) == 2
    assert euler(diagonal, 8) == 1


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_euler_is_islands_minus_holes(density: float, connectivity: int, random: np.random.Generator) -> None:
    for _ in range(5):
        mask = random.random((13, 17)) < density
        islands, holes = islands_and_holes(mask, connectivity)
        assert euler(mask, connectivity) == islands - holes


@settings(max_examples=40, deadline=None, derandomize=True)
@given(MASKS)
def test_euler_of_the_rest_is_that_of_the_mask_with_the_sign_turned(mask: np.ndarray) -> None:
    # Alexander duality in the sphere: islands of the rest are holes and the outside. Inside a frame of False the rest
    # has one island more, so its characteristic is 1 minus that of the mask, in the other connectivity.
    framed = np.pad(mask, 1)
    assert euler(~framed, 8) == 1 - euler(mask, 4)
    assert euler(~framed, 4) == 1 - euler(mask, 8)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(MASKS, st.integers(0, 4), st.sampled_from([4, 8]))
def test_euler_is_additive_on_overlapping_slabs(mask: np.ndarray, cut: int, connectivity: int) -> None:
    left, right, shared = mask[:, : cut + 1], mask[:, cut:], mask[:, cut : cut + 1]
    want = euler(left, connectivity) + euler(right, connectivity) - euler(shared, connectivity)
    assert euler(mask, connectivity) == want


def test_euler_is_not_additive_on_slabs_that_only_touch() -> None:
    # The negative twin: the edge across the cut belongs to neither slab.
    mask = np.ones((1, 4), bool)
    assert euler(mask) != euler(mask[:, :2]) + euler(mask[:, 2:])


@pytest.mark.parametrize("connectivity", [4, 8])
def test_euler_multiplies_on_products(connectivity: int) -> None:
    rows, columns = np.array([1, 1, 0, 1, 0, 1], bool), np.array([0, 1, 0, 0, 1, 1, 1], bool)
    assert euler(rows[:, None], connectivity) == 3
    assert euler(columns[None], connectivity) == 2
    assert euler(np.outer(rows, columns), connectivity) == 6


@pytest.mark.parametrize("connectivity", [4, 8])
def test_euler_of_known_masks(connectivity: int) -> None:
    frame = np.pad(np.zeros((3, 3), bool), 1, constant_values=True)
    eight = np.concatenate([frame, frame[:, 1:]], axis=1)
    targets = np.pad(np.pad(np.zeros((1, 1), bool), 1, constant_values=True), 1)
    targets = np.pad(targets, 1, constant_values=True)
    bars = np.tile([True, False], 5)[None].repeat(3, axis=0)
    known = [(frame, 0), (eight, -1), (targets, 0), (bars, 5), (np.zeros((3, 4), bool), 0)]
    assert [euler(mask, connectivity) for mask, _ in known] == [want for _, want in known]
    # The negative twin: a frame with a gap is no ring, and one with a full window no ring either.
    frame[0, 2] = False
    assert euler(frame, connectivity) == 1


def test_euler_maps_over_heads(random: np.random.Generator) -> None:
    masks = random.random((3, 6, 7)) < 0.5
    got = jax.vmap(motivic.euler)(jnp.asarray(masks))
    assert got.dtype == jnp.int32
    assert got.tolist() == [euler(mask) for mask in masks]


def test_euler_curve_is_that_of_the_masks(random: np.random.Generator, dtype: np.dtype) -> None:
    field, levels = random.normal(size=(9, 10)).astype(dtype), np.array([1.0, -0.5, 0.2, 9.0], dtype)
    got = motivic.euler_curve(jnp.asarray(field), jnp.asarray(levels), connectivity=8)
    assert got.tolist() == [euler(field >= level, 8) for level in levels]
    assert got[-1] == 0


def test_euler_curve_only_sees_the_order(random: np.random.Generator) -> None:
    field, levels = random.normal(size=(9, 10)), np.linspace(-1, 1, 7)
    curve = motivic.euler_curve(jnp.asarray(field), jnp.asarray(levels))
    assert np.array_equal(curve, motivic.euler_curve(jnp.exp(field), jnp.exp(levels)))
    assert not np.array_equal(curve, motivic.euler_curve(jnp.asarray(field).T[::-1] ** 2, jnp.asarray(levels)))


def test_a_field_of_numbers_is_no_mask() -> None:
    with pytest.raises(ShapeError, match=r"euler: a mask is a boolean matrix.\n  got:  float32\[2, 3\]"):
        motivic.euler(jnp.zeros((2, 3)))


def test_another_connectivity_is_refused() -> None:
    with pytest.raises(OptionError, match=r"touch along sides \(4\) or also at corners \(8\).\n  got:  connectivity=6"):
        motivic.euler(jnp.ones((2, 3), bool), connectivity=6)


def test_a_curve_of_a_vector_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"euler_curve: .*\n  got:  bool\[4\]"):
        motivic.euler_curve(jnp.zeros(4), jnp.zeros(1))
