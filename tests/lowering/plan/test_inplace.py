"""Donated memory is used, memory that was not given up is left alone, and nothing is copied without need."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering.compiler import compile_graph
from lowering.program import Program

from ..programs import graph_of, normal
from ..running import Variant
from .support import MACHINES, PLANNED, dispatches, machine, planned, writes

X = normal(64, 8)


def compiled(function: Any, *arguments: Any, donate: tuple[int, ...] = (0,)) -> Program:
    return compile_graph(graph_of(function, *arguments, donate_argnums=donate), machine("lavapipe22"))


def labels(program: Program) -> list[str]:
    return [step.label for step in dispatches(program.steps)]


@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize(("name", "variant"), PLANNED)
def test_only_inputs_that_an_output_takes_are_written(name: str, variant: Variant, on: str) -> None:
    program = planned(name, variant, on)
    written = {region.index for region in writes(program) if region.space == "input"}
    assert written <= {source for source, _ in program.aliases}


@pytest.mark.parametrize(("name", "variant"), PLANNED)
def test_constants_are_never_written(name: str, variant: Variant) -> None:
    assert all(region.space != "constant" for region in writes(planned(name, variant)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.sin(x) * x,
        lambda x: x - x.mean(1, keepdims=True),
        lambda x: x / jnp.abs(x).sum(0, keepdims=True),
        lambda x: jax.nn.softmax(x),
        lambda x: x.at[3].add(1.0),
        lambda x: x.at[jnp.array([1, 1, 5])].set(2.0),
        lambda x: lax.fori_loop(0, 5, lambda i, c: c - c.max(), x),
        lambda x: lax.fori_loop(0, 5, lambda i, c: c - c.max(), x.at[0].set(0.0)),
        lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x),
        lambda x: normal(64, 5) @ normal(5, 8) + x,
        lambda x: x.at[0].set(x[1]).at[2].set(0.0),
    ],
    ids=[
        "map",
        "rows",
        "columns",
        "softmax",
        "update",
        "scatter",
        "loop",
        "loop after update",
        "while",
        "product",
        "two updates",
    ],
)
def test_a_donated_input_is_the_output(function: Any) -> None:
    program = compiled(function, X)
    assert program.aliases == ((0, 0),)
    assert "copy" not in labels(program)


def test_every_array_of_an_optimiser_is_donated() -> None:
    program = planned("model_adamw", "donated")
    assert planned("model_adamw", "value").aliases == ()
    assert program.aliases == ((0, 0),)


def test_all_parameters_and_moments_share_their_memory() -> None:
    def step(p: Any, m: Any, v: Any, g: Any) -> Any:
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * g * g
        return p - m / (jnp.sqrt(v) + 1e-8), m, v

    program = compiled(step, X, X, X, X, donate=(0, 1, 2))
    assert program.aliases == ((0, 0), (1, 1), (2, 2))
    assert program.arena_bytes == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[::-1] * 2,
        lambda x: x.reshape(8, 64).T.reshape(64, 8) + 1,
        lambda x: jnp.cumsum(x, 0),
        lambda x: x @ normal(8, 8),
    ],
    ids=["reverse", "transpose", "running", "product"],
)
def test_lanes_that_read_elsewhere_do_not_work_in_place(function: Any) -> None:
    assert compiled(function, X).aliases == ()


def test_an_input_that_is_also_given_out_is_kept() -> None:
    program = compiled(lambda x: (x + 1, x), X)
    assert all(region.space != "input" for region in writes(program)) or program.aliases


def test_an_update_whose_output_lands_elsewhere_leaves_the_input_alone() -> None:
    """The result of a branch is no fusion's: the output gets memory of its own, so the input must stay whole."""
    branch = lambda x, i: lax.cond(i > 0, jnp.sin, jnp.cos, x.at[0].set(1.0))  # noqa: E731
    program = compiled(branch, X, np.int32(1))
    assert program.aliases == ()
    assert all(region.space != "input" for region in writes(program))


def test_a_loop_that_reads_its_start_elsewhere_has_memory_of_its_own() -> None:
    program = compiled(lambda x: lax.fori_loop(0, 5, lambda i, c: c - x.max(1)[i], x), X)
    assert program.aliases in ((), ((0, 0),))
    captured = compiled(lambda x: lax.fori_loop(0, 5, lambda i, c: c - c.max() + x, x), X)
    assert captured.aliases == ()


def test_an_operand_that_is_read_later_is_copied_once() -> None:
    assert labels(compiled(lambda x: (x.at[0].set(1.0), x + 1), X, donate=())).count("copy") == 1


def test_an_update_of_a_fresh_array_needs_no_copy() -> None:
    assert "copy" not in labels(compiled(lambda x: jnp.sin(x).at[0].set(1.0), X, donate=()))


def test_a_chain_of_updates_copies_once() -> None:
    chain = lambda x: x.at[0].set(1.0).at[1].set(2.0).at[2].set(3.0)  # noqa: E731
    assert labels(compiled(chain, X, donate=())).count("copy") <= 1


def test_an_update_that_reads_its_operand_works_on_a_copy() -> None:
    program = planned("scatter_updated_by_itself", "donated")
    assert "copy" in labels(program)


def test_a_read_before_the_update_is_ordered_first() -> None:
    program = compiled(lambda x: (x.at[0].set(1.0), x.sum()), X)
    names = labels(program)
    assert "copy" not in names
    assert names.index("reduce") < names.index("dynamic_update_slice")


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_empty_arrays_need_nothing(shape: tuple[int, ...]) -> None:
    program = compiled(lambda x: x * 2, np.zeros(shape, np.float32))
    assert program.steps == ()
