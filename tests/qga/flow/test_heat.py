"""Heat flow is the matrix exponential within its bound, and behaves like heat (theory F-1)."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.linalg import expm
from scipy.stats import poisson

from qga import DomainError, OptionError, attention_weights, pattern_flow
from qga.flow import heat, order_for, poisson_tail, poisson_weights
from qga.operators import attention_operator, tile_operator
from tests.qga.dense import softmax
from tests.qga.tolerances import assert_close, assert_far, bound, worst

PLACES = 13


def draw_operator(random: np.random.Generator) -> np.ndarray:
    return softmax(2 * random.normal(size=(PLACES, PLACES)))


def flow(operator: np.ndarray, field: np.ndarray, time: float, order: int, dtype: np.dtype) -> tuple[np.ndarray, float]:
    matrix = jnp.asarray(operator, dtype)
    out, tail = heat(lambda f: matrix @ f, jnp.asarray(field, dtype), time, order=order)
    return np.asarray(out), float(tail)


def backwards(operator: np.ndarray) -> np.ndarray:
    """Return the operator whose heat is that of time run backwards: rows of sum one, and entries below zero."""
    return 2 * np.eye(PLACES) - operator


def exact(operator: np.ndarray, time: float) -> np.ndarray:
    return expm(-time * (np.eye(PLACES) - operator))


@pytest.mark.parametrize("time", [0.1, 0.99, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("order", [0, 1, 4, 12, 60])
def test_error_is_within_the_bound(time: float, order: int, random: np.random.Generator, dtype: np.dtype) -> None:
    operator, field = draw_operator(random), random.normal(size=(PLACES, 2))
    out, tail = flow(operator, field, time, order, dtype)
    diameter = np.linalg.norm(field[:, None] - field[None], axis=-1).max()
    error = np.linalg.norm(out - exact(operator, time) @ field, axis=-1).max()
    assert error <= tail * diameter + bound(dtype, depth=PLACES * max(order, 1), scale=float(np.abs(field).max()))


def test_bound_is_not_vacuous(random: np.random.Generator, dtype: np.dtype) -> None:
    # Half of the mass is cut off here: the error must be visible, so the test above can fail.
    operator, field = draw_operator(random), random.normal(size=(PLACES, 2))
    out, tail = flow(operator, field, 3.0, 2, dtype)
    assert tail < 0.6
    assert worst(out, exact(operator, 3.0) @ field) > 1e-3


@pytest.mark.parametrize("time", [0.0, 0.3, 1.0, 7.5, 40.0])
@pytest.mark.parametrize("order", [0, 3, 20, 80])
def test_tail_bounds_the_poisson_tail_tightly(time: float, order: int, dtype: np.dtype) -> None:
    got, want = float(poisson_tail(jnp.asarray(time, dtype), order)), poisson.sf(order, time)
    assert got >= want
    if order + 34 > 1.5 * time and want > np.finfo(dtype).tiny:
        assert got <= want * (1.001 if dtype == np.float32 else 1 + 1e-6)


def test_tail_says_nothing_where_the_series_does_not_converge(dtype: np.dtype) -> None:
    assert poisson_tail(jnp.asarray(500.0, dtype), 3) == 1


@pytest.mark.parametrize("time", [0.0, 0.5, 1.0, 30.0, 300.0])
def test_weights_are_renormalised_poisson(time: float, dtype: np.dtype) -> None:
    got = poisson_weights(jnp.asarray(time, dtype), 25)
    want = poisson.pmf(np.arange(26), time)
    # Exponents reach 26 log 300 + log 26!, and their rounding is what is left.
    assert_close(got, want / want.sum(), depth=26, scale=30.0)
    assert_close(got.sum(), 1.0, depth=26)


@pytest.mark.parametrize(("time", "order"), [(0.0, 0), (0.5, 7), (1.0, 9), (2.0, 12), (5.0, 19), (10.0, 28)])
def test_order_for_one_in_a_million(time: float, order: int) -> None:
    assert order_for(time) == order
    assert poisson.sf(order, time) <= 1e-6
    assert order == 0 or poisson.sf(order - 1, time) > 1e-6


def test_no_time_changes_no_bit(random: np.random.Generator, dtype: np.dtype) -> None:
    field = random.normal(size=(PLACES, 2)).astype(dtype)
    out, tail = flow(draw_operator(random), field, 0.0, 5, dtype)
    assert np.array_equal(out, field)
    assert tail == 0


def test_flows_add_up(random: np.random.Generator, dtype: np.dtype) -> None:
    operator, field = draw_operator(random), random.normal(size=(PLACES, 2))
    once, _ = flow(operator, field, 2.0, 40, dtype)
    twice, _ = flow(operator, flow(operator, field, 0.75, 40, dtype)[0], 1.25, 40, dtype)
    assert_close(twice, once, depth=PLACES, scale=10.0)
    assert_far(flow(operator, field, 1.9, 40, dtype)[0], once)


def test_constants_do_not_flow(random: np.random.Generator, dtype: np.dtype) -> None:
    out, _ = flow(draw_operator(random), np.full((PLACES, 1), 3.0), 4.0, 2, dtype)
    assert_close(out, np.full((PLACES, 1), 3.0), depth=PLACES, scale=3.0)
    # Rows that do not sum to one are no averages.
    leaky, _ = flow(0.99 * draw_operator(random), np.full((PLACES, 1), 3.0), 4.0, 2, dtype)
    assert_far(leaky, np.full((PLACES, 1), 3.0), depth=PLACES)


def test_field_stays_in_its_range(random: np.random.Generator, dtype: np.dtype) -> None:
    operator, field = draw_operator(random), random.random((PLACES, 3))
    out, _ = flow(operator, field, 5.0, 3, dtype)
    slack = bound(dtype, PLACES)
    assert (out >= field.min(axis=0) - slack).all()
    assert (out <= field.max(axis=0) + slack).all()
    assert np.ptp(flow(backwards(operator), field, 1.0, 20, dtype)[0], axis=0).min() > 1.01


def test_distributions_come_together(random: np.random.Generator, dtype: np.dtype) -> None:
    # Each Poisson step is a mixture of powers of P, and P^k contracts by the k-th power of Dobrushin's coefficient.
    operator, order = draw_operator(random), 12
    coefficient = max(np.abs(one - other).sum() / 2 for one in operator for other in operator)
    weights = poisson.pmf(np.arange(order + 1), 1.5)
    factor = float(weights @ coefficient ** np.arange(order + 1) / weights.sum())
    laws = random.dirichlet(np.ones(PLACES), 2).T
    after, _ = flow(operator.T, laws, 1.5, order, dtype)
    assert (after >= 0).all()
    assert_close(after.sum(axis=0), np.ones(2), depth=PLACES)

    def apart(each: np.ndarray) -> float:
        return float(np.abs(each[:, 0] - each[:, 1]).sum() / 2)

    assert apart(after) <= factor * apart(laws) + bound(dtype, PLACES)
    assert apart(flow(backwards(operator).T, laws, 1.5, order, dtype)[0]) > apart(laws)


@pytest.mark.usefixtures("x64")
def test_heat_of_a_lumpable_pattern_is_the_heat_of_its_tiles() -> None:
    # Queries and keys are equal within tiles of three (theory F-2).
    random = np.random.default_rng(3)
    rows, start = random.normal(size=(4, 2)).repeat(3, axis=0), random.dirichlet(np.ones(12))
    weights = softmax(rows @ rows.T / 2**0.5)

    def apart(tile: int) -> float:
        lumped = np.asarray(tile_operator(attention_operator(jnp.asarray(rows), jnp.asarray(rows), block=6), tile)[0])
        assert_close(lumped.sum(axis=1), np.ones(12 // tile), depth=12)
        places = heat(lambda law: jnp.asarray(weights.T) @ law, jnp.asarray(start)[:, None], 2.0, order=30)[0]
        tiles = heat(
            lambda law: jnp.asarray(lumped.T) @ law, jnp.asarray(start.reshape(-1, tile).sum(1))[:, None], 2.0, order=30
        )[0]
        return worst(places.reshape(-1, tile).sum(1), tiles[:, 0])

    assert apart(3) <= bound(np.float64, depth=12)
    assert apart(4) > 1e-3


def test_reversible_flow_keeps_mass_and_loses_energy(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = random.normal(size=(PLACES, PLACES))
    kernel = np.exp(scores + scores.T)
    operator, weights = kernel / kernel.sum(1, keepdims=True), kernel.sum(1) / kernel.sum()
    field = random.normal(size=(PLACES, 1))
    states = [flow(operator, field, time, 40, dtype)[0] for time in (0.0, 0.5, 1.0, 2.0)]

    def energy(state: np.ndarray) -> float:
        return float((weights[:, None] * operator * (state - state.T) ** 2).sum() / 2)

    for before, after in pairwise(states):
        assert_close((weights @ after)[0].astype(dtype), float((weights @ before)[0]), depth=PLACES, scale=3.0)
        assert energy(after) < energy(before)
    # Backwards it gains energy, and other weights than the stationary ones see their mass move.
    assert energy(flow(backwards(operator), field, 0.5, 20, dtype)[0]) > energy(states[0])
    assert_far(states[2].mean(), states[0].mean(), depth=PLACES)


def test_causal_flow_ends_in_the_first_place(random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys = (jnp.asarray(random.normal(size=(PLACES, 4)), dtype) for _ in range(2))
    field = jnp.asarray(random.normal(size=(PLACES, 2)), dtype)
    out, _ = pattern_flow(queries, keys, field, 300.0, order=order_for(300.0), is_causal=True, tile=5)
    assert_close(out, jnp.broadcast_to(field[:1], field.shape), depth=400, scale=10.0)


@pytest.mark.parametrize("metric", ["dot", "fidelity"])
def test_pattern_flow_is_the_heat_of_the_weights(metric: str, random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys, field = (jnp.asarray(random.normal(size=(2, PLACES, 4)), dtype) for _ in range(3))
    out, tail = pattern_flow(queries, keys, field, 1.5, order=30, metric=metric, scale=2.0, tile=4)
    weights = np.asarray(attention_weights(queries, keys, metric=metric, scale=2.0), float)
    for entry in range(2):
        assert_close(out[entry], exact(weights[entry], 1.5) @ np.asarray(field[entry], float), depth=PLACES, scale=10.0)
    assert tail < 1e-12


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("time", [0.0, 0.6, 2.5])
def test_derivative_in_time_is_the_heat_equation(time: float, random: np.random.Generator) -> None:
    operator, field = draw_operator(random), random.normal(size=(PLACES, 2))
    matrix = jnp.asarray(operator)
    _, rate = jax.jvp(lambda t: heat(lambda f: matrix @ f, jnp.asarray(field), t, order=40)[0], (time,), (1.0,))
    want = -(np.eye(PLACES) - operator) @ exact(operator, time) @ field
    assert_close(rate, want, depth=PLACES, scale=100.0)


@pytest.mark.usefixtures("x64")
def test_flow_has_gradients_in_everything(random: np.random.Generator) -> None:
    arrays = [jnp.asarray(random.normal(size=(5, 4))) for _ in range(3)]
    check_grads(lambda *a: pattern_flow(*a, order=6, tile=2)[0], (*arrays, 1.3), order=1, modes=["fwd", "rev"])


def test_negative_time_is_refused() -> None:
    with pytest.raises(DomainError) as error:
        heat(lambda f: f, jnp.ones((2, 1)), -1.0, order=3)
    assert str(error.value) == (
        "heat: a flow runs forwards.\n"
        "  got:  time=-1.0\n"
        "  want: time >= 0\n"
        "  fix:  use a time of zero or more; heat flow has no inverse."
    )


def test_negative_order_is_refused() -> None:
    with pytest.raises(OptionError, match="got:  order=-1"):
        heat(lambda f: f, jnp.ones((2, 1)), 1.0, order=-1)


def test_fidelity_flow_needs_a_scale() -> None:
    rows = jnp.ones((2, 2))
    with pytest.raises(OptionError, match="no natural scale"):
        pattern_flow(rows, rows, rows, 1.0, order=2, metric="fidelity")


@pytest.mark.parametrize(("time", "tolerance"), [(-1.0, 1e-6), (800.0, 1e-6), (1.0, 1e-20)])
def test_order_for_refuses_what_doubles_cannot_sum(time: float, tolerance: float) -> None:
    with pytest.raises(DomainError, match="cannot be summed in double precision"):
        order_for(time, tolerance)
