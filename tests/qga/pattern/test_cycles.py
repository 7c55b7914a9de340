"""Cycles of maps and where their periods double, against closed forms (theory P-7)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, ShapeError, flow, pattern
from qga.pattern import Bifurcation
from tests.qga.tolerances import assert_close, assert_far

Field = Callable[[jax.Array, jax.Array], jax.Array]
pytestmark = pytest.mark.usefixtures("x64")


def logistic(x: jax.Array, p: jax.Array) -> jax.Array:
    return p * x * (1 - x)


def henon(x: jax.Array, p: jax.Array) -> jax.Array:
    return jnp.stack([1 - p * x[0] ** 2 + x[1], 0.3 * x[0]])


def pair(rate: float) -> tuple[float, float]:
    """Return the two states of the logistic map's cycle of period two."""
    root = np.sqrt((rate + 1) * (rate - 3))
    return (rate + 1 - root) / (2 * rate), (rate + 1 + root) / (2 * rate)


def doubled(field: Field, branch: pattern.Branch) -> list[tuple[float, float]]:
    """Return parameter and coefficient of each doubling."""
    found = pattern.period_doublings(field, branch)
    happens = np.asarray(found.happens)
    assert bool(jnp.isnan(found.parameters[~happens]).all())
    return list(zip(found.parameters[happens].tolist(), found.coefficients[happens].tolist(), strict=True))


# --- one cycle --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "is_stable"), [(3.2, True), (3.4, True), (3.5, False)])
def test_multiplier_of_the_cycle_of_two(rate: float, is_stable: bool, dtype: np.dtype) -> None:
    low, high = pair(rate)
    cycle = pattern.cycle_stability(lambda x: logistic(x, rate), jnp.full(1, low, dtype), period=2)
    assert_close(cycle.points[:, 0], [low, high], scale=4.0)
    # The product of p (1 - 2 x) over the two states is 4 + 2 p - p^2.
    assert_close(jnp.real(cycle.multipliers), [4 + 2 * rate - rate**2], scale=16.0)
    assert_close(cycle.residual, 0.0, scale=16.0)
    assert bool(cycle.is_stable) == is_stable
    fixed = pattern.cycle_stability(lambda x: logistic(x, rate), jnp.full(1, 1 - 1 / rate, dtype), period=2)
    assert_close(jnp.real(fixed.multipliers), [(2 - rate) ** 2], scale=16.0)
    assert_far(jnp.real(fixed.multipliers), [4 + 2 * rate - rate**2])


def test_every_state_of_a_cycle_has_its_multipliers() -> None:
    field = pattern.cycle_field(henon, 2)
    found = pattern.critical_points(lambda x: field(x, jnp.asarray(0.7)), jnp.array([[1.3, -0.1], [-0.3, 0.4]]))
    cycles = [pattern.cycle_stability(lambda x: henon(x, 0.7), x, period=2) for x in found.points]
    assert_close(jnp.abs(cycles[0].multipliers), jnp.abs(cycles[1].multipliers), scale=8.0)
    # Each step shrinks areas to 0.3 of what they were.
    assert_close(jnp.abs(jnp.prod(cycles[0].multipliers)), 0.3**2, scale=8.0)
    assert_close(cycles[0].points[::-1], cycles[1].points, scale=8.0)
    assert_far(cycles[0].points, cycles[1].points)


def test_orbit_that_does_not_close_has_a_residual() -> None:
    cycle = pattern.cycle_stability(lambda x: logistic(x, 3.2), jnp.full(1, 0.3), period=2)
    assert float(cycle.residual) > 0.1
    lost = pattern.cycle_stability(lambda x: x**3, jnp.full(1, 1e300), period=2)
    assert bool(jnp.isnan(lost.multipliers).all())
    assert not bool(lost.is_stable)


# --- along a parameter ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0.1, 0.125, 0.2])
def test_first_doublings_of_the_logistic_map(length: float) -> None:
    once, twice = (pattern.cycle_field(logistic, period) for period in (1, 2))
    flat = pattern.continuation(once, jnp.full(1, 0.5), 2.0, steps=14, length=length)
    # M'' = -6 at rate 3, and the coefficient is (M'' / 2)^2 + M''' / 6.
    ((rate, coefficient),) = doubled(once, flat)
    assert rate == pytest.approx(3.0, abs=1e-9)
    assert coefficient == pytest.approx(9.0, abs=1e-6)
    way = jnp.array([1.0, 0.0])
    cycle = pattern.continuation(twice, jnp.full(1, 2 / 3), 3.0, steps=30, length=0.03, tangent=way)
    (rate, coefficient), *_ = doubled(twice, cycle)
    assert rate == pytest.approx(1 + 6**0.5, abs=1e-9)
    assert coefficient > 0


def test_doubling_is_found_on_a_point_of_the_branch() -> None:
    def turn(x: jax.Array, p: jax.Array) -> jax.Array:
        return -p * x + x**3

    # The branch is x = 0 and its steps are exact: the fifth point is the doubling.
    field = pattern.cycle_field(turn, 1)
    branch = pattern.continuation(field, jnp.zeros(1), 0.5, steps=8, length=0.125)
    ((rate, coefficient),) = doubled(field, branch)
    assert rate == pytest.approx(1.0, abs=1e-9)
    assert coefficient == pytest.approx(1.0, abs=1e-9)
    assert doubled(field, pattern.continuation(field, jnp.zeros(1), -0.5, steps=8, length=0.125)) == []


def test_doubling_is_a_pitchfork_of_the_second_iterate() -> None:
    once, twice = (pattern.cycle_field(logistic, period) for period in (1, 2))
    flat = pattern.continuation(twice, jnp.full(1, 0.6), 2.5, steps=9, length=0.1)
    found = pattern.bifurcations(twice, flat)
    (kind,) = [int(each) for each in found.kinds if each]
    assert kind == Bifurcation.PITCHFORK
    assert float(jnp.nanmax(found.parameters)) == pytest.approx(3.0, abs=1e-6)
    # The first iterate has eigenvalue -2 there and no crossing: bifurcations of it are silent.
    branch = pattern.continuation(once, jnp.full(1, 0.6), 2.5, steps=9, length=0.1)
    assert not any(pattern.bifurcations(once, branch).kinds)


def test_doublings_of_henons_map() -> None:
    once, twice = (pattern.cycle_field(henon, period) for period in (1, 2))
    fixed = pattern.continuation(once, jnp.array([0.9, 0.3]), 0.1, steps=20, length=0.05)
    ((first, coefficient),) = doubled(once, fixed)
    assert first == pytest.approx(3 * 0.7**2 / 4, abs=1e-9)
    assert coefficient > 0
    found = pattern.critical_points(lambda x: twice(x, jnp.asarray(0.7)), jnp.array([[1.3, -0.1]])).points[0]
    cycle = pattern.continuation(twice, found, 0.7, steps=8, length=0.05)
    ((second, _),) = doubled(twice, cycle)
    assert second == pytest.approx(0.7**2 + 1.3**2 / 4, abs=1e-9)


def test_two_at_once_hide_each_other() -> None:
    def turn(x: jax.Array, p: jax.Array) -> jax.Array:
        return -p * jnp.array([1.0, 1.01]) * x + x**3

    field = pattern.cycle_field(turn, 1)
    long = pattern.continuation(field, jnp.zeros(2), 0.5, steps=3, length=0.3)
    assert doubled(field, long) == []
    short = pattern.continuation(field, jnp.zeros(2), 0.5, steps=150, length=0.006)
    assert [rate for rate, _ in doubled(field, short)] == pytest.approx([1 / 1.01, 1.0], abs=1e-9)


@pytest.mark.parametrize("bend", [1.0, -1.0])
def test_sign_tells_whether_the_new_cycle_is_stable(bend: float) -> None:
    def turn(x: jax.Array, p: jax.Array) -> jax.Array:
        return -p * x + bend * x**3

    assert_close(pattern.flip_form(pattern.cycle_field(turn, 1), jnp.zeros(1), 1.0).cubic, bend)
    # The new cycle is x, -x with x^2 = (p - 1) / bend.
    rate = jnp.asarray(1 + 0.1 * bend)
    cycle = pattern.cycle_stability(lambda x: turn(x, rate), jnp.full(1, 0.1**0.5), period=2)
    assert_close(cycle.residual, 0.0)
    assert bool(cycle.is_stable) == (bend > 0)


def test_flip_form_does_not_depend_on_coordinates(random: np.random.Generator) -> None:
    turn = jnp.asarray(random.normal(size=(3, 3)) / 2 + 2 * np.eye(3))
    turn = turn / jnp.linalg.norm(turn[:, 0])

    def plain(x: jax.Array, _: jax.Array) -> jax.Array:
        return jnp.stack([-x[0] + 0.7 * x[0] * x[1] + 0.2 * x[0] ** 3, 0.5 * x[1] + x[0] ** 2, 0.3 * x[2]]) - x

    def turned(z: jax.Array, p: jax.Array) -> jax.Array:
        return turn @ plain(jnp.linalg.solve(turn, z), p)

    # y follows 2 x^2, which adds 0.7 * 2 to the cubic term.
    assert_close(pattern.flip_form(plain, jnp.zeros(3), 0.0).cubic, 1.6, scale=8.0)
    assert_close(pattern.flip_form(turned, jnp.zeros(3), 0.0).cubic, 1.6, scale=64.0)
    assert_far(pattern.flip_form(plain, jnp.zeros(3), 0.0).cubic, 0.2)


# --- attention --------------------------------------------------------------------------------------------------------


def test_values_against_their_keys_repeat_with_period_two() -> None:
    keys = jnp.array([[1.0], [-1.0]])

    def along(x: jax.Array, scale: jax.Array) -> jax.Array:
        return flow.hopfield(x, keys, scale, steps=1)

    # x <- -tanh(beta x), and -tanh u = -u + u^3 / 3.
    field = pattern.cycle_field(lambda x, scale: -along(x, scale), 1)
    branch = pattern.continuation(field, jnp.zeros(1), 0.3, steps=10, length=0.15)
    ((scale, coefficient),) = doubled(field, branch)
    assert scale == pytest.approx(1.0, abs=1e-9)
    assert coefficient == pytest.approx(1 / 3, abs=1e-9)
    # With values along the keys the derivative is a covariance, and nothing turns over.
    other = pattern.cycle_field(along, 1)
    assert doubled(other, pattern.continuation(other, jnp.zeros(1), 0.3, steps=10, length=0.15)) == []


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_cycles_refuse_what_does_not_fit() -> None:
    with pytest.raises(OptionError, match=r"cycle_field: a cycle has a step at least.\n  got:  period=0"):
        pattern.cycle_field(logistic, 0)
    with pytest.raises(OptionError, match="cycle_stability: a cycle has a step at least"):
        pattern.cycle_stability(lambda x: x, jnp.zeros(1), period=0)
    with pytest.raises(ShapeError, match=r"a map takes a state to a state.\n  got:  a point float64\[2, 1\]"):
        pattern.cycle_stability(lambda x: x, jnp.zeros((2, 1)), period=1)
    with pytest.raises(ShapeError, match=r"what follows float64\[1\]"):
        pattern.cycle_stability(lambda x: x[:1], jnp.zeros(2), period=1)
    with pytest.raises(ShapeError, match="flip_form: a field has one rate for each state"):
        pattern.flip_form(lambda x, p: x[:1], jnp.zeros(2), 0.0)
    field = pattern.cycle_field(logistic, 1)
    branch = pattern.continuation(field, jnp.full(1, 0.5), 2.0, steps=1, length=0.1)
    with pytest.raises(ShapeError, match="period_doublings: something happens between two points"):
        pattern.period_doublings(field, jax.tree.map(lambda each: each[:1], branch))
