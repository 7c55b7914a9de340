"""The entropy of the whole is the gains of all cuts and the entropy of the leaves (theory Q-4 on trees)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga.errors import ShapeError
from qga.quantum import density, holevo
from qga.tiling import holevo_tree, tree
from qga.tiling.levels import leaves
from tests.qga.dense import rays
from tests.qga.quantum.test_entropy import EIGEN_SCALE
from tests.qga.tolerances import assert_close, assert_far

KEYS = 22
TREE = tree(KEYS, tile=3)
ENDS = leaves(TREE)


def states(random: np.random.Generator) -> np.ndarray:
    return rays(random.normal(size=(KEYS, 8)) + 2 * np.repeat(random.normal(size=(2, 8)), KEYS // 2, axis=0))


def densities(kets: np.ndarray, dtype: np.dtype) -> jax.Array:
    kets = jnp.asarray(kets, np.result_type(dtype, np.complex64))
    spans = [slice(int(TREE.start[node]), int(TREE.start[node] + TREE.count[node])) for node in ENDS]
    return jnp.stack([density(kets[span]) for span in spans])


def von_neumann(kets: np.ndarray) -> float:
    values = np.linalg.eigvalsh(kets.T @ kets.conj() / len(kets))
    positive = values[values > 1e-15]
    return float(-np.sum(positive * np.log(positive)))


def test_leaves_stand_in_the_order_of_their_keys() -> None:
    assert TREE.start[ENDS].tolist() == sorted(TREE.start[ENDS].tolist())
    assert TREE.count[ENDS].sum() == KEYS


def test_gains_add_up_to_the_entropy_of_the_whole(random: np.random.Generator, dtype: np.dtype) -> None:
    kets = states(random)
    got = jax.jit(lambda rho: holevo_tree(TREE, rho))(densities(kets, dtype))
    total = jnp.sum(got.weight * got.information) + jnp.sum((got.weight * got.entropy)[ENDS])
    assert_close(total, von_neumann(kets), depth=KEYS, scale=EIGEN_SCALE)
    assert_far(total - jnp.max(got.weight * got.information), von_neumann(kets))


def test_each_node_has_the_entropy_of_its_keys(random: np.random.Generator, dtype: np.dtype) -> None:
    kets = states(random)
    got = holevo_tree(TREE, densities(kets, dtype))
    for node in range(len(TREE.start)):
        span = slice(int(TREE.start[node]), int(TREE.start[node] + TREE.count[node]))
        assert_close(got.entropy[node], von_neumann(kets[span]), depth=KEYS, scale=EIGEN_SCALE)


def test_gains_add_up_to_the_information_of_the_leaves(random: np.random.Generator, dtype: np.dtype) -> None:
    rho = densities(states(random), dtype)
    got = holevo_tree(TREE, rho)
    want = holevo(jnp.asarray(TREE.count[ENDS] / KEYS, dtype), rho)
    assert_close(jnp.sum(got.weight * got.information), float(want), depth=KEYS, scale=EIGEN_SCALE)


def test_gains_are_between_zero_and_a_bit(random: np.random.Generator) -> None:
    got = holevo_tree(TREE, densities(states(random), np.dtype("float32")))
    assert np.all(np.asarray(got.information) >= -1e-5)
    assert np.all(np.asarray(got.information) <= np.log(2) + 1e-5)
    assert np.all(np.asarray(got.information)[ENDS] == 0)
    # Two groups of keys: the first cut tells them apart, the ones below tell little.
    assert np.argmax(got.weight * got.information) == 0


def test_a_small_gain_makes_merging_harmless(random: np.random.Generator) -> None:
    halves = tree(2, 1)
    for spread in (0.01, 0.3, 3.0):
        pair = rays(np.ones((2, 6)) + spread * random.normal(size=(2, 6)))
        rho = np.stack([np.outer(ket, ket.conj()) for ket in pair])
        gain = float(holevo_tree(halves, jnp.asarray(rho, jnp.complex64)).information[0])
        apart = [np.abs(np.linalg.eigvalsh(each - rho.mean(axis=0))).sum() for each in rho]
        assert np.mean(np.square(apart)) <= 2 * gain + 1e-5
        queries = rays(random.normal(size=(40, 6)))
        moved = np.abs(np.einsum("qi,tij,qj->qt", queries.conj(), rho - rho.mean(axis=0), queries))
        assert np.all(moved <= np.asarray(apart)[None] / 2 + 1e-12)


def test_holevo_tree_refuses_another_number_of_leaves() -> None:
    with pytest.raises(ShapeError, match=r"^holevo_tree: every leaf has one density matrix\.\n  got: .*8 leaves"):
        holevo_tree(TREE, jnp.ones((3, 2, 2)))
