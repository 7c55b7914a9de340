"""Results that are given out more than once are written by the kernel that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering.compiler import clean
from lowering.graph import Graph, verify
from lowering.passes.fuse import fuse
from lowering.passes.repeat import repeat_results

from ..programs import graph_of


def repeated(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Graph:
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    return verify(repeat_results(fuse(clean(graph_of(function, *arguments)))))


def thrice(x: Any) -> Any:
    y = jnp.tan(x)
    return y, y * 2, y, y


def constants(x: Any) -> Any:
    zeros = jnp.zeros((8, 6))
    return zeros, x + 1, zeros


@pytest.mark.parametrize("function", [thrice, constants])
def test_each_result_is_an_array_of_its_own(function: Callable[..., Any]) -> None:
    graph = repeated(function, (8, 6))
    assert len(set(graph.outputs)) == len(graph.outputs)
    assert [node.attributes["kind"] for node in graph.nodes] == ["map"]


def test_other_kernels_write_a_result_once() -> None:
    def product(x: Any, y: Any) -> Any:
        return (z := x @ y, z)

    graph = repeated(product, (8, 6), (6, 8))
    assert len(set(graph.outputs)) == 1


def test_a_result_in_the_memory_of_an_operand_stays() -> None:
    graph = repeated(lambda x: (jnp.tan(x), jnp.tan(x)), (8, 6))
    once = repeat_results(Graph(graph.name, graph.inputs, graph.nodes, (graph.outputs[0],) * 2, ((0, 1),)))
    assert once.outputs == (graph.outputs[0],) * 2


@pytest.mark.parametrize("function", [thrice, constants])
def test_all_of_them_arrive(function: Callable[..., Any], vulkan: jax.Device) -> None:
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(8, 6)
    got = jax.jit(function)(jax.device_put(x, vulkan))
    for one, other in zip(got, function(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert len({each.unsafe_buffer_pointer() for each in got}) == len(got)
