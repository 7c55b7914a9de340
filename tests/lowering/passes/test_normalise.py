from __future__ import annotations

import time
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax import lax

from lowering import reference
from lowering.graph import Graph, Node, Value, verify
from lowering.ops import verify_types
from lowering.passes.normalise import RULES, normalise
from lowering.passes.rules.control import rewrite

from ..programs import PROGRAMS, graph_of, leaves, normal
from .random_graphs import graphs, same


def operations(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def normal_operations(function: Any, *arguments: Any) -> list[str]:
    return operations(normalise(graph_of(function, *arguments)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_normalise_keeps_the_meaning_of_programs(name: str) -> None:
    function, arguments = PROGRAMS[name]
    graph = graph_of(function, *arguments)
    rewritten = verify_types(verify(normalise(graph)))
    for got, want in zip(
        reference.run(rewritten, *leaves(arguments)), reference.run(graph, *leaves(arguments)), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_normalise_keeps_the_meaning_of_random_graphs(graph: Graph) -> None:
    same(graph, normalise(graph))


def test_the_property_notices_a_broken_rule() -> None:
    def transpose_dropped(rewriter: Any, node: Node) -> tuple[Value, ...] | None:
        (value,) = node.inputs
        return (rewriter.emit("reshape", (value,), value.dtype, node.output.shape),)

    x, y = Value(0, "f32", (2, 3)), Value(1, "i32", (2, 3))
    z = Value(2, "f32", (3, 2))
    graph = Graph("g", (x, y), (Node("transpose", (x,), (z,), {"permutation": (1, 0)}),), (z,))
    with pytest.raises(AssertionError):
        same(graph, rewrite(graph, {**RULES, "transpose": (transpose_dropped,)}))


def test_normalise_is_idempotent() -> None:
    function, arguments = PROGRAMS["transformer_step"]
    once = normalise(graph_of(function, *arguments))
    assert operations(normalise(once)) == operations(once)


def test_normalise_drops_dead_work() -> None:
    assert normal_operations(lambda x: (jnp.sin(x), x)[1], normal(3)) == []


def test_normalise_shares_equal_work() -> None:
    assert normal_operations(lambda x: jnp.sin(x) + jnp.sin(x), normal(3)) == ["sine", "add"]


def test_normalise_tells_zeros_of_different_sign_apart() -> None:
    graph = normalise(graph_of(lambda x: (x + 0.0, x + -0.0), normal(3)))
    assert operations(graph).count("constant") == 2


def test_normalise_makes_broadcast_constants_constant() -> None:
    graph = normalise(graph_of(lambda x: x * jnp.full((4, 8), 2.0), normal(4, 8)))
    assert operations(graph) == ["constant", "multiply"]
    assert graph.nodes[0].attributes["value"].shape == ()


def test_normalise_merges_movements() -> None:
    run = lambda x: x.T.T.reshape(6).reshape(3, 2)[:, :, None]  # noqa: E731
    assert normal_operations(run, normal(2, 3)) == ["reshape"]


def test_normalise_repeats_one_element_at_once() -> None:
    run = lambda x: jnp.concatenate([x, jnp.broadcast_to(x, (2, 5))], 1)  # noqa: E731
    assert normal_operations(run, normal(2, 1)) == ["reshape", "broadcast_in_dim"]


def test_normalise_tells_what_is_repeated_from_what_follows() -> None:
    run = lambda x: jnp.concatenate([x, jnp.broadcast_to(2 * x, (2, 5))], 1)  # noqa: E731
    assert "concatenate" in normal_operations(run, normal(2, 1))


@pytest.mark.parametrize(("extent", "kept"), [(1, []), (2, ["constant", "reduce_window"])])
def test_normalise_drops_windows_of_one_element(extent: int, kept: list[str]) -> None:
    assert normal_operations(lambda x: lax.cummax(x, axis=0), normal(extent, 3)) == kept


def test_normalise_keeps_windows_of_one_element_that_start_from_a_number() -> None:
    run = lambda x: lax.reduce_window(x, 5.0, lax.add, (1, 1), (1, 1), "VALID")  # noqa: E731
    assert "reduce_window" in normal_operations(run, normal(4, 3))


def test_normalise_broadcasts_what_was_kept_as_an_extent_of_one() -> None:
    graph = normalise(graph_of(lambda x: x - x.sum(1, keepdims=True), normal(4, 8)))
    assert operations(graph) == ["constant", "reduce", "broadcast_in_dim", "subtract"]
    assert graph.nodes[2].attributes["dimensions"] == (0,)


def test_normalise_folds_small_constants_but_no_iota() -> None:
    graph = normalise(graph_of(lambda: (jnp.array([1, 2]) + 3, lax.iota(jnp.int32, 4) + 1)))
    assert sorted(operations(graph)) == ["add", "constant", "constant", "iota"]
    folded = graph.producers()[graph.outputs[0]]
    np.testing.assert_array_equal(folded.attributes["value"], [4, 5])


def test_normalise_leaves_large_arrays_to_the_device() -> None:
    table = normal(2000)
    assert "sine" in normal_operations(lambda: jnp.sin(table))


def test_normalise_makes_empty_arrays_constant() -> None:
    assert normal_operations(lambda x: jnp.sin(x[:0]) * 2, normal(3)) == ["constant"]


def loop_of(graph: Graph) -> Node:
    (loop,) = [node for node in graph.nodes if node.op == "while"]
    return loop


def test_normalise_takes_invariants_out_of_a_loop() -> None:
    def run(x: Any, w: Any) -> Any:
        return lax.fori_loop(0, 5, lambda i, c: (c[0] @ c[1], c[1]), (x, w))

    loop = loop_of(normalise(graph_of(run, normal(3, 3), normal(3, 3))))
    assert loop.attributes["captures"] == 1
    assert [value.text for value in loop.outputs] == ["f32[3,3]"]
    assert loop.attributes["trip_count"] == 5


def test_normalise_drops_carries_that_nobody_reads() -> None:
    def run(x: Any) -> Any:
        return lax.fori_loop(0, 5, lambda i, c: (c[0] * 2, jnp.sin(c[1])), (x, x))[0]

    assert len(loop_of(normalise(graph_of(run, normal(3)))).outputs) == 1


def test_normalise_keeps_a_carry_that_another_needs() -> None:
    def run(x: Any) -> Any:
        return lax.fori_loop(0, 5, lambda i, c: (c[0] + c[1], jnp.sin(c[1])), (x, x))[0]

    assert len(loop_of(normalise(graph_of(run, normal(3)))).outputs) == 2


def test_normalise_finds_a_trip_count_behind_folded_constants() -> None:
    limit = lambda: jnp.int32(3) * jnp.int32(4)  # noqa: E731
    graph = graph_of(lambda x: lax.while_loop(lambda c: c[0] < limit(), lambda c: (c[0] + 1, c[1] * 2), (0, x)), 1.0)
    assert loop_of(normalise(graph)).attributes["trip_count"] == 12


def test_normalise_takes_the_branch_of_a_constant_index() -> None:
    run = lambda x: lax.switch(jnp.int32(1), [jnp.sin, jnp.cos], x)  # noqa: E731
    assert normal_operations(run, normal(3)) == ["cosine"]


def test_normalise_takes_linear_time() -> None:
    def chain(count: int) -> Graph:
        def run(x: Any) -> Any:
            for _ in range(count):
                x = jnp.sin(x) * 2 + x
            return x

        return graph_of(run, normal(4))

    def seconds(graph: Graph) -> float:
        start = time.process_time()
        _ = normalise(graph)
        return time.process_time() - start

    short, long = chain(100), chain(800)
    # Eight times the nodes; a quadratic walk would take 64 times as long.
    assert min(seconds(long) for _ in range(3)) < 24 * min(seconds(short) for _ in range(3))


def test_normalise_keeps_aliases_and_names() -> None:
    graph = graph_of(lambda state: state + 1, normal(3), donate_argnums=0)
    assert normalise(graph).aliases == graph.aliases
    assert normalise(graph).input_names == ("state",)
