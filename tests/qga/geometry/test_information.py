"""Information geometry of a row: metric, Jacobian, divergence, temperature (theory G-4, G-6, G-7)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import softmax
from scipy.stats import entropy

from qga import ShapeError, quantum
from qga.geometry import information
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
SCALE = 0.8


def draw(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return random.normal(size=4), random.normal(size=(7, 4)), random.normal(size=(7, 3))


def test_fisher_rao_is_twice_the_angle_of_amplitudes(random: np.random.Generator) -> None:
    first, second = random.dirichlet(np.ones(6), 2)
    want = 2 * np.arccos(np.sqrt(first * second).sum())
    assert_close(information.fisher_rao(jnp.asarray(first), jnp.asarray(second)), want, scale=20.0)
    assert_close(information.fisher_rao(jnp.asarray(first), jnp.asarray(first)), 0.0)
    assert_far(information.fisher_rao(jnp.asarray(first), jnp.asarray(second[::-1].copy())), want)


def test_metric_is_covariance_hessian_and_four_times_fubini_study(random: np.random.Generator) -> None:
    query, keys, _ = draw(random)
    metric = information.attention_metric(jnp.asarray(query), jnp.asarray(keys), SCALE)
    weights = softmax(SCALE * keys @ query)
    assert_close(metric, SCALE**2 * np.cov(keys.T, aweights=weights, ddof=0), depth=7, scale=4.0)
    hessian = jax.hessian(lambda q: jax.nn.logsumexp(SCALE * jnp.asarray(keys) @ q))(jnp.asarray(query))
    assert_close(metric, hessian, depth=7, scale=4.0)
    tensor = quantum.geometric_tensor(
        lambda q: jnp.sqrt(jax.nn.softmax(SCALE * jnp.asarray(keys) @ q)).astype(complex), jnp.asarray(query)
    )
    assert_close(metric, 4 * tensor.real, depth=7, scale=4.0)
    assert_far(metric, tensor.real)


def test_form_is_that_of_the_metric(random: np.random.Generator) -> None:
    query, keys, _ = (jnp.asarray(each) for each in draw(random))
    direction = jnp.asarray(random.normal(size=4))
    metric = information.attention_metric(query, keys, SCALE)
    form = information.attention_metric_form(query, keys, direction, SCALE)
    assert_close(form, direction @ metric @ direction, depth=28, scale=8.0)


def test_bregman_is_the_relative_entropy(random: np.random.Generator) -> None:
    query, keys, _ = draw(random)
    other = random.normal(size=4)
    want = entropy(softmax(SCALE * keys @ query), softmax(SCALE * keys @ other))
    assert_close(information.bregman(*map(jnp.asarray, (query, other, keys)), SCALE), want, depth=7, scale=8.0)
    assert_far(information.bregman(*map(jnp.asarray, (other, query, keys)), SCALE), want)


def test_pythagoras_on_a_linear_set(random: np.random.Generator) -> None:
    # r is the member of the family with p's mean key; then KL(p|q) = KL(p|r) + KL(r|q) for every q of the family.
    keys, start = random.normal(size=(6, 2)), random.normal(size=2)
    mixed = random.dirichlet(np.ones(6))
    meet = start
    for _ in range(200):
        weights = softmax(keys @ meet)
        meet = meet + np.linalg.solve(np.cov(keys.T, aweights=weights, ddof=0), (mixed - weights) @ keys)
    middle, far = softmax(keys @ meet), softmax(keys @ start)
    third = information.bregman(*map(jnp.asarray, (meet, start, keys)), 1.0)
    assert_close(third, entropy(mixed, far) - entropy(mixed, middle), depth=6, scale=50.0)


def test_jacobian_is_the_derivative_and_its_norm_the_lipschitz_constant(random: np.random.Generator) -> None:
    query, keys, values = (jnp.asarray(each) for each in draw(random))
    jacobian = information.output_jacobian(query, keys, values, SCALE)
    want = jax.jacfwd(lambda q: jax.nn.softmax(SCALE * keys @ q) @ values)(query)
    assert_close(jacobian, want, depth=7, scale=4.0)
    norm = float(information.lipschitz(query, keys, values, SCALE))
    assert norm == pytest.approx(np.linalg.norm(want, 2), rel=1e-12)
    gains = [float(jnp.linalg.norm(want @ u) / jnp.linalg.norm(u)) for u in jnp.asarray(random.normal(size=(50, 4)))]
    assert max(gains) <= norm
    assert max(gains) > 0.6 * norm


def test_temperature_moves_along_the_natural_gradient(random: np.random.Generator) -> None:
    scores = random.normal(size=6)
    slope = information.temperature_slope(jnp.asarray(scores), 1.3)
    want = jax.jacfwd(lambda beta: jax.nn.softmax(beta * jnp.asarray(scores)))(1.3)
    assert_close(slope, want, depth=6)
    weights = softmax(1.3 * scores)
    # d<s> = Var s, and the arc length between two temperatures is the integral of the standard deviation.
    assert_close(scores @ np.asarray(slope), np.cov(scores, aweights=weights, ddof=0), depth=6, scale=4.0)
    length = quad(lambda beta: np.sqrt(np.cov(scores, aweights=softmax(beta * scores), ddof=0)), 0.2, 1.5)[0]
    betas = np.linspace(0.2, 1.5, 2001)
    rows = jnp.asarray(softmax(betas[:, None] * scores, axis=1))
    assert float(information.fisher_rao(rows[:-1], rows[1:]).sum()) == pytest.approx(length, rel=1e-6)


def test_information_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"values with 2 rows"):
        information.output_jacobian(jnp.ones(3), jnp.ones((2, 3)), jnp.ones((3, 1)), 1.0)
    with pytest.raises(ShapeError):
        information.attention_metric(jnp.ones(3), jnp.ones((2, 4)), 1.0)
