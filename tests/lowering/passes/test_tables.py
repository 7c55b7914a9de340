"""Tables that thin products make are not stored where all their readers can make tiles of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lowering import reference
from lowering.compiler import compile_graph, optimise
from lowering.graph import Graph, Node, regions
from lowering.passes.tables import fold_tables
from lowering.passes.tables.find import LEAST
from lowering.passes.tables.numbers import Numbers
from lowering.runtime import Device
from shaders.capabilities import Capabilities

from ..plan.support import machine
from ..running import run, styled
from .folding import (
    CHANNELS,
    HIDDEN,
    KEYS,
    QUERIES,
    Function,
    attention,
    compared,
    folded,
    graph_of,
    kernels,
    operands,
    with_gradients,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables of a test be large enough."""
    monkeypatch.setattr("lowering.passes.tables.find.LEAST", 1)


def stores_table(graph: Graph) -> bool:
    """Tell whether some array outside of kernels has an element for each row and column, other than a mask's."""
    return any(
        value.shape[-2:] == (QUERIES, KEYS) and node.op == "dot_general"
        for node in graph.nodes
        for value in node.outputs
    )


@pytest.mark.parametrize("hidden", sorted(HIDDEN))
def test_attention_and_its_gradients_are_the_same_without_a_stored_table(hidden: str) -> None:
    stored, made, graph = compared(with_gradients(attention(hidden)), *operands())
    assert len(kernels(graph)) == 5
    assert not stores_table(graph)
    for old, new in zip(stored, made, strict=True):
        np.testing.assert_array_equal(np.isnan(new), np.isnan(old))
        # Only one rounds scores to f16, and both weights: 2^-11 of numbers up to four, summed.
        np.testing.assert_allclose(new, old, rtol=0.001, atol=0.01)


def test_folded_attention_is_nearer_to_the_exact_one_than_stored_16_bits() -> None:
    arrays = operands(ml_dtypes.bfloat16)
    stored, made, _ = compared(with_gradients(attention("causal")), *arrays)
    exact = [np.asarray(x) for x in jax.tree.leaves(with_gradients(attention("causal"))(*map(np.float32, arrays)))]
    for old, new, true in zip(stored, made, exact, strict=True):
        assert np.sqrt(np.mean((new - true) ** 2)) < 1.05 * np.sqrt(np.mean((old - true) ** 2))


def test_a_wrong_factor_is_seen() -> None:
    q, k, v = operands()
    graph = graph_of(with_gradients(attention("causal")), q, k, v)
    stored, made = (reference.run(each, *arrays) for each, arrays in ((graph, (q, k, v)), (folded(graph), (q, k, -v))))
    assert not np.allclose(np.float32(stored[0]), np.float32(made[0]), atol=0.04)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("number", [np.nan, np.inf, 1e30])
def test_hidden_elements_are_left_out_only_where_they_add_nothing(place: int, number: float) -> None:
    arrays = operands(ml_dtypes.bfloat16)
    arrays[place][1, 100, 0, 5] = number
    stored, made, _ = compared(with_gradients(attention("causal")), *arrays)
    for old, new in zip(stored, made, strict=True):
        np.testing.assert_array_equal(np.isnan(new), np.isnan(old))


def test_leaving_out_without_asking_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def say_yes(numbers: Numbers, arrays: Any) -> Any:
        del arrays
        return numbers.filled(True, "bool", (1,))

    monkeypatch.setattr(Numbers, "are_moderate", say_yes)
    arrays = operands()
    arrays[2][1, 250, 0, 5] = np.nan
    stored, made, _ = compared(attention("causal"), *arrays)
    assert not np.array_equal(np.isnan(made[0]), np.isnan(stored[0]))


def test_rounds_that_a_mask_hides_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = folded(graph_of(attention("causal"), *operands()))
    loops = [node for kernel in kernels(graph) for node in kernel.attributes["cell"].nodes if node.op == "while"]
    # The largest elements and their sums need no hidden round; products have one that nobody runs as a rule.
    assert len(loops) == 2 + 3
    plain = folded(graph_of(attention("none"), *operands()))
    assert sum(node.op == "while" for kernel in kernels(plain) for node in kernel.attributes["cell"].nodes) == 2


def test_a_mask_that_is_true_where_it_hides_or_is_a_number_too_means_the_same() -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        row, column = (jax.lax.broadcasted_iota(jnp.int32, (KEYS, KEYS), axis) for axis in (0, 1))
        hidden = column > row
        weights = jnp.exp(jnp.where(hidden[None, None], -jnp.inf, scores / 6)) + 0.01 * hidden.T[None, None].astype(
            jnp.float32
        )
        return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(q.dtype), v)

    q, k, v = operands()
    stored, made, graph = compared(function, np.concatenate([q, -q], 1) / 4, k, v)
    assert len(kernels(graph)) == 1
    np.testing.assert_allclose(made[0], stored[0], rtol=0.004, atol=0.05)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("reduce", [jnp.max, jnp.min, jnp.sum])
def test_reductions_along_either_axis(reduce: Function, axis: int, dtype: Any) -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        spread = jnp.expand_dims(reduce(scores, axis=axis), axis)
        return reduce(scores, axis=axis), jnp.einsum("bhqk,bkhd->bqhd", (scores - spread).astype(q.dtype), v)

    stored, made, graph = compared(function, *operands(dtype))
    assert len(kernels(graph)) == 2
    for old, new in zip(stored, made, strict=True):
        np.testing.assert_allclose(new, old, rtol=0.02, atol=0.02 * np.abs(old).max())


def test_a_row_of_nothing_or_with_a_nan_has_the_numbers_that_it_had() -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        row = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 2)
        scores = jnp.where(row == 7, -jnp.inf, scores)
        peak = scores.max(-1)
        power = jnp.exp(scores - peak[..., None])
        return peak, power.sum(-1), jnp.einsum("bhqk,bkhd->bqhd", power.astype(q.dtype), v)

    arrays = operands()
    arrays[0][0, 9, 0, 0] = np.nan
    stored, made, graph = compared(function, *arrays)
    assert len(kernels(graph)) == 2
    for old, new in zip(stored, made, strict=True):
        np.testing.assert_array_equal(np.isnan(new), np.isnan(old))
        np.testing.assert_allclose(new, old, atol=0.1, rtol=0.005)
    assert np.isneginf(made[0][0, 0, 7])
    assert np.isnan(made[0][0, 0, 9])


def test_bias_and_scale_by_row_column_and_element_are_read_by_tile() -> None:
    def function(q: Any, k: Any, v: Any, bias: Any, row: Any, column: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        scores = scores * row[:, None, :, None] + bias[None, None] - column[:, None, None]
        weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v)

    generator = np.random.default_rng(4)
    more = [generator.normal(size=shape).astype(np.float32) for shape in ((QUERIES, KEYS), (2, QUERIES), (2, KEYS))]
    stored, made, graph = compared(function, *operands(), *more)
    assert len(kernels(graph)) == 2
    np.testing.assert_allclose(made[0], stored[0], atol=0.02)


def test_joined_factors_are_read_where_they_lie() -> None:
    def function(joined: Any) -> Any:
        parts = joined.reshape(2, KEYS, 3, 2, CHANNELS)
        return attention("causal")(*(parts[:, :, place] for place in range(3)))

    joined = np.random.default_rng(5).normal(size=(2, KEYS, 6 * CHANNELS)).astype(ml_dtypes.bfloat16)
    stored, made, graph = compared(function, joined)
    (whole,) = {value.shape for kernel in kernels(graph) for value in kernel.inputs if value.dtype == "bf16"}
    assert whole == (2, KEYS, 3, 2, CHANNELS)
    np.testing.assert_allclose(made[0], stored[0], atol=0.04)


def test_tables_inside_of_a_loop_are_folded() -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        return jax.lax.fori_loop(0, 3, lambda _, x: attention("none")(x, k, v), q)

    stored, made, graph = compared(function, *operands())
    inside = [node for loop in graph.nodes for region in regions(loop) for node in region.nodes if node.op == "tile"]
    assert len(inside) == 2
    np.testing.assert_allclose(made[0], stored[0], atol=0.04)


KEPT = {
    "given out": lambda q, k, v: jnp.einsum("bqhd,bkhd->bhqk", q, k),
    "no product": lambda q, k, v: jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32).sum(-1),
    "other sum": lambda q, k, v: jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32).sum((0, 3)),
    "turned": lambda q, k, v: jnp.einsum("bhqk,bkhd->bqhd", jnp.einsum("bqhd,bkhd->bhqk", q, k)[..., ::-1], v),
    "two of them": lambda q, k, v: (
        (lambda s: jnp.einsum("bhqk,bhrk->bhqr", s, s))(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    ),
    "one channel": lambda q, k, v: jnp.einsum("bhqk,bkhd->bqhd", jnp.einsum("bqhd,bkhd->bhqk", q, k), v[..., :1]),
    "one deep": lambda q, k, v: jnp.einsum("bhqk,bkhd->bqhd", jnp.einsum("bqhd,bkhd->bhqk", q[..., :1], k[..., :1]), v),
    "both": lambda q, k, v: (
        (lambda s: (s, jnp.einsum("bhqk,bkhd->bqhd", s, v)))(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_table_that_others_read_is_stored(name: str) -> None:
    graph = graph_of(KEPT[name], *operands())
    assert fold_tables(graph, lambda kernel: kernel) is graph


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_only_factors_of_16_bits_are_multiplied_twice(dtype: Any) -> None:
    graph = graph_of(attention("none"), *operands(dtype))
    assert fold_tables(graph, lambda kernel: kernel) is graph


def test_a_ragged_a_small_or_a_deep_table_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = operands()
    for case in ((q[:, :100], k, v), (q, k[:, :250], v[:, :250]), [np.repeat(each, 3, 3) for each in (q, k, v)]):
        graph = graph_of(attention("none"), *case)
        assert fold_tables(graph, lambda kernel: kernel) is graph
    monkeypatch.setattr("lowering.passes.tables.find.LEAST", LEAST)
    graph = graph_of(attention("none"), q, k, v)
    assert fold_tables(graph, lambda kernel: kernel) is graph


def test_a_device_that_cannot_run_one_kernel_well_stores_the_table() -> None:
    graph = graph_of(with_gradients(attention("causal")), *operands())
    asked: list[Node] = []

    def only_three(kernel: Node) -> Node | None:
        asked.append(kernel)
        return kernel if len(asked) < 4 else None

    assert fold_tables(graph, only_three) is graph


def stores(graph: Graph, capabilities: Capabilities) -> bool:
    """Tell whether a program stores a table."""
    fused = optimise(graph, capabilities)
    return any(value.shape[-2:] == (QUERIES, KEYS) for node in fused.nodes for value in node.outputs)


def test_devices_with_matrix_units_store_no_table_and_others_do() -> None:
    graph = graph_of(with_gradients(attention("causal")), *operands())
    assert not stores(graph, machine("h100"))
    assert stores(graph, machine("lavapipe22"))


SCALED = {
    "scaled": lambda q: q * 3,
    "shifted": lambda q: q + 1,
    "turned": lambda q: -q,
    "chosen": lambda q: jnp.where(q > 0, q, 0),
}


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("name", sorted(SCALED))
def test_factors_that_are_computed_in_16_bits_become_part_of_a_kernel(name: str, dtype: Any) -> None:
    def function(q: Any, k: Any, v: Any) -> Any:
        weights = jnp.tanh(jnp.einsum("bqd,bkd->bqk", SCALED[name](q), k).astype(jnp.float32)).astype(q.dtype)
        return jnp.einsum("bqk,bkd->bqd", weights, v)

    graph = graph_of(function, *(array[:, :, 0] for array in operands(dtype)))
    assert [kernel.name for kernel in compile_graph(graph, machine("h100")).kernels] == ["tile"]


EVERYTHING = pytest.param(with_gradients(attention("causal")), 5, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize(("function", "count"), [(attention("causal"), 2), EVERYTHING], ids=["forward", "gradients"])
def test_a_driver_computes_folded_tables(
    device: Device, function: Function, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowering.codegen.bands.takes_matrices", lambda kernel, capabilities: True)
    arrays = [array[:1] for array in operands()]
    graph = graph_of(function, *arrays)
    program = compile_graph(graph, styled(device.capabilities, "gpu"))
    assert sum(kernel.name == "tile" for kernel in program.kernels) == count
    for new, old in zip(run(device, program, arrays), reference.run(graph, *arrays), strict=True):
        np.testing.assert_allclose(np.float64(new), np.float64(old), rtol=0.001, atol=0.01)
