"""Scatters that search for their updates give NumPy's bits: every element gets its updates in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.codegen import search
from lowering.codegen.places import Problem
from lowering.compiler import compile_graph, optimise
from lowering.graph import Graph
from lowering.runtime import Device
from lowering.runtime.hazard import check_hazards

from ..programs import graph_of
from ..running import run, styled

MANY = 401
GENERATOR = np.random.default_rng(3)
# Places that meet often, some negative and some outside.
PLACES = GENERATOR.integers(-4, 23, MANY).astype(np.int32)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(dtype)


def batched(x: Any, i: Any, u: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((2,), (1,), (1,), (0,), (0,))
    return lax.scatter_add(x, i, u, dims)


def own_function(x: Any, i: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    return lax.scatter_apply(x, i[:, None], lambda v: v * 0.75 + 1, dims, update_shape=(MANY, x.shape[1]))


CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "rows": (lambda x, i, u: x.at[i].add(u), (numbers(20, 37), PLACES, numbers(MANY, 37))),
    "wide rows": (lambda x, i, u: x.at[i].add(u), (numbers(20, 9, 67), PLACES, numbers(MANY, 9, 67))),
    "even rows": (lambda x, i, u: x.at[i].add(u), (numbers(20, 64), PLACES, numbers(MANY, 64))),
    "one number": (lambda x, i, u: x.at[i].add(u), (numbers(20), PLACES, numbers(MANY))),
    "one place": (lambda x, i, u: x.at[i].add(u), (numbers(1, 8), PLACES, numbers(MANY, 8))),
    "last one stays": (lambda x, i, u: x.at[i].set(u, mode="drop"), (numbers(20, 5), PLACES, numbers(MANY, 5))),
    "least": (lambda x, i, u: x.at[i].min(u), (numbers(20, 5), PLACES, numbers(MANY, 5))),
    "columns": (lambda x, i, u: x.at[:, i].add(u), (numbers(6, 20), PLACES, numbers(6, MANY))),
    "two numbers": (
        lambda x, i, u: x.at[i, i % 3].add(u),
        (numbers(20, 3, 11), PLACES, numbers(MANY, 11)),
    ),
    "batched": (batched, (numbers(2, 20, 6), PLACES[:400].reshape(2, 200, 1), numbers(2, 200, 6))),
    "own function": (own_function, (numbers(20, 5), PLACES)),
    "16 bits": (
        lambda x, i, u: x.at[i].add(u),
        (numbers(20, 37, dtype=ml_dtypes.bfloat16), PLACES, numbers(MANY, 37, dtype=ml_dtypes.bfloat16)),
    ),
}


def problem_of(graph: Graph, device: Device) -> Problem:
    fused = optimise(graph, styled(device.capabilities, "gpu"))
    (scatter,) = (n for n in fused.nodes if n.op == "fusion" and n.attributes["kind"] == "scatter")
    return Problem(scatter.attributes["body"].nodes[-1])


@pytest.mark.parametrize("name", CASES)
def test_updates_are_applied_in_their_order(name: str, device: Device) -> None:
    function, arrays = CASES[name]
    graph = graph_of(function, *arrays)
    capabilities = styled(device.capabilities, "gpu")
    assert search.pays(problem_of(graph, device), capabilities)
    program = check_hazards(compile_graph(graph, capabilities))
    for got, want in zip(run(device, program, arrays), reference.run(graph, *arrays), strict=True):
        np.testing.assert_array_equal(got.view(f"u{got.itemsize}"), want.view(f"u{want.itemsize}"))


def test_another_order_gives_other_bits(device: Device) -> None:
    function, (x, places, updates) = CASES["rows"]
    turned = [x, places[::-1].copy(), updates[::-1].copy()]
    graph = graph_of(function, *turned)
    got = run(device, compile_graph(graph, styled(device.capabilities, "gpu")), turned)
    assert (got[0] != reference.run(graph, x, places, updates)[0]).any()


@pytest.mark.parametrize("missing", [1, 0])
def test_few_updates_are_looked_through_by_every_lane(missing: int, device: Device) -> None:
    capabilities = styled(device.capabilities, "gpu")
    updates = search.FEWEST_ROUNDS * search.ROUND * capabilities.subgroup_size - missing
    arrays = (numbers(20, 5), np.zeros(updates, np.int32), numbers(updates, 5))
    problem = problem_of(graph_of(lambda x, i, u: x.at[i].add(u), *arrays), device)
    assert search.pays(problem, capabilities) == (not missing)
    assert not search.pays(problem, styled(device.capabilities, "cpu"))
