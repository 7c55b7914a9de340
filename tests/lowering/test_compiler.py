"""The whole compiler: kernels and passes over memory of the layers that matter, texts, what shares a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering.compiler import KernelMaker, compile_graph, compile_watched, fusion_text, optimise, schedule_text
from lowering.graph import Graph, Node, Value, verify
from lowering.program import Program
from lowering.watch import watched_values
from shaders.spirv.validate import validate

from .corpus import CASES
from .plan.support import MACHINES, dispatches, machine, planned
from .programs import graph_of, normal
from .running import case_graph, names_of

MODELS = [name for name in CASES if name.startswith("model_")]
LAYER = 64 * 48 * 4


def passes_over_memory(program: Program) -> str:
    """Return how many bytes the dispatches move, in units of one layer's activations."""
    moved = sum(region.nbytes for step in dispatches(program.steps) for region in step.arguments)
    return f"{moved / LAYER:.2f}"


def test_models_kernels_and_passes(golden: Callable[[str], None]) -> None:
    lines: list[str] = []
    for name in MODELS:
        for on in MACHINES:
            program = planned(name, on=on)
            labels = [step.label for step in dispatches(program.steps)]
            head = f"{name} on {on}: {len(labels)} kernels, {passes_over_memory(program)} passes"
            lines += [head, *(f"    {label}" for label in labels)]
    golden("\n".join(lines))


@pytest.mark.parametrize("name", ["model_softmax", "model_layer_norm", "model_rms_norm", "model_softmax_gradient"])
def test_a_row_wise_layer_is_one_kernel(name: str) -> None:
    assert len(list(dispatches(planned(name).steps))) == 1


def test_an_optimiser_step_is_one_kernel_without_temporaries() -> None:
    def step(p: Any, m: Any, g: Any) -> Any:
        m = 0.9 * m + g
        return p - m, m

    program = compile_graph(graph_of(step, normal(64), normal(64), normal(64)), machine("lavapipe22"))
    assert len(list(dispatches(program.steps))) == 1
    assert program.arena_bytes == 0


@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize("name", [*MODELS, "long_rows", "crossed_pair", "scatter_integers", "running_long", "while"])
def test_kernels_are_valid_spirv(name: str, on: str) -> None:
    for kernel in planned(name, on=on).kernels:
        validate(kernel.words)


def test_equal_fusions_share_a_kernel() -> None:
    def products(x: Any, y: Any) -> Any:
        return jnp.sin(x).sum(1) @ x, jnp.sin(y).sum(1) @ y

    program = compile_graph(graph_of(products, normal(8, 9), normal(8, 9, seed=1)), machine("lavapipe22"))
    assert len(list(dispatches(program.steps))) == 4
    assert len(program.kernels) == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda x: (x * 1.0000001).sum(1),
        lambda x: (x * -0.0).sum(1),
        lambda x: (x * 0.5).sum(1),
        lambda x: (x * jnp.float32(np.nan)).sum(1),
    ],
)
def test_fusions_that_differ_in_a_constant_have_other_texts(other: Callable[[Any], Any]) -> None:
    def texts(function: Callable[[Any], Any]) -> list[str]:
        fused = optimise(graph_of(function, normal(8, 9)), machine("lavapipe22"))
        return [fusion_text(node) for node in fused.nodes if node.op == "fusion"]

    assert texts(other) != texts(lambda x: (x * 0.25).sum(1))


def test_a_guarded_kernel_is_not_shared_with_a_free_one() -> None:
    fused = optimise(graph_of(lambda x: jnp.sin(x), normal(8)), machine("lavapipe22"))
    (fusion,) = [node for node in fused.nodes if node.op == "fusion"]
    maker = KernelMaker(machine("lavapipe22"))
    free, guarded = maker.kernel_of(fusion, False)[0], maker.kernel_of(fusion, True)[0]
    assert (free.guarded, guarded.guarded) == (False, True)
    assert maker.kernel_of(fusion, False)[0] is free


@pytest.mark.parametrize("name", names_of("value"))
def test_compiling_twice_gives_the_same_program(name: str) -> None:
    graph = case_graph(name)
    assert compile_graph(graph, machine("lavapipe22")) == planned(name)


def test_schedule_text_shows_schedules_kernels_and_memory() -> None:
    text = schedule_text(case_graph("softmax"), machine("h100"))
    assert "schedule=<rows" in text
    assert "kernels: 1" in text
    assert "arena: 0 bytes (liveness bound 0)" in text


def test_schedule_text_shows_the_inside_of_loops() -> None:
    assert schedule_text(case_graph("while"), machine("lavapipe22")).count("schedule=<") >= 2


def test_compile_watched_gives_out_what_every_kernel_computes() -> None:
    program, watched, fused = compile_watched(case_graph("long_columns"), machine("lavapipe22"))
    assert len(watched.outputs) == len(watched_values(fused)) >= len(program.outputs)
    assert watched.aliases == ()


def test_names_are_the_users() -> None:
    assert planned("softmax").name == "jit_softmax"
    assert all(step.where.startswith("rows.py:") for step in dispatches(planned("columns").steps))


def test_compile_refuses_a_graph_that_breaks_its_rules() -> None:
    x, y = Value(0, "f32", (4,)), Value(1, "f32", (4,))
    broken = Graph("broken", (x,), (Node("sine", (y,), (y,)),), (y,))
    with pytest.raises(ValueError, match="every value must be defined before it is used"):
        compile_graph(broken, machine("lavapipe22"))
    assert verify(replace(broken, nodes=(Node("sine", (x,), (y,)),)))


@pytest.mark.parametrize("name", ["exp", "tanh"])
def test_only_gpus_take_the_driver_s_power_of_two(name: str) -> None:
    for dtype in (jnp.float32, jnp.bfloat16):
        graph = graph_of(getattr(jnp, name), jax.ShapeDtypeStruct((64,), dtype))
        texts = [compile_graph(graph, machine(on)).kernels[0].text() for on in ("lavapipe22", "h100")]
        has_gpu = name == "exp" or dtype == jnp.bfloat16
        assert [" Exp2 " in text for text in texts] == [False, has_gpu]
