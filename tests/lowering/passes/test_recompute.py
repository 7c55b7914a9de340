"""What is computed again where it is read, what stays in memory, and that the meaning is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering import reference
from lowering.compiler import clean
from lowering.graph import Graph, verify
from lowering.passes.fuse import fuse

from ..programs import graph_of

ROWS, LENGTH, WIDTH = 6, 48, 8


def mixed(scores: Any, values: Any) -> Any:
    return jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(scores.dtype) @ values


def mixed_and_back(scores: Any, values: Any) -> Any:
    """The product stands between the softmax and its derivative, so that they are two kernels."""
    result, back = jax.vjp(mixed, scores, values)
    return result, *back(result * result)


def both(function: Callable[..., Any], *shapes: tuple[int, ...], dtype: Any = jnp.bfloat16) -> tuple[Graph, Graph]:
    graph = clean(graph_of(function, *(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)))
    return graph, verify(fuse(graph))


def stored(graph: Graph, shape: tuple[int, ...]) -> list[str]:
    """The dtypes of the arrays of a shape that kernels write."""
    return [v.dtype for n in graph.nodes if n.op == "fusion" for v in n.outputs if v.shape == shape]


def arrays_of(graph: Graph) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.asarray(jnp.asarray(generator.standard_normal(value.shape), jnp.bfloat16)) for value in graph.inputs]


def test_exponentials_are_computed_again_from_scores_of_16_bits() -> None:
    _, fused = both(mixed_and_back, (ROWS, LENGTH, LENGTH), (ROWS, LENGTH, WIDTH))
    assert stored(fused, (ROWS, LENGTH, LENGTH)) == ["bf16"] * 3  # weights, their derivative, the scores'


def test_what_is_computed_again_means_the_same() -> None:
    graph, fused = both(mixed_and_back, (ROWS, LENGTH, LENGTH), (ROWS, LENGTH, WIDTH))
    arrays = arrays_of(graph)
    for got, want in zip(reference.run(fused, *arrays), reference.run(graph, *arrays), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


def test_what_a_product_reads_stays_in_memory() -> None:
    def function(scores: Any, values: Any) -> Any:
        weights = jax.nn.softmax(scores, axis=-1)
        return weights @ values, jnp.sin(weights @ values) @ (weights @ values).swapaxes(1, 2) * weights

    _, fused = both(function, (ROWS, LENGTH, LENGTH), (ROWS, LENGTH, WIDTH), dtype=jnp.float32)
    assert len(stored(fused, (ROWS, LENGTH, LENGTH))) == 2


@pytest.mark.parametrize(("step", "count"), [(lambda x: x * 2 + 1, 0), (lambda x: jnp.tan(jnp.tan(x)), 1)])
def test_dear_values_stay_in_memory(step: Callable[[Any], Any], count: int) -> None:
    def function(x: Any, y: Any) -> Any:
        value = step(x.astype(jnp.float32))
        product = (value.sum(1) @ y.astype(jnp.float32))[:, None]
        return (value * product).sum(1)

    _, fused = both(function, (ROWS, LENGTH), (ROWS, ROWS))
    assert len(stored(fused, (ROWS, LENGTH))) == count


def test_results_of_the_program_are_read_and_not_computed_again() -> None:
    def function(x: Any, y: Any) -> Any:
        value = jnp.sin(x.astype(jnp.float32))
        product = (value.sum(1) @ y.astype(jnp.float32))[:, None]
        return value, (value * product).sum(1)

    _, fused = both(function, (ROWS, LENGTH), (ROWS, ROWS))
    sines = [n for n in fused.nodes if n.op == "fusion" and "sine" in n.attributes["label"]]
    assert len(sines) == 1
