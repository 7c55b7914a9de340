"""Long reductions with few results run in parts whose results are reduced again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.graph import Graph, Node, regions, verify
from lowering.ops import verify_types
from lowering.passes.split_reduce import LONGEST_PART, part_count, split_reduce

from ..plan.support import MACHINES, machine
from ..programs import graph_of, leaves, normal


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes if node.op != "constant"]


def parts(shape: tuple[int, ...], axes: tuple[int, ...], on: str) -> int:
    graph = graph_of(lambda x: x.sum(axes), jax.ShapeDtypeStruct(shape, np.float32))
    (node,) = [node for node in graph.nodes if node.op == "reduce"]
    return part_count(node, machine(on))


@pytest.mark.parametrize("on", MACHINES)
def test_short_reductions_stay_whole(on: str) -> None:
    assert parts((1000,), (0,), on) == 1
    assert parts((100, 100), (0,), on) == 1


@pytest.mark.parametrize("on", MACHINES)
def test_long_reductions_are_cut(on: str) -> None:
    assert parts((1 << 22,), (0,), on) > 1
    assert parts((1 << 20, 4), (0,), on) > 1


@pytest.mark.parametrize("on", MACHINES)
def test_many_results_need_no_parts(on: str) -> None:
    assert parts((1 << 16, 4096), (1,), on) == 1
    assert parts((64, 1 << 20), (0,), on) == 1


@pytest.mark.parametrize("on", MACHINES)
def test_no_part_is_too_long(on: str) -> None:
    assert -(-(1 << 26) // parts((1 << 26, 1 << 12), (0,), on)) <= LONGEST_PART


def test_reductions_of_nothing_and_of_user_rules_stay_whole() -> None:
    graph = graph_of(lambda x: x.sum(0), np.zeros((0, 4), np.float32))
    assert all(part_count(node, machine("h100")) == 1 for node in graph.nodes)
    rule = graph_of(lambda x: lax.reduce(x, np.float32(0), lambda a, b: jnp.sqrt(a * a + b * b), (0,)), normal(1 << 17))
    assert split_reduce(rule, machine("h100")).nodes == rule.nodes


def all_kinds(x: Any) -> Any:
    return (
        x.sum(),
        jnp.prod(x * 1e-4 + 1),
        x.max(),
        x.min(),
        (x > 3).any(),
        (x > -9).all(),
        jnp.argmax(x),
        jnp.argmin(x),
    )


def integer_kinds(x: Any) -> Any:
    return lax.reduce(x, np.int32(5), lax.add, (0,)), lax.reduce(x, np.int32(1), lax.bitwise_xor, (0,))


REDUCTIONS: dict[str, tuple[Callable[..., Any], np.ndarray]] = {
    "kinds": (all_kinds, normal(50000)),
    "columns": (lambda x: (x.sum(0), jnp.argmax(x, 0)), normal(40000, 2)),
    "initial value": (lambda x: lax.reduce(x, np.float32(7), lax.add, (0,)), normal(50000)),
    "initial product": (lambda x: lax.reduce(x, np.float32(7), lax.mul, (0,)), normal(50000) * np.float32(1e-4) + 1),
    "integers": (integer_kinds, np.arange(50000, dtype=np.int32)),
}


@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_parts_keep_the_meaning(name: str, on: str) -> None:
    function, array = REDUCTIONS[name]
    graph = graph_of(function, array)
    cut = verify(split_reduce(graph, machine(on)))
    assert "partial_reduce" in ops(cut)
    for got, want in zip(reference.run(cut, array), reference.run(graph, array), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-3)


def test_sixteen_bit_sums_are_kept_in_32_bits() -> None:
    """4096 ones and a hundred thousand small numbers: parts rounded to bf16 would lose the small ones."""
    array = np.full(100000, 1 / 256, ml_dtypes.bfloat16)
    array[:4096] = 1
    graph = graph_of(lambda x: lax.reduce(x, np.zeros((), ml_dtypes.bfloat16), lax.add, (0,)), array)
    cut = split_reduce(graph, machine("h100"))
    (partial,) = [node for node in cut.nodes if node.op == "partial_reduce"]
    assert partial.output.dtype == "f32"
    (total,) = reference.run(cut, array)
    assert float(total) == float(np.asarray(4096 + 95904 / 256).astype(ml_dtypes.bfloat16))


def test_regions_are_cut_too() -> None:
    x = normal(50000)
    graph = graph_of(lambda x: lax.fori_loop(0, 3, lambda i, c: c - c.sum(), x), x)
    cut = split_reduce(graph, machine("lavapipe22"))

    def inside(nodes: tuple[Node, ...]) -> set[str]:
        return {n.op for n in nodes} | {op for n in nodes for r in regions(n) for op in inside(r.nodes)}

    assert "partial_reduce" in inside(cut.nodes)
    for got, want in zip(reference.run(verify(cut), *leaves(x)), reference.run(graph, *leaves(x)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1.0)


def test_what_is_not_cut_is_untouched() -> None:
    graph = verify_types(graph_of(lambda x: jnp.sin(x).sum(1), normal(4, 5)))
    assert split_reduce(graph, machine("h100")).nodes == graph.nodes
