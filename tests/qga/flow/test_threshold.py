"""Threshold dynamics of masks in closed form: the kernel, the selection without a sort (F-5)."""

from __future__ import annotations

from itertools import combinations, pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from qga import DomainError, ShapeError, flow
from qga.flow import threshold
from tests.qga.tolerances import assert_close, assert_far, bound

# Its entries are below one and its rows sum to one; a few roundings of the table of cosines come on top.
TABLE_SCALE = 4.0


def path_laplacian(size: int) -> np.ndarray:
    links = np.eye(size, k=1) + np.eye(size, k=-1)
    return links - np.diag(links.sum(1))


def heat(mask: np.ndarray, width: float) -> np.ndarray:
    """Blur a mask with SciPy's exponentials of the two paths."""
    across, along = (expm(width**2 / 2 * path_laplacian(size)) for size in mask.shape)
    return across @ mask @ along


def energy(mask: np.ndarray, width: float) -> float:
    return float(heat(mask, width)[~mask].sum())


def ranked(values: np.ndarray, active: int) -> np.ndarray:
    """Keep the largest entries by a stable sort."""
    kept = np.zeros(values.size, bool)
    kept[np.argsort(-values.ravel(), kind="stable")[:active]] = True
    return kept.reshape(values.shape)


@pytest.mark.parametrize("size", [1, 2, 7, 16])
@pytest.mark.parametrize("width", [0.0, 0.6, 3.0])
def test_kernel_is_the_exponential_of_the_path(size: int, width: float, dtype: np.dtype) -> None:
    got = threshold._heat_kernel(size, jnp.asarray(width, dtype))
    assert got.dtype == dtype
    assert_close(got, expm(width**2 / 2 * path_laplacian(size)), depth=size, scale=TABLE_SCALE)
    assert_close(got.sum(1), np.ones(size), depth=size, scale=TABLE_SCALE)


def test_kernel_of_a_path_is_not_that_of_a_ring(dtype: np.dtype) -> None:
    ring = path_laplacian(7)
    ring[[0, 0, 6, 6], [0, 6, 6, 0]] += [-1, 1, -1, 1]
    got = threshold._heat_kernel(7, jnp.asarray(1.0, dtype))
    assert_far(got, expm(0.5 * ring), depth=7)
    assert_far(got, expm(0.6 * path_laplacian(7)), depth=7)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=12, max_size=12), st.integers(0, 12))
def test_selection_is_that_of_a_stable_sort(values: list[int], active: int) -> None:
    table = np.array(values, np.float32).reshape(3, 4)
    got = np.asarray(threshold._largest(jnp.asarray(table), active))
    assert np.array_equal(got, ranked(table, active))
    assert got.sum() == active


@pytest.mark.parametrize("dtype_name", ["float32", "float64"])
def test_selection_tells_neighbouring_numbers_apart(dtype_name: str) -> None:
    with jax.enable_x64(dtype_name == "float64"):
        number = np.dtype(dtype_name).type
        values = np.array([[number(1), np.nextafter(number(1), number(2)), number(0), np.finfo(number).tiny]])
        assert np.asarray(threshold._largest(jnp.asarray(values), 1)).tolist() == [[False, True, False, False]]
        assert np.asarray(threshold._largest(jnp.asarray(values), 3)).tolist() == [[True, True, False, True]]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(6, 7), (1, 13), (8, 1)])
def test_step_keeps_the_warmest_entries(shape: tuple[int, int], random: np.random.Generator) -> None:
    mask = random.random(shape) < 0.4
    count = int(mask.sum())
    got = np.asarray(flow.threshold_dynamics(jnp.asarray(mask), 1.1, steps=1, active=count))
    assert np.array_equal(got, ranked(heat(mask, 1.1), count))
    assert not np.array_equal(got, ranked(-heat(mask, 1.1), count))


def test_energy_is_the_heat_outside(random: np.random.Generator, dtype: np.dtype) -> None:
    mask = random.random((9, 11)) < 0.5
    got = flow.threshold_energy(jnp.asarray(mask), 1.4)
    assert got.dtype == dtype
    assert_close(got, energy(mask, 1.4), depth=99, scale=20.0)
    assert_far(got, energy(mask, 1.5), depth=99)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), width=st.sampled_from([0.5, 1.5, 4.0]))
def test_energy_never_rises_at_an_exact_budget(seed: int, width: float) -> None:
    with jax.enable_x64(True):
        mask = np.random.default_rng(seed).random((8, 9)) < 0.45
        count = int(mask.sum())
        states = [mask]
        for _ in range(4):
            states.append(np.asarray(flow.threshold_dynamics(jnp.asarray(states[-1]), width, steps=1, active=count)))
        assert all(state.sum() == count for state in states)
        slack = bound(np.float64, depth=72, scale=72.0)
        assert all(after <= before + slack for before, after in pairwise(energy(state, width) for state in states))


@pytest.mark.usefixtures("x64")
def test_energy_rises_where_the_coldest_entries_are_kept(random: np.random.Generator) -> None:
    # The negative twin of the law: the same budget spent on the other end of the order.
    disc = np.hypot(*np.mgrid[-5:6, -5:6]) < 3.2
    wrong = ranked(-heat(disc, 1.0), int(disc.sum()))
    assert wrong.sum() == disc.sum()
    assert energy(wrong, 1.0) > energy(disc, 1.0) + 1e-3


@pytest.mark.usefixtures("x64")
def test_step_minimises_the_linearised_energy_over_all_masks_of_the_budget(random: np.random.Generator) -> None:
    # E is concave, and a step minimises its tangent: by brute force over all masks of three entries.
    mask = random.random((3, 4)) < 0.4
    blurred = heat(mask, 0.9).ravel()
    got = np.asarray(flow.threshold_dynamics(jnp.asarray(mask), 0.9, steps=1, active=3)).ravel()
    best = max(sum(blurred[place] for place in places) for places in combinations(range(12), 3))
    assert blurred[got].sum() == pytest.approx(best, rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_step_does_not_see_a_reflection(random: np.random.Generator) -> None:
    mask = random.random((6, 9)) < 0.4
    count = int(mask.sum())

    def flowed(start: np.ndarray) -> np.ndarray:
        return np.asarray(flow.threshold_dynamics(jnp.asarray(start), 1.3, steps=2, active=count))

    assert np.array_equal(flowed(mask[::-1]), flowed(mask)[::-1])
    assert np.array_equal(flowed(mask.T), flowed(mask).T)
    # A shift is none of the grid's symmetries: its borders reflect.
    assert not np.array_equal(flowed(np.roll(mask, 3, axis=1)), np.roll(flowed(mask), 3, axis=1))


def test_another_budget_is_met_after_one_step(random: np.random.Generator) -> None:
    mask = jnp.asarray(random.random((6, 7)) < 0.5)
    for active in (0, 1, 13, 42):
        assert int(flow.threshold_dynamics(mask, 1.0, steps=1, active=active).sum()) == active
    assert bool((flow.threshold_dynamics(mask, 1.0, steps=0, active=3) == mask).all())


def test_no_width_changes_nothing(random: np.random.Generator) -> None:
    mask = jnp.asarray(random.random((6, 7)) < 0.5)
    assert bool((flow.threshold_dynamics(mask, 0.0, steps=3, active=int(mask.sum())) == mask).all())
    assert abs(float(flow.threshold_energy(mask, 0.0))) <= bound(np.float32, depth=42, scale=TABLE_SCALE)


def test_energy_has_a_derivative_in_the_width(random: np.random.Generator) -> None:
    with jax.enable_x64(True):
        mask = random.random((5, 6)) < 0.5
        slope = jax.grad(lambda width: flow.threshold_energy(jnp.asarray(mask), width))(1.2)
        assert float(slope) == pytest.approx((energy(mask, 1.2 + 1e-5) - energy(mask, 1.2 - 1e-5)) / 2e-5, rel=1e-7)
        assert float(slope) > 0


@pytest.mark.parametrize("width", [-1.0, float("nan"), float("inf")])
def test_a_width_that_is_none_is_refused(width: float) -> None:
    mask = jnp.ones((2, 2), bool)
    with pytest.raises(DomainError, match=rf"threshold_dynamics: .*zero or more.\n  got:  width={width}\n  want: 0 <="):
        flow.threshold_dynamics(mask, width, steps=1, active=1)
    with pytest.raises(DomainError, match="threshold_energy: heat spreads over a width of zero or more"):
        flow.threshold_energy(mask, width)


def test_a_field_of_numbers_is_no_mask() -> None:
    with pytest.raises(ShapeError) as error:
        flow.threshold_dynamics(jnp.ones((2, 3)), 1.0, steps=1, active=1)
    assert str(error.value) == (
        "threshold_dynamics: a mask has two axes, of truths.\n"
        "  got:  float32[2, 3]\n"
        "  want: bool[rows, columns]\n"
        "  fix:  compare with a level first, and map over further axes with jax.vmap."
    )
