"""Transposes around tile kernels move into the starts of windows where only axes of one element change places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

import qga
from lowering import lower, reference
from lowering.compiler import clean, optimise
from lowering.graph import Graph, Node, regions, verify
from lowering.ops import verify_types
from lowering.passes.read_transposed import read_transposed
from lowering.pjrt import initialize

from ..plan.support import machine

Shape = jax.ShapeDtypeStruct
X = np.random.default_rng(11).normal(size=(4, 4, 16)).astype(np.float32)
ROW = pl.BlockSpec((1, 1, 16), lambda i, j: (i, j, 0))
WHOLE = pl.BlockSpec((4, 4, 16), lambda i, j: (0, 0, 0))
Function = Callable[..., Any]


@pytest.fixture(autouse=True, scope="module")
def platform() -> None:
    initialize()


def turned(x: Any) -> Any:
    """Swap the first two axes."""
    return jnp.transpose(x, (1, 0, 2))


def combined(x: Any, y: Any, second: pl.BlockSpec = ROW, **options: Any) -> Any:
    """Add rows of x to twice what is given of y, summed where that is more than a row."""

    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = a[...] + 2 * jnp.sum(b[...], axis=(0, 1), keepdims=True)

    return pl.pallas_call(
        kernel, out_shape=Shape(x.shape, x.dtype), grid=(4, 4), in_specs=[ROW, second], out_specs=ROW, **options
    )(x, y)  # fmt: skip


def added(held: Any, x: Any) -> Any:
    """Add rows of x twice to what is held, in place."""

    def kernel(_: Any, b: Any, o: Any) -> None:
        o[...] = o[...] + 2 * b[...]

    return pl.pallas_call(
        kernel, out_shape=Shape(x.shape, x.dtype), grid=(4, 4), in_specs=[ROW, ROW], out_specs=ROW,
        input_output_aliases={0: 0},
    )(held, x)  # fmt: skip


def padded(x: Any) -> Any:
    """Double by blocks that do not divide the last axis."""

    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2

    block = pl.BlockSpec((1, 1, 12), lambda i, j, k: (i, j, k))
    return pl.pallas_call(
        kernel, out_shape=Shape(x.shape, x.dtype), grid=(4, 4, 2), in_specs=[block], out_specs=block
    )(x)  # fmt: skip


def sides(graph: Graph) -> list[str]:
    """Return the operations of a graph and of the regions of its loops, without those of kernels."""
    inner = [region for node in graph.nodes if node.op != "tile" for region in regions(node)]
    return [*(node.op for node in graph.nodes), *(op for region in inner for op in sides(region))]


def before_and_after(function: Function) -> tuple[Graph, Graph]:
    """Return a cleaned graph and what the pass makes of it, after checking that both mean the same."""
    graph = clean(lower(function)(Shape(X.shape, X.dtype)).graph)
    after = verify_types(verify(read_transposed(graph)))
    for want, got in zip(reference.run(graph, X), reference.run(after, X), strict=True):
        np.testing.assert_array_equal(want, got)
    return graph, after


def repeated(x: Any) -> Any:
    return jax.lax.fori_loop(0, 3, lambda _, x: turned(combined(turned(x), x)), x)


MOVED: dict[str, tuple[Function, Function]] = {
    "read": (lambda x: combined(x, turned(x)), lambda x: x + 2 * x.transpose(1, 0, 2)),
    "written": (lambda x: turned(combined(x, x)), lambda x: 3 * x.transpose(1, 0, 2)),
    "read twice and written": (lambda x: turned(combined(t := turned(x), t)), lambda x: 3 * x),
    "from kernel to kernel": (
        lambda x: combined(turned(combined(x, x)), x), lambda x: 3 * x.transpose(1, 0, 2) + 2 * x,
    ),
    "updated and written": (
        lambda x: turned(added(combined(x, x), x)), lambda x: 5 * x.transpose(1, 0, 2),
    ),
    "beside memory that is updated": (
        lambda x: combined(x, turned(x), input_output_aliases={0: 0}), lambda x: x + 2 * x.transpose(1, 0, 2),
    ),
}  # fmt: skip
KEPT: dict[str, tuple[Function, Function]] = {
    "read as a whole": (lambda x: combined(x, turned(x), WHOLE), lambda x: x + 2 * x.sum((0, 1))),
    "updated": (
        lambda x: combined(turned(x), x, input_output_aliases={0: 0}), lambda x: x.transpose(1, 0, 2) + 2 * x,
    ),
    "wanted as it is too": (
        lambda x: (turned(y := combined(x, x)), y), lambda x: (3 * x.transpose(1, 0, 2), 3 * x),
    ),
    "padded": (lambda x: turned(padded(turned(x))), lambda x: 2 * x),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_transposes_move_into_windows(name: str) -> None:
    graph, after = before_and_after(MOVED[name][0])
    assert "transpose" in sides(graph)
    assert "transpose" not in sides(after)


@pytest.mark.parametrize("name", KEPT)
def test_other_transposes_stay(name: str) -> None:
    graph, after = before_and_after(KEPT[name][0])
    assert sides(graph).count("transpose") == sides(after).count("transpose") > 0


@pytest.mark.parametrize("name", [*MOVED, *KEPT])
def test_kernels_compute_the_same_on_the_device(name: str, vulkan: jax.Device) -> None:
    function, truth = {**MOVED, **KEPT}[name]
    got = jax.tree.leaves(jax.jit(function)(jax.device_put(X, vulkan)))
    for one, other in zip(got, jax.tree.leaves(truth(X)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_kernels_in_loops_read_transposes_too() -> None:
    graph, after = before_and_after(repeated)
    assert "transpose" in sides(graph)
    assert "transpose" not in sides(after)


def test_what_is_not_allowed_stays() -> None:
    graph = clean(lower(MOVED["read twice and written"][0])(Shape(X.shape, X.dtype)).graph)

    def never(before: Node, after: Node) -> bool:
        return before is after

    assert sides(read_transposed(graph, never)) == sides(graph)


@pytest.mark.parametrize("key_heads", [8, 2])
def test_attention_reads_heads_where_they_lie(key_heads: int) -> None:
    rows = [Shape((4, 256, heads, 64), jnp.float16) for heads in (8, key_heads, key_heads)]
    graph = lower(lambda *each: qga.attention(*each, is_causal=True))(*rows).graph
    assert "transpose" in sides(clean(graph))
    fused = optimise(graph, machine("h100"))
    assert "transpose" not in sides(fused)
