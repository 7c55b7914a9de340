"""Composition, rollout, forgetting and stationary laws (theory R-1)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import DomainError, OptionError, ShapeError, routing
from tests.qga.routing.chains import draw_chain, draw_network, law_of, walk
from tests.qga.tolerances import assert_close, assert_far


def test_compose_is_associative_and_stochastic(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second, third = (jnp.asarray(draw_chain(random), dtype) for _ in range(3))
    left = routing.compose(routing.compose(first, second), third)
    right = routing.compose(first, routing.compose(second, third))
    assert_close(left, right, depth=7)
    assert_close(left.sum(1), np.ones(7), depth=7)
    assert_far(left, routing.compose(routing.compose(second, first), third))


def test_tensor_acts_on_products(random: np.random.Generator, dtype: np.dtype) -> None:
    first, second = (draw_chain(random, rows) for rows in (3, 4))
    left, right = random.normal(size=3), random.normal(size=4)
    got = routing.tensor(jnp.asarray(first, dtype), jnp.asarray(second, dtype)) @ jnp.asarray(
        np.kron(left, right), dtype
    )
    assert_close(got, np.kron(first @ left, second @ right), depth=12, scale=4.0)


def test_rollout_is_the_ordered_product(random: np.random.Generator, dtype: np.dtype) -> None:
    layers = np.stack([draw_chain(random) for _ in range(3)])
    mixed = [0.3 * np.eye(7) + 0.7 * layer for layer in layers]
    got = routing.rollout(jnp.asarray(layers, dtype), 0.3)
    assert_close(got, mixed[2] @ mixed[1] @ mixed[0], depth=21)
    assert_far(got, mixed[0] @ mixed[1] @ mixed[2])


def test_dobrushin_of_a_two_state_chain(dtype: np.dtype) -> None:
    # |1 - a - b| is also the second eigenvalue: contraction is exact there.
    for leave, back in ((0.25, 0.5), (0.9, 0.7)):
        chain = jnp.asarray([[1 - leave, leave], [back, 1 - back]], dtype)
        assert_close(routing.dobrushin(chain), abs(1 - leave - back))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), sharpness=st.floats(0.05, 5.0))
def test_dobrushin_is_submultiplicative_and_bounds_contraction(seed: int, sharpness: float) -> None:
    random = np.random.default_rng(seed)
    first, second = (random.dirichlet(np.full(5, sharpness), 5) for _ in range(2))
    delta = [float(routing.dobrushin(jnp.asarray(each, jnp.float32))) for each in (first, second, first @ second)]
    assert delta[2] <= delta[0] * delta[1] + 1e-5
    one, other = random.dirichlet(np.ones(5), 2)
    assert np.abs((one - other) @ first).sum() <= delta[0] * np.abs(one - other).sum() + 1e-5


def test_dobrushin_bound_is_attained(random: np.random.Generator) -> None:
    chain = draw_chain(random)
    delta = float(routing.dobrushin(jnp.asarray(chain, jnp.float32)))
    kept = max(np.abs(one - other).sum() / 2 for one in chain for other in chain)
    assert kept == pytest.approx(delta, rel=1e-5)


@pytest.mark.usefixtures("x64")
def test_dobrushin_multiplies_exactly_on_two_places() -> None:
    # There the inequality is an equality, so that any smaller bound is false.
    first, second = (jnp.array([[1 - a, a], [b, 1 - b]]) for a, b in ((0.2, 0.5), (0.9, 0.3)))
    product = float(routing.dobrushin(first)) * float(routing.dobrushin(second))
    assert float(routing.dobrushin(routing.compose(first, second))) == pytest.approx(product, rel=1e-12)
    assert float(routing.dobrushin(first + second)) > 1.01 * product


def test_dobrushin_of_known_channels() -> None:
    assert float(routing.dobrushin(jnp.eye(4))) == 1
    assert float(routing.dobrushin(jnp.full((4, 4), 0.25))) == 0
    assert float(routing.dobrushin(jnp.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]))) == pytest.approx(0.8)


@pytest.mark.usefixtures("x64")
def test_information_survives_relabelling_and_no_merging(random: np.random.Generator) -> None:
    # The two ends of data processing: a permutation loses nothing, one answer for all loses everything.
    channel, chances = jnp.asarray(draw_chain(random)), jnp.asarray(random.dirichlet(np.ones(7)))
    before = routing.mutual_information(channel, chances)
    renamed = routing.compose(channel, jnp.asarray(np.eye(7)[random.permutation(7)]))
    assert_close(routing.mutual_information(renamed, chances), before, depth=7)
    merged = routing.compose(channel, jnp.full((7, 2), 0.5))
    assert_close(routing.mutual_information(merged, chances), 0.0, depth=7)


@pytest.mark.usefixtures("x64")
def test_information_grows_where_the_second_map_sees_the_question(random: np.random.Generator) -> None:
    # The negative twin: no Markov chain, no data processing. The second map looks at the query itself.
    blind, chances = jnp.full((3, 3), 1 / 3), jnp.full(3, 1 / 3)
    assert_close(routing.mutual_information(blind, chances), 0.0)
    assert float(routing.mutual_information(jnp.eye(3), chances)) > 1.0


@pytest.mark.usefixtures("x64")
def test_tensor_composes_part_by_part(random: np.random.Generator) -> None:
    # The interchange law of a monoidal category: (P x Q)(R x S) = PR x QS.
    first, other = (jnp.asarray(draw_chain(random, 3)) for _ in range(2))
    second, last = (jnp.asarray(draw_chain(random, 2)) for _ in range(2))
    left = routing.compose(routing.tensor(first, second), routing.tensor(other, last))
    assert_close(left, routing.tensor(routing.compose(first, other), routing.compose(second, last)), depth=6)
    assert_far(left, routing.tensor(routing.compose(other, first), routing.compose(second, last)), depth=6)


def test_rollout_of_nothing_but_skips_changes_nothing(random: np.random.Generator) -> None:
    layers = jnp.asarray(np.stack([draw_chain(random) for _ in range(3)]), jnp.float32)
    assert np.array_equal(routing.rollout(layers, 1.0), np.eye(7))
    assert_close(routing.rollout(layers, 0.5).sum(1), np.ones(7), depth=21)
    assert_far(routing.rollout(layers, 0.5), np.eye(7))


@pytest.mark.usefixtures("x64")
def test_stationary_law_of_a_network_is_its_degrees(random: np.random.Generator) -> None:
    chain, law = walk(draw_network(random))
    assert_close(routing.stationary(jnp.asarray(chain)).law, law, depth=7)
    assert_far(routing.stationary(jnp.asarray(chain)).law, np.full(7, 1 / 7))


def test_information_does_not_grow_under_composition(random: np.random.Generator) -> None:
    first, second = (jnp.asarray(draw_chain(random), jnp.float32) for _ in range(2))
    chances = jnp.asarray(random.dirichlet(np.ones(7)), jnp.float32)
    before, after = (routing.mutual_information(each, chances) for each in (first, routing.compose(first, second)))
    assert after < before
    # The other factor is bounded too: by what the second layer can tell about its own input.
    assert after <= routing.mutual_information(second, chances @ first) + 1e-6


def test_stationary_is_kept(random: np.random.Generator, dtype: np.dtype) -> None:
    chain = draw_chain(random)
    got = routing.stationary(jnp.asarray(chain, dtype))
    assert_close(got.law, law_of(chain), depth=7)
    assert_close(got.residual, 0.0, depth=7)


def test_stationary_of_a_periodic_walk_is_found(dtype: np.dtype) -> None:
    got = routing.stationary(jnp.asarray([[0.0, 1.0], [1.0, 0.0]], dtype))
    assert_close(got.law, [0.5, 0.5])


def test_residual_says_when_steps_are_too_few() -> None:
    slow = jnp.array([[0.999, 0.001], [0.0005, 0.9995]])
    few, many = (routing.stationary(slow, steps=steps) for steps in (2, 20000))
    assert float(few.residual) > 1e-5
    assert float(many.residual) < 1e-6
    assert_close(many.law, [1 / 3, 2 / 3], scale=200.0)


def test_causal_walk_ends_in_the_first_row() -> None:
    chain = jnp.tril(jnp.ones((5, 5)))
    assert_close(routing.stationary(chain / chain.sum(1, keepdims=True)).law, np.eye(5)[0], depth=5)


def test_composition_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"first float32\[2, 3\], second float32\[2, 3\]"):
        routing.compose(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    with pytest.raises(
        ShapeError, match=r"rollout: layers are square maps over the same rows.\n  got:  float32\[2, 3\]"
    ):
        routing.rollout(jnp.zeros((2, 3)))
    with pytest.raises(DomainError, match=r"residual=1\.5"):
        routing.rollout(jnp.zeros((1, 2, 2)), 1.5)
    with pytest.raises(ShapeError, match="stationary: an operator has as many rows as columns"):
        routing.stationary(jnp.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"tensor: two maps, each from queries to keys.\n  got:  first float32\[2\]"):
        routing.tensor(jnp.zeros(2), jnp.eye(2))
    with pytest.raises(ShapeError, match=r"dobrushin: a channel is a matrix.*\n  got:  weights float32\[2\]\n"):
        routing.dobrushin(jnp.zeros(2))
    with pytest.raises(OptionError, match="steps=0"):
        routing.stationary(jnp.eye(2), steps=0)
