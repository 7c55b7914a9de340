"""Nodes of a grid: what they sum to, and windows that are added up and taken out."""

from __future__ import annotations

import jax
import numpy as np

from qga.adaptive import nodes


def test_nodes_sum_to_a_gaussian_function() -> None:
    """The ripple is what is said, and half of it is not enough."""
    grid = nodes.nodes_of(1, 5e-2, 1e-3)
    places, steps = np.arange(-40, 41), np.linspace(0, 1, 101)
    query, key = np.meshgrid(steps, steps + 3)
    factors = [np.exp(-((grid.decay * (each[..., None] - places)) ** 2)) for each in (query, key)]
    found = grid.unit * np.sum(factors[0] * factors[1], axis=-1)
    worst = np.max(np.abs(found / np.exp(-((grid.decay * (query - key)) ** 2) / 2) - 1))
    assert grid.ripple / 2 < worst <= grid.ripple


def test_smaller_promises_take_larger_windows() -> None:
    few, more = (nodes.nodes_of(2, eps, eps / 4) for eps in (1e-2, 1e-4))
    assert few.window < more.window
    assert few.ripple > 50 * more.ripple


def test_taking_windows_is_the_transpose_of_adding_them() -> None:
    random = np.random.default_rng(6)
    window, along, slabs = 5, 12, (3, 2)
    origins = tuple(random.integers(0, along - window + 1, size=(1, *slabs[: axis + 1])) for axis in range(2))
    windows = random.normal(size=(1, *slabs, window, window, 2)).astype(np.float32)
    grid = random.normal(size=(1, along, along, 2)).astype(np.float32)
    added, taken = nodes._add((window, along), windows, origins), nodes._take((window, along), grid, origins)
    np.testing.assert_allclose(np.vdot(added, grid), np.vdot(windows, taken), rtol=1e-5)
    _, pull = jax.vjp(lambda rows: nodes._add((window, along), rows, origins), windows)
    np.testing.assert_allclose(pull(grid)[0], taken, rtol=1e-6)
    moved = (origins[0], (origins[1] + 1) % (along - window + 1))
    assert not np.allclose(nodes._take((window, along), grid, moved), taken)
