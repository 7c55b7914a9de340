"""The attention kernels: executor, interpret mode and the dense truth agree, at lengths that no tile divides."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qga
from qga.exact.scores import DOT, FIDELITY, lift_to_rays
from qga.exact.tiled import attend, attention_state, lift
from qga.kernels import Kernel, call_pallas, execute
from qga.kernels.attention import attention_kernel, pass_kernel
from qga.kernels.attention_gradient import key_gradient_kernel, query_gradient_kernel
from qga.kernels.problem import Problem, TilePlan, operands, sizes_of
from qga.tiling import State, state_merge, state_read
from tests.qga.dense import dot_weights, fidelity_weights
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far

SCALE = 0.7
# One, a tile less one, a tile, a tile and one, a prime; with tiles of 8 keys and of all 64 that fit a workgroup.
LENGTHS = [
    (1, 1, 8), (9, 7, 8), (37, 23, 8), (64, 131, 64),
    *(pytest.param(*each, marks=pytest.mark.exhaustive) for each in ((7, 9, 8), (8, 8, 8), (65, 63, 64))),
]  # fmt: skip


def draw(random: np.random.Generator, metric: str, queries: int, keys: int, *, masked: bool = False) -> Problem:
    rows, places, values = (
        random.normal(size=shape).astype(np.float32) for shape in ((queries, 6), (keys, 6), (keys, 3))
    )
    mask = jnp.asarray(random.random((queries, keys)) < 0.6) if masked else None
    if metric == "fidelity":
        rows, places = lift_to_rays(jnp.asarray(rows)), lift_to_rays(jnp.asarray(places))
    scale = jnp.float32(SCALE)
    return Problem((jnp.asarray(rows),), jnp.asarray(places), jnp.asarray(values), scale, mask)


def plan_of(metric: str, tile: int = 8, *, is_causal: bool = False) -> TilePlan:
    return TilePlan({"dot": DOT, "fidelity": FIDELITY}[metric], tile, is_causal)


def truth(metric: str, problem: Problem, *, is_causal: bool) -> np.ndarray:
    queries, keys, values = (np.asarray(array, float) for array in (problem.planes[0], problem.keys, problem.values))
    visible = np.ones((len(queries), len(keys)), bool) if problem.mask is None else np.asarray(problem.mask)
    if is_causal:
        visible = visible & np.tri(len(queries), len(keys), dtype=bool)
    weigh = partial(dot_weights, scale=SCALE) if metric == "dot" else partial(fidelity_weights, beta=SCALE)
    return weigh(queries, keys, visible=visible) @ values


@partial(jax.jit, static_argnums=(0, 1))
def run(kernel_of: object, plan: TilePlan, problem: Problem, *rest: jax.Array) -> tuple[list[jax.Array], ...]:
    problem = lift(plan, problem)
    kernel: Kernel = kernel_of(plan, problem)
    arrays = *operands(problem), *rest
    return execute(kernel, *arrays), call_pallas(kernel, *arrays, interpret=True)


@pytest.mark.parametrize("metric", ["dot", "fidelity"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "keys", "tile"), LENGTHS)
def test_states_read_as_the_dense_average(
    metric: str, is_causal: bool, masked: bool, queries: int, keys: int, tile: int, random: np.random.Generator
) -> None:
    problem, plan = draw(random, metric, queries, keys, masked=masked), plan_of(metric, tile, is_causal=is_causal)
    executed, interpreted = (State(*results) for results in run(attention_kernel, plan, problem))
    want = truth(metric, problem, is_causal=is_causal)
    for state in (executed, interpreted):
        assert_close(state_read(state)[0], want, depth=keys, scale=4.0)
    for one, other in zip(executed, interpreted, strict=True):
        assert_close(one, other, depth=keys, scale=4.0)
    assert_far(state_read(executed)[0], want + 1e-2)


@pytest.mark.parametrize("metric", ["dot", "fidelity"])
@pytest.mark.parametrize(("queries", "keys", "tile"), LENGTHS)
def test_a_pass_with_known_peaks_is_the_attention(
    metric: str, queries: int, keys: int, tile: int, random: np.random.Generator
) -> None:
    problem, plan = draw(random, metric, queries, keys, masked=True), plan_of(metric, tile, is_causal=True)
    _, log_sums = attend(plan, problem)
    peak = jnp.where(log_sums == -jnp.inf, 0, log_sums)
    for results in run(pass_kernel, plan, problem, peak + 0.5):
        got, again = state_read(State(peak + 0.5, *results))
        assert_close(got, truth(metric, problem, is_causal=True), depth=keys, scale=4.0)
        assert_close(again, log_sums, depth=keys, scale=4.0)


@pytest.mark.parametrize("metric", ["dot", "fidelity"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("queries", "keys", "tile"), LENGTHS)
def test_gradient_kernels_are_the_transpose_of_the_dense_derivative(
    metric: str, is_causal: bool, queries: int, keys: int, tile: int, random: np.random.Generator
) -> None:
    problem, plan = draw(random, metric, queries, keys, masked=True), plan_of(metric, tile, is_causal=is_causal)
    bars = tuple(jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((queries, 3), (queries,)))

    def dense(planes: tuple, keys: jax.Array, values: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = plan.score.link(tuple(plane @ keys.T for plane in planes), scale)
        visible = problem.mask & jnp.tri(*scores.shape, dtype=bool) if is_causal else problem.mask
        mass = jnp.sum(jnp.where(visible, jnp.exp(scores), 0), axis=1)
        weights = jnp.where(visible, jnp.exp(scores), 0) / jnp.where(mass == 0, 1, mass)[:, None]
        return weights @ values, jnp.log(jnp.where(mass == 0, 1, mass))

    inputs = lift(plan, problem).planes, problem.keys, problem.values, problem.scale
    (out, log_sums), pull = jax.vjp(dense, *inputs)
    back = bars[0], log_sums, bars[1] - jnp.sum(bars[0] * out, axis=1)
    want = pull(bars)
    by_query, by_key = run(query_gradient_kernel, plan, problem, *back), run(key_gradient_kernel, plan, problem, *back)
    for (*planes, scale_bar), key_bars in zip(by_query, by_key, strict=True):
        got = tuple(planes), *key_bars, jnp.sum(scale_bar)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            size = 10 * float(jnp.max(jnp.abs(other), initial=1.0))
            assert_close(one, other, depth=max(queries, keys), scale=size)


def test_a_forgotten_offset_is_noticed(random: np.random.Generator) -> None:
    problem, plan = draw(random, "dot", 9, 7), plan_of("dot")
    (out, log_sums), bar = attend(plan, problem), jnp.ones((9, 3))
    offsets = -jnp.sum(bar * out, axis=1)
    right, wrong = (
        run(query_gradient_kernel, plan, problem, bar, log_sums, each)[0][0] for each in (offsets, 0 * offsets)
    )
    assert_far(wrong, right, depth=7)


@settings(deadline=None, max_examples=10)
@given(cut=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_state_of_a_longer_cache_is_the_merge_of_its_parts(cut: int, seed: int) -> None:
    problem, plan = draw(np.random.default_rng(seed), "dot", 5, 13), plan_of("dot", 4)
    parts = [
        problem._replace(keys=problem.keys[each], values=problem.values[each])
        for each in (slice(cut), slice(cut, None))
    ]
    merged = state_merge(*(attention_state(plan, part) for part in parts))
    whole = attention_state(plan, problem)
    for one, other in zip(state_read(merged), state_read(whole), strict=True):
        assert_close(one, other, depth=13, scale=4.0)
    assert_far(state_read(attention_state(plan, parts[0]))[1], state_read(whole)[1])


def test_tiles_shrink_where_rows_are_wide() -> None:
    wide = Problem((jnp.zeros((999, 8)),), jnp.zeros((999, 8)), jnp.zeros((999, 4096)), jnp.float32(1), None)
    sizes = sizes_of(plan_of("dot", 64), wide)
    assert (sizes.query_tile, sizes.key_tile) == (4, 4)
    with jax.enable_x64(True):
        double = Problem((jnp.zeros((999, 8)),), jnp.zeros((999, 8)), jnp.zeros((999, 8)), jnp.float64(1), None)
        assert sizes_of(plan_of("dot", 64), double).query_tile == 32


@pytest.mark.parametrize("metric", ["dot", "fidelity"])
@pytest.mark.parametrize(("queries", "keys", "tile"), [(1, 1, 8), (37, 23, 8), (65, 63, 64)])
@pytest.mark.parametrize("derivatives", ["all", "reverse"])
def test_vulkan_computes_what_the_cpu_computes(
    metric: str,
    derivatives: str,
    queries: int,
    keys: int,
    tile: int,
    vulkan: jax.Device,
    random: np.random.Generator,
) -> None:
    heads = [draw(random, metric, queries, keys, masked=True) for _ in range(2)]
    problem = jax.tree.map(lambda *each: jnp.stack(each), *heads)
    plan = replace(plan_of(metric, tile, is_causal=True), derivatives=derivatives)

    def attended(planes: tuple, keys: jax.Array, values: jax.Array, scale: jax.Array, mask: jax.Array) -> tuple:
        return attend(plan, Problem(planes, keys, values, scale, mask))

    @jax.jit
    def compute(problem: Problem) -> tuple:
        (out, log_sums), pull = jax.vjp(lambda *inputs: jax.vmap(attended)(*inputs, problem.mask), *problem[:4])
        return out, log_sums, pull((out, jnp.ones_like(log_sums)))

    for one, other in zip(
        *(jax.tree.leaves(compute(p)) for p in (jax.device_put(problem, vulkan), problem)), strict=True
    ):
        assert one.devices() == {vulkan}
        finite = np.isfinite(np.asarray(other))
        size = float(np.max(np.abs(np.asarray(other)[finite]), initial=1.0))
        assert_close(one, other, depth=max(queries, keys), scale=size, roundings=VULKAN_ROUNDINGS)


@pytest.mark.parametrize("tile", [1, 2, 4])
def test_scores_of_minus_infinity_in_the_first_tile_hide_their_keys(tile: int) -> None:
    keys = jnp.ones((4, 1)).at[0].set(-jnp.inf)
    values = jnp.asarray([[100.0], [2.0], [4.0], [6.0]])
    assert_close(
        qga.dot_attention(jnp.ones((1, 1)), keys, values, tile=tile), jnp.full((1, 1), 4.0), depth=4, scale=8.0
    )


def test_small_cotangents_of_16_bit_attention_keep_their_bits(random: np.random.Generator) -> None:
    arrays = [jnp.asarray(random.normal(size=(256, 16)), jnp.float16) for _ in range(3)]
    bar = jnp.asarray(random.normal(size=(256, 16)), jnp.float16)

    def pulled(size: float) -> np.ndarray:
        _, pull = jax.vjp(lambda *given: qga.dot_attention(*given, derivatives="reverse"), *arrays)
        return np.asarray(pull(bar * jnp.float16(size))[2], float) / size

    large, small = pulled(1.0), pulled(2.0**-12)
    assert np.abs(small - large).max() < 2e-3 * np.abs(large).max()
    assert np.abs(pulled(2.0**-22) - large).max() > 2e-3 * np.abs(large).max()
