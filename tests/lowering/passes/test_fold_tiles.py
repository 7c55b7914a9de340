"""Arithmetic around tile kernels moves inside where that saves a trip through memory, and means the same there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from lowering import lower, reference
from lowering.compiler import clean
from lowering.graph import Graph, verify
from lowering.ops import verify_types
from lowering.passes.fold_tiles import FEW, fold_tiles
from lowering.pjrt import initialize

Shape = jax.ShapeDtypeStruct
RNG = np.random.default_rng(7)
X, Y, Z = (RNG.normal(size=256).astype(np.float32) for _ in range(3))
LEFT, RIGHT, BIAS = (RNG.normal(size=s).astype(np.float32) for s in ((64, 48), (48, 96), (96,)))


@pytest.fixture(autouse=True, scope="module")
def platform() -> None:
    initialize()


def added(x: Any, y: Any, **options: Any) -> Any:
    """Add by blocks of 64, each element read once."""

    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = a[...] + b[...]

    block = pl.BlockSpec((64,), lambda i: i)
    return pl.pallas_call(
        kernel, out_shape=Shape(x.shape, x.dtype), grid=(-(-x.shape[0] // 64),), in_specs=[block, block],
        out_specs=block, **options,
    )(x, y)  # fmt: skip


def product(x: Any, y: Any) -> Any:
    """Multiply by blocks; each element of both operands is read several times."""

    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.dot(a[...], b[...], precision="highest")

    return pl.pallas_call(
        kernel, out_shape=Shape((x.shape[0], y.shape[1]), x.dtype), grid=(2, 3),
        in_specs=[pl.BlockSpec((32, 48), lambda i, j: (i, 0)), pl.BlockSpec((48, 32), lambda i, j: (0, j))],
        out_specs=pl.BlockSpec((32, 32), lambda i, j: (i, j)),
    )(x, y)  # fmt: skip


def before_and_after(function: Callable[..., Any], *arrays: np.ndarray) -> tuple[Graph, Graph]:
    """Return a cleaned graph and what folding makes of it, after checking that both mean the same."""
    graph = clean(lower(function)(*(Shape(array.shape, array.dtype) for array in arrays)).graph)
    folded = verify_types(verify(fold_tiles(graph)))
    for want, got in zip(reference.run(graph, *arrays), reference.run(folded, *arrays), strict=True):
        np.testing.assert_array_equal(want, got)
    return graph, folded


def names(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def test_arithmetic_before_and_after_a_kernel_moves_inside() -> None:
    _, folded = before_and_after(lambda x, y, z: jnp.maximum(added(x * 2.0, y) + z, 0.0).astype(jnp.float16), X, Y, Z)
    assert names(folded) == ["tile"]
    assert folded.nodes[0].output.dtype == "f16"


def test_bias_along_rows_moves_behind_a_product() -> None:
    _, folded = before_and_after(lambda x, y, b: jnp.tanh(product(x, y) + b[None, :]), LEFT, RIGHT, BIAS)
    assert names(folded) == ["tile"]


def test_what_is_read_again_and_again_is_computed_once() -> None:
    _, folded = before_and_after(lambda x, y: product(x * 2.0, y), LEFT, RIGHT)
    assert names(folded) == ["constant", "multiply", "tile"] or names(folded)[-2:] == ["multiply", "tile"]


def moved(x: Any, shift: Any) -> Any:
    """Add a number to blocks of 64, which each program reads at its own place."""

    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = a[...] + jnp.sum(b[...])

    block = pl.BlockSpec((64,), lambda i: i)
    whole = pl.BlockSpec(shift.shape, lambda i: (0,) * shift.ndim)
    return pl.pallas_call(
        kernel, out_shape=Shape(x.shape, x.dtype), grid=(x.shape[0] // 64,), in_specs=[block, whole], out_specs=block
    )(x, shift)


def test_what_is_small_is_computed_by_every_program() -> None:
    _, folded = before_and_after(lambda x, y: moved(x, (y * 2.0)[:, None, None]), X, Y[:FEW])
    assert names(folded) == ["tile"]


def test_one_number_of_what_is_computed_of_a_table_and_a_number_is_computed_alone() -> None:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = a[...] + b[pl.program_id(0)]

    block, whole = pl.BlockSpec((64,), lambda i: i), pl.BlockSpec((4,), lambda i: 0)
    run = pl.pallas_call(kernel, out_shape=Shape(X.shape, X.dtype), grid=(4,), in_specs=[block, whole], out_specs=block)
    _, folded = before_and_after(lambda x, y: run(x, y[0] * y[:4]), X, Y)
    assert names(folded)[-1] == "tile"
    assert "multiply" not in names(folded)


def test_what_is_larger_is_computed_once() -> None:
    _, folded = before_and_after(lambda x, y: moved(x, (y * 2.0)[:, None, None]), X, Y[: FEW + 1])
    assert "multiply" in names(folded)


def test_a_constant_is_no_operand() -> None:
    _, folded = before_and_after(lambda x: moved(x, jnp.full((8, 1), 0.5)), X)
    assert names(folded) == ["tile"]
    assert len(folded.nodes[0].inputs) == 1


def test_a_constant_that_several_kernels_read_is_no_operand_and_what_is_computed_for_both_is() -> None:
    _, folded = before_and_after(lambda x, y: moved(x, jnp.full((8, 1), 0.5)) * moved(y, jnp.full((8, 1), 0.5)), X, Y)
    tiles = [node for node in folded.nodes if node.op == "tile"]
    assert [len(node.inputs) for node in tiles] in ([1, 1], [1, 2])
    assert "constant" not in names(folded)
    _, folded = before_and_after(lambda x, y: moved(x, y[:8] * 2.0) * moved(y, y[:8] * 2.0), X, Y)
    assert "multiply" in names(folded)


def test_what_a_kernel_does_not_read_is_not_computed() -> None:
    def function(x: Any, y: Any) -> Any:
        def kernel(a: Any, b: Any, o: Any) -> None:
            del b
            o[...] = a[...] * 2

        return pl.pallas_call(kernel, out_shape=Shape(x.shape, x.dtype))(x, jnp.cumsum(jnp.sin(y)))

    _, folded = before_and_after(function, X, Y)
    assert names(folded) == ["tile"]
    assert len(folded.nodes[0].inputs) == 1


def test_one_block_is_ended_as_a_whole() -> None:
    def whole(x: Any) -> Any:
        def kernel(a: Any, o: Any) -> None:
            o[...] = jax.nn.softmax(a[...], -1)

        return pl.pallas_call(kernel, out_shape=Shape(x.shape, x.dtype))(x) * 3.0

    _, folded = before_and_after(whole, LEFT)
    assert names(folded) == ["tile"]


@pytest.mark.parametrize(
    ("why", "function", "arrays"),
    [
        ("a result that others want too", lambda x, y: (jnp.exp(r := added(x, y)), r), (X, Y)),
        ("a result that is used twice", lambda x, y: (jnp.exp(r := added(x, y)), jnp.sin(r)), (X, Y)),
        ("blocks cut off at the end", lambda x, y: jnp.exp(added(x, y)), (X[:200], Y[:200])),
        ("memory that is updated", lambda x, y: jnp.exp(added(x, y, input_output_aliases={0: 0})), (X, Y)),
        ("a result of another shape", lambda x, y: added(x, y).reshape(4, 64), (X, Y)),
    ],
)
def test_what_would_cost_more_stays_outside(why: str, function: Any, arrays: tuple[np.ndarray, ...]) -> None:
    graph, folded = before_and_after(function, *arrays)
    assert names(folded) == names(graph), why


def test_an_operand_that_others_read_stays_outside() -> None:
    _, folded = before_and_after(lambda x, y: (added(scaled := x * 2.0, y), scaled), X, Y)
    assert "multiply" in names(folded)


def test_kernels_in_loops_are_ended_too() -> None:
    def function(x: Any, y: Any) -> Any:
        return jax.lax.fori_loop(0, 3, lambda _, x: added(x, y) * 0.5, x)

    _, folded = before_and_after(function, X, Y)
    (loop,) = [node for node in folded.nodes if node.op == "while"]
    assert "multiply" not in names(loop.attributes["body"])
    assert "tile" in names(loop.attributes["body"])
