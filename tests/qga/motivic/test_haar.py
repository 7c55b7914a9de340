"""The weight grading: parts add up, energies add up, levels nest and multiply (theory P-2, M-4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt

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


def test_parts_at_other_places_are_not_orthogonal(random: np.random.Generator, dtype: np.dtype) -> None:
    # The negative twin: pieces shifted against each other by one row are blocks of two different trees.
    parts = np.asarray(motivic.weights(draw(random, 32, dtype)))[..., 0]
    products = parts @ np.roll(parts, 1, axis=1).T
    assert_far(products - np.diag(np.diag(products)), np.zeros((6, 6)), depth=32)


def test_levels_nest(random: np.random.Generator) -> None:
    # W_0 in W_1 in ...: a piece of level k is constant on blocks of rows / 2^k, and on no larger ones.
    parts = np.asarray(motivic.weights(jnp.asarray(random.integers(-9, 10, 16).astype(np.float32))))
    for level, part in enumerate(parts):
        assert np.array_equal(project(part, level), part)
        assert level == 0 or not np.array_equal(project(part, level - 1), part)
        # Going up one level, nothing of a graded piece is left.
        assert level == 0 or not project(part, level - 1).any()


def test_levels_of_known_signals() -> None:
    # One level each: a constant, a step between halves, and an alternating sign (Walsh functions).
    ones = np.ones(8, np.float32)
    for level, signal in (
        (0, ones),
        (1, np.repeat([1, -1], 4)),
        (2, np.tile([1, 1, -1, -1], 2)),
        (3, np.tile([1, -1], 4)),
    ):
        energies = np.asarray(motivic.energies(jnp.asarray(signal, jnp.float32)))
        assert energies.tolist() == [8.0 * (k == level) for k in range(4)]
    # A peak is in all of them: 1 / 8, then 1 / 8, 1 / 4 and 1 / 2.
    assert motivic.energies(jnp.eye(8)[3]).tolist() == [0.125, 0.125, 0.25, 0.5]


def test_other_gains_are_not_the_identity(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = draw(random, 16, dtype)
    for level in range(5):
        assert_far(motivic.apply(signal, jnp.ones(5, dtype).at[level].set(0.9)), signal, depth=5)


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


def test_energies_of_a_product_are_the_convolution_of_energies(random: np.random.Generator) -> None:
    # The product filtration F_w = sum_(i + j <= w) W_i (x) W_j: its graded piece of weight w is the sum over i + j = w.
    left, right = (random.integers(-4, 5, 8).astype(np.float32) for _ in range(2))
    pieces = jax.vmap(lambda part: motivic.weights(part.T))(motivic.weights(jnp.asarray(np.outer(left, right))))
    graded = [sum(np.asarray(pieces[i, w - i]) for i in range(4) if 0 <= w - i < 4) for w in range(7)]
    want = np.convolve(*(np.asarray(motivic.energies(jnp.asarray(each)), float) for each in (left, right)))
    assert_close(np.array([np.sum(np.square(each)) for each in graded]), want, depth=64, scale=float(want.max()))
    # The negative twin: a sum is no product, and its energies are no convolution.
    mixed = jax.vmap(lambda part: motivic.weights(part.T))(motivic.weights(jnp.asarray(left[:, None] + right)))
    assert_far(np.sum(np.square(np.asarray(mixed)), axis=(0, 1, 2, 3)), want.sum(), depth=64)


def test_graded_pieces_of_a_product_are_orthogonal_and_complete(random: np.random.Generator) -> None:
    signal = random.integers(-9, 10, (8, 4)).astype(np.float32)
    pieces = np.asarray(jax.vmap(lambda part: motivic.weights(part.T))(motivic.weights(jnp.asarray(signal))))
    graded = np.array([sum(pieces[i, w - i] for i in range(4) if 0 <= w - i < 3) for w in range(6)]).reshape(6, -1)
    assert np.array_equal(graded.sum(axis=0), signal.T.ravel())
    products = graded @ graded.T
    assert np.array_equal(products, np.diag(np.diag(products)))


@pytest.mark.parametrize("level", [0, 2, 5])
def test_energies_are_those_of_the_wavelet_coefficients(level: int, random: np.random.Generator) -> None:
    signal = random.normal(size=32).astype(np.float32)
    bands = pywt.wavedec(signal.astype(float), "haar")
    got = motivic.energies(jnp.asarray(signal))
    assert_close(got[level], np.sum(np.square(bands[level])), depth=32, scale=32.0)
    assert_far(got[level], np.sum(np.square(bands[level - 1])), depth=32)


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
