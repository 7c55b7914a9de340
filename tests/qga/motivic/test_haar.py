"""The weight grading: parts add up, energies add up, levels nest and multiply (theory P-2, M-4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import ShapeError, motivic
from tests.qga.tolerances import assert_close, assert_far


def draw(random: np.random.Generator, rows: int, dtype: np.dtype) -> jax.Array:
    return jnp.asarray(random.normal(size=(rows, 3)), dtype)


def project(signal: np.ndarray, level: int) -> np.ndarray:
    """Average over rows / 2^level at a time: the projection onto W_level."""
    blocks = signal.reshape(2**level, -1, *signal.shape[1:])
    return np.broadcast_to(blocks.mean(axis=1, keepdims=True), blocks.shape).reshape(signal.shape)


@pytest.mark.parametrize("rows", [1, 2, 8, 64])
def test_integers_are_graded_exactly(rows: int, random: np.random.Generator, dtype: np.dtype) -> None:
    signal = random.integers(-9, 10, (rows, 3)).astype(dtype)
    parts = np.asarray(motivic.weights(jnp.asarray(signal)))
    assert np.array_equal(parts.sum(axis=0), signal)
    energies = np.asarray(motivic.energies(jnp.asarray(signal)))
    assert np.array_equal(energies, np.square(parts).sum(axis=1))
    assert np.array_equal(energies.sum(axis=0), np.square(signal).sum(axis=0))


def test_parts_are_the_differences_of_projections(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = draw(random, 16, dtype)
    wide = np.asarray(signal, float)
    parts = motivic.weights(signal)
    assert parts.shape == (5, 16, 3)
    for level in range(5):
        want = project(wide, level) - (project(wide, level - 1) if level else 0)
        assert_close(parts[level], want, depth=16, scale=3.0)


def test_energies_add_up_to_the_energy(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = draw(random, 64, dtype)
    want = np.square(np.asarray(signal, float)).sum(axis=0)
    got = motivic.energies(signal).sum(axis=0)
    assert_close(got, want, depth=64, scale=float(want.max()))
    assert_far(motivic.energies(signal.at[5, 0].add(0.5)).sum(axis=0), want, depth=64)


def test_parts_are_orthogonal(random: np.random.Generator, dtype: np.dtype) -> None:
    parts = np.asarray(motivic.weights(draw(random, 32, dtype)))[..., 0]
    products = parts @ parts.T
    assert_close(products - np.diag(np.diag(products)), np.zeros((6, 6)), depth=32, scale=32.0)


def test_weights_are_linear_under_vmap_and_grad(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = draw(random, 8, dtype)
    mapped = jax.vmap(motivic.weights, in_axes=1, out_axes=2)(signal)
    assert np.array_equal(mapped, motivic.weights(signal))
    # The total of all energies is the squared length, so its gradient is twice the signal.
    gradient = jax.grad(lambda x: motivic.energies(x).sum())(signal)
    assert_close(gradient, 2 * signal, depth=8, scale=4.0)


def test_unit_gains_are_the_identity(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = draw(random, 16, dtype)
    assert_close(motivic.apply(signal, jnp.ones(5, dtype)), signal, depth=5, scale=3.0)


def test_gains_scale_each_part(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = draw(random, 16, dtype)
    gains = jnp.asarray([0.5, -1.0, 2.0, 0.0, 3.0], dtype)
    want = np.einsum("l,lrc->rc", np.asarray(gains), np.asarray(motivic.weights(signal)))
    assert_close(motivic.apply(signal, gains), want, depth=5, scale=12.0)


def test_cutting_off_fine_levels_is_a_projection(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = random.integers(-9, 10, (16, 2)).astype(dtype)
    gains = jnp.asarray([1, 1, 1, 0, 0], dtype)
    once = motivic.apply(jnp.asarray(signal), gains)
    assert np.array_equal(once, project(signal, 2))
    assert np.array_equal(motivic.apply(once, gains), once)


def test_weights_add_on_tensor_products(random: np.random.Generator) -> None:
    # gr_i(x) (x) gr_j(y) lies in the pieces of both axes with total weight i + j: grading the product along each axis
    # gives exactly the products of the graded pieces.
    left, right = (random.integers(-4, 5, size).astype(np.float32) for size in (8, 4))
    product = jnp.asarray(np.outer(left, right))
    parts = jax.vmap(lambda part: motivic.weights(part.T))(motivic.weights(product))
    want = np.einsum("ia,jb->ijba", motivic.weights(jnp.asarray(left)), motivic.weights(jnp.asarray(right)))
    assert np.array_equal(parts, want)


@pytest.mark.parametrize("rows", [0, 3, 12])
def test_other_sizes_are_refused(rows: int) -> None:
    with pytest.raises(ShapeError, match="the number of rows must be a power of two"):
        motivic.weights(jnp.zeros((rows, 2)))


def test_wrong_number_of_gains_is_refused() -> None:
    with pytest.raises(ShapeError) as error:
        motivic.apply(jnp.zeros((8, 2)), jnp.ones(3))
    assert str(error.value) == (
        "motivic.apply: there must be one gain for each level.\n"
        "  got:  gains float32[3], signal float32[8, 2]\n"
        "  want: gains [4]\n"
        "  fix:  pass log2(rows) + 1 gains, coarsest first."
    )
