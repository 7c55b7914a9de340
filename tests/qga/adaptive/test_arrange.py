"""Points in slabs: every point is there once, those that do not exist stand last, and tiles are boxes."""

from __future__ import annotations

import numpy as np
import pytest

from qga.adaptive.arrange import arrange, cut_rows


@pytest.mark.parametrize(
    "axes", [pytest.param(1, marks=pytest.mark.exhaustive), 2, pytest.param(3, marks=pytest.mark.exhaustive)]
)
def test_points_are_put_in_order_and_back(axes: int) -> None:
    random = np.random.default_rng(4)
    query, key = (random.normal(size=(2, rows, axes)).astype(np.float32) for rows in (300, 257))
    points = arrange(query, key, key, 16)
    there = np.asarray(points.queries)[:, :300]
    steps = np.take_along_axis(there, np.asarray(points.places)[..., None], axis=1) - query
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape), atol=1e-6)
    np.testing.assert_array_equal(points.columns[:, :257, 0], 1)
    np.testing.assert_array_equal(points.columns[:, 257:], 0)


def test_slabs_do_not_overlap() -> None:
    points = np.random.default_rng(5).uniform(size=(1, 1024, 2)).astype(np.float32)
    found = arrange(points, points, points, 16)
    slabs = np.asarray(found.keys).reshape(*found.cuts[1].slabs, 16, 2)
    cell = 2.0**-11
    assert np.all(slabs[:-1, ..., 0].max(axis=(1, 2)) <= slabs[1:, ..., 0].min(axis=(1, 2)) + cell)
    assert np.all(slabs[:, :-1, :, 1].max(axis=2) <= slabs[:, 1:, :, 1].min(axis=2) + cell)
    assert not np.all(slabs[:-1, ..., 1].max(axis=(1, 2)) <= slabs[1:, ..., 1].min(axis=(1, 2)) + cell)


@pytest.mark.parametrize(("count", "slabs"), [(1, (1, 1)), (64, (1, 1)), (65, (2, 1)), (4096, (8, 8)), (4097, (9, 8))])
def test_tiles_are_as_wide_along_each_axis(count: int, slabs: tuple[int, ...]) -> None:
    assert cut_rows(count, 64, 2).slabs == slabs
