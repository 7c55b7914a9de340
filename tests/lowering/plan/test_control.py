"""Loops keep their carries in one place, branches write into one place, and neither copies without need."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from lowering.compiler import compile_graph
from lowering.program import Dispatch, Program, Repeat, Step, While

from ..programs import graph_of, normal
from .support import dispatches, machine, planned

# More than the compiler writes out one after the other.
ROUNDS = 500
X, Y = normal(300), normal(300, seed=1)


def compiled(function: Any, *arguments: Any) -> Program:
    return compile_graph(graph_of(function, *arguments), machine("lavapipe22"))


def only(program: Program, kind: type[Any]) -> Any:
    (step,) = [step for step in program.steps if isinstance(step, kind)]
    return step


def copies(steps: tuple[Step, ...]) -> int:
    return sum(step.label == "copy" for step in dispatches(steps))


def test_a_counted_loop_is_repeated() -> None:
    program = compiled(lambda x: lax.fori_loop(0, ROUNDS, lambda i, c: jnp.sin(c), x), X)
    assert only(program, Repeat).count == ROUNDS


def test_a_loop_of_no_rounds_leaves_nothing_to_repeat() -> None:
    assert not any(isinstance(step, Repeat | While) for step in planned("counted_0").steps)


def test_an_elementwise_round_works_in_place() -> None:
    (step,) = only(compiled(lambda x: lax.fori_loop(0, ROUNDS, lambda i, c: jnp.sin(c) + 1, x), X), Repeat).body
    assert step.arguments[0] == step.arguments[-1]


def test_a_reduction_round_works_in_place() -> None:
    program = compiled(lambda x: lax.fori_loop(0, ROUNDS, lambda i, c: c - c.sum() * 0.1, x), X)
    assert copies(only(program, Repeat).body) == 0


def test_an_unchanged_carry_is_not_copied() -> None:
    program = compiled(
        lambda x, y: lax.while_loop(lambda c: c[0].sum() < 9, lambda c: (c[0] + c[1], c[1]), (x, y)), X, Y
    )
    assert copies(only(program, While).body) == 0


def test_swapped_carries_go_through_temporaries() -> None:
    program = compiled(lambda x, y: lax.fori_loop(0, ROUNDS, lambda i, c: (c[1], c[0], c[2] * 2), (x, y, x)), X, Y)
    assert copies(only(program, Repeat).body) == 4


def test_a_value_that_is_made_for_a_loop_is_made_in_its_carry() -> None:
    program = compiled(lambda x: lax.fori_loop(0, ROUNDS, lambda i, c: c * 2, jnp.sin(x)), X)
    assert copies(program.steps) == 0


def test_captured_arrays_are_read_where_they_are() -> None:
    program = compiled(lambda x, y: lax.fori_loop(0, ROUNDS, lambda i, c: c * y, jnp.sin(x)), X, Y)
    spaces = {region.space for step in dispatches(only(program, Repeat).body) for region in step.arguments}
    assert "input" in spaces
    assert copies(program.steps) == 0


def test_every_dispatch_of_a_loop_is_guarded_by_its_flag() -> None:
    loop = only(planned("while"), While)
    steps = [*dispatches(loop.condition), *dispatches(loop.body)]
    assert {step.guard for step in steps} == {(loop.flag, 1)}


def test_an_outer_loop_guards_the_inner_one_through_its_flag() -> None:
    outer = only(planned("while_in_while"), While)
    (inner,) = [step for step in outer.body if isinstance(step, While)]
    assert inner.flag != outer.flag
    begin = [step for step in dispatches(outer.body) if step.label == "begin"]
    assert [outer.flag in step.arguments for step in begin] == [True]


def test_each_branch_has_its_own_guard() -> None:
    program = compiled(lambda i, x: lax.switch(i, [jnp.sin, jnp.cos, lambda v: v * 3], x), np.int32(1), X)
    guards = [step.guard for step in dispatches(program.steps) if step.guard is not None]
    assert sorted(guard[1] for guard in guards) == [0, 1, 2]
    assert len({guard[0] for guard in guards}) == 1


def test_branches_write_into_one_result() -> None:
    program = compiled(lambda i, x: lax.switch(i, [jnp.sin, jnp.cos, lambda v: v * 3], x), np.int32(1), X)
    targets = {step.arguments[-1] for step in program.steps if isinstance(step, Dispatch) and step.guard is not None}
    assert len(targets) == 1
    assert copies(program.steps) == 0
