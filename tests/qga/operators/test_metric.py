"""The attention metric at every query: covariance, mean and curvature (theory G-6, G-8)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, ShapeError
from qga.operators import attention_operator, mean_metric, metric_curvature, metric_form
from tests.qga.operators.dense import KEYS, QUERIES, WIDTH, draw_pair, draw_weights
from tests.qga.tolerances import assert_close, assert_far


def metrics(weights: np.ndarray, keys: np.ndarray, scale: float) -> np.ndarray:
    """Return the dense covariances of the keys under each row, times scale^2."""
    return np.stack([scale**2 * np.cov(keys.T.astype(float), aweights=row, ddof=0) for row in weights])


def gaussian_curvature(potential: object, point: jax.Array) -> float:
    """Compute the curvature of a Hessian metric on the plane from first principles: Christoffel symbols of a chart."""
    metric = jax.hessian(potential)  # type: ignore[arg-type]

    def symbols(place: jax.Array) -> jax.Array:
        slopes = jax.jacfwd(metric)(place)
        lowered = (slopes + jnp.swapaxes(slopes, 1, 2) - jnp.moveaxis(slopes, 2, 0)) / 2
        return jnp.einsum("kl,lij->kij", jnp.linalg.inv(metric(place)), lowered)

    gamma, slope = symbols(point), jax.jacfwd(symbols)(point)
    # R^k_{lij} = d_i Gamma^k_jl - d_j Gamma^k_il + Gamma^k_im Gamma^m_jl - Gamma^k_jm Gamma^m_il
    raised = jnp.einsum("kjli->klij", slope) - jnp.einsum("kilj->klij", slope)
    raised += jnp.einsum("kim,mjl->klij", gamma, gamma) - jnp.einsum("kjm,mil->klij", gamma, gamma)
    lowered = jnp.einsum("hk,klij->hlij", metric(point), raised)
    return float(lowered[0, 1, 0, 1] / jnp.linalg.det(metric(point)))


def test_form_is_the_covariance(random: np.random.Generator, dtype: np.dtype) -> None:
    pair, direction = draw_pair(random, dtype), random.normal(size=WIDTH)
    want = np.einsum("a,iab,b->i", direction, metrics(pair.weights, pair.keys, 0.7), direction)
    got = metric_form(pair.operator, jnp.asarray(direction, dtype))
    assert_close(got, want, depth=KEYS, scale=16.0)
    assert_far(got, np.roll(want, 1))


@pytest.mark.usefixtures("x64")
def test_form_is_the_second_derivative_of_the_log_sum(random: np.random.Generator) -> None:
    pair, direction = draw_pair(random), jnp.asarray(random.normal(size=WIDTH))

    def log_sum(query: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(0.7 * jnp.asarray(pair.keys) @ query)

    curvatures = [direction @ jax.hessian(log_sum)(jnp.asarray(query)) @ direction for query in pair.queries]
    assert_close(metric_form(pair.operator, direction), np.array(curvatures), depth=KEYS, scale=16.0)


def test_mean_metric_is_the_mean_of_the_covariances(random: np.random.Generator, dtype: np.dtype) -> None:
    pair, chances = draw_pair(random, dtype), draw_weights(random)
    want = np.einsum("i,iab->ab", chances, metrics(pair.weights, pair.keys, 0.7))
    assert_close(mean_metric(pair.operator, jnp.asarray(chances, dtype)), want, depth=KEYS, scale=8.0)
    assert_far(mean_metric(pair.operator), want)


@pytest.mark.usefixtures("x64")
def test_three_keys_have_the_curvature_of_a_sphere_of_radius_two(random: np.random.Generator) -> None:
    queries, keys = jnp.asarray(random.normal(size=(6, 2))), jnp.asarray(random.normal(size=(3, 2)))
    got = metric_curvature(attention_operator(queries, keys, scale=0.8), jnp.eye(2))
    assert_close(got, np.full(6, 0.25), depth=3, scale=1000.0)
    four = metric_curvature(attention_operator(queries, jnp.concatenate([keys, keys[:1] + 1]), scale=0.8), jnp.eye(2))
    assert_far(four, np.full(6, 0.25), scale=1000.0)


@pytest.mark.usefixtures("x64")
def test_curvature_is_that_of_the_hessian_metric(random: np.random.Generator) -> None:
    pair, plane = draw_pair(random), random.normal(size=(2, WIDTH))
    got = np.asarray(metric_curvature(pair.operator, jnp.asarray(plane)))
    for query in (0, QUERIES - 1):

        def potential(place: jax.Array, query: int = query) -> jax.Array:
            return jax.nn.logsumexp(0.7 * jnp.asarray(pair.keys) @ (pair.queries[query] + place @ plane))

        assert got[query] == pytest.approx(gaussian_curvature(potential, jnp.zeros(2)), rel=1e-9)


@pytest.mark.usefixtures("x64")
def test_curvature_does_not_depend_on_the_basis_of_the_plane(random: np.random.Generator) -> None:
    pair, plane = draw_pair(random), random.normal(size=(2, WIDTH))
    turned = random.normal(size=(2, 2)) @ plane
    first, second = (metric_curvature(pair.operator, jnp.asarray(each)) for each in (plane, turned))
    assert_close(first, second, depth=KEYS, scale=1000.0)


def test_curvature_of_two_keys_is_undefined() -> None:
    operator = attention_operator(jnp.ones((1, 2)), jnp.eye(2))
    assert jnp.isnan(metric_curvature(operator, jnp.eye(2))).all()


def test_metric_refuses_another_score_and_width() -> None:
    fidelity = attention_operator(jnp.ones((2, 2)), jnp.ones((2, 2)), metric="fidelity", scale=1.0)
    with pytest.raises(OptionError, match="metric_form: the attention metric in this form is that of dot attention"):
        metric_form(fidelity, jnp.ones(2))
    dot = attention_operator(jnp.ones((2, 2)), jnp.ones((2, 2)))
    with pytest.raises(
        ShapeError, match=r"metric_curvature: a direction is as wide as a key.\n  got:  directions float32\[2, 3\]"
    ):
        metric_curvature(dot, jnp.ones((2, 3)))
