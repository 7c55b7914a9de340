"""Sinkhorn's iteration on long sequences: marginals, contraction and the dense plan (theory F-6)."""

from __future__ import annotations

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import ot
import pytest

from qga import OptionError, ShapeError
from qga.operators import attention_operator, balance
from tests.qga.operators.dense import KEYS, QUERIES, draw_pair, draw_weights
from tests.qga.tolerances import assert_close, assert_far


def plan(scores: np.ndarray, potentials: tuple) -> np.ndarray:
    rows, columns, _ = (np.asarray(each, float) for each in potentials)
    return np.exp(scores + rows[:, None] + columns[None])


def test_plan_has_its_masses(random: np.random.Generator, dtype: np.dtype) -> None:
    pair, rows, columns = draw_pair(random, dtype), draw_weights(random), draw_weights(random, KEYS)
    got = balance(pair.operator, jnp.asarray(rows, dtype), jnp.asarray(columns, dtype), iterations=60)
    dense = plan(0.7 * pair.queries.astype(float) @ pair.keys.T.astype(float), got)
    assert_close(dense.sum(1).astype(dtype), rows, depth=KEYS, scale=0.5)
    assert_close(dense.sum(0).astype(dtype), columns, depth=QUERIES, scale=0.5)
    assert_close(got.violation, 0.0, depth=QUERIES, scale=2.0)


@pytest.mark.usefixtures("x64")
def test_plan_is_that_of_pot(random: np.random.Generator) -> None:
    pair, rows, columns = draw_pair(random), draw_weights(random), draw_weights(random, KEYS)
    scores = 0.7 * pair.queries @ pair.keys.T
    got = balance(pair.operator, jnp.asarray(rows), jnp.asarray(columns), iterations=100)
    want = ot.sinkhorn(rows, columns, -scores, reg=1.0, stopThr=1e-14, numItermax=5000)
    assert_close(plan(scores, got), want, depth=QUERIES)
    assert_far(plan(scores + 0.01 * scores**2, got), want)


@pytest.mark.usefixtures("x64")
def test_violation_is_measured_and_contracts(random: np.random.Generator) -> None:
    pair, rows, columns = draw_pair(random), draw_weights(random), draw_weights(random, KEYS)
    scores = 0.7 * pair.queries @ pair.keys.T
    seen = []
    for iterations in (1, 2, 3, 4):
        got = balance(pair.operator, jnp.asarray(rows), jnp.asarray(columns), iterations=iterations)
        assert_close(got.violation, np.abs(plan(scores, got).sum(0) - columns).sum(), depth=QUERIES)
        seen.append(float(got.violation))
    assert all(after < before for before, after in pairwise(seen))


def test_masses_of_another_length_are_refused() -> None:
    operator = attention_operator(jnp.zeros((2, 3)), jnp.zeros((5, 3)))
    with pytest.raises(
        ShapeError, match=r"balance: there must be one mass for each row and column.\n  got:  row_masses float32\[5\]"
    ):
        balance(operator, jnp.ones(5), jnp.ones(5), iterations=1)
    with pytest.raises(OptionError, match="iterations are counted from one"):
        balance(operator, jnp.ones(2) / 2, jnp.ones(5) / 5, iterations=0)
