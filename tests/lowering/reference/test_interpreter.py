from __future__ import annotations

import jax
import numpy as np
import pytest

from lowering import dtypes, reference
from lowering.errors import GraphError, InputError, UnsupportedError
from lowering.graph import Graph, Node, Value

from ..programs import PROGRAMS, graph_of, leaves, normal


def close(got: np.ndarray, want: np.ndarray) -> None:
    """Compare with XLA's CPU backend: exactly, or to a few roundings of the longest sum in the programs."""
    assert got.dtype == want.dtype
    if dtypes.NAMES[got.dtype] in dtypes.FLOATS | dtypes.COMPLEX:
        eps = float(np.finfo(np.float32).eps) if got.dtype.itemsize > 2 else 2**-8
        np.testing.assert_allclose(got, want, rtol=64 * eps, atol=64 * eps)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", PROGRAMS)
def test_run_agrees_with_xla(name: str) -> None:
    function, arguments = PROGRAMS[name]
    got = reference.run(graph_of(function, *arguments), *leaves(arguments))
    for mine, theirs in zip(got, leaves(jax.jit(function)(*arguments)), strict=True):
        close(mine, theirs)


def test_run_returns_contiguous_arrays() -> None:
    graph = graph_of(lambda x: (x.T, x[:, ::2]), normal(3, 4))
    assert all(array.flags.c_contiguous for array in reference.run(graph, normal(3, 4)))


def test_run_refuses_an_array_of_another_type() -> None:
    graph = graph_of(lambda x: x + 1, normal(3))
    with pytest.raises(InputError, match=r"(?s)got:  float64\[3\].*want: f32\[3\] for %0"):
        _ = reference.run(graph, np.zeros(3))


def test_run_refuses_another_number_of_arrays() -> None:
    graph = graph_of(lambda x: x + 1, normal(3))
    with pytest.raises(InputError, match=r"(?s)got:  0 arrays.*want: 1 arrays"):
        _ = reference.run(graph)


def test_evaluate_refuses_an_operation_without_meaning() -> None:
    node = Node("sort", (), (Value(0, "f32", ()),), where="model.py:7 in f")
    with pytest.raises(UnsupportedError, match=r"(?s)got:  sort.*at: model.py:7 in f"):
        _ = reference.evaluate(node, [])


def test_evaluate_refuses_a_result_of_another_type() -> None:
    x, y = Value(0, "f32", (3,)), Value(1, "f32", (4,))
    with pytest.raises(GraphError, match=r"(?s)sine must give the type.*got:  float32\[3\].*want: f32\[4\]"):
        _ = reference.run(Graph("g", (x,), (Node("sine", (x,), (y,)),), (y,)), normal(3))
