"""Holevo information and entanglement: Bell, Werner, chain rule, attention (theory Q-4, Q-5, Q-6)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy as shannon

from qga import OptionError, ShapeError, quantum, routing
from tests.qga.quantum.states import BELL, draw_rho, werner
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")
EIGEN_SCALE = 200.0


def test_holevo_of_orthogonal_states_is_the_entropy_of_the_weights() -> None:
    chances = np.array([0.5, 0.3, 0.2])
    states = jnp.stack([jnp.diag(row) for row in jnp.eye(3)])
    assert_close(quantum.holevo(jnp.asarray(chances), states), shannon(chances), scale=EIGEN_SCALE)


def test_holevo_of_equal_states_is_zero(random: np.random.Generator) -> None:
    states = jnp.stack([jnp.asarray(draw_rho(random))] * 3)
    assert_close(quantum.holevo(jnp.array([0.2, 0.3, 0.5]), states), 0.0, scale=EIGEN_SCALE)


def test_holevo_chain_rule_over_a_tree(random: np.random.Generator) -> None:
    states, chances = np.stack([draw_rho(random) for _ in range(4)]), random.dirichlet(np.ones(4))
    sides = [slice(0, 2), slice(2, 4)]
    masses = np.array([chances[side].sum() for side in sides])
    merged = np.stack([np.einsum("t,tij->ij", chances[side] / chances[side].sum(), states[side]) for side in sides])
    total = quantum.holevo(jnp.asarray(chances), jnp.asarray(states))
    top = quantum.holevo(jnp.asarray(masses), jnp.asarray(merged))
    below = sum(
        mass * quantum.holevo(jnp.asarray(chances[side] / mass), jnp.asarray(states[side]))
        for mass, side in zip(masses, sides, strict=True)
    )
    assert_close(top + below, float(total), scale=EIGEN_SCALE)
    assert_far(top, float(total))


def test_holevo_bounds_the_spread_of_the_states(random: np.random.Generator) -> None:
    states, chances = np.stack([draw_rho(random) for _ in range(4)]), random.dirichlet(np.ones(4))
    mean = np.einsum("t,tij->ij", chances, states)
    spread = sum(
        chance * (2 * float(quantum.trace_distance(jnp.asarray(state), jnp.asarray(mean)))) ** 2
        for chance, state in zip(chances, states, strict=True)
    )
    chi = float(quantum.holevo(jnp.asarray(chances), jnp.asarray(states)))
    assert spread <= 2 * chi
    assert 0 < chi < shannon(chances)


def test_equal_queries_are_not_entangled_with_keys(random: np.random.Generator) -> None:
    weights = jnp.asarray(np.repeat(random.dirichlet(np.ones(6))[None], 5, axis=0))
    got = quantum.attention_entanglement(weights, jnp.full(5, 0.2))
    assert_close(got.entropy, 0.0, scale=EIGEN_SCALE)
    assert_close(got.schmidt[0], 1.0, scale=EIGEN_SCALE)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_entanglement_is_that_of_the_singular_values(shape: tuple[int, int], random: np.random.Generator) -> None:
    weights, chances = random.dirichlet(np.ones(shape[1]) / 3, shape[0]), random.dirichlet(np.ones(shape[0]))
    got = quantum.attention_entanglement(jnp.asarray(weights), jnp.asarray(chances))
    values = np.linalg.svd(np.sqrt(chances[:, None] * weights), compute_uv=False) ** 2
    assert_close(got.schmidt, values, scale=EIGEN_SCALE)
    assert_close(got.entropy, shannon(values), scale=EIGEN_SCALE)
    assert_close(got.schmidt.sum(), 1.0, scale=EIGEN_SCALE)
    # Information is at most twice the entanglement.
    information = routing.mutual_information(jnp.asarray(weights), jnp.asarray(chances))
    assert 0 < information <= 2 * got.entropy


def test_derivatives_are_finite_at_zeros() -> None:
    weights, chances = jnp.tril(jnp.ones((4, 4))) / jnp.arange(1.0, 5)[:, None], jnp.array([0.5, 0.5, 0.0, 0.0])
    entropy = lambda p, w: quantum.attention_entanglement(p, w).entropy  # noqa: E731
    for derivative in (jax.jacfwd, jax.jacrev):
        assert all(jnp.isfinite(each).all() for each in derivative(entropy, argnums=(0, 1))(weights, chances))


def test_truncation_fidelity_is_exact(random: np.random.Generator) -> None:
    weights = random.dirichlet(np.ones(6), 6)
    amplitude = np.sqrt(weights / 6)
    left, values, right = np.linalg.svd(amplitude)
    best = (left[:, :2] * values[:2]) @ right[:2]
    best /= np.linalg.norm(best)
    got = quantum.attention_entanglement(jnp.asarray(weights), jnp.full(6, 1 / 6))
    assert_close(quantum.truncation_fidelity(got.schmidt, 2), (best * amplitude).sum() ** 2, scale=EIGEN_SCALE)


def test_partial_trace_of_a_product_is_its_factor(random: np.random.Generator) -> None:
    first, second, third = draw_rho(random, 2), draw_rho(random, 3), draw_rho(random, 2)
    whole = jnp.asarray(np.kron(np.kron(first, second), third))
    for keep, want in (([0], first), ([1], second), ([0, 2], np.kron(first, third)), ([], np.eye(1))):
        got = np.asarray(quantum.partial_trace(whole, (2, 3, 2), keep))
        assert_close(got.real, want.real, depth=6)
        assert_close(got.imag, want.imag, depth=6)
    assert_far(quantum.partial_trace(whole, (2, 2, 3), [0, 1]).real, np.kron(first, second).real[:4, :4])


def test_strong_subadditivity(random: np.random.Generator) -> None:
    rho = jnp.asarray(draw_rho(random, 8, 5))

    def entropy(*keep: int) -> float:
        return float(quantum.entropy(quantum.partial_trace(rho, (2, 2, 2), keep)))

    assert entropy(0, 1, 2) + entropy(1) <= entropy(0, 1) + entropy(1, 2)
    assert entropy(0, 1) <= entropy(0) + entropy(1)


def test_bell_state() -> None:
    rho = jnp.asarray(np.outer(BELL, BELL) + 0j)
    assert_close(quantum.entropy(quantum.partial_trace(rho, (2, 2), [0])), np.log(2), scale=EIGEN_SCALE)
    assert_close(quantum.negativity(rho, (2, 2)), 0.5, scale=EIGEN_SCALE)
    assert_close(quantum.concurrence(rho), 1.0, scale=EIGEN_SCALE)


@pytest.mark.parametrize("share", [0.0, 0.2, 1 / 3, 0.5, 0.9])
def test_werner_states(share: float) -> None:
    rho = jnp.asarray(werner(share) + 0j)
    assert_close(quantum.negativity(rho, (2, 2)), max(0, (3 * share - 1) / 4), scale=EIGEN_SCALE)
    assert_close(quantum.concurrence(rho), max(0, (3 * share - 1) / 2), scale=EIGEN_SCALE)


def slope(rho: np.ndarray, end: np.ndarray) -> float:
    """Differentiate the concurrence at one state on the way to another."""
    return float(jax.jvp(quantum.concurrence, (jnp.asarray(rho + 0j),), (jnp.asarray(end - rho + 0j),))[1])


def test_concurrence_at_a_bell_state_falls_with_the_fidelity() -> None:
    bell = np.outer(BELL, BELL)
    # The witness is 2 |B><B| - 1. Noise, and a product that the state has overlap with, lose what it says.
    assert slope(bell, np.eye(4) / 4) == pytest.approx(-1.5, abs=1e-7)
    assert slope(bell, np.diag([1, 0, 0, 0])) == pytest.approx(-1, abs=1e-7)
    # A product orthogonal to it loses less than a linear derivative can say: none exists here.
    aside = np.diag([0, 1, 0, 0])
    assert slope(bell, aside) == pytest.approx(-2, abs=1e-7)
    assert float(quantum.concurrence(jnp.asarray(0.999 * bell + 0.001 * aside + 0j))) == pytest.approx(0.999, abs=1e-9)


@pytest.mark.parametrize("states", [1, 2, 5])
def test_slopes_of_concurrence_are_those_of_a_convex_function(states: int, random: np.random.Generator) -> None:
    rises = []
    for _ in range(40):
        start, end = (np.outer(BELL, BELL) + draw_rho(random, 4, states)) / 2, draw_rho(random, 4, 2)
        values = [float(quantum.concurrence(jnp.asarray(each))) for each in (start, end)]
        assert values[1] - values[0] >= slope(start, end) - 1e-7
        rises.append(values[1] - values[0] + slope(start, end))
    # The negative twin: the slope of the other sign is none.
    assert min(rises) < -1e-3


def test_gradient_of_concurrence_is_finite_in_single_precision() -> None:
    with jax.enable_x64(False):
        gradient = jax.grad(quantum.concurrence)(jnp.asarray(np.outer(BELL, BELL), jnp.complex64))
        assert jnp.isfinite(gradient).all()
        assert_close(jnp.real(gradient[0, 3]), 1.0, scale=EIGEN_SCALE)


def test_concurrence_of_nothing_known_is_not_known() -> None:
    assert jnp.isnan(quantum.concurrence(jnp.full((4, 4), jnp.nan, complex)))


def test_products_have_no_negativity(random: np.random.Generator) -> None:
    rho = jnp.asarray(np.kron(draw_rho(random, 2), draw_rho(random, 3)))
    assert_close(quantum.negativity(rho, (2, 3)), 0.0, scale=EIGEN_SCALE)


def test_entanglement_refuses_what_does_not_fit() -> None:
    with pytest.raises(
        ShapeError,
        match=r"partial_trace: the sizes of the systems must make up the state.\n  got:  sizes \(2, 3\)",
    ):
        quantum.partial_trace(jnp.eye(4), (2, 3), [0])
    with pytest.raises(OptionError, match=r"keep=\[1, 0\], 2 systems"):
        quantum.partial_trace(jnp.eye(4), (2, 2), [1, 0])
    with pytest.raises(ShapeError, match="concurrence: the sizes"):
        quantum.concurrence(jnp.eye(3))
    with pytest.raises(OptionError, match="kept=5, 4 values"):
        quantum.truncation_fidelity(jnp.ones(4), 5)
    with pytest.raises(
        ShapeError, match=r"holevo: there must be one weight for each state.\n  got:  weights float64\[2\]"
    ):
        quantum.holevo(jnp.ones(2), jnp.ones((3, 2, 2)))
