from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax import lax

from lowering import dtypes, reference
from lowering.graph import Graph, Node, Value, verify
from lowering.ops import verify_types
from lowering.passes.normalise import normalise
from lowering.passes.rules.control import rewrite
from lowering.passes.rules.conversion import is_lossless
from lowering.passes.simplify import RULES, simplify

from ..programs import PROGRAMS, graph_of, leaves, normal
from .random_graphs import graphs, same


def simple(function: Any, *arguments: Any) -> list[str]:
    return [node.op for node in simplify(normalise(graph_of(function, *arguments))).nodes if node.op != "constant"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_simplify_keeps_the_meaning_of_programs(name: str) -> None:
    function, arguments = PROGRAMS[name]
    graph = graph_of(function, *arguments)
    rewritten = verify_types(verify(simplify(normalise(graph))))
    for got, want in zip(
        reference.run(rewritten, *leaves(arguments)), reference.run(graph, *leaves(arguments)), strict=True
    ):
        # x ** 3 rounds twice as a product; nothing else may differ at all.
        tolerance = 4 * float(np.finfo(np.float32).eps) if got.dtype.kind in "fc" else 0
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_simplify_keeps_the_meaning_of_random_graphs(graph: Graph) -> None:
    same(graph, simplify(normalise(graph)))


def test_the_property_notices_a_sum_with_zero_dropped() -> None:
    def wrong(rewriter: Any, node: Node) -> tuple[Value, ...] | None:
        array = rewriter.splat(node.inputs[1])
        return (node.inputs[0],) if array is not None and array == 0 else None

    x, y, zero, z = Value(0, "f32", (2, 3)), Value(1, "i32", (2, 3)), Value(2, "f32", (2, 3)), Value(3, "f32", (2, 3))
    nodes = (Node("constant", (), (zero,), {"value": np.zeros((), np.float32)}), Node("add", (x, zero), (z,)))
    graph = Graph("g", (x, y), nodes, (z,))
    same(graph, simplify(graph))
    with pytest.raises(AssertionError):
        same(graph, rewrite(graph, {**RULES, "add": (wrong,)}))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 1.0,
        lambda x: x + -0.0,
        lambda x: x - 0.0,
        lambda x: x / 1.0,
        lambda x: lax.neg(lax.neg(x)),
        lambda x: jnp.maximum(x, x),
        lambda x: jnp.minimum(x, jnp.inf),
        lambda x: jnp.where(x > 0, x, x),
        lambda x: lax.pow(x, 1.0),
    ],
)
def test_simplify_removes_what_changes_nothing(function: Any) -> None:
    assert simple(function, normal(3)) == []


@pytest.mark.parametrize(
    ("function", "kept"),
    [
        (lambda x: x + 0.0, ["add"]),
        (lambda x: x - -0.0, ["subtract"]),
        (lambda x: x * 0.0, ["multiply"]),
        (lambda x: x - x, ["subtract"]),
        (lambda x: x / x, ["divide"]),
        (lambda x: x == x, ["compare"]),
        (lambda x: x / 3.0, ["divide"]),
    ],
)
def test_simplify_leaves_what_nan_or_signed_zero_forbid(function: Any, kept: list[str]) -> None:
    assert simple(function, normal(3)) == kept


@pytest.mark.parametrize(
    "function",
    [
        lambda i: i + 0,
        lambda i: i * 0,
        lambda i: i - i,
        lambda i: i ^ i,
        lambda i: i & 0,
        lambda i: i | 0,
        lambda i: lax.div(i, jnp.uint32(1)),
    ],
)
def test_simplify_uses_the_algebra_of_integers(function: Any) -> None:
    assert simple(function, np.arange(3, dtype=np.uint32)) == []


def test_simplify_adds_integer_constants() -> None:
    graph = simplify(normalise(graph_of(lambda i: (i + 3) + 4, np.arange(3, dtype=np.int32))))
    assert [node.op for node in graph.nodes] == ["constant", "add"]
    assert int(graph.nodes[0].attributes["value"]) == 7


def test_simplify_divides_by_a_power_of_two_as_a_product() -> None:
    assert simple(lambda x: x / 8.0, normal(3)) == ["multiply"]


@pytest.mark.parametrize(
    ("exponent", "kept"), [(0.0, []), (2.0, ["multiply"]), (3.0, ["multiply"] * 2), (2.5, ["power"])]
)
def test_simplify_writes_small_powers_as_products(exponent: float, kept: list[str]) -> None:
    assert simple(lambda x: lax.pow(x, exponent), normal(3)) == kept


@pytest.mark.parametrize("source", dtypes.NUMPY)
@pytest.mark.parametrize("target", dtypes.NUMPY)
def test_is_lossless_says_what_numpy_says(source: str, target: str) -> None:
    if "bf16" in (source, target) or target == "bool":
        expected = {("bool", "bool")} | {("bool", "bf16"), ("i8", "bf16"), ("u8", "bf16"), ("bf16", "bf16")}
        expected |= {("bf16", wide) for wide in ("f32", "f64", "c64", "c128")}
        assert is_lossless(source, target) == ((source, target) in expected)
    else:
        assert is_lossless(source, target) == np.can_cast(dtypes.NUMPY[source], dtypes.NUMPY[target], "safe") or (
            # NumPy calls 64-bit integers to f64 safe; they have more digits than f64.
            source in ("i64", "u64") and target in ("f64", "c128")
        )


def test_simplify_merges_conversions_that_lose_nothing() -> None:
    assert simple(lambda x: x.astype(jnp.float32).astype(jnp.float16), normal(3).astype(np.float16)) == []
    assert simple(lambda x: x.astype(jnp.float16).astype(jnp.float32), normal(3)) == ["convert", "convert"]


def test_simplify_keeps_saturation_of_an_integer_through_a_float() -> None:
    run = lambda i: i.astype(jnp.float32).astype(jnp.uint8)  # noqa: E731
    assert simple(run, np.arange(3, dtype=np.int8)) == ["convert", "convert"]


@pytest.mark.parametrize(
    ("function", "kept"),
    [
        (lambda x: jnp.concatenate([x, x * 2])[:4], []),
        (lambda x: jnp.concatenate([x[:2], x[2:]]), []),
        (lambda x: jnp.pad(x, ((2, 1), (0, 0)))[2:6], []),
        (lambda x: jnp.pad(x, ((2, 1), (0, 0)))[:2], []),
        (lambda x: x[1:][1:][:, 1:], ["slice"]),
        (lambda x: x[2], ["slice", "reshape"]),
        (lambda x: lax.dynamic_slice(x, (1, 1), (2, 2)), ["slice"]),
        (lambda x: x.sum(0, keepdims=True).max(0), ["reduce"]),
        (lambda x: x[:, :1] @ x[:1], ["slice", "reshape", "broadcast_in_dim"] * 2 + ["multiply"]),
    ],
)
def test_simplify_reads_directly(function: Any, kept: list[str]) -> None:
    assert sorted(simple(function, normal(4, 4))) == sorted(kept)


def test_simplify_turns_a_gather_of_one_slice_into_a_dynamic_slice() -> None:
    operations = simple(lambda x, i: x[i], normal(4, 3), np.int32(2))
    assert "gather" not in operations
    assert "dynamic_slice" in operations


def test_simplify_reads_in_order_without_a_gather() -> None:
    table = normal(5)
    assert "gather" not in simple(lambda x: jax.vmap(lambda i: x[i])(jnp.arange(5)), table)
    assert "gather" in simple(lambda x: jax.vmap(lambda i: x[i])(jnp.arange(4)), table)
    assert "gather" in simple(lambda x: jax.vmap(lambda i: x[i])(4 - jnp.arange(5)), table)


@pytest.mark.parametrize(("count", "kept"), [(128, False), (129, True)])
def test_simplify_reads_in_order_only_while_places_do_not_wrap_around(count: int, kept: bool) -> None:
    run = lambda x: jnp.take(x, lax.iota(jnp.int8, x.shape[0]), axis=0, mode="clip")  # noqa: E731
    assert ("gather" in simple(run, normal(count))) == kept


def test_simplify_turns_a_set_at_a_known_place_into_an_update() -> None:
    operations = simple(lambda x: x.at[1].set(5.0), normal(4, 3))
    assert "scatter" not in operations


def test_simplify_writes_threefry_out() -> None:
    def run(key: Any) -> Any:
        return jax.random.bits(jax.random.wrap_key_data(key), (8,))

    operations = simple(run, np.array([1, 2], np.uint32))
    assert "while" not in operations
    assert len(operations) > 100


def test_simplify_leaves_long_loops() -> None:
    assert "while" in simple(lambda x: lax.fori_loop(0, 500, lambda i, c: c * 1.5 + 1, x), normal(3))
