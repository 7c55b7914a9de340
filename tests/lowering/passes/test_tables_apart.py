"""Which tables are stored because elements made again might mean something else, and which hidden ones are added."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lowering.passes.tables import fold_tables

from .folding import KEYS, QUERIES, compared, graph_of, kernels, operands


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables of a test be large enough."""
    monkeypatch.setattr("lowering.passes.tables.find.LEAST", 1)


EQUALS = {
    "largest": lambda scores: scores == scores.max(-1, keepdims=True),
    "at least": lambda scores: scores >= scores.max(-1, keepdims=True),
    "gradient": lambda scores: jax.vjp(lambda x: x.max(-1), scores)[1](jnp.ones_like(scores[..., 0]))[0],
    "integers": lambda scores: (
        jnp.round(scores).astype(jnp.int32) >= jnp.round(scores.max(-1)).astype(jnp.int32)[..., None]
    ),
    "difference": lambda scores: scores - scores.max(-1, keepdims=True) == 0,
}


@pytest.mark.parametrize("name", sorted(EQUALS))
def test_a_table_whose_elements_are_compared_with_results_of_its_own_is_stored(name: str) -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        chosen = EQUALS[name](jnp.einsum("bqhd,bkhd->bhqk", q, k))
        return jnp.einsum("bhqk,bkhd->bqhd", chosen.astype(q.dtype), v)

    graph = graph_of(function, *operands())
    assert fold_tables(graph, lambda kernel: kernel) is graph


def test_a_table_whose_elements_are_compared_with_numbers_and_with_each_other_is_folded() -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        chosen = jnp.where((scores > 0) & (scores == scores), scores, scores * 0.5)
        return jnp.einsum("bhqk,bkhd->bqhd", chosen.astype(q.dtype), v)

    stored, made, graph = compared(function, *operands())
    assert len(kernels(graph)) == 1
    np.testing.assert_allclose(made[0], stored[0], rtol=0.004, atol=0.2)


def test_a_table_of_many_steps_is_stored() -> None:
    def function(steps: int, q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        for _ in range(steps):
            scores = scores * 0.5 + jnp.tanh(scores)
        return jnp.einsum("bhqk,bkhd->bqhd", scores.astype(q.dtype), v)

    few, many = (graph_of(partial(function, steps), *operands()) for steps in (20, 200))
    assert len(kernels(fold_tables(few, lambda kernel: kernel))) == 1
    assert fold_tables(many, lambda kernel: kernel) is many


def test_products_share_kernels_that_do_not_need_each_other() -> None:
    def function(q: Any, k: Any, more: Any) -> Any:
        first, second = (jnp.einsum("bqhd,bkhd->bhqk", q, each).astype(jnp.float32) for each in (k, more))
        fed = [jnp.einsum("bhqk,bqhd->bkhd", table.astype(q.dtype), q) / 100 for table in (first, second)]
        # Each of these needs what a first product of the other table's gives: not both pairs can be kernels.
        crossed = [
            jnp.einsum("bhqk,bqhd->bkhd", table.astype(q.dtype), other[:, :QUERIES])
            for table, other in zip((first, second), reversed(fed), strict=True)
        ]
        return *crossed, (first + second).sum(-1)

    stored, made, graph = compared(function, *operands())
    assert len(kernels(graph)) == 4
    for old, new in zip(stored, made, strict=True):
        np.testing.assert_allclose(new, old, rtol=0.01, atol=0.01 * np.abs(old).max())


NOT_NOTHING = {
    "zero times infinity": lambda scores, seen: jnp.where(seen, scores, 0) * jnp.inf,
    "zero times what overflows": lambda scores, seen: jnp.where(seen, scores, 0) * (scores * 1e36 * 1e36),
    "a largest integer": lambda scores, seen: jnp.where(seen, scores, -jnp.inf).astype(jnp.int32).astype(jnp.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(NOT_NOTHING))
def test_hidden_elements_that_are_something_are_added(name: str) -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        row, column = (jax.lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (2, 3))
        seen = column < row - KEYS
        table = NOT_NOTHING[name](scores, seen)
        return table.max(-1), jnp.einsum("bhqk,bkhd->bqhd", table.astype(q.dtype), v)

    q, k, v = operands(ml_dtypes.bfloat16)
    stored, made, graph = compared(function, q, k, v)
    assert len(kernels(graph)) == 2
    for old, new in zip(stored, made, strict=True):
        np.testing.assert_allclose(new, old)


@pytest.mark.parametrize("more", [0, 2**31 - 40])
def test_positions_that_leave_32_bits_come_round_as_they_did(more: int) -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        row, column = (jax.lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (2, 3))
        return jnp.einsum("bhqk,bkhd->bqhd", jnp.where(row + more >= column + more, scores, 0).astype(q.dtype), v)

    stored, made, graph = compared(function, *operands())
    loops = [node for kernel in kernels(graph) for node in kernel.attributes["cell"].nodes if node.op == "while"]
    assert len(loops) == (1 if more else 3)
    np.testing.assert_allclose(made[0], stored[0], rtol=0.004, atol=0.2)


def test_long_chains_of_positions_are_asked_about_once() -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        place = jnp.arange(KEYS, dtype=jnp.float32) / KEYS
        for _ in range(40):
            place = place * (1.1 - place)
        return jnp.einsum("bhqk,bkhd->bqhd", (scores * place[None, None, None]).astype(q.dtype), v)

    stored, made, graph = compared(function, *operands())
    assert len(kernels(graph)) == 1
    np.testing.assert_allclose(made[0], stored[0], rtol=0.004, atol=0.2)
