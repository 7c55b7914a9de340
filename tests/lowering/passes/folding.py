"""Attention as people write it, and programs with folded tables beside those that store them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lowering import lower, reference
from lowering.compiler import clean
from lowering.graph import Graph, Node, map_regions, verify
from lowering.ops import verify_types
from lowering.passes.tables import fold_tables

Function = Callable[..., Any]
QUERIES, KEYS, CHANNELS = 128, 256, 32
HIDDEN = {
    "none": lambda row, column: None,
    "causal": lambda row, column: row >= column,
    "later": lambda row, column: column >= row,
    "shifted": lambda row, column: column < row - 100,
    "window": lambda row, column: (row >= column) & (row < column + 70),
}


def attention(hidden: str, dtype: Any = jnp.float32) -> Function:
    """Return attention of [batch, rows, heads, channels] as people write it, with a mask of positions."""

    def attend(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(dtype) / 6
        row, column = (jax.lax.broadcasted_iota(jnp.int32, scores.shape[2:], axis) for axis in (0, 1))
        visible = HIDDEN[hidden](row, column)
        if visible is not None:
            scores = jnp.where(visible[None, None], scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v)

    return attend


def with_gradients(function: Function) -> Function:
    """Return results and what flows back to the operands from twice the results."""

    def both(*operands: Any) -> Any:
        result, pull = jax.vjp(function, *operands)
        return result, pull((result * 2).astype(result.dtype))

    return both


def operands(dtype: Any = np.float16, seed: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes = [(2, rows, 1, CHANNELS) for rows in (QUERIES, KEYS, KEYS)]
    return [generator.normal(size=shape).astype(dtype) for shape in shapes]


def graph_of(function: Function, *arrays: np.ndarray) -> Graph:
    return clean(lower(function)(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays)).graph)


def folded(graph: Graph) -> Graph:
    """Return the graph with folded tables, whose types are checked."""
    result = fold_tables(graph, lambda kernel: map_regions(kernel, clean))
    verify_types(verify(result))
    return result


def kernels(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "tile"]


def compared(function: Function, *arrays: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], Graph]:
    """Return results with stored tables, with folded ones, and the folded graph."""
    graph = graph_of(function, *arrays)
    after = folded(graph)
    pairs = [reference.run(each, *arrays) for each in (graph, after)]
    stored, made = ([np.asarray(array, np.float64) for array in each] for each in pairs)
    return stored, made, after
