"""Deep products with few results are cut along what they contract, whatever its axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.graph import Graph, Node, verify
from lowering.passes.split_dot import SHORTEST_DEPTH, WANTED_TILES, part_count, split_dot
from shaders.capabilities import Capabilities

from ..plan.support import machine
from ..programs import graph_of, normal

GPU, CPU = machine("h100"), machine("lavapipe22")
PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "one axis": (lambda a, b: a @ b, ((3, 4096), (4096, 5))),
    "two axes": (lambda a, b: jnp.einsum("bqm,bqn->mn", a, b), ((4, 1024, 3), (4, 1024, 5))),
    "two axes, one of them cut": (lambda a, b: jnp.einsum("bqm,bqn->mn", a, b), ((2, 2048, 3), (2, 2048, 5))),
    "apart on one side": (lambda a, b: jnp.einsum("bqm,bnq->mn", a, b), ((8, 1024, 3), (8, 5, 1024))),
    "in another order": (lambda a, b: jnp.einsum("bqm,qbn->mn", a, b), ((8, 512, 3), (512, 8, 5))),
    "batches around": (
        lambda a, b: lax.dot_general(a, b, (((1, 3), (0, 2)), ((2,), (1,)))),
        ((3, 8, 2, 512), (8, 2, 512, 5)),
    ),
}
WHOLE: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "shallow": (lambda a, b: a @ b, ((3, 2 * SHORTEST_DEPTH - 2), (2 * SHORTEST_DEPTH - 2, 5))),
    "odd": (lambda a, b: a @ b, ((3, 4097), (4097, 5))),
    "many results": (lambda a, b: a @ b, ((128 * WANTED_TILES, 4096), (4096, 128))),
    "an odd first axis": (lambda a, b: jnp.einsum("bqm,bnq->mn", a, b), ((3, 2048, 3), (3, 5, 2048))),
}


def product(name: str) -> Graph:
    function, shapes = (PRODUCTS | WHOLE)[name]
    return graph_of(function, *(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))


def dot(graph: Graph) -> Node:
    (node,) = [node for node in graph.nodes if node.op == "dot_general"]
    return node


@pytest.mark.parametrize("name", PRODUCTS)
def test_parts_add_up(name: str) -> None:
    graph, shapes = product(name), PRODUCTS[name][1]
    arrays = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    cut = verify(split_dot(graph, GPU))
    parts = part_count(dot(graph))
    assert parts > 1
    assert dot(cut).output.shape == (parts, *dot(graph).output.shape)
    (got,), (want,) = reference.run(cut, *arrays), reference.run(graph, *arrays)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    assert not np.array_equal(got, got[::-1]), "all results alike would hide what is added to what"


@pytest.mark.parametrize("name", WHOLE)
def test_other_products_stay_whole(name: str) -> None:
    graph = product(name)
    assert split_dot(graph, GPU).text() == graph.text()


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("on", [CPU, replace(GPU, device_type="cpu")], ids=lambda on: on.device_name)
def test_a_cpu_cuts_nothing(name: str, on: Capabilities) -> None:
    graph = product(name)
    assert split_dot(graph, on).text() == graph.text()


def test_axes_that_stand_together_are_cut_as_one() -> None:
    cut = split_dot(product("two axes"), GPU)
    assert [value.shape for value in dot(cut).inputs] == [(8, 512, 3), (8, 512, 5)]


def test_a_first_axis_is_cut_alone_where_the_others_stand_apart() -> None:
    cut = split_dot(product("apart on one side"), GPU)
    assert [value.shape for value in dot(cut).inputs] == [(8, 1, 1024, 3), (8, 1, 5, 1024)]
