"""Diagnostics: ranges, closed forms and bounds that are attained (theory 2.10, T-8, T-17)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from qga import OptionError, ShapeError, diagnostics, motivic, tiling
from tests.qga.tolerances import assert_close, assert_far


def test_efficiency_of_a_noiseless_head_is_one(dtype: np.dtype) -> None:
    got = diagnostics.routing_efficiency(jnp.eye(4, dtype=dtype), jnp.full(4, 0.25, dtype), iterations=5)
    assert_close(jnp.stack(got.of_capacity), [1.0, 1.0], scale=4.0)
    assert_close(got.of_keys, 1.0, scale=4.0)


def test_efficiency_of_a_skewed_question_is_lower(dtype: np.dtype) -> None:
    chances = np.array([0.97, 0.01, 0.01, 0.01])
    got = diagnostics.routing_efficiency(jnp.eye(4, dtype=dtype), jnp.asarray(chances, dtype), iterations=5)
    assert_close(got.of_keys, entropy(chances) / np.log(4), scale=4.0)
    assert_close(got.of_capacity[0], entropy(chances) / np.log(4), scale=4.0)


def test_interval_of_the_efficiency_holds_the_truth(random: np.random.Generator) -> None:
    chain, chances = (jnp.asarray(random.dirichlet(np.ones(5), size), jnp.float32) for size in (5, 1))
    rough, fine = (diagnostics.routing_efficiency(chain, chances[0], iterations=count) for count in (2, 5000))
    assert rough.of_capacity[0] <= fine.of_capacity[0] + 1e-5
    assert rough.of_capacity[1] >= fine.of_capacity[1] - 1e-5
    assert rough.of_capacity[1] - rough.of_capacity[0] > 1e-3


def test_efficiency_of_a_head_that_routes_nothing_is_undefined() -> None:
    got = diagnostics.routing_efficiency(jnp.full((3, 3), 1 / 3), jnp.full(3, 1 / 3), iterations=2)
    assert jnp.isnan(jnp.stack(got.of_capacity)).all()
    assert abs(float(got.of_keys)) < 1e-6


@pytest.mark.parametrize("tile", [1, 3, 4, 16])
def test_coarse_error_is_what_the_means_leave(tile: int, random: np.random.Generator, dtype: np.dtype) -> None:
    field = random.normal(size=(10, 2)) + 1
    means = np.concatenate(
        [np.repeat(field[at : at + tile].mean(0)[None], len(field[at : at + tile]), 0) for at in range(0, 10, tile)]
    )
    want = 1 - (means**2).sum() / (field**2).sum()
    assert_close(diagnostics.coarse_error(jnp.asarray(field, dtype), tile), want, depth=20)


def test_coarse_error_keeps_its_digits(dtype: np.dtype) -> None:
    # One minus a ratio of energies would be rounding here.
    field = np.array([1.0, 1.0 + 1e-3])
    want = (0.5e-3**2 * 2) / (field**2).sum()
    got = float(diagnostics.coarse_error(jnp.asarray(field, dtype), 2))
    assert got == pytest.approx(want, rel=1e-3)


def test_consistency_error_is_one_for_the_worst_field() -> None:
    laplacian = np.array([[1.0, -1.0], [-1.0, 1.0]])
    for field, want in ((np.array([1.0, -1.0]), 1.0), (np.array([1.0, 1.0]), 0.0)):
        got = diagnostics.consistency_error(*map(jnp.asarray, (field @ laplacian @ field, field @ field, 2.0)))
        assert_close(got, want)


@pytest.mark.usefixtures("x64")
def test_saving_of_work_counts_short_tiles_less() -> None:
    # Ten keys in tiles of four, for two queries: 8, 8 and 4 multiplications a feature. Leaving out the short one saves
    # a fifth of the work and not a third.
    used, work = jnp.array([[True, True, False]]), jnp.array([[8.0, 8.0, 4.0]])
    assert_close(diagnostics.certified_saving(used, jnp.zeros(2), work=work).share, 4 / 20)
    assert_close(diagnostics.certified_saving(used, jnp.zeros(2)).share, 1 / 3)
    for table, want in ((jnp.ones((1, 3), bool), 0.0), (jnp.zeros((1, 3), bool), 1.0)):
        assert_close(diagnostics.certified_saving(table, jnp.zeros(2), work=work).share, want)


def test_saving_comes_with_its_error() -> None:
    got = diagnostics.certified_saving(jnp.array([[True, False], [False, False]]), jnp.array([0.01, 0.03]))
    assert_close(got.share, 0.75)
    assert_close(got.total_variation, 0.03)


def test_oscillation_is_the_spread_of_each_tile(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = random.normal(size=(3, 10)).astype(dtype)
    want = np.stack([np.ptp(scores[:, at : at + 4], axis=1) for at in range(0, 10, 4)], axis=1)
    assert_close(diagnostics.oscillation(jnp.asarray(scores), 4), want, scale=4.0)
    assert_far(diagnostics.oscillation(jnp.asarray(scores), 5)[:, :2], want[:, :2])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), size=st.floats(0.0, 8.0))
def test_perturbation_bound_holds(seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    scores, change = random.normal(size=6), size * random.random(6)
    distance = np.abs(softmax(scores + change) - softmax(scores)).sum() / 2
    assert distance <= float(tiling.perturbation_bounds(jnp.asarray(np.ptp(change))).total_variation) + 1e-6


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [0.1, 1.0, 6.0])
def test_perturbation_bound_is_attained_by_two_points(size: float) -> None:
    heavy = 1 / (1 + np.exp(size / 2))
    before = np.array([heavy, 1 - heavy])
    after = before * np.exp([size, 0])
    distance = np.abs(after / after.sum() - before).sum() / 2
    assert_close(tiling.perturbation_bounds(jnp.asarray(size)).total_variation, distance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [0.1, 1.0, 6.0])
def test_no_smaller_perturbation_bound_holds(size: float) -> None:
    # The negative twin: two points move farther than tanh(D / 4.1).
    before = np.array([1 / (1 + np.exp(size / 2)), 1 / (1 + np.exp(-size / 2))])
    after = before * np.exp([size, 0])
    assert np.abs(after / after.sum() - before).sum() / 2 > np.tanh(size / 4.1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), size=st.floats(0.1, 6.0), keys=st.integers(2, 40))
def test_entropy_has_a_floor_for_scores_in_an_interval(seed: int, size: float, keys: int) -> None:
    scores = size * np.random.default_rng(seed).random(keys)
    spread = float(diagnostics.oscillation(jnp.asarray(scores[None], jnp.float32), keys)[0, 0])
    assert entropy(softmax(scores)) >= np.log(keys) - spread**2 / 8 - 1e-6


def test_no_higher_entropy_floor_holds() -> None:
    # The negative twin: two equal halves come close to D^2 / 8 for small D.
    scores = np.repeat([0.0, 0.5], 8)
    assert entropy(softmax(scores)) < np.log(16) - 0.5**2 / 8.5


@pytest.mark.usefixtures("x64")
def test_efficiency_never_leaves_its_range(random: np.random.Generator) -> None:
    for sharpness in (0.1, 1.0, 10.0):
        chain = jnp.asarray(random.dirichlet(np.full(5, sharpness), 4))
        got = diagnostics.routing_efficiency(chain, jnp.full(4, 0.25), iterations=200)
        low, high = map(float, got.of_capacity)
        assert -1e-12 <= low <= high <= 1 + 1e-12
        assert -1e-12 <= float(got.of_keys) <= np.log(4) / np.log(5) + 1e-12


@pytest.mark.usefixtures("x64")
def test_consistency_error_is_that_of_the_sheaf(random: np.random.Generator) -> None:
    edges, maps = jnp.array([[0, 1], [1, 2], [2, 0]]), jnp.asarray(random.normal(size=(3, 2, 2, 3)))
    field = jnp.asarray(random.normal(size=(3, 3)))
    sheaf = motivic.consistency(field, edges, maps)
    energy, length = jnp.sum(motivic.coboundary(field, edges, maps) ** 2), jnp.sum(field**2)
    assert_close(diagnostics.consistency_error(energy, length, sheaf.ceiling), sheaf.error, depth=9)
    assert_far(diagnostics.consistency_error(energy, 2 * length, sheaf.ceiling), sheaf.error, depth=9)


def test_coarse_error_is_zero_on_tiles_and_one_within_them(dtype: np.dtype) -> None:
    constant = jnp.asarray([2.0, 2.0, -1.0, -1.0], dtype)
    swinging = jnp.asarray([1.0, -1.0, 3.0, -3.0], dtype)
    assert float(diagnostics.coarse_error(constant, 2)) == 0
    assert float(diagnostics.coarse_error(swinging, 2)) == 1
    # Tiles that are cut elsewhere lose what these keep.
    assert float(diagnostics.coarse_error(constant, 3)) > 0.1


def test_oscillation_bounds_what_a_mean_score_does(random: np.random.Generator) -> None:
    scores = random.normal(size=5)
    spread = float(diagnostics.oscillation(jnp.asarray(scores[None], jnp.float32), 5)[0, 0])
    distance = np.abs(softmax(scores) - 1 / 5).sum() / 2
    assert distance <= np.tanh(spread / 4)
    # The entropy floor of scores in an interval.
    assert entropy(softmax(scores)) >= np.log(5) - spread**2 / 8


def test_diagnostics_refuse_what_does_not_fit() -> None:
    with pytest.raises(OptionError, match="a tile has at least one row"):
        diagnostics.coarse_error(jnp.ones(3), 0)
    with pytest.raises(ShapeError, match=r"one answer for each pair of tiles.\n  got:  bool\[3\]"):
        diagnostics.certified_saving(jnp.ones(3, bool), jnp.ones(1))
    with pytest.raises(ShapeError, match=r"got:  bool\[1, 3\], work float32\[3\]"):
        diagnostics.certified_saving(jnp.ones((1, 3), bool), jnp.ones(1), work=jnp.ones(3))
    with pytest.raises(ShapeError, match=r"oscillation: each query has a score for each key.\n  got:  float32\[3\]"):
        diagnostics.oscillation(jnp.ones(3), 2)
    with pytest.raises(ShapeError, match="capacity: a channel is a matrix"):
        diagnostics.routing_efficiency(jnp.ones(3), jnp.ones(3), iterations=1)


def test_gradient_of_the_coarse_error_is_finite() -> None:
    assert jnp.isfinite(jax.grad(diagnostics.coarse_error)(jnp.array([1.0, 2.0, 3.0]), 2)).all()
