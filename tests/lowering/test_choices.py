"""A schedule that was measured is taken where the device can run it; the compiler's own everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import qga
from lowering import lower
from lowering.choices import NO_CHOICES, Choices, candidates, choose, fits, shape_class, tuned
from lowering.codegen.dot import round_up
from lowering.compiler import compile_graph, optimise, schedule_text
from lowering.graph import Graph, Node
from shaders.capabilities import Capabilities

from .plan.support import machine

H100, LAVAPIPE = machine("h100"), machine("lavapipe22")


def shapes(*extents: tuple[int, ...], dtype: Any = jnp.float32) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(each, dtype) for each in extents]


def graph_of(function: Callable[..., Any], *arguments: Any) -> Graph:
    return lower(function)(*arguments).graph


def kernel_of(function: Callable[..., Any], *arguments: Any, on: Capabilities = H100) -> Node:
    """Return the first fusion with alternatives."""
    fused = optimise(graph_of(function, *arguments), on)
    return next(node for node in fused.nodes if node.op == "fusion" and shape_class(node) is not None)


def matmul(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    return lhs @ rhs


def other(fusion: Node, on: Capabilities) -> str:
    """Return the text of a candidate that fits and is not the default."""
    default = choose(fusion, on).text()
    return next(e.text() for e in candidates(fusion, on) if e.text() != default and fits(fusion, e, on))


def choices_for(fusion: Node, text: str) -> Choices:
    name = shape_class(fusion)
    assert name is not None
    return Choices({name: text})


SQUARE = shapes((256, 256), (256, 256))
ATTENTION = shapes((1, 256, 1, 64), (1, 256, 1, 64), (1, 256, 1, 64), dtype=jnp.float16)
KERNELS: dict[str, tuple[Callable[..., Any], list[Any], Capabilities]] = {
    "product": (matmul, SQUARE, H100),
    "product on a CPU": (matmul, SQUARE, LAVAPIPE),
    "bands": (qga.attention, ATTENTION, H100),
    "tiles": (qga.attention, ATTENTION, LAVAPIPE),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_default_is_a_candidate_among_others(name: str) -> None:
    function, arguments, on = KERNELS[name]
    fusion = kernel_of(function, *arguments, on=on)
    texts = [each.text() for each in candidates(fusion, on)]
    assert choose(fusion, on).text() in texts
    assert len(set(texts)) > 1


@pytest.mark.parametrize("name", KERNELS)
def test_a_choice_is_taken(name: str) -> None:
    function, arguments, on = KERNELS[name]
    fusion = kernel_of(function, *arguments, on=on)
    wanted = other(fusion, on)
    assert choose(fusion, on, choices_for(fusion, wanted)).text() == wanted


@pytest.mark.parametrize("text", ["", "dot", "dot workgroup=1024 tiles=matrix 999x999x64 part 333x333 threads 1024"])
def test_a_choice_that_is_no_candidate_is_not_taken(text: str) -> None:
    fusion = kernel_of(matmul, *SQUARE)
    assert tuned(fusion, H100, choices_for(fusion, text)) is None
    assert choose(fusion, H100, choices_for(fusion, text)) == choose(fusion, H100)


@pytest.mark.parametrize("name", ["product", "bands"])
def test_a_choice_that_does_not_fit_any_more_is_not_taken(name: str) -> None:
    function, arguments, on = KERNELS[name]
    fusion = kernel_of(function, *arguments, on=on)
    choices = choices_for(fusion, other(fusion, on))
    small = replace(on, max_shared_bytes=1024)
    assert tuned(fusion, on, choices) is not None
    assert tuned(fusion, small, choices) is None


def test_a_wish_of_the_author_leaves_no_other_workgroup() -> None:
    from jax.experimental import pallas as pl

    from lowering.pallas import CompilerParams

    def double(x_ref: Any, out_ref: Any) -> None:
        out_ref[...] = x_ref[...] * 2.0

    def call(x: jax.Array, **options: int) -> jax.Array:
        shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
        return pl.pallas_call(double, out_shape=shape, compiler_params=CompilerParams(**options))(x)

    def sizes(**options: int) -> set[int]:
        fusion = kernel_of(lambda x: call(x, **options), *shapes((64, 64)))
        return {each.workgroup for each in candidates(fusion, H100)}

    assert sizes(threads=64) == {64}
    assert sizes(subgroups=2) == {64}
    assert sizes(subgroups=1024) == {1024}
    assert len(sizes()) > 1


def test_kernels_of_other_kinds_have_nothing_to_choose() -> None:
    fused = optimise(graph_of(jnp.tanh, *shapes((64,))), H100)
    assert [shape_class(node) for node in fused.nodes] == [None]
    assert list(candidates(fused.nodes[0], H100)) == []


# --- classes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extent", "rounded"), [(1, 1), (8, 8), (9, 10), (64, 64), (65, 80), (3585, 4096), (4096, 4096)]
)
def test_round_up(extent: int, rounded: int) -> None:
    assert round_up(extent) == rounded


def test_round_up_stays_within_a_quarter() -> None:
    assert all(extent <= round_up(extent) < 1.25 * extent for extent in range(1, 5000))


def product_class(function: Callable[..., Any] = matmul, size: int = 1000, dtype: Any = jnp.float32) -> str | None:
    # A GPU would cut the depth of so small a product.
    return shape_class(kernel_of(function, *shapes((size, size), (size, size), dtype=dtype), on=LAVAPIPE))


def test_products_of_nearby_sizes_share_a_class() -> None:
    assert product_class(size=1000) == product_class(size=1024) != product_class(size=1025)


def test_an_epilogue_does_not_change_the_class() -> None:
    assert product_class() == product_class(lambda lhs, rhs: jnp.tanh(lhs @ rhs))


@pytest.mark.parametrize(
    "function", [lambda lhs, rhs: lhs @ rhs.T, lambda lhs, rhs: lhs.T @ rhs, lambda lhs, rhs: lhs[::-1] @ rhs]
)
def test_operands_that_lie_otherwise_or_are_moved_change_the_class(function: Callable[..., Any]) -> None:
    assert product_class(function) != product_class()


def test_dtypes_change_the_class() -> None:
    assert product_class(dtype=jnp.float16) != product_class()


def test_a_tile_kernels_class_is_its_code_and_shapes() -> None:
    twice = [shape_class(kernel_of(qga.attention, *ATTENTION)) for _ in range(2)]
    assert twice[0] == twice[1] != shape_class(kernel_of(lambda *a: qga.attention(*a, is_causal=True), *ATTENTION))


# --- programs -------------------------------------------------------------------------------------------------------


def test_programs_are_made_of_choices_and_texts_say_so() -> None:
    graph, fusion = graph_of(matmul, *SQUARE), kernel_of(matmul, *SQUARE)
    choices = choices_for(fusion, other(fusion, H100))
    assert compile_graph(graph, H100, choices=choices) != compile_graph(graph, H100)
    assert f"schedule=<tuned {other(fusion, H100)}>" in schedule_text(graph, H100, choices)
    assert "tuned" not in schedule_text(graph, H100, NO_CHOICES)


def test_equal_choices_have_equal_texts() -> None:
    assert Choices({"a": "1", "b": "2"}).text() == Choices({"b": "2", "a": "1"}).text() == "a: 1\nb: 2\n"
    assert Choices({"a": "1"}).text() != Choices({"a": "2"}).text()
