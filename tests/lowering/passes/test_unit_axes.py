"""Axes of one element go before a transpose beside a tile kernel, and come back behind one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from lowering import lower, reference
from lowering.compiler import clean, optimise
from lowering.graph import Graph, verify
from lowering.ops import verify_types
from lowering.passes.read_transposed import read_transposed
from lowering.passes.unit_axes import drop_unit_axes
from lowering.pjrt import initialize

from ..plan.support import machine
from .test_read_transposed import Shape, X, combined, sides, turned

Y = X[None, :, :, None]


@pytest.fixture(autouse=True, scope="module")
def platform() -> None:
    initialize()


def before_and_after(function: Callable[..., Any]) -> tuple[Graph, Graph]:
    """Return a cleaned graph and what the pass makes of it, after checking that both mean the same."""
    graph = clean(lower(function)(Shape(Y.shape, Y.dtype)).graph)
    after = verify_types(verify(drop_unit_axes(graph)))
    for want, got in zip(reference.run(graph, Y), reference.run(after, Y), strict=True):
        np.testing.assert_array_equal(want, got)
    return graph, after


def read(y: Any) -> Any:
    return combined(X, jnp.transpose(y, (0, 2, 1, 3, 4)).reshape(4, 4, 16))


def written(y: Any) -> Any:
    return jnp.transpose(combined(X, y.reshape(4, 4, 16)).reshape(1, 4, 4, 16, 1), (4, 2, 1, 0, 3))


def in_a_loop(y: Any) -> Any:
    return jax.lax.fori_loop(0, 2, lambda _, held: jnp.transpose(read(held), (1, 0, 2))[None, :, :, None], y)


@pytest.mark.parametrize("function", [read, written, in_a_loop])
def test_what_is_left_can_become_part_of_the_kernel(function: Callable[..., Any]) -> None:
    graph, after = before_and_after(function)
    assert "transpose" in sides(read_transposed(graph))
    assert "transpose" not in sides(read_transposed(after))


@pytest.mark.parametrize(
    "function",
    [
        # No kernel is beside it; axes are joined; an axis of one element stays.
        lambda y: jnp.transpose(y, (0, 2, 1, 3, 4)).reshape(4, 4, 16) * 2,
        lambda y: combined(X, jnp.transpose(y, (0, 1, 4, 2, 3)).reshape(4, 64).reshape(4, 4, 16)),
        lambda y: turned(combined(X, y.reshape(4, 4, 16))),
    ],
)
def test_others_stay_as_they_are(function: Callable[..., Any]) -> None:
    graph, after = before_and_after(function)
    assert sides(graph) == sides(after)


@pytest.mark.parametrize(("batch", "heads"), [(1, 4), (1, 1), (2, 4)])
def test_attention_of_one_entry_reads_rows_where_they_lie(batch: int, heads: int) -> None:
    rows = jax.ShapeDtypeStruct((batch, 512, heads, 64), jnp.float16)
    graph = optimise(
        lower(lambda *given: qga.attention(*given, is_causal=True))(rows, rows, rows).graph, machine("h100")
    )
    labels = [node.attributes["label"] for node in graph.nodes if node.op == "fusion"]
    assert not [label for label in labels if "transpose" in label]
