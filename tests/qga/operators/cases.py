"""Rows of ``qga.operators``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qga import operators
from tests.qga.case import Case

ROWS, WIDTH, RANK = 13, 4, 3


def draw(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return tuple(random.normal(size=(ROWS, WIDTH)) for _ in range(3))


def of(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return ``function`` of the operator of the first two arrays and of the third."""
    return lambda q, k, f: function(operators.attention_operator(q, k, block=5, **options), f)


def chances(field: jax.Array) -> jax.Array:
    return jax.nn.softmax(field[:, 0])


def weighted(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return ``function`` of an operator, the third array and a distribution made of that."""
    return of(lambda operator, f: function(operator, f, chances(f), **options))


def lumped(operator: operators.AttentionOperator, _: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    return operators.tile_operator(operator, 3, weights)[:2]


def balanced(operator: operators.AttentionOperator, field: jax.Array, weights: jax.Array) -> operators.Potentials:
    return operators.balance(operator, weights, jax.nn.softmax(field[:, 1]), iterations=4)


def bounds(factor: jax.Array) -> operators.EntanglementBounds:
    return operators.entanglement_bounds(factor @ factor.T / jnp.sum(factor**2) * 0.9, 9)


def draw_columns(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (random.normal(size=(ROWS, RANK)),)


# The random directions of a sketch differ between the two precisions: what it means is tested by its bounds.
CASES = [
    Case("attention_operator", of(lambda operator, _: operator.rows), draw, depth=ROWS, scale=4.0),
    Case("operate", of(operators.operate), draw, depth=ROWS),
    Case("operate, causal", of(operators.operate, is_causal=True), draw, depth=ROWS),
    Case("operate, fidelity", of(operators.operate, metric="fidelity", scale=3.0), draw, depth=ROWS),
    Case("operate_transposed", of(operators.operate_transposed), draw, depth=ROWS),
    Case("amplify", weighted(operators.amplify), draw, depth=ROWS),
    Case("amplify_transposed", weighted(operators.amplify_transposed), draw, depth=ROWS),
    Case("key_masses", weighted(lambda operator, _, w: operators.key_masses(operator, w)), draw, depth=ROWS),
    Case(
        "mutual_information",
        weighted(lambda operator, _, w: operators.mutual_information(operator, w)),
        draw,
        depth=ROWS,
        scale=3.0,
    ),
    Case("tile_operator", weighted(lumped), draw, depth=ROWS),
    Case(
        "tile_operator, its defect",
        of(lambda operator, _: operators.tile_operator(operator, 3).defect),
        draw,
        is_smooth=False,
        depth=ROWS,
    ),
    Case("metric_form", of(lambda operator, f: operators.metric_form(operator, f[0])), draw, depth=ROWS, scale=16.0),
    Case(
        "mean_metric",
        weighted(lambda operator, _, w: operators.mean_metric(operator, w)),
        draw,
        depth=ROWS,
        scale=16.0,
    ),
    Case(
        "metric_curvature",
        of(lambda operator, f: operators.metric_curvature(operator, f[:2])),
        draw,
        depth=ROWS,
        scale=100.0,
    ),
    Case("orthonormalise", operators.orthonormalise, draw_columns, depth=ROWS),
    Case("balance", weighted(balanced), draw, depth=ROWS, scale=8.0),
    Case(
        "entanglement_bounds",
        bounds,
        lambda random: (random.normal(size=(RANK, RANK)),),
        lowers=False,
        depth=RANK,
        scale=4.0,
    ),
]
