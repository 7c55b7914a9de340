"""Every geometry's scores: closed forms, isometries, flat limit, which are kernels, derivatives (theory T-14, T-16,
T-17)."""

from __future__ import annotations

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga.errors import OptionError, ShapeError
from qga.exact import attention_weights
from qga.exact.metrics import Metric, lift, scores
from qga.exact.scores import lift_to_rays, unit_rows
from tests.qga.dense import as_rows, random_unitary, rays, softmax
from tests.qga.tolerances import assert_close, assert_far

METRICS = get_args(Metric)
HYPERBOLIC = ("hyperbolic", "born_hyperbolic")
SCALE = 0.7


def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return random.normal(size=(6, 4)), random.normal(size=(9, 4))


def score(queries: np.ndarray, keys: np.ndarray, metric: str, dtype: np.typing.DTypeLike = float, **options: float):
    options = {"scale": SCALE} | options
    return scores(jnp.asarray(queries, dtype), jnp.asarray(keys, dtype), metric=metric, **options)


def minkowski(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[:, 1:] @ second[:, 1:].T - np.outer(first[:, 0], second[:, 0])


def truth(queries: np.ndarray, keys: np.ndarray, metric: str, curvature: float = -1.0) -> np.ndarray:
    """Score by the table of the docstring, from lifts, with arccosh where the formula is a distance."""
    if metric in HYPERBOLIC:
        root = -1 / curvature
        lifted = (np.concatenate([np.sqrt(root + (x**2).sum(1))[:, None], x], axis=1) for x in (queries, keys))
        product = minkowski(*lifted)
        distance = np.sqrt(root) * np.arccosh(np.maximum(-product / root, 1))
        if metric == "hyperbolic":
            return -SCALE * root * (np.cosh(distance / np.sqrt(root)) - 1)
        return -2 * SCALE * root * np.log(np.cosh(distance / np.sqrt(root)))
    overlaps = np.abs(rays(queries) @ rays(keys).conj().T) ** 2
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, keys)]
    return (
        SCALE
        * {
            "dot": queries @ keys.T,
            "gauss": queries @ keys.T - (keys**2).sum(1) / 2,
            "cosine": units[0] @ units[1].T,
            "fidelity": overlaps,
            "born": np.log(overlaps),
        }[metric]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_their_formula(metric: str, random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys = draw(random)
    assert_close(score(queries, keys, metric, dtype), truth(queries, keys, metric), depth=4, scale=10.0)
    assert_far(score(1.1 * queries + 0.1, keys, metric, dtype), truth(queries, keys, metric), depth=4)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_a_function_of_one_product_of_lifts(
    metric: str, random: np.random.Generator, dtype: np.dtype
) -> None:
    queries, keys = draw(random)
    asking, looked_at = (np.asarray(lift(jnp.asarray(x, dtype), metric=metric)) for x in (queries, keys))
    got = {
        "dot": lambda: SCALE * asking @ looked_at.T,
        "gauss": lambda: SCALE * (asking[:, :-1] @ looked_at[:, :-1].T + looked_at[:, -1]),
        "cosine": lambda: SCALE * asking @ looked_at.T,
        "hyperbolic": lambda: SCALE * (1 + minkowski(asking, looked_at)),
        "fidelity": lambda: SCALE * np.abs(asking @ looked_at.conj().T) ** 2,
        "born": lambda: SCALE * np.log(np.abs(asking @ looked_at.conj().T) ** 2),
        "born_hyperbolic": lambda: -2 * SCALE * np.log(-minkowski(asking, looked_at)),
    }[metric]()
    assert_close(score(queries, keys, metric, dtype), got, depth=4, scale=30.0)


@pytest.mark.parametrize("metric", ["dot", "fidelity"])
def test_softmax_of_scores_is_attention(metric: str, random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys = (jnp.asarray(x, dtype) for x in draw(random))
    want = attention_weights(queries, keys, metric=metric, scale=SCALE)
    assert_close(jax.nn.softmax(scores(queries, keys, metric=metric, scale=SCALE)), want, depth=9)


def lorentz(random: np.random.Generator, width: int) -> np.ndarray:
    """Draw a Lorentz transformation: rotations around a boost."""
    rapidity = random.normal()
    boost = np.eye(width + 1)
    boost[:2, :2] = [[np.cosh(rapidity), np.sinh(rapidity)], [np.sinh(rapidity), np.cosh(rapidity)]]
    turns = []
    for _ in range(2):
        turn = np.eye(width + 1)
        turn[1:, 1:] = np.linalg.qr(random.normal(size=(width, width)))[0]
        turns.append(turn)
    return turns[0] @ boost @ turns[1]


def move(rows: np.ndarray, metric: str, random: np.random.Generator) -> np.ndarray:
    """Move rows by an isometry of their geometry; the same one for the same seed."""
    width = rows.shape[1]
    turn = np.linalg.qr(random.normal(size=(width, width)))[0]
    if metric in ("fidelity", "born"):
        return as_rows(rays(rows) @ random_unitary(random, width // 2).T)
    if metric in HYPERBOLIC:
        lifted = np.concatenate([np.sqrt(1 + (rows**2).sum(1))[:, None], rows], axis=1)
        return (lifted @ lorentz(random, width).T)[:, 1:]
    return rows @ turn.T + (random.normal(size=width) if metric == "gauss" else 0)


@pytest.mark.parametrize("metric", METRICS)
def test_isometries_change_no_weight(metric: str, random: np.random.Generator, dtype: np.dtype) -> None:
    queries, keys = draw(random)
    moved = [move(rows, metric, np.random.default_rng(5)) for rows in (queries, keys)]
    before, after = (softmax(np.asarray(score(*pair, metric, dtype), float)) for pair in ((queries, keys), moved))
    assert_close(after.astype(dtype), before, depth=9, scale=20.0)
    alone = softmax(np.asarray(score(queries, moved[1], metric, dtype), float))
    assert_far(alone.astype(dtype), before, depth=9)


@given(st.integers(1, 6), st.integers(0, 2**31), st.floats(0.05, 3))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_kernels_are_positive(half: int, seed: int, scale: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(12, 2 * half))
    with jax.enable_x64(True):
        for metric in ("dot", "gauss", "cosine", "fidelity", "born_hyperbolic"):
            found = np.asarray(score(rows, rows, metric, scale=scale / half))
            if metric == "gauss":
                # The row's own constant, which a softmax does not see.
                found = found - scale / half * (rows**2).sum(1)[:, None] / 2
            gram = np.exp(found - found.max())
            assert np.linalg.eigvalsh(gram).min() >= -1e-12 * len(rows)
        gram = np.exp(np.asarray(score(rows, rows, "born", scale=2.0)))
        assert np.linalg.eigvalsh(gram).min() >= -1e-12 * len(rows)


@pytest.mark.usefixtures("x64")
def test_the_hyperbolic_score_is_no_kernel() -> None:
    # A point and four around it: sum c t is not zero where sum c x is, so cosh d is not of negative type.
    rows = 6.5 * np.asarray([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], float)
    gram = np.exp(np.asarray(score(rows, rows, "hyperbolic", scale=0.05)))
    assert np.linalg.eigvalsh(gram).min() == pytest.approx(-0.39, abs=0.01)
    assert np.linalg.eigvalsh(gram[1:, 1:]).min() > 0


@pytest.mark.usefixtures("x64")
def test_born_with_half_an_exponent_is_no_kernel(random: np.random.Generator) -> None:
    rows = random.normal(size=(60, 4))
    found = [
        np.linalg.eigvalsh(np.exp(np.asarray(score(rows, rows, "born", scale=alpha)))).min() for alpha in (0.5, 1.0)
    ]
    assert found[0] < -1
    assert found[1] > -1e-10


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("metric", HYPERBOLIC)
def test_deviation_from_flat_space_is_linear_in_curvature(metric: str, random: np.random.Generator) -> None:
    queries, keys = draw(random)
    squared = ((queries[:, None] - keys[None]) ** 2).sum(-1)
    flat = -SCALE * squared * (0.5 if metric == "hyperbolic" else 1.0)
    away = [
        np.abs(np.asarray(score(queries, keys, metric, curvature=-size)) - flat).max() for size in (1e-2, 1e-3, 1e-4)
    ]
    # Within 5 % of ten, as the theory asks at its own data; the next order is (curvature |k|^2)^2.
    assert away[1] / away[2] == pytest.approx(10, rel=0.05)
    assert away[0] / away[1] == pytest.approx(10, rel=0.15)


def test_nearly_flat_space_keeps_its_digits(random: np.random.Generator) -> None:
    # As t t' - R^2 it would be the difference of two numbers of 10^8.
    queries, keys = (rows.astype(np.float32) for rows in draw(random))
    flat = -SCALE * ((queries[:, None].astype(float) - keys[None]) ** 2).sum(-1) / 2
    got = score(queries, keys, "hyperbolic", np.float32, curvature=-1e-8)
    assert_close(got, flat, depth=4, scale=20.0)


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_at_equal_points_are_finite(metric: str, random: np.random.Generator) -> None:
    rows = jnp.asarray(draw(random)[0], jnp.float32)
    for place in (rows, jnp.zeros_like(rows)):
        gradient = jax.grad(lambda q, p=place: jnp.sum(jnp.exp(scores(q, p, metric=metric, scale=1.0))))(place)
        assert np.all(np.isfinite(gradient))


def test_far_points_are_not_nan() -> None:
    rows = jnp.asarray([[3e4, 0.0], [3e4, 1.0]])
    for metric in HYPERBOLIC:
        assert np.all(np.isfinite(scores(rows, rows, metric=metric, scale=1.0)))


def test_orthogonal_states_have_no_born_weight() -> None:
    rows = jnp.asarray([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    got = np.asarray(scores(rows, rows, metric="born", scale=2.0))
    assert np.array_equal(got, [[0, -np.inf], [-np.inf, 0]])


def test_scores_of_fidelity_are_bounded(random: np.random.Generator) -> None:
    got = score(*draw(random), "fidelity", np.float32, scale=5.0)
    assert np.all(np.asarray(got) >= 0)
    assert np.all(np.asarray(got) <= 5 * (1 + 1e-6))


def test_scores_refuse_other_widths_and_geometries() -> None:
    with pytest.raises(ShapeError, match=r"^scores: queries and keys must have the same width\.\n  got:  .*\[2, 3\]"):
        scores(jnp.ones((2, 3)), jnp.ones((2, 2)), metric="dot", scale=1.0)
    with pytest.raises(OptionError, match=r"^scores: there is no such geometry\.\n  got:  metric='spherical'"):
        scores(jnp.ones((2, 2)), jnp.ones((2, 2)), metric="spherical", scale=1.0)
    with pytest.raises(OptionError, match=r"curvature=0\.5"):
        lift(jnp.ones(2), metric="hyperbolic", curvature=0.5)


@pytest.mark.parametrize("size", [1e-35, 1e-20, 1.0, 1e20, 3e37])
def test_rows_of_any_size_have_a_direction(size: float, random: np.random.Generator) -> None:
    # Squares of these numbers are zero, or infinite.
    rows = (size * random.normal(size=(5, 8))).astype(np.float32)
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    np.testing.assert_allclose(unit_rows(jnp.asarray(rows)), wide / lengths, rtol=1e-6)
    np.testing.assert_allclose(lift_to_rays(jnp.asarray(rows)), wide / lengths, rtol=1e-6)
    if size < 1e37:  # Beyond, a derivative is smaller than the smallest number.
        bar = random.normal(size=rows.shape)
        got = jax.vjp(unit_rows, jnp.asarray(rows))[1](jnp.asarray(bar, jnp.float32))[0]
        along = np.sum(bar * wide, axis=1, keepdims=True) * wide / lengths**2
        want = (bar - along) / lengths
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def test_rows_without_a_length_have_no_direction() -> None:
    rows = jnp.asarray([[0.0, 0.0], [jnp.inf, 1.0], [jnp.nan, 1.0]])
    np.testing.assert_array_equal(np.isnan(unit_rows(rows))[:, 0], [False, True, True])
    np.testing.assert_array_equal(unit_rows(rows)[0], 0)
    np.testing.assert_array_equal(jax.jacrev(unit_rows)(rows[:1]), 0)
