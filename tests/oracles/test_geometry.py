"""Geometry against geomstats (theory G-1, G-4, G-5, T-16)."""

from __future__ import annotations

import geomstats.backend as gs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geomstats.geometry.hyperboloid import Hyperboloid
from geomstats.geometry.spd_matrices import SPDBuresWassersteinMetric, SPDMatrices
from geomstats.information_geometry.categorical import CategoricalDistributions

from qga.geometry import constant_curvature, information, spd


@pytest.fixture(autouse=True)
def _double() -> object:
    with jax.enable_x64(True):
        yield


def test_hyperboloid(random: np.random.Generator) -> None:
    space = Hyperboloid(dim=3)
    spatial, pushes = random.normal(size=(2, 5, 3)), random.normal(size=(5, 4))
    first, second = (np.asarray(constant_curvature.project(jnp.asarray(each), curvature=-1.0)) for each in spatial)
    tangents = np.asarray(space.to_tangent(gs.array(pushes), gs.array(first)))
    ours = constant_curvature.distance(jnp.asarray(first), jnp.asarray(second), curvature=-1.0)
    assert np.allclose(ours, space.metric.dist(first, second), atol=1e-9)
    walked = constant_curvature.exponential(jnp.asarray(first), jnp.asarray(tangents), curvature=-1.0)
    assert np.allclose(walked, space.metric.exp(tangents, first), atol=1e-9)
    back = constant_curvature.logarithm(jnp.asarray(first), jnp.asarray(second), curvature=-1.0)
    assert np.allclose(back, space.metric.log(second, first), atol=1e-8)


def test_bures_wasserstein(random: np.random.Generator) -> None:
    factors = random.normal(size=(2, 4, 6))
    first, second = factors @ np.swapaxes(factors, 1, 2)
    metric = SPDBuresWassersteinMetric(SPDMatrices(4, equip=False))
    got = spd.bures_wasserstein_squared(jnp.asarray(first), jnp.asarray(second))
    assert float(got) == pytest.approx(float(metric.squared_dist(first, second)), rel=1e-8)


def test_fisher_rao(random: np.random.Generator) -> None:
    first, second = random.dirichlet(np.ones(5), 2)
    got = information.fisher_rao(jnp.asarray(first), jnp.asarray(second))
    assert float(got) == pytest.approx(float(CategoricalDistributions(dim=4).metric.dist(first, second)), rel=1e-8)
