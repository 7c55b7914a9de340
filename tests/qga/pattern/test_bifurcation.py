"""Branches and what happens on them, against normal forms and known thresholds (theory P-7)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import OptionError, ShapeError, flow, pattern, tiling
from qga.pattern import Bifurcation, Branch
from tests.qga.tolerances import assert_close, assert_far

Field = Callable[[jax.Array, jax.Array], jax.Array]
pytestmark = pytest.mark.usefixtures("x64")
ROOT_EPS = 1e-7


def fold(x: jax.Array, p: jax.Array) -> jax.Array:
    return p - x**2


def transcritical(x: jax.Array, p: jax.Array) -> jax.Array:
    return p * x - x**2


def pitchfork(x: jax.Array, p: jax.Array) -> jax.Array:
    return p * x - x**3


def turning(x: jax.Array, p: jax.Array) -> jax.Array:
    return jnp.stack([p * x[0] - 2 * x[1], 2 * x[0] + p * x[1]]) - x * jnp.sum(x**2)


def retrieve(keys: np.ndarray) -> Field:
    memories = jnp.asarray(keys)
    return lambda x, scale: flow.hopfield(x, memories, scale, steps=1) - x


def events(field: Field, branch: Branch) -> list[tuple[str, float, float]]:
    """Return name, parameter and coefficient of what happens."""
    found = pattern.bifurcations(field, branch)
    return [
        (Bifurcation(int(kind)).name, float(parameter), float(coefficient))
        for kind, parameter, coefficient in zip(found.kinds, found.parameters, found.coefficients, strict=True)
        if kind
    ]


def require(found: list[tuple[str, float, float]], want: list[tuple[str, float, float]], error: float = 1e-9) -> None:
    assert [name for name, _, _ in found] == [name for name, _, _ in want]
    assert np.allclose([each[1:] for each in found], [each[1:] for each in want], rtol=0, atol=error)


# --- branches ---------------------------------------------------------------------------------------------------------


def test_branch_goes_round_the_circle(dtype: np.dtype) -> None:
    def circle(x: jax.Array, p: jax.Array) -> jax.Array:
        return x**2 + p**2 - 1

    steps = 62
    branch = pattern.continuation(circle, jnp.ones(1, dtype), 0.0, steps=steps, length=0.1)
    radii = branch.points[:, 0] ** 2 + branch.parameters**2
    assert_close(radii, np.ones(steps + 1), scale=4.0)
    assert_close(jnp.sum(branch.tangents**2, axis=1), np.ones(steps + 1), scale=2.0)
    across = branch.points[:, 0] * branch.tangents[:, 0] + branch.parameters * branch.tangents[:, 1]
    assert_close(across, np.zeros(steps + 1), scale=4.0)
    assert_close(branch.residuals, np.zeros(steps + 1), scale=4.0)
    angles = np.unwrap(np.arctan2(np.asarray(branch.parameters), np.asarray(branch.points[:, 0])))
    # Each step is h along a tangent of the unit circle, and back at right angles: an angle of asin h.
    assert_close(np.diff(angles).astype(dtype), np.full(steps, np.arcsin(0.1)), scale=8.0)
    assert_far(np.diff(angles).astype(dtype), np.full(steps, 0.1))


def test_eigenvalues_are_those_of_the_jacobian() -> None:
    branch = pattern.continuation(turning, jnp.zeros(2), -1.0, steps=5, length=0.3)
    assert_close(jnp.real(branch.eigenvalues), np.repeat(np.asarray(branch.parameters)[:, None], 2, 1), scale=4.0)
    assert_close(jnp.abs(jnp.imag(branch.eigenvalues)), np.full((6, 2), 2.0), scale=4.0)
    bare = pattern.continuation(turning, jnp.zeros(2), -1.0, steps=5, length=0.3, spectrum=False)
    assert bare.eigenvalues.shape == (6, 0)
    assert jnp.array_equal(bare.points, branch.points)


def test_too_long_a_step_ends_the_branch() -> None:
    short, long = (pattern.continuation(fold, jnp.ones(1), 1.0, steps=9, length=-each) for each in (0.1, 20.0))
    assert not jnp.isnan(short.points).any()
    assert bool(jnp.isnan(long.points[1:]).all())
    assert not any(kind for kind in pattern.bifurcations(fold, long).kinds)


def test_start_that_rests_nowhere_is_not_a_branch() -> None:
    branch = pattern.continuation(fold, jnp.ones(1), -1.0, steps=3, length=0.1)
    assert bool(jnp.isnan(branch.points).all())


def test_tangent_leads_into_the_branch_that_crosses() -> None:
    way = jnp.array([1.0, 0.0])
    branch = pattern.continuation(pitchfork, jnp.zeros(1), 0.0, steps=12, length=0.1, tangent=way)
    assert_close(branch.points[:, 0] ** 2, branch.parameters, scale=8.0)
    assert float(branch.points[-1, 0]) > 0.5
    other = pattern.continuation(pitchfork, jnp.zeros(1), 0.0, steps=12, length=0.1)
    assert_far(other.points[1:, 0] ** 2, other.parameters[1:])


def test_derivative_of_a_branch_is_the_difference_quotient() -> None:
    def end(rate: jax.Array) -> jax.Array:
        branch = pattern.continuation(
            lambda x, p: rate * p - x**2, jnp.ones(1), 1.0, steps=9, length=-0.1, spectrum=False
        )
        return branch.points[-1, 0] + branch.parameters[-1]

    quotient = (end(1 + 1e-5) - end(1 - 1e-5)) / 2e-5
    assert float(jax.grad(end)(1.0)) == pytest.approx(float(quotient), abs=1e-8)


# --- what happens on a branch -----------------------------------------------------------------------------------------


def test_fold_is_found_where_it_is() -> None:
    branch = pattern.continuation(fold, jnp.ones(1), 1.0, steps=30, length=-0.1)
    require(events(fold, branch), [("FOLD", 0.0, -1.0)])
    # x^3 bends in the same place and does not turn back.
    straight = pattern.continuation(lambda x, p: p - x**3, jnp.ones(1), 1.0, steps=30, length=-0.1)
    assert events(lambda x, p: p - x**3, straight) == []


@pytest.mark.parametrize("length", [0.3, 0.125, -0.125])
def test_pitchfork_is_found_from_the_handle(length: float) -> None:
    # Steps of 1 / 8 end on the crossing itself.
    branch = pattern.continuation(pitchfork, jnp.zeros(1), -np.sign(length), steps=16, length=length)
    require(events(pitchfork, branch), [("PITCHFORK", 0.0, -1.0)])
    subcritical = pattern.continuation(lambda x, p: p * x + x**3, jnp.zeros(1), -1.0, steps=8, length=0.3)
    require(events(lambda x, p: p * x + x**3, subcritical), [("PITCHFORK", 0.0, 1.0)])


def test_imperfect_pitchfork_has_a_fold_and_no_crossing() -> None:
    def imperfect(x: jax.Array, p: jax.Array) -> jax.Array:
        return 0.1 + pitchfork(x, p)

    # Folds of x^3 - p x = h: x = -(h / 2)^(1 / 3), p = 3 x^2.
    place = -(0.05 ** (1 / 3))
    apart = pattern.continuation(imperfect, jnp.array([-1.1]), 1.3, steps=40, length=-0.05)
    require(events(imperfect, apart), [("FOLD", 3 * place**2, -3 * place)])
    joined = pattern.continuation(imperfect, jnp.array([1.1]), 1.3, steps=60, length=-0.05)
    assert events(imperfect, joined) == []


def test_crossing_is_found_from_its_other_branches() -> None:
    branch = pattern.continuation(pitchfork, jnp.ones(1), 1.0, steps=40, length=-0.1)
    require(events(pitchfork, branch), [("PITCHFORK", 0.0, -1.0)], ROOT_EPS)
    for start in (0.0, -1.0):
        branch = pattern.continuation(transcritical, jnp.full(1, start), -1.0, steps=30, length=0.1)
        require(events(transcritical, branch), [("TRANSCRITICAL", 0.0, -1.0)], ROOT_EPS)


def test_hopf_point_of_the_normal_form() -> None:
    branch = pattern.continuation(turning, jnp.zeros(2), -1.0, steps=8, length=0.3)
    require(events(turning, branch), [("HOPF", 0.0, -1.0)])
    found = pattern.bifurcations(turning, branch)
    assert float(jnp.nanmax(found.frequencies)) == pytest.approx(2.0, abs=1e-12)

    def real(x: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.stack([pitchfork(x[0], p), 2 * p * x[1] - x[1] ** 3])

    # Two real eigenvalues through zero at once are no pair.
    assert events(real, pattern.continuation(real, jnp.zeros(2), -1.0, steps=8, length=0.3))[0][0] == "DEGENERATE"


def test_well_mixed_brusselator_begins_to_oscillate() -> None:
    source = 1.3

    def rates(x: jax.Array, drive: jax.Array) -> jax.Array:
        return pattern.brusselator(x[:, None, None], source, drive)[:, 0, 0]

    branch = pattern.continuation(rates, jnp.array([source, 1.0 / source]), 1.0, steps=25, length=0.1)
    # At B = 1 + A^2, with frequency A; the cycles are stable (Hassard, Kazarinoff and Wan 1981).
    (kind, drive, coefficient), *more = events(rates, branch)
    assert (kind, more) == ("HOPF", [])
    assert drive == pytest.approx(1 + source**2, abs=1e-9)
    assert coefficient < 0
    assert float(jnp.nanmax(pattern.bifurcations(rates, branch).frequencies)) == pytest.approx(source, abs=1e-9)


def test_turing_threshold_is_where_a_wave_of_the_grid_stops_resting() -> None:
    source, rates = 2.0, jnp.array([1.0, 8.0])
    turing = pattern.brusselator_turing(source, rates)

    def wave(x: jax.Array, drive: jax.Array) -> jax.Array:
        # The equation of one wave about rest, linear: its Jacobian is J - q^2 D.
        rest = jnp.stack([jnp.asarray(source), drive / source])
        react = jax.jvp(lambda u: pattern.brusselator(u[:, None, None], source, drive)[:, 0, 0], (rest,), (x,))[1]
        return react - turing.squared_wavenumber * rates * x - x**3

    branch = pattern.continuation(wave, jnp.zeros(2), 1.0, steps=20, length=0.15)
    (kind, drive, _), *_ = events(wave, branch)
    assert kind == "PITCHFORK"
    assert drive == pytest.approx(float(turing.threshold), abs=1e-9)
    assert drive != pytest.approx(float(pattern.brusselator_turing(2.1, rates).threshold), abs=1e-3)


def test_two_memories_part_at_the_critical_temperature() -> None:
    field = retrieve(np.array([[1.0], [-1.0]]))
    branch = pattern.continuation(field, jnp.zeros(1), 0.3, steps=10, length=0.15)
    # x <- tanh(beta x), and tanh(beta x) - x = (beta - 1) x - beta^3 x^3 / 3 + ...
    require(events(field, branch), [("PITCHFORK", 1.0, -1 / 3)])


def test_memories_in_space_part_at_the_critical_temperature(random: np.random.Generator) -> None:
    half = random.normal(size=(6, 3))
    keys = np.concatenate([half, -half])
    want = tiling.critical_beta(jnp.asarray(np.cov(keys.T, ddof=0)), squarings=12)
    field = retrieve(keys)
    first = events(field, pattern.continuation(field, jnp.zeros(3), 0.05, steps=20, length=0.03))[0]
    assert first[0] == "PITCHFORK"
    assert float(want.low) * (1 - 1e-9) <= first[1] <= float(want.high) * (1 + 1e-9)
    # Keys that are not centred have no state of rest at zero, and nothing parts there.
    moved = retrieve(keys + 0.3)
    assert events(moved, pattern.continuation(moved, jnp.full(3, 0.3), 0.05, steps=4, length=0.03)) == []


def test_uneven_memories_part_with_a_jump() -> None:
    field = retrieve(np.array([[2.0], [-1.0], [-1.0]]))
    # beta_c = 1 / variance = 1 / 2; quadratic: beta^2 times the third moment, over 2.
    handle = pattern.continuation(field, jnp.zeros(1), 0.3, steps=10, length=0.05)
    require(events(field, handle), [("TRANSCRITICAL", 0.5, 0.25 * 2.0 / 2)])
    upper = pattern.continuation(field, jnp.full(1, 1.9), 1.5, steps=60, length=-0.05)
    (kind, scale, _), *_ = events(field, upper)
    assert kind == "FOLD"
    # Already below the critical temperature's beta there is a second memory: it appears at a distance.
    assert scale < 0.5 - 0.03


@jax.jit
def turned_fold(turn: jax.Array, rates: jax.Array, top: jax.Array) -> pattern.Bifurcations:
    """Follow a parabola that bends at ``top``, in coordinates of one's own."""

    def field(z: jax.Array, p: jax.Array) -> jax.Array:
        x = jnp.linalg.solve(turn, z)
        return turn @ jnp.concatenate([top - p - x[:1] ** 2, -rates * x[1:]])

    branch = pattern.continuation(field, turn[:, 0] * (top + 1) ** 0.5, -1.0, steps=60, length=0.1)
    return pattern.bifurcations(field, branch)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_folds_do_not_depend_on_coordinates(seed: int) -> None:
    random = np.random.default_rng(seed)
    turn, rates = random.normal(size=(3, 3)) / 2 + 2 * np.eye(3), random.uniform(0.5, 2, 2)
    top = random.uniform(-0.5, 0.5)
    with jax.enable_x64(True):
        found = turned_fold(jnp.asarray(turn), jnp.asarray(rates), jnp.asarray(top))
        kinds = found.kinds[found.kinds > 0]
        assert kinds.tolist() == [Bifurcation.FOLD]
        assert float(jnp.nanmax(found.parameters)) == pytest.approx(top, abs=1e-8)


# --- normal forms -----------------------------------------------------------------------------------------------------


def test_steady_form_sees_through_a_slaved_state() -> None:
    # y rests at a x^2: x' = p x + x y - x^3 has the cubic coefficient a - 1 on the way.
    for slaved in (-0.5, 3.0):

        def field(x: jax.Array, p: jax.Array, slaved: float = slaved) -> jax.Array:
            return jnp.stack([p * x[0] + x[0] * x[1] - x[0] ** 3, slaved * x[0] ** 2 - x[1]])

        form = pattern.steady_form(field, jnp.zeros(2), 0.0)
        assert_close(form.direction, [1.0, 0.0])
        assert_close(form.quadratic, 0.0)
        assert_close(form.cubic, slaved - 1, scale=4.0)


def test_hopf_form_of_a_predator_and_its_prey() -> None:
    # Bautin's formula for x' = -y + F, y' = x + G, in its version for l_1 (Guckenheimer and Holmes 1983, 3.4.11).
    a, b, c, d, e = 0.3, -0.7, 0.4, 0.9, -0.6

    def field(z: jax.Array, p: jax.Array) -> jax.Array:
        x, y = z
        return jnp.stack([p * x - y + a * x**2 + b * x * y + e * x**3, x + p * y + c * y**2 + d * x * y])

    second = {"fxx": 2 * a, "fxy": b, "fyy": 0.0, "gxx": 0.0, "gxy": d, "gyy": 2 * c}
    mixed = (
        second["fxy"] * (second["fxx"] + second["fyy"])
        - second["gxy"] * (second["gxx"] + second["gyy"])
        - second["fxx"] * second["gxx"]
        + second["fyy"] * second["gyy"]
    )
    radial = (6 * e + mixed) / 16
    form = pattern.hopf_form(field, jnp.zeros(2), 0.0)
    # r' = radial r^3; with |q| = 1 the amplitude is z = r / sqrt(2), and l_1 = 2 radial / omega.
    assert float(form.frequency) == pytest.approx(1.0, abs=1e-12)
    assert float(form.coefficient) == pytest.approx(2 * radial, abs=1e-12)
    assert bool(jnp.isnan(pattern.hopf_form(pitchfork, jnp.zeros(1), 0.0).coefficient))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_branches_refuse_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"a curve starts at one point.\n  got:  float64\[1, 2\]"):
        pattern.continuation(pitchfork, jnp.zeros((1, 2)), 0.0, steps=1, length=0.1)
    with pytest.raises(
        ShapeError, match=r"one rate for each state.\n  got:  a point float64\[2\], its rates float64\[1\]"
    ):
        pattern.continuation(lambda x, p: p * x[:1], jnp.zeros(2), 0.0, steps=1, length=0.1)
    with pytest.raises(
        ShapeError, match=r"one for the parameter.\n  got:  a point float64\[2\], a tangent float64\[2\]"
    ):
        pattern.continuation(turning, jnp.zeros(2), 0.0, steps=1, length=0.1, tangent=jnp.zeros(2))
    with pytest.raises(OptionError, match="steps=0"):
        pattern.continuation(pitchfork, jnp.zeros(1), 0.0, steps=0, length=0.1)
    branch = pattern.continuation(pitchfork, jnp.zeros(1), -1.0, steps=1, length=0.1)
    with pytest.raises(ShapeError, match=r"something happens between two points.\n  got:  points float64\[1, 1\]"):
        pattern.bifurcations(pitchfork, Branch(*(each[:1] for each in branch)))
    for name, form in (("steady_form", pattern.steady_form), ("hopf_form", pattern.hopf_form)):
        with pytest.raises(
            ShapeError, match=rf"{name}: a field has one rate for each state.\n  got:  a point float64\[\]"
        ):
            form(pitchfork, jnp.zeros(()), 0.0)
        with pytest.raises(ShapeError, match=r"a point float64\[2\], its rates float64\[1\]"):
            form(lambda x, p: p * x[:1], jnp.zeros(2), 0.0)
