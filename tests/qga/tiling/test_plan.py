"""Certificates hold: no violation in many problems of five kinds; promises are kept (theory T-12, T-13)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga.errors import OptionError, ShapeError
from qga.tiling import (
    COARSE,
    EXACT,
    SKIP,
    Budget,
    Certified,
    Fixed,
    Summary,
    attend_planned,
    plan,
    split,
    summarize,
)
from tests.qga.dense import dot_weights
from tests.qga.tiling.problems import (
    KEYS,
    KINDS,
    TILE,
    Problems,
    draw,
    relative_entropy,
    rounded,
    solve,
    truth,
    weights,
)
from tests.qga.tolerances import assert_close, bound

# 5 kinds, 3 resolutions: 31500 problems.
PROBLEMS = 2100
RESOLUTIONS = (Certified(0.1), Certified(0.01), Budget(2))
TILES = KEYS // TILE

choose = jax.jit(plan, static_argnames=("resolution", "query_tile"))
attend = jax.jit(attend_planned, static_argnames=("tile",))


def errors_and_bounds(problems: Problems, resolution: Certified | Budget | Fixed) -> dict[str, tuple]:
    """Return what went wrong and what was certified, by name."""
    exact, approximate = truth(problems), weights(problems, resolution)
    out, certificate = solve(problems, resolution)
    moved = np.linalg.norm(out - np.einsum("pk,pkc->pc", exact, problems.values.astype(float)), axis=1)
    return {
        "kl": (relative_entropy(approximate, exact), certificate.kl),
        "total_variation": (np.abs(approximate - exact).sum(axis=1) / 2, certificate.total_variation),
        "out_error": (moved, certificate.out_error),
        "sound": (None, certificate.sound),
        "exact": (None, certificate.tiles_exact),
    }


@pytest.fixture(scope="module")
def table() -> dict:
    random = np.random.default_rng(7)
    drawn = {kind: rounded(draw(kind, PROBLEMS, random), np.float32) for kind in KINDS}
    return {pair: errors_and_bounds(drawn[pair[0]], pair[1]) for pair in itertools.product(KINDS, RESOLUTIONS)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resolution", RESOLUTIONS, ids=str)
def test_no_certificate_is_violated(kind: str, resolution: Certified | Budget, table: dict) -> None:
    rows = table[kind, resolution]
    for name in ("kl", "total_variation", "out_error"):
        error, certified = rows[name]
        assert np.all(error <= certified), f"{name}: {np.max(error - certified)}"
        assert error.shape == (PROBLEMS,)


@pytest.mark.parametrize(("name", "share"), [("kl", 0.95), ("total_variation", 0.95), ("out_error", 0.6)])
def test_a_smaller_certificate_is_violated(name: str, share: float, table: dict) -> None:
    assert any(np.any(error > share * certified) for error, certified in (rows[name] for rows in table.values()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resolution", RESOLUTIONS[:2], ids=str)
def test_a_promise_is_kept(kind: str, resolution: Certified, table: dict) -> None:
    rows = table[kind, resolution]
    assert np.all(rows["total_variation"][1] <= resolution.eps)
    assert np.all(rows["sound"][1])


def test_clustered_keys_save_tiles_and_random_ones_do_not(table: dict) -> None:
    exact = {kind: table[kind, Certified(0.01)]["exact"][1].mean() for kind in ("iid", "clustered")}
    assert exact["clustered"] < 0.7 * TILES
    assert exact["iid"] > 0.85 * TILES


@pytest.mark.parametrize("kind", KINDS)
def test_exact_tiles_leave_rounding_alone(kind: str, dtype: np.dtype) -> None:
    rows = errors_and_bounds(rounded(draw(kind, 50, np.random.default_rng(3)), dtype), Fixed(TILE))
    for name, size in (("kl", 1e-3), ("total_variation", 1.0)):
        error, certified = rows[name]
        assert np.all(error <= certified)
        assert np.all(certified <= size * bound(dtype, scale=5000.0))


def test_a_promise_below_rounding_is_not_made(dtype: np.dtype) -> None:
    # In float32 the rounding of scores alone is certified to no less than 1e-5.
    problems = rounded(draw("iid", 20, np.random.default_rng(3)), dtype)
    rows = errors_and_bounds(problems, Certified(1e-7))
    assert np.all(rows["sound"][1]) == (dtype == np.float64)
    assert np.all(rows["exact"][1] == TILES)
    assert np.all(rows["total_variation"][0] <= rows["total_variation"][1])


def one_problem(dtype: str = "float32", rows: int = 45) -> tuple[jax.Array, jax.Array, jax.Array, Summary]:
    """Draw five queries on clustered keys whose last tile is not full."""
    random = np.random.default_rng(5)
    keys = np.repeat(random.normal(size=(TILES, 4)), TILE, axis=0)[:rows] + 0.1 * random.normal(size=(rows, 4))
    queries, values = random.normal(size=(5, 4)), random.normal(size=(rows, 3))
    queries, keys, values = (jnp.asarray(array, dtype) for array in (queries, keys, values))
    (key_tiles, exists), (value_tiles, _) = split(keys, TILE), split(values, TILE)
    return queries, keys, values, summarize(key_tiles, value_tiles, exists)


def test_fixed_is_dense_attention(dtype: np.dtype) -> None:
    queries, keys, values, summary = one_problem(str(dtype))
    chosen = choose(queries, summary, Fixed(TILE), scale=0.7)
    assert np.all(np.asarray(chosen.level) == EXACT)
    out, _ = attend(queries, keys, values, chosen, summary, scale=0.7, tile=TILE)
    want = dot_weights(np.asarray(queries), np.asarray(keys), 0.7) @ np.asarray(values, float)
    assert_close(out, want, depth=KEYS, scale=3.0)


@pytest.mark.parametrize("tiles", [0, 1, 3, TILES, TILES + 5])
def test_budget_spends_what_it_has_on_the_largest_gaps(tiles: int) -> None:
    queries, _, _, summary = one_problem()
    level = np.asarray(choose(queries, summary, Budget(tiles), scale=2.0).level)
    assert np.all((level == EXACT).sum(axis=1) == min(tiles, TILES))
    more = np.asarray(choose(queries, summary, Budget(tiles + 1), scale=2.0).level)
    assert np.all(more >= level)


def test_levels_that_rise_lower_the_certificate() -> None:
    queries, keys, values, summary = one_problem()
    chosen = choose(queries, summary, Certified(0.3), scale=1.0)
    raised = chosen._replace(level=jnp.where(chosen.level == SKIP, COARSE, EXACT))
    kl = [attend(queries, keys, values, each, summary, scale=1.0, tile=TILE)[1].kl for each in (chosen, raised)]
    assert np.all(np.asarray(kl[1]) < np.asarray(kl[0]))


def test_queries_that_share_a_plan_keep_their_promise() -> None:
    queries, keys, values, summary = one_problem()
    alone = choose(queries, summary, Certified(0.2), scale=2.0)
    shared = choose(queries, summary, Certified(0.2), scale=2.0, query_tile=3)
    level = np.asarray(shared.level)
    assert np.all(level[:3] == level[0])
    assert np.all(level[3:] == level[3])
    assert np.all(level >= np.asarray(alone.level))
    assert not np.array_equal(level, alone.level)
    _, certificate = attend(queries, keys, values, shared, summary, scale=2.0, tile=TILE)
    assert np.all(certificate.sound)


@pytest.mark.parametrize("resolution", [Fixed(TILE), Certified(0.1), Budget(2)], ids=str)
def test_a_tile_without_keys_is_skipped_and_changes_no_other(resolution: Fixed | Certified | Budget) -> None:
    queries, _, _, summary = one_problem()
    none = summarize(jnp.zeros((1, TILE, 4)), jnp.zeros((1, TILE, 3)), jnp.zeros((1, TILE), bool))
    longer = jax.tree.map(lambda field, last: jnp.concatenate([field, last]), summary, none)
    level = np.asarray(choose(queries, longer, resolution, scale=1.0).level)
    assert np.all(level[:, -1] == SKIP)
    assert np.array_equal(level[:, :-1], choose(queries, summary, resolution, scale=1.0).level)


def test_the_derivative_is_that_of_the_approximation() -> None:
    with jax.enable_x64(True):
        queries, keys, values, summary = one_problem("float64")
        chosen = choose(queries, summary, Certified(0.2), scale=1.0)
        assert {SKIP, COARSE, EXACT} <= set(np.asarray(chosen.level).ravel().tolist())

        @jax.jit
        def loss(keys: jax.Array) -> jax.Array:
            (key_tiles, exists), (value_tiles, _) = split(keys, TILE), split(values, TILE)
            made = summarize(key_tiles, value_tiles, exists)
            out, _ = attend(queries, keys, values, chosen, made, scale=1.0, tile=TILE)
            return jnp.sum(jnp.square(out))

        way = jnp.asarray(np.random.default_rng(1).normal(size=keys.shape))
        slope = float(jnp.vdot(jax.jit(jax.grad(loss))(keys), way))
        step = 1e-5
        quotient = float(loss(keys + step * way) - loss(keys - step * way)) / (2 * step)
        assert abs(slope) > 1e-3
        assert abs(slope - quotient) < 1e-8


def test_a_plan_has_no_derivative() -> None:
    queries, _, _, summary = one_problem()
    gradient = jax.jit(jax.grad(lambda q: jnp.sum(plan(q, summary, Certified(0.1), scale=1.0).upper)))(queries)
    assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize(
    "resolution",
    [Fixed(0), Certified(0.0), Certified(1.0), Certified(0.1, 1.0), Budget(-1), Budget(0.5), Budget(flops=9)],
)
def test_plan_refuses_impossible_resolutions(resolution: Fixed | Certified | Budget) -> None:
    queries, _, _, summary = one_problem()
    with pytest.raises(OptionError, match=r"^plan: a resolution must be possible\.\n  got:  \w+\("):
        choose(queries, summary, resolution, scale=1.0)


def test_attend_planned_refuses_another_plan() -> None:
    queries, keys, values, summary = one_problem()
    chosen = choose(queries, summary, Fixed(TILE), scale=1.0)
    chosen = chosen._replace(level=chosen.level[:2])
    with pytest.raises(ShapeError, match=r"(?s)^attend_planned: plan and summary must .*level int32\[2, 6\]"):
        attend(queries, keys, values, chosen, summary, scale=1.0, tile=TILE)
