"""Log sums relative to a number that is given: they do not depend on it, and what leaves its room is not known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from qga.exact.scores import dot_score
from qga.kernels.attention import led_kernel
from qga.kernels.call import execute
from qga.kernels.log_sums import sum_kernel
from qga.kernels.problem import Problem, TilePlan, operands, sizes_of, with_lists
from qga.kernels.visits import Listed, Visits

ROWS, WIDTH, SCALE = 300, 16, 0.25


def rows_of(longest: float = 1.0) -> list[np.ndarray]:
    random = np.random.default_rng(8)
    queries, keys, values = (random.normal(size=(ROWS, WIDTH)).astype(np.float16) for _ in range(3))
    queries[5] *= longest
    return [queries, keys, values]


def listed_problem(rows: list[np.ndarray]) -> tuple[TilePlan, Problem, np.ndarray]:
    """Return a problem in which every tile of queries looks at its own tile and the first, and the log sums of that."""
    plan, scale = TilePlan(dot_score(jnp.dtype(jnp.float16)), 128, is_causal=False), jnp.float32(SCALE)
    queries, keys, values = map(jnp.asarray, rows)
    problem = Problem(plan.score.lift(queries, scale), keys, values, scale, None)
    visits = Visits(jnp.ones((3, 3), bool), jnp.ones((3, 3), bool))
    tile, tiles = sizes_of(plan, problem._replace(visits=visits)).query_tile, 3
    assert (tiles - 1) * tile < ROWS
    visited = np.eye(tiles, dtype=bool) | (np.arange(tiles) == 0)
    is_open = visited & (np.arange(tiles) < ROWS // tile)
    seen = np.kron(visited, np.ones((tile, tile), bool))[:ROWS, :ROWS]
    scores = np.where(seen, SCALE * rows[0].astype(np.float64) @ rows[1].T.astype(np.float64), -np.inf)
    want = np.logaddexp.reduce(scores, axis=1)
    return plan, with_lists(problem._replace(visits=Visits(jnp.asarray(visited), jnp.asarray(is_open)))), want


def refer(problem: Problem, reference: np.ndarray, lead: int | None = None) -> Problem:
    listed = problem.visits
    assert isinstance(listed, Listed)
    if lead is not None:
        listed = listed._replace(lead=jnp.full_like(listed.lead, lead))
    return problem._replace(visits=listed._replace(reference=jnp.asarray(reference, jnp.float32)))


def sums_of(rows: list[np.ndarray], reference: float) -> tuple[np.ndarray, np.ndarray]:
    plan, problem, want = listed_problem(rows)
    problem = refer(problem, np.full((3, 1), reference))
    nothing = jnp.full((ROWS,), -7.0)
    (log_sums,) = execute(sum_kernel(plan, problem), *operands(problem), nothing)
    return np.asarray(log_sums), want


@pytest.mark.parametrize("reference", [-60.0, 0.0, 60.0])
def test_sums_do_not_depend_on_the_reference(reference: float) -> None:
    log_sums, want = sums_of(rows_of(), reference)
    np.testing.assert_allclose(log_sums, want, atol=3e-5)


def test_sums_beyond_the_room_say_that_nothing_is_known() -> None:
    rows = rows_of(longest=100)
    log_sums, want = sums_of(rows, 0)
    assert want[5] > 100
    assert log_sums[5] == -np.inf
    np.testing.assert_allclose(np.delete(log_sums, 5), np.delete(want, 5), atol=3e-5)
    near, _ = sums_of(rows, want[5] - 40)
    np.testing.assert_allclose(near[5], want[5], rtol=1e-5)


def test_programs_without_a_list_read_nothing() -> None:
    plan, problem, _ = listed_problem(rows_of())
    problem = refer(problem, np.zeros((3, 1)))
    listed = problem.visits
    assert isinstance(listed, Listed)
    problem = problem._replace(visits=listed._replace(stop=listed.start.at[0].get() + listed.stop * 0))
    (log_sums,) = execute(sum_kernel(plan, problem), *operands(problem), jnp.full((ROWS,), -7.0))
    assert np.all(np.asarray(log_sums)[:128] == -7)


@pytest.mark.parametrize("is_known", [True, False])
def test_averages_need_no_leading_tile_where_sums_are_known(*, is_known: bool) -> None:
    rows = rows_of()
    plan, problem, want = listed_problem(rows)
    tile = sizes_of(plan, problem).query_tile
    whole = np.full(3 * tile, np.inf)
    whole[:ROWS] = want if is_known else -np.inf
    # A tile below zero leads nobody.
    problem = refer(problem, whole.reshape(3, tile), lead=-1)
    out, log_sums = map(np.asarray, execute(led_kernel(plan, problem), *operands(problem)))
    if not is_known:
        assert not np.any(np.isfinite(log_sums))
        return
    np.testing.assert_allclose(log_sums, want, atol=1e-4)
    _, led, _ = listed_problem(rows)
    again, _ = execute(led_kernel(plan, led), *operands(led))
    np.testing.assert_allclose(out.astype(np.float32), np.asarray(again, np.float32), atol=2e-3)
