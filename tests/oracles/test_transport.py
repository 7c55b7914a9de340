"""Sinkhorn against OTT and trees against scikit-learn (theory F-6, T-5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from ott.geometry.geometry import Geometry
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear.sinkhorn import Sinkhorn
from sklearn.cluster import AgglomerativeClustering

from qga import flow, operators, tiling


def test_plan_is_that_of_ott(random: np.random.Generator) -> None:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        scores, rows, columns = random.normal(size=(7, 5)), random.dirichlet(np.ones(7)), random.dirichlet(np.ones(5))
        geometry = Geometry(cost_matrix=jnp.asarray(-scores), epsilon=1.0)
        want = Sinkhorn(threshold=1e-12, max_iterations=5000)(
            LinearProblem(geometry, jnp.asarray(rows), jnp.asarray(columns))
        )
        got = flow.sinkhorn(jnp.asarray(scores), jnp.asarray(rows), jnp.asarray(columns), iterations=500)
        assert np.allclose(flow.sinkhorn_plan(jnp.asarray(scores), got.rows, got.columns), want.matrix, atol=1e-9)


def test_streaming_plan_is_the_dense_one(random: np.random.Generator) -> None:
    queries, keys = (jnp.asarray(random.normal(size=(rows, 4)), jnp.float32) for rows in (30, 20))
    masses = jnp.full(30, 1 / 30), jnp.full(20, 1 / 20)
    long = operators.balance(operators.attention_operator(queries, keys, scale=0.5, block=8), *masses, iterations=40)
    dense = flow.sinkhorn(0.5 * queries @ keys.T, *masses, iterations=40)
    shift = float((long.rows - dense.rows).mean())
    assert np.allclose(long.rows - shift, dense.rows, atol=1e-4)


def test_scatter_grows_as_ward_says(random: np.random.Generator) -> None:
    points = np.concatenate([random.normal(size=(6, 2)), random.normal(size=(6, 2)) + 4])
    model = AgglomerativeClustering(n_clusters=None, distance_threshold=0, linkage="ward").fit(points)
    tiles = jnp.asarray(points.reshape(2, 6, 2), jnp.float32)
    parts = tiling.summarize(tiles, tiles, jnp.ones((2, 6), bool))
    first, second = (jax.tree.map(lambda each, at=at: each[at], parts) for at in (0, 1))
    grown = tiling.summary_scatter(tiling.summary_merge(first, second)) - tiling.summary_scatter(parts).sum()
    # The last merge of Ward's tree joins the two clouds at a height of sqrt(2 times the growth).
    assert np.isclose(model.distances_[-1], np.sqrt(2 * float(grown)), rtol=1e-4)
