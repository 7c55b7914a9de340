"""Where the elements of tiles lie: axes that are computed together lie together, and never two of one tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax
from jax.experimental import pallas as pl

from lowering import lower
from lowering.codegen.tile.blocks import Block
from lowering.codegen.tile.layout import ALL, COLUMNS, INSIDE, ROWS, Layout, infer
from lowering.codegen.tile.memory import prepare
from lowering.compiler import clean
from lowering.errors import UnsupportedError
from lowering.graph import Value

from ...pallas.random_kernels import RandomKernel, kernels

F32 = jnp.float32


def layout_of(
    function: Callable[..., Any], *arguments: Any, threads: int = 64, subgroup: int = 32
) -> tuple[Block, Layout]:
    """Return the cell of a function's one tile kernel, and its layout."""
    (node,) = (node for node in clean(lower(function)(*arguments).graph).nodes if node.op == "tile")
    cell, memory = prepare(node)
    return cell, infer(cell, memory, threads, subgroup)


def kernel_layout(
    kernel: Callable[..., None], shape: tuple[int, ...] = (64, 48), **options: Any
) -> tuple[Block, Layout]:
    x = jax.ShapeDtypeStruct(shape, F32)
    return layout_of(lambda a: pl.pallas_call(kernel, out_shape=x)(a), x, **options)


def made_by(cell: Block, op: str) -> list[Value]:
    """Return the results of all steps of one operation."""
    return [step.outputs[0] for step, _ in cell.walk() if step.op == op]


def axes(layout: Layout, value: Value) -> list[str]:
    return [layout.axis(value, axis) for axis in range(len(value.shape))]


def test_tile_takes_rows_and_columns() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...])

    cell, layout = kernel_layout(kernel)
    assert axes(layout, *made_by(cell, "exponential")) == [ROWS, COLUMNS]
    assert layout.threads == 64


def test_sums_lie_with_what_they_are_sums_of() -> None:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        o[...] = y / (y.sum(1, keepdims=True) + y.sum(0, keepdims=True))

    cell, layout = kernel_layout(kernel)
    assert {tuple(axes(layout, value)) for value in made_by(cell, "reduce")} == {(ROWS,), (COLUMNS,)}


def test_vector_takes_all_invocations() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...])

    cell, layout = kernel_layout(kernel, (100,))
    assert axes(layout, *made_by(cell, "exponential")) == [ALL]


def test_third_axis_stays_inside() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...])

    cell, layout = kernel_layout(kernel, (3, 16, 32))
    assert axes(layout, *made_by(cell, "exponential")) == [INSIDE, ROWS, COLUMNS]


def test_transpose_is_free_where_nothing_ties_it_to_its_operand() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...]).T.reshape(64, 48)

    cell, layout = kernel_layout(kernel)
    (wide,), (turned,) = made_by(cell, "exponential"), made_by(cell, "transpose")
    assert (wide, turned) in layout.joined
    assert axes(layout, wide) == axes(layout, turned)[::-1]


def test_sum_with_its_own_transpose_goes_through_shared_memory() -> None:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        o[...] = y + y.T

    cell, layout = kernel_layout(kernel, (48, 48))
    (wide,), (turned,) = made_by(cell, "exponential"), made_by(cell, "transpose")
    assert (wide, turned) not in layout.joined
    assert axes(layout, wide) == axes(layout, turned) == [ROWS, COLUMNS]


def test_loop_may_carry_the_transpose_of_a_square() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = lax.fori_loop(0, 400, lambda _, y: jnp.sin(y.T) + 1, jnp.exp(a[...]))

    cell, layout = kernel_layout(kernel, (48, 48))
    (turned,) = made_by(cell, "transpose")
    assert axes(layout, turned) == [ROWS, COLUMNS]


def swapped_pair(a: Any, o: Any) -> None:
    def body(_: Any, pair: tuple[Any, Any]) -> tuple[Any, Any]:
        return jnp.sin(pair[1]), jnp.cos(pair[0])

    first, second = lax.fori_loop(0, 400, body, (jnp.exp(a[...]), a[...] * 2))
    o[...] = first + second


def test_loop_that_swaps_its_carries_has_one_layout() -> None:
    cell, layout = kernel_layout(swapped_pair)
    (loop,) = (step for step, _ in cell.walk() if step.op == "while")
    tiles = [value for value in loop.outputs if value.shape]
    assert len(tiles) == 2
    assert axes(layout, tiles[0]) == axes(layout, tiles[1]) == [ROWS, COLUMNS]


@pytest.mark.parametrize(("threads", "subgroup"), [(8, 8), (64, 8), (64, 32), (256, 32), (256, 64)])
def test_rectangle_holds_all_invocations_and_rows_lie_in_a_subgroup(threads: int, subgroup: int) -> None:
    _, layout = kernel_layout(lambda a, o: o.__setitem__(..., jnp.exp(a[...])), threads=threads, subgroup=subgroup)
    assert layout.rows * layout.columns == threads
    assert subgroup % layout.columns == 0


@settings(max_examples=30, deadline=None, derandomize=True)
@given(kernel=kernels())
def test_no_tile_has_two_axes_in_one_class(kernel: RandomKernel) -> None:
    try:
        cell, layout = layout_of(kernel.call, *map(np.asarray, kernel.arguments()))
    except UnsupportedError:
        return
    for step, _ in cell.walk():
        for value in step.outputs:
            classes = [
                layout.classes[value, axis] for axis in range(len(value.shape)) if (value, axis) in layout.classes
            ]
            assert len(classes) == len(set(classes))
            spread = [follows for follows in axes(layout, value) if follows != INSIDE]
            assert len(spread) == len(set(spread))
            assert ALL not in spread or len(spread) == 1
