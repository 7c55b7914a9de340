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
from tests.qga.dense import softmax
from tests.qga.tolerances import assert_close, assert_far, bound, worst

PLACES = 13


def draw_operator(random: np.random.Generator) -> np.ndarray:
    return softmax(2 * random.normal(size=(PLACES, PLACES)))


def flow(operator: np.ndarray, field: np.ndarray, time: float, order: int, dtype: np.dtype) -> tuple[np.ndarray, float]:
    matrix = jnp.asarray(operator, dtype)
    out, tail = heat(lambda f: matrix @ f, jnp.asarray(field, dtype), time, order=order)
    return np.asarray(out), float(tail)


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


def test_field_stays_in_its_range(random: np.random.Generator, dtype: np.dtype) -> None:
    field = random.random((PLACES, 3))
    out, _ = flow(draw_operator(random), field, 5.0, 3, dtype)
    slack = bound(dtype, PLACES)
    assert (out >= field.min(axis=0) - slack).all()
    assert (out <= field.max(axis=0) + slack).all()


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
