"""Haar coefficients, wavelengths, templates, clusters and grids (theory P-2, P-3, P-4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.signal import periodogram
from scipy.spatial.distance import cdist

from qga import OptionError, ShapeError, motivic, pattern
from tests.qga.tolerances import assert_close, assert_far


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_haar_is_an_isometry_with_an_inverse(rows: int, random: np.random.Generator, dtype: np.dtype) -> None:
    signal = random.normal(size=(rows, 3))
    got = pattern.haar(jnp.asarray(signal, dtype))
    assert_close(jnp.sum(got**2), (signal**2).sum(), depth=rows, scale=16.0)
    assert_close(pattern.inverse_haar(got), signal, depth=rows, scale=4.0)
    if rows > 2:
        assert_far(pattern.inverse_haar(got[::-1]), signal)


def test_haar_is_that_of_pywavelets(random: np.random.Generator, dtype: np.dtype) -> None:
    signal = random.normal(size=32)
    want = np.concatenate(pywt.wavedec(signal, "haar", mode="periodization"))
    assert_close(pattern.haar(jnp.asarray(signal, dtype)), want, depth=32, scale=4.0)


def test_haar_coefficients_have_the_energies_of_the_weights(random: np.random.Generator) -> None:
    signal = jnp.asarray(random.normal(size=16), jnp.float32)
    coefficients = np.asarray(pattern.haar(signal)) ** 2
    levels = [coefficients[:1].sum(), *(coefficients[2**k : 2 ** (k + 1)].sum() for k in range(4))]
    assert_close(motivic.energies(signal), np.array(levels), depth=16, scale=8.0)


@pytest.mark.parametrize("waves", [1, 3, 8, 20])
def test_wavelength_is_exact_for_whole_waves(waves: int) -> None:
    rows = 60
    signal = 3 + np.cos(2 * np.pi * waves * np.arange(rows) / rows + 0.4)
    assert float(pattern.wavelength(jnp.asarray(signal, jnp.float32))) == np.float32(rows / waves)


def test_wavelength_is_the_peak_of_the_periodogram(random: np.random.Generator) -> None:
    signal = np.cumsum(random.normal(size=101))
    frequencies, power = periodogram(signal)
    want = 1 / frequencies[1:][np.argmax(power[1:])]
    assert float(pattern.wavelength(jnp.asarray(signal, jnp.float32))) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("waves", [4.3, 7.0, 10.5, 21.77])
def test_refined_wavelength_is_between_the_bins(waves: float) -> None:
    rows = 64
    signal = jnp.asarray(2 + np.cos(2 * np.pi * waves * np.arange(rows) / rows + 0.4), jnp.float32)
    error = abs(rows / float(pattern.wavelength(signal, refine=True)) - waves)
    assert error <= 1 / (4 * waves)
    coarse = abs(rows / float(pattern.wavelength(signal)) - waves)
    assert coarse > 2 * error or waves == round(waves)
    assert jnp.isnan(pattern.wavelength(jnp.full(16, 2.5), refine=True))


def test_refined_wavelength_is_exact_for_whole_waves() -> None:
    signal = jnp.asarray(np.cos(2 * np.pi * 5 * np.arange(60) / 60), jnp.float32)
    assert float(pattern.wavelength(signal, refine=True)) == pytest.approx(12.0, rel=1e-6)


def test_wavelength_of_a_constant_is_undefined() -> None:
    assert jnp.isnan(pattern.wavelength(jnp.full(16, 2.5)))


def test_match_finds_the_template(random: np.random.Generator, dtype: np.dtype) -> None:
    signal, width = random.normal(size=40), 7
    template = 2 * signal[11 : 11 + width] - 5
    got = np.asarray(pattern.match(jnp.asarray(signal, dtype), jnp.asarray(template, dtype)))
    want = [np.corrcoef(signal[at : at + width], template)[0, 1] for at in range(34)]
    assert_close(got, np.array(want), depth=width, scale=8.0)
    assert got.argmax() == 11
    assert not pattern.match(jnp.ones(5, dtype), jnp.asarray([0.0, 1.0], dtype)).any()


def test_component_scales_are_a_minimum_spanning_tree(random: np.random.Generator, dtype: np.dtype) -> None:
    points = random.normal(size=(12, 2))
    distances = cdist(points, points)
    tree = nx.minimum_spanning_tree(nx.from_numpy_array(distances))
    want = sorted(edge["weight"] for _, _, edge in tree.edges(data=True))
    got = np.sort(pattern.component_scales(jnp.asarray(distances, dtype)))
    assert_close(got, np.array(want), scale=4.0)
    assert_far(got, np.array(want) * 1.01)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), size=st.floats(0, 0.3))
def test_component_scales_are_stable(seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    distances = cdist(*[random.normal(size=(7, 2))] * 2)
    shift = size * (2 * random.random((7, 7)) - 1)
    moved = np.where(np.eye(7), 0, distances + (shift + shift.T) / 2)
    first, second = (np.sort(pattern.component_scales(jnp.asarray(each, jnp.float32))) for each in (distances, moved))
    assert np.abs(first - second).max() <= size + 1e-5


def test_component_scales_of_a_graph_with_missing_edges() -> None:
    far = jnp.inf
    path = jnp.array([[0.0, 1.0, far], [1.0, 0.0, 1.0], [far, 1.0, 0.0]])
    assert pattern.component_scales(path).tolist() == [1.0, 1.0]
    apart = jnp.array([[0.0, 1.0, far, far], [1.0, 0.0, far, far], [far, far, 0.0, 2.0], [far, far, 2.0, 0.0]])
    assert sorted(pattern.component_scales(apart).tolist()) == [1.0, 2.0, far]


def test_match_does_not_depend_on_the_scale() -> None:
    signal = jnp.array([0.0, 1.0, 3.0, 2.0, 0.0]) * 1e-12
    assert_close(pattern.match(signal, signal[1:4])[1], 1.0, scale=4.0)
    assert jnp.isnan(pattern.match(signal, jnp.ones(3))).all()


def test_cluster_count_steps_at_the_gap() -> None:
    points = np.concatenate([np.zeros(4), np.full(5, 10.0)]) + np.arange(9) * 0.1
    scales = pattern.component_scales(jnp.asarray(np.abs(points[:, None] - points)))
    assert pattern.cluster_count(scales, jnp.array([0.0, 1.0, 20.0])).tolist() == [9, 2, 1]


def test_components_are_those_of_scipy(random: np.random.Generator) -> None:
    for share in (0.3, 0.6, 0.9):
        mask = random.random((13, 17)) < share
        got = np.asarray(pattern.connected_components(jnp.asarray(mask)))
        want, count = ndimage.label(mask)
        assert len(np.unique(got[mask])) == count
        pairs = {(a, b) for a, b in zip(got[mask], want[mask], strict=True)}
        assert len(pairs) == count
        assert (got[~mask] == -1).all()
        assert all(got.ravel()[label] == label for label in np.unique(got[mask]))


def test_components_follow_a_spiral() -> None:
    mask = np.zeros((9, 9), bool)
    mask[0], mask[:, 8], mask[8], mask[2:, 0], mask[2, :7] = True, True, True, True, True
    labels = np.asarray(pattern.connected_components(jnp.asarray(mask)))
    assert set(np.unique(labels)) == {-1, 0}


@pytest.mark.parametrize("window", [1, 3, 7])
def test_local_density_is_a_mean_filter(window: int, random: np.random.Generator) -> None:
    mask = random.random((10, 12)) < 0.4
    sums, counts = (
        ndimage.uniform_filter(each.astype(float), window, mode="constant") for each in (mask, np.ones(mask.shape))
    )
    assert_close(pattern.local_density(jnp.asarray(mask), window), sums / counts, depth=100, scale=4.0)


def test_scales_refuse_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"haar: the number of rows must be a power of two.\n  got:  float32\[6\]"):
        pattern.haar(jnp.ones(6))
    with pytest.raises(ShapeError, match="inverse_haar: "):
        pattern.inverse_haar(jnp.ones(0))
    with pytest.raises(ShapeError, match="wavelength: a signal has at least two rows"):
        pattern.wavelength(jnp.ones(1))
    with pytest.raises(ShapeError, match=r"signal float32\[3\], template float32\[4\]"):
        pattern.match(jnp.ones(3), jnp.ones(4))
    with pytest.raises(ShapeError, match="one distance for each pair of points"):
        pattern.component_scales(jnp.ones((2, 3)))
    with pytest.raises(OptionError, match="window=4"):
        pattern.local_density(jnp.ones((3, 3), bool), 4)
    with pytest.raises(ShapeError, match="a grid has two axes"):
        pattern.connected_components(jnp.ones(3, bool))


def test_gradient_of_scales_is_that_of_the_chosen_edges() -> None:
    places = jnp.array([0.0, 1.0, 5.0])
    gradient = jax.grad(lambda x: pattern.component_scales(jnp.abs(x[:, None] - x[None])).sum())(places)
    assert gradient.tolist() == [-1.0, 0.0, 1.0]
