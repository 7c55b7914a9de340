"""Mutual information and capacity: closed forms, the duality gap, the envelope theorem (theory R-3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from qga import OptionError, ShapeError, routing
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


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("lost", [0.0, 0.25, 0.9])
def test_capacity_of_the_erasure_channel(lost: float) -> None:
    # (1 - e) log 2: Cover and Thomas 2006, section 7.1.5.
    got = routing.capacity(jnp.array([[1 - lost, 0, lost], [0, 1 - lost, lost]]), iterations=5)
    assert_close(got.value, (1 - lost) * np.log(2))
    assert_close(got.gap, 0.0)


@pytest.mark.usefixtures("x64")
def test_capacity_of_the_noisy_typewriter() -> None:
    # Each of 26 letters is read as itself or the next one: log 13. Cover and Thomas 2006, section 7.1.4.
    letters = (np.eye(26) + np.roll(np.eye(26), 1, axis=1)) / 2
    assert_close(routing.capacity(jnp.asarray(letters), iterations=3).value, np.log(13), depth=26)
    # With unequal chances it is another channel.
    bent = 0.3 * np.eye(26) + 0.7 * np.roll(np.eye(26), 1, axis=1)
    assert_far(routing.capacity(jnp.asarray(bent), iterations=3).value, np.log(13), depth=26)


@pytest.mark.usefixtures("x64")
def test_capacity_adds_on_independent_channels(random: np.random.Generator) -> None:
    first, second = (jnp.asarray(draw_chain(random, rows)) for rows in (3, 2))
    parts = [routing.capacity(each, iterations=4000) for each in (first, second)]
    both = routing.capacity(routing.tensor(first, second), iterations=4000)
    total = float(parts[0].value + parts[1].value)
    slack = float(parts[0].gap + parts[1].gap + both.gap) + 1e-12
    assert abs(float(both.value) - total) <= slack < 1e-3 * total
    # Composed instead of side by side they route less than either.
    narrow = routing.capacity(routing.compose(first, jnp.asarray(draw_chain(random, 3))), iterations=4000)
    assert float(narrow.value + narrow.gap) < float(parts[0].value)


@pytest.mark.usefixtures("x64")
def test_best_weights_make_every_divergence_the_capacity(random: np.random.Generator) -> None:
    # Kuhn and Tucker: equal for the queries that are asked, no larger for the others.
    chain = jnp.asarray(np.concatenate([draw_chain(random, 4), np.full((1, 4), 0.25)]))
    got = routing.capacity(chain, iterations=50000)
    apart = np.asarray(routing.divergences(chain, got.query_weights))
    asked = np.asarray(got.query_weights) > 1e-6
    assert not asked.all()
    assert np.abs(apart[asked] - float(got.value)).max() < 1e-6
    assert (apart <= float(got.value) + 1e-6).all()
    # Uniform weights are not the best ones.
    even = np.asarray(routing.divergences(chain, jnp.full(5, 0.2)))
    assert np.ptp(even) > 1e-2


@pytest.mark.usefixtures("x64")
def test_value_without_its_gap_bounds_nothing_from_above() -> None:
    # The negative twin of the duality gap, on a channel whose capacity is known: log(5 / 4).
    got = routing.capacity(jnp.array([[1.0, 0.0], [0.5, 0.5]]), iterations=2)
    assert float(got.value) < np.log(1.25) - 1e-4
    assert float(got.value + got.gap) >= np.log(1.25)


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
    with pytest.raises(ShapeError) as error:
        routing.mutual_information(jnp.eye(2), jnp.ones(3))
    assert str(error.value) == (
        "mutual_information: a channel is a matrix, and each of its queries has one chance.\n"
        "  got:  weights float32[2, 2], query_weights float32[3]\n"
        "  want: weights [queries, keys], query_weights [queries]\n"
        "  fix:  map over heads with jax.vmap."
    )
    with pytest.raises(ShapeError, match="divergences: a channel is a matrix"):
        routing.divergences(jnp.eye(2), jnp.ones((2, 1)))
    with pytest.raises(ShapeError, match=r"capacity: a channel is a matrix.*\n  got:  weights float32\[2\]\n"):
        routing.capacity(jnp.ones(2), iterations=1)
