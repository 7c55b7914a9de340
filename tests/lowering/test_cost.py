"""What one call costs, counted by hand for small programs."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax import lax

from lowering.compiler import compile_graph
from lowering.cost import program_cost
from lowering.program import While

from .plan.support import machine, planned
from .programs import graph_of, normal


def cost(function: object, *arguments: np.ndarray) -> dict[str, float]:
    return program_cost(compile_graph(graph_of(function, *arguments), machine("lavapipe22")))  # pyright: ignore[reportArgumentType]


def test_one_kernel_moves_its_arguments_and_results() -> None:
    found = cost(lambda x, y: (x + y, x * y), normal(100), normal(100))
    assert found == {
        "dispatches": 1, "kernels": 1, "bytes accessed": 1600, "argument bytes": 800, "output bytes": 800,
        "temporary bytes": 0, "liveness bound bytes": 0, "constant bytes": 0,
    }  # fmt: skip


def test_rounds_of_a_counted_loop_all_count() -> None:
    found = cost(lambda x: lax.fori_loop(0, 500, lambda i, c: jnp.sin(c), jnp.cos(x)), normal(10))
    assert found["dispatches"] == 501
    assert found["kernels"] == 2


def test_a_true_loop_counts_once() -> None:
    program = planned("while")
    (loop,) = [step for step in program.steps if isinstance(step, While)]
    outside = replace(program, steps=tuple(step for step in program.steps if step is not loop))
    inside = replace(program, steps=(*loop.condition, *loop.body))
    total = program_cost(outside)["dispatches"] + program_cost(inside)["dispatches"]
    assert program_cost(program)["dispatches"] == total


def test_constants_are_counted_once() -> None:
    table = np.arange(64, dtype=np.float32)
    found = cost(lambda x: (x * table, jnp.sin(x) - table[::-1]), normal(64))
    assert found["constant bytes"] in (256, 512)


def test_equal_layers_share_their_kernels() -> None:
    found = cost(lambda x, w: jnp.tanh(jnp.tanh(x @ w) @ w) @ w, normal(8, 8), normal(8, 8))
    assert found["dispatches"] >= 3
    assert found["kernels"] < found["dispatches"]
