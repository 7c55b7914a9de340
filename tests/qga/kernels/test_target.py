"""A function of one entry runs over batches in the way of its target; a loop has tiles, and memory, of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from qga.exact.scores import DOT
from qga.exact.tiled import lift
from qga.kernels import execute
from qga.kernels.attention import average_kernel
from qga.kernels.attention_gradient import key_gradient_kernel, pull_in_loop, query_gradient_kernel
from qga.kernels.problem import Problem, TilePlan, entries_at_once, operands, sizes_of
from qga.kernels.target import Target, on_target
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far

# Of temporaries at 8,192 rows of 8 heads: a tenth of the bytes that a table of one head takes.
MEMORY = 24 << 20


def problem_of(random: np.random.Generator, queries: int, keys: int) -> Problem:
    rows = [jnp.asarray(random.normal(size=(count, 5)), jnp.float32) for count in (queries, keys, keys)]
    return Problem((rows[0],), rows[1], rows[2], jnp.float32(0.5), None)


def plan_of(*, is_causal: bool = False, tile: int = 2048) -> TilePlan:
    return TilePlan(DOT, tile, is_causal, "reverse")


# One tile of a loop and several; lengths that no tile divides, and more keys than queries.
LENGTHS = [(70, 67), (513, 1030), pytest.param(1025, 2053, marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_tiles_of_a_loop_and_of_a_workgroup_give_one_result(
    queries: int, keys: int, is_causal: bool, random: np.random.Generator
) -> None:
    plan = plan_of(is_causal=is_causal)
    problem = lift(plan, problem_of(random, queries, keys))
    assert sizes_of(plan, problem, Target.LOOP).key_tile > sizes_of(plan, problem).key_tile == 32
    bar = jnp.asarray(random.normal(size=problem.values.shape)[:1] * np.ones((queries, 1)), jnp.float32)

    @jax.jit
    def compute(problem: Problem, bar: jax.Array) -> tuple[Any, Any]:
        found = [execute(average_kernel(plan, problem, target), *operands(problem)) for target in Target]
        out, log_sums = found[0]
        back = bar, log_sums, -jnp.sum(bar * out, axis=1)
        by_query, by_key = (
            execute(kernel(plan, problem), *operands(problem), *back)
            for kernel in (query_gradient_kernel, key_gradient_kernel)
        )
        bars, scale_bars = pull_in_loop(plan, problem, back)
        return (found[0], by_query[0], *by_key, jnp.sum(by_query[1])), (found[1], *bars, jnp.sum(scale_bars[0]))

    results = compute(problem, bar)
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        assert_close(one, other, depth=max(queries, keys), scale=4 * float(jnp.max(jnp.abs(other))))
    assert_far(results[0][1], results[1][1] * 1.01, depth=keys)


def test_a_loop_cuts_evenly_and_hides_in_short_tiles(random: np.random.Generator) -> None:
    problem = problem_of(random, 4096, 5000)
    sizes = sizes_of(plan_of(), problem, Target.LOOP)
    assert (sizes.query_tile, sizes.key_tile) == (1024, 1667)
    assert sizes_of(plan_of(is_causal=True), problem, Target.LOOP)[6:8] == (512, 500)
    near = replace(plan_of(is_causal=True), window=(100, None))
    assert sizes_of(near, problem, Target.LOOP)[6:8] == (128, 125)
    assert sizes_of(plan_of(tile=16), problem, Target.LOOP).key_tile == 16
    assert entries_at_once(problem) == 0
    assert entries_at_once(problem_of(random, 64, 64)) == 256


def mapped(at_once: int, rows: jax.Array, shared: jax.Array, factor: jax.Array) -> Any:
    """Map over heads, which stand behind rows and have a factor each, and over a batch in front of all but shared."""

    def function(target: Target, rows: jax.Array, shared: jax.Array, factor: jax.Array) -> Any:
        # A result that knows its target.
        return rows * factor + shared, jnp.sum(rows) + float(target is Target.VULKAN)

    def one(*given: jax.Array) -> Any:
        results = jax.ShapeDtypeStruct(given[0].shape, given[0].dtype), jax.ShapeDtypeStruct((), given[0].dtype)
        return on_target(function, results, *given, at_once=at_once)

    return jax.vmap(jax.vmap(one, (1, None, 0), (1, 0)), (0, None, None))(rows, shared, factor)


@pytest.mark.parametrize("heads", [0, 1, 6])
@pytest.mark.parametrize("at_once", [1, 4, 6, 100])
def test_entries_are_mapped_wherever_their_axis_is(at_once: int, heads: int, random: np.random.Generator) -> None:
    rows, factor = random.normal(size=(2, 5, heads, 3)), random.normal(size=heads)
    shared = random.normal(size=(5, 3))
    given = [jnp.asarray(each, jnp.float32) for each in (rows, shared, factor)]
    for run in (mapped, jax.jit(mapped, static_argnums=0)):
        got, sums = run(at_once, *given)
        assert_close(got, rows * factor[:, None] + shared[:, None])
        assert_close(sums, rows.sum((1, 3)), depth=15)


def remade(at_once: int, *arrays: jax.Array, made: bool = True, places: tuple[int, ...] = (0, 0, 2)) -> Any:
    """Return results like ones that a former call made: two of them alike, and one that is not; heads at places."""

    def make(target: Target, rows: jax.Array, others: jax.Array) -> Any:
        del target
        return rows + others, jnp.sum(rows, axis=1)

    def remake(target: Target, rows: jax.Array, others: jax.Array, out: jax.Array, sums: jax.Array) -> Any:
        del target
        return others * out, out + sums[:, None], rows.T

    def one(rows: jax.Array, others: jax.Array) -> Any:
        shapes = [jax.ShapeDtypeStruct(shape, rows.dtype) for shape in (rows.shape, rows.shape[:1], rows.shape[::-1])]
        found = on_target(make, tuple(shapes[:2]), rows, others, at_once=at_once)
        given = ((rows, others), found) if made else ((rows, others, *found), ())
        return on_target(remake, (shapes[0], shapes[0], shapes[2]), *given[0], at_once=at_once, made=given[1])

    return jax.vmap(jax.vmap(one, (1, 0), places), (0, None))(*arrays)


@pytest.mark.parametrize("at_once", [1, 3, 6, 100])
def test_results_take_the_place_of_what_was_made(at_once: int, random: np.random.Generator) -> None:
    rows, others = random.normal(size=(2, 5, 6, 3)), random.normal(size=(6, 5, 3))
    given = [jnp.asarray(each, jnp.float32) for each in (rows, others)]
    out = rows + np.moveaxis(others, 0, 1)
    sums = out + rows.sum(3, keepdims=True)
    for run in (remade, jax.jit(remade, static_argnums=0)):
        first, second, third = run(at_once, *given)
        assert_close(first, np.moveaxis(out * np.moveaxis(others, 0, 1), 2, 1), depth=2, scale=float(np.abs(out).max()))
        assert_close(second, np.moveaxis(sums, 2, 1), depth=8, scale=float(np.abs(sums).max()))
        assert_close(third, np.transpose(rows, (0, 3, 1, 2)))


def test_vulkan_is_a_target_of_its_own(vulkan: jax.Device, random: np.random.Generator) -> None:
    rows, shared = random.normal(size=(2, 5, 6, 3)), random.normal(size=(5, 3))
    given = [jnp.asarray(each, jnp.float32) for each in (rows, shared, np.ones(6))]
    got, sums = jax.jit(partial(mapped, 2))(*jax.device_put(given, vulkan))
    assert got.devices() == {vulkan}
    assert_close(got, rows + shared[:, None], roundings=VULKAN_ROUNDINGS)
    assert_close(sums, rows.sum((1, 3)) + 1, depth=15, roundings=VULKAN_ROUNDINGS)


@pytest.fixture
def optimised() -> Iterator[None]:
    """Let XLA optimise what is compiled, as it does outside of tests."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def temporaries(function: Any, rows: int) -> int:
    """Return the bytes that a compiled function of three arrays needs beside them and its results."""
    arrays = [jax.ShapeDtypeStruct((1, rows, 8, 64), jnp.float32)] * 3
    return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.usefixtures("optimised")
def test_a_long_attention_takes_little_memory() -> None:
    # Tables and rows of one head: the loop over heads writes into the results themselves, however they lie.
    assert temporaries(qga.attention, 8192) <= 18 << 20
    heads_first = jax.vmap(qga.attention, (1, 1, 1), 1)
    arrays = [jax.ShapeDtypeStruct((1, 8, 8192, 1, 64), jnp.float32)] * 3
    assert jax.jit(heads_first).lower(*arrays).compile().memory_analysis().temp_size_in_bytes <= MEMORY
    assert temporaries(jax.nn.dot_product_attention, 8192) > 50 * MEMORY


@pytest.mark.usefixtures("optimised")
def test_what_was_made_is_there_once() -> None:
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 512, 8, 64), (8, 512, 64))]
    in_place, beside = (
        jax.jit(partial(remade, 1, made=made, places=(1, 1, 1)))
        .lower(*arrays)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for made in (True, False)
    )
    whole = 4 * 512 * 8 * 64
    # All but what one entry has, for which there is room in it.
    assert beside - in_place >= 3 * whole // 4


LAYOUTS = [(False, False), (False, True), *(pytest.param(True, each, marks=pytest.mark.exhaustive) for each in (0, 1))]


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(("is_causal", "heads_first"), LAYOUTS)
def test_a_long_gradient_takes_little_memory(is_causal: bool, heads_first: bool) -> None:
    # Averages lie where cotangents of queries will: there are two tables and what one head has.
    attend, shape = partial(qga.attention, is_causal=is_causal), (1, 8192, 8, 64)
    if heads_first:
        attend, shape = jax.vmap(attend, (1, 1, 1), 1), (1, 8, 8192, 1, 64)

    def pull(bar: jax.Array, *given: jax.Array) -> Any:
        return jax.vjp(attend, *given)[1](bar)

    compiled = jax.jit(pull).lower(*[jax.ShapeDtypeStruct(shape, jnp.float32)] * 4).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= MEMORY


@pytest.mark.exhaustive
@pytest.mark.usefixtures("optimised")
def test_a_gradient_of_a_sum_takes_little_memory() -> None:
    def gradient(*arrays: jax.Array) -> Any:
        return jax.grad(lambda *given: jnp.sum(qga.attention(*given)), (0, 1, 2))(*arrays)

    sizes = [temporaries(gradient, rows) for rows in (4096, 8192)]
    assert sizes[1] <= min(MEMORY, 2 * sizes[0])


@pytest.mark.usefixtures("x64")
def test_derivatives_of_what_was_compiled_are_those_of_what_was_not() -> None:
    arrays = [jnp.asarray(np.random.default_rng(number).normal(size=(2, 5, 3, 4))) for number in range(3)]
    gradient = jax.grad(lambda *rows: jnp.sum(jnp.sin(qga.attention(*rows, is_causal=True))), (0, 1, 2))
    moves = [jnp.cos(each) for each in arrays]
    staged, direct = (jax.jvp(each, arrays, moves)[1] for each in (jax.jit(gradient), gradient))
    for one, other in zip(staged, direct, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
