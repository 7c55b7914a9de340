"""Kernels that follow lists of tiles: the same numbers as all tiles where all are listed, and no others."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga.exact.scores import DOT_NARROW
from qga.exact.tiled import attend
from qga.kernels import visits as visits_module
from qga.kernels.attention import cut_forward
from qga.kernels.problem import Problem, Products, TilePlan, rounds_of
from qga.kernels.steps import together_of
from qga.kernels.visits import Visits, list_visits
from tests.qga.tolerances import assert_close

ROWS, WIDTH, TILE = 300, 8, 64


def problem_of(visited: np.ndarray | None, is_open: np.ndarray | None, dtype: type = np.float32) -> Problem:
    random = np.random.default_rng(3)
    queries, keys, values = (jnp.asarray(random.normal(size=(ROWS, WIDTH)), dtype) for _ in range(3))
    visits = None if visited is None else Visits(jnp.asarray(visited), jnp.asarray(is_open))
    return Problem((queries,), keys, values, jnp.float32(0.5), None, visits=visits)


def attended(plan: TilePlan, problem: Problem) -> tuple:
    @jax.jit
    def run(problem: Problem) -> tuple:
        def loss(numbers: tuple) -> tuple:
            planes, keys, values = numbers
            out, log_sums = attend(plan, problem._replace(planes=planes, keys=keys, values=values))
            return jnp.sum(jnp.sin(3 * out.astype(jnp.float32))) + jnp.sum(log_sums), (out, log_sums)

        return jax.grad(loss, has_aux=True)((problem.planes, problem.keys, problem.values))

    return run(problem)


def causal_pairs(tiles: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs of tiles see each other, and in which of them nothing is hidden: the last tile is not full."""
    queries, keys = np.indices((tiles, tiles))
    return keys <= queries, keys < queries


def listed(visited: np.ndarray, is_open: np.ndarray, *, by_key: bool = False, few: int = 256) -> list[tuple[Any, ...]]:
    """Return each list as the ends of its run, the names of the rest and the tile that leads."""
    visits = Visits(jnp.asarray(visited), jnp.asarray(is_open))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visits_module, "FEW", few)
        jax.clear_caches()
        lists = jax.tree.map(lambda each: each.tolist(), list_visits(visits, by_key=by_key))
    return [
        (start, opened, names[: stop - opened], lead)
        for names, start, opened, stop, lead in zip(*lists[:5], strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("few", [2, 256])
def test_lists_have_a_run_of_open_tiles_and_name_the_rest_from_both_sides(few: int) -> None:
    pairs = causal_pairs(3)
    assert listed(*pairs, few=few) == [(0, 0, [0], 0), (0, 1, [1], 1), (0, 2, [2], 2)]
    assert listed(*pairs, by_key=True, few=few) == [(1, 3, [0], 0), (2, 3, [1], 1), (0, 0, [2], 2)]


@pytest.mark.parametrize("few", [2, 256])
def test_lists_have_every_visited_tile_once(few: int) -> None:
    random = np.random.default_rng(7)
    visited, is_open = random.random((9, 40)) < 0.7, random.random((9, 40)) < 0.8
    visited[0] = False
    visited[1] = is_open[1] = True
    for row, (start, opened, names, lead) in enumerate(listed(visited, is_open, few=few)):
        assert sorted([*range(start, opened), *names]) == np.flatnonzero(visited[row]).tolist()
        assert names == sorted(names)
        run = "".join("x" if both else " " for both in visited[row] & is_open[row])
        assert opened - start == max(map(len, run.split(" ")))
        assert np.all((visited & is_open)[row, start:opened])
        assert visited[row, lead] or not np.any(visited[row])
        assert lead == row or not visited[row, row]


def test_programs_are_started_together_while_what_they_read_stays_near() -> None:
    def started(rows: int, *, is_causal: bool, is_listed: bool = False, window: Any = (None, None)) -> int:
        plan = TilePlan(DOT_NARROW, 2048, is_causal=is_causal, window=window)
        each = jnp.zeros((rows, 64), np.float16)
        visited, is_open = map(jnp.asarray, causal_pairs(rows // 128) if is_listed else ([], []))
        visits = Visits(visited, is_open) if is_listed else None
        return together_of(plan, Problem((each,), each, each, jnp.float32(1), None, visits=visits))

    assert [started(rows, is_causal=True) for rows in (4096, 8192, 1 << 18)] == [32, 16, 1]
    assert started(8192, is_causal=True, is_listed=True) == 1024
    assert started(8192, is_causal=False) == started(8192, is_causal=True, window=(512, None)) == 0


@pytest.mark.parametrize("products", ["given", "half", "split"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("width", "channels"), [(8, 8), (64, 64), (64, 512), (384, 256)])
def test_a_program_sums_a_tile_in_as_many_rounds_as_are_counted(
    products: Products, dtype: type, width: int, channels: int
) -> None:
    plan = TilePlan(DOT_NARROW, 2048, is_causal=True, products=products)
    queries, keys, values = (jnp.zeros((ROWS, size), dtype) for size in (width, width, channels))
    visited, is_open = map(jnp.asarray, causal_pairs(3))
    sizes, _ = cut_forward(
        plan, Problem((queries,), keys, values, jnp.float32(0.5), None, visits=Visits(visited, is_open))
    )
    counted = rounds_of(products, queries.dtype.itemsize, width, channels, sizes.query_tile)
    assert counted >= -(-sizes.query_tile // sizes.key_tile)
    assert counted <= 2 * -(-sizes.query_tile // sizes.key_tile)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_visible_tile_visited_is_the_plain_kernel(dtype: type) -> None:
    tiles = -(-ROWS // {np.float32: 64, np.float16: 128}[dtype])
    plan = TilePlan(DOT_NARROW, 128, is_causal=True, derivatives="reverse", scale_moves=False)
    plain, listed = (attended(plan, problem_of(*pairs, dtype)) for pairs in ((None, None), causal_pairs(tiles)))
    # Sums have another order.
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(listed), strict=True):
        assert_close(one, other, depth=ROWS, scale=float(np.max(np.abs(one))))


def test_tiles_that_are_not_visited_do_not_exist() -> None:
    tiles = -(-ROWS // TILE)
    visited, is_open = causal_pairs(tiles)
    visited = visited & (np.random.default_rng(5).random((tiles, tiles)) < 0.6) | np.eye(tiles, dtype=bool)
    plan = TilePlan(DOT_NARROW, 128, is_causal=True, derivatives="reverse", scale_moves=False)
    (grads, (out, log_sums)) = attended(plan, problem_of(visited, is_open & visited))
    mask = np.kron(visited, np.ones((TILE, TILE), bool))[:ROWS, :ROWS]
    dense = attended(plan, problem_of(None, None)._replace(mask=jnp.asarray(mask)))
    for one, other in zip(jax.tree.leaves((grads, (out, log_sums))), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)
    everything = attended(plan, problem_of(*causal_pairs(tiles)))
    assert float(jnp.max(jnp.abs(everything[1][0] - out))) > 1e-2


@pytest.mark.parametrize("derivatives", ["reverse", "all"])
def test_references_of_a_list_have_no_derivative(derivatives: Any) -> None:
    visited, is_open = causal_pairs(-(-ROWS // TILE))
    plan = TilePlan(DOT_NARROW, 128, is_causal=True, derivatives=derivatives, scale_moves=False)
    problem = problem_of(visited, is_open)
    found = Visits(jnp.asarray(visited), jnp.asarray(is_open))
    listed = list_visits(found)._replace(reference=jnp.zeros((len(visited), TILE), jnp.float32))
    referred = attended(plan, problem._replace(visits=found._replace(listed=listed)))
    jax.tree.map(np.testing.assert_array_equal, referred, attended(plan, problem))
    slope = jax.grad(
        lambda listed: jnp.sum(attend(plan, problem._replace(visits=found._replace(listed=listed)))[0]), allow_int=True
    )(listed)
    assert not np.any(slope.reference)


def test_derivatives_of_every_order_leave_out_what_is_not_visited() -> None:
    tiles = -(-ROWS // TILE)
    visited, is_open = (pairs & ~np.eye(tiles, k=-1, dtype=bool) for pairs in causal_pairs(tiles))
    mask = jnp.asarray(np.kron(visited, np.ones((TILE, TILE), bool))[:ROWS, :ROWS])
    plan = TilePlan(DOT_NARROW, 128, is_causal=True, derivatives="all", scale_moves=False)

    @jax.jit
    def curvature(problem: Problem, move: jax.Array) -> jax.Array:
        def slope(keys: jax.Array) -> jax.Array:
            return jax.grad(lambda keys: jnp.sum(jnp.sin(attend(plan, problem._replace(keys=keys))[0])))(keys)

        return jax.jvp(slope, (problem.keys,), (move,))[1]

    listed, plain, dense = problem_of(visited, is_open), problem_of(None, None), problem_of(None, None)
    move = jnp.cos(jnp.arange(ROWS * WIDTH, dtype=jnp.float32)).reshape(ROWS, WIDTH)
    expected = curvature(dense._replace(mask=mask), move)
    np.testing.assert_allclose(curvature(listed, move), expected, rtol=1e-4, atol=1e-4)
    assert float(jnp.max(jnp.abs(curvature(plain, move) - expected))) > 1e-2
