"""Halving and doubling fields: R E = 1, a semigroup to the bit (theory S-1)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import pywt

from qga import OptionError, ShapeError, motivic, scale
from tests.qga.tolerances import assert_close, assert_far


def draw(random: np.random.Generator, dtype: np.dtype, rows: int = 24) -> jnp.ndarray:
    return jnp.asarray(random.normal(size=(rows, 3)), dtype)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_coarsen_undoes_refine_to_the_bit(levels: int, random: np.random.Generator, dtype: np.dtype) -> None:
    field = draw(random, dtype, 5)
    assert np.array_equal(scale.coarsen(scale.refine(field, levels=levels), levels=levels), field)


def test_refine_does_not_undo_coarsen(random: np.random.Generator, dtype: np.dtype) -> None:
    field = draw(random, dtype)
    assert_far(scale.refine(scale.coarsen(field)), field)


def test_coarsen_is_a_semigroup_to_the_bit(random: np.random.Generator, dtype: np.dtype) -> None:
    field = draw(random, dtype)
    assert np.array_equal(scale.coarsen(field, levels=3), scale.coarsen(scale.coarsen(field), levels=2))
    assert not np.array_equal(scale.coarsen(field, levels=3), scale.coarsen(scale.coarsen(field)[:6], levels=1))


def test_refine_is_a_semigroup(random: np.random.Generator, dtype: np.dtype) -> None:
    field = draw(random, dtype)
    assert np.array_equal(scale.refine(field, levels=3), scale.refine(scale.refine(field, levels=2)))


def test_coarsen_is_the_block_mean(random: np.random.Generator, dtype: np.dtype) -> None:
    field = draw(random, dtype)
    want = np.asarray(field, float).reshape(6, 4, 3).mean(axis=1)
    assert_close(scale.coarsen(field, levels=2), want, depth=4, scale=3.0)


def test_coarsen_is_the_haar_approximation_of_pywavelets(random: np.random.Generator, dtype: np.dtype) -> None:
    field = draw(random, dtype)[:, 0]
    want = pywt.wavedec(np.array(field, float), "haar", level=2)[0] / 2
    assert_close(scale.coarsen(field, levels=2), want, depth=4, scale=3.0)


def test_coarsening_is_the_cut_of_the_weight_filtration(random: np.random.Generator) -> None:
    field = jnp.asarray(random.integers(-9, 10, (16, 2)).astype(np.float32))
    cut = motivic.apply(field, jnp.array([1.0, 1.0, 1.0, 0.0, 0.0]))
    assert np.array_equal(scale.refine(scale.coarsen(field, levels=2), levels=2), cut)


def test_rows_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        scale.coarsen(jnp.zeros((6, 2)), levels=2)
    assert str(error.value) == (
        "coarsen: each level merges rows in pairs.\n"
        "  got:  float32[6, 2], levels=2\n"
        "  want: an axis whose length is a positive multiple of 4\n"
        "  fix:  pad to a multiple, or take fewer levels."
    )


@pytest.mark.parametrize("function", [scale.coarsen, scale.refine])
def test_a_number_and_negative_levels_are_refused(function: object) -> None:
    with pytest.raises(ShapeError, match=r"got:  float32\[\]"):
        function(jnp.float32(1))
    with pytest.raises(OptionError, match="got:  levels=-1"):
        function(jnp.zeros(4), levels=-1)
