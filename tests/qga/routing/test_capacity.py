"""Mutual information and capacity: closed forms, the duality gap, the envelope theorem (theory R-3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from qga import OptionError, routing
from tests.qga.routing.chains import draw_chain
from tests.qga.tolerances import assert_close, assert_far


def test_mutual_information_is_a_mean_of_relative_entropies(random: np.random.Generator, dtype: np.dtype) -> None:
    chain, chances = draw_chain(random), random.dirichlet(np.ones(7))
    want = sum(chance * entropy(row, chances @ chain) for chance, row in zip(chances, chain, strict=True))
    got = routing.mutual_information(jnp.asarray(chain, dtype), jnp.asarray(chances, dtype))
    assert_close(got, want, depth=7, scale=4.0)
    assert_far(routing.mutual_information(jnp.asarray(chain.T, dtype), jnp.asarray(chances, dtype)), want)


def test_mutual_information_of_the_identity_is_the_entropy(dtype: np.dtype) -> None:
    chances = np.array([0.5, 0.25, 0.25, 0.0])
    got = routing.mutual_information(jnp.eye(4, dtype=dtype), jnp.asarray(chances, dtype))
    assert_close(got, entropy(chances), scale=2.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("error", [0.05, 0.11, 0.4])
def test_capacity_of_the_symmetric_channel(error: float) -> None:
    got = routing.capacity(jnp.array([[1 - error, error], [error, 1 - error]]), iterations=5)
    assert_close(got.value, np.log(2) - entropy([error, 1 - error]))
    assert_close(got.gap, 0.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("error", [0.1, 0.5])
def test_capacity_of_the_z_channel(error: float) -> None:
    # Closed form: log(1 + (1 - p) p^(p / (1 - p))); 0.2231... nats for p = 1/2, which is log(5 / 4).
    got = routing.capacity(jnp.array([[1.0, 0.0], [error, 1 - error]]), iterations=400)
    want = np.log1p((1 - error) * error ** (error / (1 - error)))
    assert got.value <= want + 1e-12
    assert_close(got.value, want, scale=1e3)
    if error == 0.5:
        assert_close(got.value, np.log(1.25), scale=1e3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), iterations=st.sampled_from([1, 3, 30]), sharpness=st.floats(0.05, 5.0))
def test_gap_bounds_what_is_missing(seed: int, iterations: int, sharpness: float) -> None:
    with jax.enable_x64(True):
        chain = jnp.asarray(np.random.default_rng(seed).dirichlet(np.full(4, sharpness), 4) + 1e-9)
        rough, fine = (routing.capacity(chain, iterations=count) for count in (iterations, 20000))
        assert rough.value <= fine.value + fine.gap + 1e-12
        assert rough.value + rough.gap >= fine.value - 1e-12


def test_gap_is_not_vacuous(random: np.random.Generator) -> None:
    chain = jnp.asarray(draw_chain(random), jnp.float32)
    gaps = [float(routing.capacity(chain, iterations=count).gap) for count in (1, 10, 1000)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[0] > 1e-2
    assert gaps[2] < 1e-3


@pytest.mark.usefixtures("x64")
def test_derivative_is_that_of_the_maximum(random: np.random.Generator) -> None:
    chain, other = (jnp.asarray(draw_chain(random, 3)) for _ in range(2))

    def value(step: float) -> jax.Array:
        return routing.capacity(chain + step * (other - chain), iterations=20000).value

    _, slope = jax.jvp(value, (0.0,), (1.0,))
    assert float(slope) == pytest.approx(float((value(1e-4) - value(-1e-4)) / 2e-4), rel=1e-5)


@pytest.mark.usefixtures("x64")
def test_derivative_at_a_weight_of_zero_is_the_divergence(random: np.random.Generator) -> None:
    chain, chances = jnp.asarray(draw_chain(random, 4)), jnp.array([0.5, 0.3, 0.2, 0.0])
    got = jax.grad(routing.mutual_information, argnums=1)(chain, chances)
    assert_close(got, routing.divergences(chain, chances) - 1, depth=16)


def test_a_query_that_nobody_asks_may_look_where_nobody_looks() -> None:
    chain = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    assert float(routing.mutual_information(chain, jnp.array([1.0, 0.0]))) == 0.0
    assert jnp.isposinf(routing.divergences(chain, jnp.array([1.0, 0.0]))[1])


def test_capacity_refuses_no_iterations() -> None:
    with pytest.raises(OptionError, match="capacity: iterations are counted from one"):
        routing.capacity(jnp.eye(2), iterations=0)
