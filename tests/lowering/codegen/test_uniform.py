"""Values of a row are told apart from values of an element, and computed once a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering.codegen.uniform import uniform_values
from lowering.compiler import compile_graph, optimise

from ..plan.support import machine
from ..programs import graph_of

ROWS, LENGTH = 300, 256


def uniform_ops(function: Callable[..., Any], *shapes: tuple[int, ...]) -> list[str]:
    """The operations of a kernel's body whose values are the same along a row; inputs are called so."""
    graph = graph_of(function, *(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))
    (fusion,) = (node for node in optimise(graph, machine("h100")).nodes if node.op == "fusion")
    makers = fusion.attributes["body"].producers()
    return [makers[value].op if value in makers else "input" for value in uniform_values(fusion)]


CASES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "of the row": (lambda x, r, _: (x * jnp.tanh(r)[:, None]).sum(1), ["input", "tanh"]),
    "of the column": (lambda x, _, c: (x * (c + 1)[None]).sum(1), []),
    "of both": (lambda x, r, c: (x * r[:, None] + c[None]).sum(1), ["input"]),
    "of a sum": (lambda x, r, _: (x * (x.sum(1) + r)[:, None]).sum(1), ["input"]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_of_a_row(name: str) -> None:
    function, expected = CASES[name]
    assert uniform_ops(function, (ROWS, LENGTH), (ROWS,), (LENGTH,)) == expected


def test_a_row_is_divided_once() -> None:
    graph = graph_of(
        lambda x, r: (x * (1 / r)[:, None]).sum(1),
        jax.ShapeDtypeStruct((ROWS, LENGTH), np.float32),
        jax.ShapeDtypeStruct((ROWS,), np.float32),
    )
    (kernel,) = compile_graph(graph, machine("h100")).kernels
    assert kernel.text().count("OpFDiv") == 1
